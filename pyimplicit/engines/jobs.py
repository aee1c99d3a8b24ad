"""What every engine shares: a job, how it ended, who is told, when it is tried again. Nothing here imports torch."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

# Seconds between two progress messages of one worker: often enough for the eye, too rare to cost anything.
REPORT_INTERVAL = 0.2

Report = Callable[[float, str], None]  # (fraction done in [0, 1], what is being done)
Function = Callable[[Any, Report], Any]  # (payload, report) to a result that pickles


@dataclass(frozen=True)
class Job:
    """One piece of work: `function(payload, report)` is called in a worker and returns something that pickles."""

    name: str
    payload: Any


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a result, or with the reason why there is none.

    `crashed` tells a worker that died, or a machine that ran out of memory or disk, from an error that the same job
    would raise again. `timed_out` is a job that was ended because it took longer than it may.
    """

    job: Job
    result: Any = None
    reason: str | None = None
    crashed: bool = False
    timed_out: bool = False


class Watcher(Protocol):
    """What wants to know how the jobs are going; all calls come from the calling process."""

    def started(self, slot: int, job: Job) -> None:
        """Hear that a worker has begun a job."""

    def advanced(self, slot: int, job: Job, fraction: float, text: str) -> None:
        """Hear that a worker has got further."""

    def ended(self, slot: int, outcome: Outcome) -> None:
        """Hear that a job is over."""


class Silent:
    """A watcher that does not care."""

    def started(self, slot: int, job: Job) -> None:
        """Ignore it."""

    def advanced(self, slot: int, job: Job, fraction: float, text: str) -> None:
        """Ignore it."""

    def ended(self, slot: int, outcome: Outcome) -> None:
        """Ignore it."""


def as_it_is(outcome: Outcome) -> Outcome:
    """Settle nothing."""
    return outcome


@dataclass
class Ledger:
    """Counts how often each unfinished job was begun, and decides whether an outcome is final."""

    watcher: Watcher
    attempts: int
    settle: Callable[[Outcome], Outcome]
    tries: dict[str, int] = field(default_factory=dict)

    def begin(self, slot: int, job: Job) -> None:
        """Count one more beginning of a job."""
        self.tries[job.name] = self.tries.get(job.name, 0) + 1
        self.watcher.started(slot, job)

    def judge(self, slot: int, outcome: Outcome) -> Outcome | None:
        """Return the outcome, settled, if it is final; None if the job crashed and is to be tried again."""
        job = outcome.job
        tries = self.tries.get(job.name, 1)
        if outcome.crashed and tries < self.attempts:
            self.watcher.advanced(slot, job, 0.0, f"{outcome.reason}; will be tried again")
            return None
        self.tries.pop(job.name, None)
        if outcome.crashed:
            outcome = replace(outcome, reason=f"{outcome.reason} ({tries} attempts)")
        outcome = self.settle(outcome)
        self.watcher.ended(slot, outcome)
        return outcome

    def forgive(self, job: Job) -> None:
        """Do not count the last beginning of a job: it ended through no fault of the job's."""
        self.tries[job.name] -= 1


def call(job: Job, function: Function, report: Report) -> Outcome:
    """Call the function; whatever it raises becomes a reason of one line."""
    try:
        return Outcome(job, result=function(job.payload, report))
    except (MemoryError, OSError) as error:
        return Outcome(job, reason=one_line(error), crashed=True)
    except Exception as error:
        if os.environ.get("PYIMPLICIT_DEBUG") == "1":
            traceback.print_exc()
        return Outcome(job, reason=one_line(error))


def one_line(error: BaseException) -> str:
    """Return an error's type and message in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def limited(send: Report) -> Report:
    """Return a report that passes on at most one message every `REPORT_INTERVAL` seconds."""
    last = 0.0

    def report(fraction: float, text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_INTERVAL:
            last = time.monotonic()
            send(fraction, text)

    return report


def too_long(seconds: float) -> str:
    """Return the reason of a job that ran into its time limit."""
    return f"took longer than {seconds:g} s"
