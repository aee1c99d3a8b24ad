from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyimplicit.engines import Job, LocalEngine, local, run_jobs
from tests.engines.jobs import Listener, act, environment, worker_number

DEEDS = ["one", "raise", "kill once", "two", "kill", "disk full", "three"]


def test_every_job_ends_in_order_whatever_happens_to_the_workers(tmp_path: Path) -> None:
    listener = Listener()
    jobs = [Job(deed, (deed, str(tmp_path))) for deed in DEEDS]
    outcomes = {o.job.name: o for o in run_jobs(jobs, act, listener, engine=LocalEngine(2))}
    assert list(outcomes) == DEEDS
    for name in ("one", "two", "three", "kill once"):
        assert outcomes[name].result == f"{name} done"
    assert (outcomes["raise"].reason, outcomes["raise"].crashed) == ("RuntimeError: on purpose", False)
    assert outcomes["kill"].crashed
    assert outcomes["kill"].reason == "worker process killed by SIGKILL (2 attempts)"
    assert outcomes["disk full"].crashed
    assert "No space left" in str(outcomes["disk full"].reason)
    assert sorted(event[1] for event in listener.events if event[0] == "ended") == sorted(DEEDS)
    assert ("advanced", "one", 0.5, "one") in listener.events
    assert not multiprocessing.active_children()


def test_in_the_calling_process_too(tmp_path: Path) -> None:
    listener = Listener()
    outcomes = run_jobs([Job(d, (d, str(tmp_path))) for d in ("one", "raise")], act, listener, engine=LocalEngine(0))
    assert [outcome.result for outcome in outcomes] == ["one done", None]
    assert outcomes[1].reason == "RuntimeError: on purpose"


def test_no_jobs() -> None:
    assert run_jobs([], act, Listener(), engine=LocalEngine(2)) == []


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        "from pyimplicit.engines import Job, LocalEngine, run_jobs\n"
        "from tests.engines.jobs import Listener, act\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job(str(n), ('wait', sys.argv[1])) for n in range(2)]\n"
        "    run_jobs(jobs, act, Listener(), engine=LocalEngine(2))\n"
    )
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment()) as parent:
        pids = _wait_for(lambda: found if len(found := sorted(tmp_path.glob("pid-*"))) == 2 else None)
        parent.send_signal(signal.SIGKILL)
    for path in pids:
        _wait_for(lambda path=path: not _alive(int(path.name[4:])))


def test_a_script_without_a_guard_gets_one_clear_error(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from pyimplicit.engines import Job, LocalEngine, run_jobs\n"
        "from tests.engines.jobs import Listener, act\n"
        "run_jobs([Job('one', ('one', '.'))], act, Listener(), engine=LocalEngine(1))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1
    assert "__name__ == '__main__'" in done.stderr.splitlines()[-1]


def test_a_job_that_hangs_costs_its_time_and_is_not_tried_again(tmp_path: Path) -> None:
    listener = Listener()
    jobs = [Job(deed, (deed, str(tmp_path))) for deed in ("wait", "one", "two")]
    outcomes = run_jobs(jobs, act, listener, engine=LocalEngine(2), seconds=1.0)
    assert [outcome.result for outcome in outcomes] == [None, "one done", "two done"]
    assert (outcomes[0].reason, outcomes[0].timed_out, outcomes[0].crashed) == ("took longer than 1 s", True, False)
    assert listener.events.count(("started", "wait")) == 1
    assert not multiprocessing.active_children()


def test_jobs_are_taken_as_workers_get_free(tmp_path: Path) -> None:
    taken = 0

    def endless():  # type: ignore[no-untyped-def]
        nonlocal taken
        while True:
            taken += 1
            yield Job(str(taken), ("one", str(tmp_path)))

    outcomes = LocalEngine(1).outcomes(endless(), act)
    assert next(outcomes).result == "one done"
    assert taken <= 2
    outcomes.close()
    assert not multiprocessing.active_children()


def test_a_worker_that_has_done_many_jobs_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "JOBS_OF_WORKER", 3)
    outcomes = list(LocalEngine(1).outcomes((Job(str(number), None) for number in range(7)), worker_number))
    numbers = [outcome.result for outcome in sorted(outcomes, key=lambda outcome: int(outcome.job.name))]
    assert [numbers.count(number) for number in dict.fromkeys(numbers)] == [3, 3, 1]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("processes", "error"), [(-1, ValueError), (True, TypeError), (1.0, TypeError)])
def test_processes_are_a_whole_number(processes: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="processes"):
        LocalEngine(processes)  # type: ignore[arg-type]


def _wait_for(condition, seconds: float = 30.0):  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


def _alive(pid: int) -> bool:
    try:
        # A process that has ended but was not waited for by its new parent counts as gone.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
