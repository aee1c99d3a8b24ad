"""Jobs on worker processes of this machine: progress comes back live, and a worker that dies costs only its own job.

Workers are spawned, not forked (threads of torch do not survive a fork). Each talks to the parent over a pipe of its
own, so a worker killed in the middle of a message spoils nobody else's. A worker whose parent is gone ends itself. A
worker that has done many jobs makes room for a new one: what libraries do not give back goes with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from pyimplicit.engines.jobs import (
    Function,
    Job,
    Ledger,
    Outcome,
    Silent,
    Watcher,
    as_it_is,
    call,
    limited,
    too_long,
)
from pyimplicit.errors import EngineError

# What a library keeps for ever goes with the worker that called it. What ctypes kept for every size of a tensor that
# was written came to 13 KB a prepared shape once (see `pyimplicit.data.samples.as_arrays`).
JOBS_OF_WORKER = 500


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes of this machine.

    Args:
        processes: How many at most; 0 calls the function in the calling process, where nothing protects from a crash
            or a hang.

    Example:
        >>> def double(number, report):
        ...     return 2 * number
        >>> jobs = [Job(str(number), number) for number in range(3)]
        >>> [outcome.result for outcome in LocalEngine(processes=0).outcomes(jobs, double)]
        [0, 2, 4]
    """

    processes: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.processes, bool) or not isinstance(self.processes, int):
            raise TypeError(f"processes: expected a whole number, got {type(self.processes).__name__}")
        if self.processes < 0:
            raise ValueError(f"processes: expected at least 0, got {self.processes}")

    def outcomes(
        self,
        jobs: Iterable[Job],
        function: Function,
        watcher: Watcher | None = None,
        *,
        attempts: int = 2,
        seconds: float | None = None,
        settle: Callable[[Outcome], Outcome] = as_it_is,
    ) -> Generator[Outcome, None, None]:
        """Run jobs and yield each outcome as soon as it is final.

        Jobs are taken from the iterable only when a worker is free, so there may be any number of them. Close the
        iterator, or exhaust it, to end the workers.

        Args:
            jobs: The jobs; names are unique.
            function: A module-level function, called as `function(payload, report)`.
            watcher: Told of every start, advance and end.
            attempts: How often a job is begun at most when its worker dies under it.
            seconds: How long a job may take; it is then ended and not tried again. Without effect with 0 processes.
            settle: Called in this process with each outcome as soon as it is final; what it returns is kept.

        Raises:
            EngineError: A worker cannot start at all.
        """
        ledger = Ledger(watcher or Silent(), attempts, settle)
        if self.processes == 0:
            yield from _run_here(jobs, function, ledger)
        else:
            yield from _Pool(function, ledger, iter(jobs), seconds).run(self.processes)


def _run_here(jobs: Iterable[Job], function: Function, ledger: Ledger) -> Iterator[Outcome]:
    for job in jobs:
        yield _run_one(job, function, ledger)


def _run_one(job: Job, function: Function, ledger: Ledger) -> Outcome:
    ledger.watcher.started(0, job)
    outcome = call(job, function, limited(lambda fraction, text: ledger.watcher.advanced(0, job, fraction, text)))
    outcome = ledger.settle(outcome)
    ledger.watcher.ended(0, outcome)
    return outcome


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    job: Job | None = None
    deadline: float | None = None
    done: int = 0  # jobs


@dataclass
class _Pool:
    function: Function
    ledger: Ledger
    jobs: Iterator[Job]
    seconds: float | None
    next_up: deque[Job] = field(default_factory=deque)  # before any further job is taken
    workers: dict[int, _Worker] = field(default_factory=dict)

    def run(self, processes: int) -> Iterator[Outcome]:
        try:
            self.next_up.extend(islice(self.jobs, processes))
            for slot in range(len(self.next_up)):
                self.workers[slot] = _spawn(self.function)
            while self.workers:
                for slot, worker in list(self.workers.items()):
                    if worker.ready and worker.job is None:
                        self._hand_out(slot, worker)
                if self.workers:
                    for slot, outcome in self._listen():
                        final = self.ledger.judge(slot, outcome)
                        if final is None:
                            self.next_up.append(outcome.job)
                        else:
                            yield final
        finally:
            for worker in self.workers.values():
                _end(worker)
            self.workers.clear()

    def _hand_out(self, slot: int, worker: _Worker) -> None:
        """Give an idle worker the next job, put another in its place, or let it go."""
        if worker.done >= JOBS_OF_WORKER:
            _end(worker)
            self.workers[slot] = _spawn(self.function)
            return
        job = self.next_up.popleft() if self.next_up else next(self.jobs, None)
        if job is None:
            # A job that crashes later finds the worker that takes the dead one's place.
            _end(self.workers.pop(slot))
            return
        worker.job = job
        self.ledger.begin(slot, job)
        worker.deadline = None if self.seconds is None else time.monotonic() + self.seconds
        with contextlib.suppress(OSError):  # it died; its pipe says so when it is listened to
            worker.pipe.send(job)

    def _listen(self) -> Iterator[tuple[int, Outcome]]:
        """Handle one message of each worker that has something to say, its death, or the end of its time."""
        by_pipe = {worker.pipe: slot for slot, worker in self.workers.items()}
        deadlines = [worker.deadline for worker in self.workers.values() if worker.deadline is not None]
        patience = min([1.0, *(max(0.0, deadline - time.monotonic()) for deadline in deadlines)])
        for pipe in wait(list(by_pipe), timeout=patience):
            slot = by_pipe[pipe]  # type: ignore[index]
            worker = self.workers[slot]
            kind, *content = _receive(worker.pipe)
            if kind == "died":
                yield from self._bury(slot, worker)
            elif kind == "ready":
                worker.ready = True
            elif kind == "advanced" and worker.job is not None:
                self.ledger.watcher.advanced(slot, worker.job, *content)
            elif kind == "ended":
                worker.job = worker.deadline = None
                worker.done += 1
                yield slot, content[0]
        for slot, worker in list(self.workers.items()):
            late = worker.deadline is not None and time.monotonic() >= worker.deadline
            if late and worker.job is not None and not worker.pipe.poll():
                job = worker.job
                _end(worker)
                self.workers[slot] = _spawn(self.function)
                yield slot, Outcome(job, reason=too_long(self.seconds or 0.0), timed_out=True)

    def _bury(self, slot: int, worker: _Worker) -> Iterator[tuple[int, Outcome]]:
        """Clear away a dead worker, put another in its place and say how its job ended."""
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode or 0
        if worker.job is None and not worker.ready:
            del self.workers[slot]
            raise EngineError(
                f"a worker process could not start (exit code {code}); a script that runs jobs needs "
                "`if __name__ == '__main__':` around the call, or processes=0"
            )
        self.workers[slot] = _spawn(self.function)
        if worker.job is not None:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            yield slot, Outcome(worker.job, reason=f"worker process {how}", crashed=True)


def _spawn(function: Function) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _receive(pipe: Connection) -> tuple[Any, ...]:
    try:
        message: tuple[Any, ...] = pipe.recv()
    except (EOFError, OSError):
        return ("died",)
    return message


def _work(pipe: Connection, function: Function) -> None:
    """Live as a worker: take a job, do it, say so, until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pipe.send(("ready",))
        while True:
            job = pipe.recv()
            report = limited(lambda fraction, text: pipe.send(("advanced", fraction, text)))
            pipe.send(("ended", call(job, function, report)))
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
