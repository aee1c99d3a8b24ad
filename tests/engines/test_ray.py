from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyimplicit.engines import Job, RayEngine, run_jobs
from pyimplicit.engines.jobs import Ledger, Silent, as_it_is
from pyimplicit.engines.ray_cluster import _Board, _Cluster, _Task
from pyimplicit.errors import EngineError
from tests.engines.jobs import Listener, act, environment

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs to spare and two nodes that work, all on this machine."""
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update({**environment(), "RAY_USAGE_STATS_ENABLED": "0"})
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)


def test_every_job_ends_in_order_on_two_nodes_one_of_which_dies(cluster, tmp_path: Path) -> None:
    engine = RayEngine(cluster.address)
    listener = Listener()
    deeds = ["one", "raise", "kill once", "two", "kill", "three"]
    jobs = [Job(deed, (deed, str(tmp_path))) for deed in deeds]
    outcomes = {o.job.name: o for o in run_jobs(jobs, act, listener, engine=engine)}
    assert list(outcomes) == deeds
    for name in ("one", "two", "three", "kill once"):
        assert outcomes[name].result == f"{name} done"
    assert (outcomes["raise"].reason, outcomes["raise"].crashed) == ("RuntimeError: on purpose", False)
    assert outcomes["kill"].crashed
    assert str(outcomes["kill"].reason).endswith("(2 attempts)")
    assert sorted(event[1] for event in listener.events if event[0] == "ended") == sorted(deeds)

    hanging = [Job("wait", ("wait", str(tmp_path))), Job("one", ("one", str(tmp_path)))]
    outcomes = {o.job.name: o for o in run_jobs(hanging, act, engine=engine, seconds=2.0)}
    assert outcomes["wait"].timed_out
    assert outcomes["one"].result == "one done"

    # Kill a node while both work: its jobs are done by the other.
    jobs = [Job(str(k), ("doze", str(tmp_path))) for k in range(6)]
    victim = cluster.list_all_nodes()[-1]

    def kill() -> None:
        while len(list(tmp_path.glob("doze-*"))) < 2:
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    outcomes = run_jobs(jobs, act, engine=engine)
    killer.join()
    assert [outcome.result for outcome in outcomes] == ["doze done"] * 6


def test_what_jobs_report_to_lives_on_this_node_and_dies_with_no_other(cluster) -> None:
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        engine = _Cluster(ray, RayEngine(cluster.address), act, Ledger(Silent(), 2, as_it_is), iter(()), None)
        boards = [engine._board() for _ in range(5)]
        where = [board.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()) for board in boards]
        assert set(ray.get(where)) == {ray.get_runtime_context().get_node_id()}
    finally:
        ray.shutdown()


def test_what_jobs_report_is_heard_once_though_an_answer_is_lost() -> None:
    class Lossy:
        """Ray whose second answer does not arrive; its actors are plain objects."""

        exceptions = ray.exceptions
        answers = 0

        def get(self, answer: list) -> list:
            self.answers += 1
            if self.answers == 2:
                raise ray.exceptions.ActorUnavailableError("on its way", None)
            return answer

    class Plain:
        def __init__(self, board: _Board) -> None:
            self.take = SimpleNamespace(remote=lambda heard: list(board.take(heard)))

    listener = Listener()
    engine = _Cluster(Lossy(), RayEngine(), act, Ledger(listener, 2, as_it_is), iter(()), None)
    engine.tasks = {"reference": _Task(Job("one", None), 0)}
    board, heard = _Board(), []
    for step in range(4):
        board.post("one", step / 4, f"step {step}")
        engine._hear(Plain(board))
        heard.append([event[-1] for event in listener.events if event[0] == "advanced"])
    steps = [f"step {step}" for step in range(4)]
    assert heard == [steps[:1], steps[:1], steps[:3], steps]
    assert board.messages == [("one", 0.75, "step 3")]  # what was heard is not kept
    assert engine.tasks["reference"].started is not None


def test_a_job_that_fits_no_node_is_refused(cluster, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="a job takes 64"):
        run_jobs([Job("one", ("one", str(tmp_path)))], act, engine=RayEngine(cluster.address, cpus=64))


@pytest.mark.parametrize("wrong", [{"cpus": -1}, {"cpus": 0}, {"window": 0}])
def test_wrong_numbers(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        RayEngine(**wrong)
