"""Jobs on worker processes of this machine: progress comes back live, and a worker that dies costs only its own job.

Workers are spawned, not forked (threads of torch do not survive a fork). Each talks to the parent over a pipe of its
own, so a worker killed in the middle of a message spoils nobody else's. A worker whose parent is gone ends itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from pyimplicit.errors import StudyError

# Seconds between two progress messages of one worker: often enough for the eye, too rare to cost anything.
REPORT_INTERVAL = 0.2

Report = Callable[[float, str], None]  # (fraction done in [0, 1], what is being done)


@dataclass(frozen=True)
class Job:
    """One piece of work: `function(payload, report)` is called in a worker and returns something that pickles."""

    name: str
    payload: Any


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a result, or with the reason why there is none.

    `crashed` tells a worker that died, or a machine that ran out of memory or disk, from an error that the same job
    would raise again.
    """

    job: Job
    result: Any = None
    reason: str | None = None
    crashed: bool = False


class Watcher(Protocol):
    """What wants to know how the jobs are going; all calls come from the parent process."""

    def started(self, slot: int, job: Job) -> None:
        """Hear that a worker has begun a job."""

    def advanced(self, slot: int, job: Job, fraction: float, text: str) -> None:
        """Hear that a worker has got further."""

    def ended(self, slot: int, outcome: Outcome) -> None:
        """Hear that a job is over."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    job: Job | None = None


@dataclass
class _Pool:
    function: Callable[[Any, Report], Any]
    watcher: Watcher
    settle: Callable[[Outcome], Outcome]
    attempts: int
    queue: deque[Job]
    tries: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    workers: dict[int, _Worker] = field(default_factory=dict)


def run_jobs(
    jobs: Sequence[Job],
    function: Callable[[Any, Report], Any],
    watcher: Watcher,
    *,
    processes: int,
    attempts: int = 2,
    settle: Callable[[Outcome], Outcome] = lambda outcome: outcome,
) -> list[Outcome]:
    """Run all jobs and return their outcomes in the order of the jobs.

    Args:
        jobs: The jobs; names are unique.
        function: A module-level function, called as `function(payload, report)`.
        watcher: Told of every start, advance and end.
        processes: Worker processes at most; 0 calls `function` in this process.
        attempts: How often a job is begun at most when its worker dies under it.
        settle: Called in this process with the outcome of a job as soon as it is final; what it returns is kept.

    Raises:
        StudyError: A worker cannot start at all.
    """
    if processes == 0:
        return [_run_here(job, function, watcher, settle) for job in jobs]
    pool = _Pool(function, watcher, settle, attempts, deque(jobs))
    try:
        for slot in range(min(processes, len(jobs))):
            pool.workers[slot] = _spawn(function)
        while pool.workers:
            for slot, worker in list(pool.workers.items()):
                if worker.ready and worker.job is None:
                    _hand_out(pool, slot, worker)
            _listen(pool)
    finally:
        for worker in pool.workers.values():
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
    return [pool.outcomes[job.name] for job in jobs]


def _run_here(
    job: Job,
    function: Callable[[Any, Report], Any],
    watcher: Watcher,
    settle: Callable[[Outcome], Outcome],
) -> Outcome:
    watcher.started(0, job)
    last = 0.0

    def report(fraction: float, text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_INTERVAL:
            last = time.monotonic()
            watcher.advanced(0, job, fraction, text)

    outcome = settle(_outcome(job, function, report))
    watcher.ended(0, outcome)
    return outcome


def _outcome(job: Job, function: Callable[[Any, Report], Any], report: Report) -> Outcome:
    """Call the function; whatever it raises becomes a reason of one line."""
    try:
        return Outcome(job, result=function(job.payload, report))
    except (MemoryError, OSError) as error:
        return Outcome(job, reason=_one_line(error), crashed=True)
    except Exception as error:
        if os.environ.get("PYIMPLICIT_DEBUG") == "1":
            traceback.print_exc()
        return Outcome(job, reason=_one_line(error))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _spawn(function: Callable[[Any, Report], Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _hand_out(pool: _Pool, slot: int, worker: _Worker) -> None:
    """Give an idle worker the next job, or let it go."""
    if not pool.queue:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        del pool.workers[slot]
        return
    worker.job = pool.queue.popleft()
    pool.tries[worker.job.name] = pool.tries.get(worker.job.name, 0) + 1
    pool.watcher.started(slot, worker.job)
    try:
        worker.pipe.send(worker.job)
    except OSError:
        _bury(pool, slot, worker)


def _listen(pool: _Pool) -> None:
    """Handle one message of each worker that has something to say, or its death."""
    by_pipe = {worker.pipe: slot for slot, worker in pool.workers.items()}
    for pipe in wait(list(by_pipe), timeout=1.0):
        slot = by_pipe[pipe]  # type: ignore[index]
        worker = pool.workers[slot]
        kind, *content = _receive(worker.pipe)
        if kind == "died":
            _bury(pool, slot, worker)
        elif kind == "ready":
            worker.ready = True
        elif kind == "advanced" and worker.job is not None:
            pool.watcher.advanced(slot, worker.job, *content)
        elif kind == "ended":
            worker.job = None
            _settle(pool, slot, content[0])


def _receive(pipe: Connection) -> tuple[Any, ...]:
    try:
        message: tuple[Any, ...] = pipe.recv()
    except (EOFError, OSError):
        return ("died",)
    return message


def _bury(pool: _Pool, slot: int, worker: _Worker) -> None:
    """Clear away a dead worker, settle its job and put another worker in its place."""
    worker.process.join()
    worker.pipe.close()
    job = worker.job
    if job is None and not worker.ready:
        del pool.workers[slot]
        raise StudyError(
            f"a worker process could not start (exit code {worker.process.exitcode}); a script that runs a study needs "
            "`if __name__ == '__main__':` around the call, or processes=0"
        )
    pool.workers[slot] = _spawn(pool.function)
    if job is not None:
        code = worker.process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        _settle(pool, slot, Outcome(job, reason=f"worker process {how}", crashed=True))


def _settle(pool: _Pool, slot: int, outcome: Outcome) -> None:
    """Keep an outcome, unless the job crashed and may be tried again."""
    job = outcome.job
    if outcome.crashed and pool.tries[job.name] < pool.attempts:
        pool.queue.append(job)
        pool.watcher.advanced(slot, job, 0.0, f"{outcome.reason}; will be tried again")
        return
    if outcome.crashed:
        reason = f"{outcome.reason} ({pool.tries[job.name]} attempts)"
        outcome = Outcome(job, reason=reason, crashed=True)
    pool.outcomes[job.name] = pool.settle(outcome)
    pool.watcher.ended(slot, pool.outcomes[job.name])


def _work(pipe: Connection, function: Callable[[Any, Report], Any]) -> None:
    """Live as a worker: take a job, do it, say so, until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()

    last = 0.0

    def report(fraction: float, text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_INTERVAL:
            last = time.monotonic()
            pipe.send(("advanced", fraction, text))

    try:
        pipe.send(("ready",))
        while True:
            job = pipe.recv()
            pipe.send(("ended", _outcome(job, function, report)))
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
