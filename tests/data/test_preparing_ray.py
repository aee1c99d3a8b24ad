"""A set prepared on a Ray cluster of two nodes, one of which is killed meanwhile: the same set."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pyimplicit.data import PrepareConfig, ProceduralCars, prepare_set
from pyimplicit.engines import LocalEngine, RayEngine
from tests.engines.jobs import environment

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


def test_the_same_set_though_a_node_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    config = PrepareConfig(cloud=60, evaluation=50, shard_size=7)
    cars = ProceduralCars(24, resolution=16)
    alone = prepare_set(cars, tmp_path / "alone", config, engine=LocalEngine(0))
    for name, value in {**environment(), "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setitem(os.environ, name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()

        def kill() -> None:
            while not list(tmp_path.glob("ray/pending/*")) and not list(tmp_path.glob("ray/shards/*")):
                time.sleep(0.02)
            cluster.remove_node(nodes[0], allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        stored = prepare_set(cars, tmp_path / "ray", config, engine=RayEngine(cluster.address))
        killer.join()
    finally:
        cluster.shutdown()
    assert stored.content == alone.content
    stored.verify()
