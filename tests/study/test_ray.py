from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

import pytest

from pyimplicit.study import matrix
from pyimplicit.study.tables import build_table
from tests.engines.jobs import environment
from tests.study.helpers import fake_run, no_shapes, small_config

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A head that works on nothing and two nodes of one CPU each, all on this machine."""
    from ray.cluster_utils import Cluster

    for name, value in {**environment(), "RAY_USAGE_STATS_ENABLED": "0", "FAKE_RUN_SECONDS": "0.6"}.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def test_two_nodes_one_of_which_dies_give_the_table_of_one_machine(
    cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(matrix, "study_shapes", no_shapes)
    monkeypatch.setattr(matrix, "write_outputs", lambda folder, *_: folder / "report.md")
    config = small_config(seeds=[0, 1, 2], engine=f"ray:{cluster.address}")
    victim = cluster.list_all_nodes()[-1]

    def kill() -> None:
        while not list((tmp_path / "ray" / "runs").glob("*/record.json")):
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    far = matrix.run_study(config, tmp_path / "ray", progress=False, execute=fake_run)
    killer.join()

    os.environ["FAKE_RUN_SECONDS"] = "0.01"
    local = dataclasses.replace(config, engine="local", processes=0)
    near = matrix.run_study(local, tmp_path / "local", progress=False, execute=fake_run)
    assert [record.comparable() for record in far.records] == [record.comparable() for record in near.records]
    assert far.table == near.table == build_table(near.records)
    # The same folder goes on under another engine, with nothing left to do.
    again = matrix.run_study(local, tmp_path / "ray", progress=False, execute=fake_run)
    assert again.records == far.records
