from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyimplicit.errors import StudyError
from pyimplicit.study.engine import Job, run_jobs
from pyimplicit.study.files import FileLock
from tests.study.jobs import Listener, act, environment

DEEDS = ["one", "raise", "kill once", "two", "kill", "disk full", "three"]


def test_every_job_ends_in_order_whatever_happens_to_the_workers(tmp_path: Path) -> None:
    listener = Listener()
    jobs = [Job(deed, (deed, str(tmp_path))) for deed in DEEDS]
    outcomes = {o.job.name: o for o in run_jobs(jobs, act, listener, processes=2)}
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
    outcomes = run_jobs([Job(d, (d, str(tmp_path))) for d in ("one", "raise")], act, listener, processes=0)
    assert [outcome.result for outcome in outcomes] == ["one done", None]
    assert outcomes[1].reason == "RuntimeError: on purpose"


def test_no_jobs() -> None:
    assert run_jobs([], act, Listener(), processes=2) == []


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        "from pyimplicit.study.engine import Job, run_jobs\n"
        "from tests.study.jobs import Listener, act\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job(str(n), ('wait', sys.argv[1])) for n in range(2)]\n"
        "    run_jobs(jobs, act, Listener(), processes=2)\n"
    )
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment()) as parent:
        pids = _wait_for(lambda: found if len(found := sorted(tmp_path.glob("pid-*"))) == 2 else None)
        parent.send_signal(signal.SIGKILL)
    for path in pids:
        _wait_for(lambda path=path: not _alive(int(path.name[4:])))


def test_a_script_without_a_guard_gets_one_clear_error(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from pyimplicit.study.engine import Job, run_jobs\n"
        "from tests.study.jobs import Listener, act\n"
        "run_jobs([Job('one', ('one', '.'))], act, Listener(), processes=1)\n"
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


def test_a_lock_is_held_by_one_and_survives_its_holder_as_a_mere_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path):
        assert path.read_text() == str(os.getpid())
        with pytest.raises(StudyError, match=f"held by {os.getpid()}"), FileLock(path, busy="held by {pid}"):
            pass
    path.write_text("99999999")  # as a killed holder would leave it
    with FileLock(path):
        assert path.read_text() == str(os.getpid())


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
