"""Jobs on processes of this machine or on a Ray cluster, with a time limit, retries and live progress."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Protocol

from pyimplicit.engines.jobs import Function, Job, Outcome, Report, Watcher, as_it_is
from pyimplicit.engines.local import LocalEngine
from pyimplicit.engines.ray_cluster import RayEngine

__all__ = ["Engine", "Function", "Job", "LocalEngine", "Outcome", "RayEngine", "Report", "Watcher", "run_jobs"]


class Engine(Protocol):
    """What carries out jobs: `LocalEngine` or `RayEngine`."""

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
        """Run jobs and yield each outcome as soon as it is final; see `LocalEngine.outcomes`."""


def run_jobs(
    jobs: Sequence[Job],
    function: Function,
    watcher: Watcher | None = None,
    *,
    engine: Engine,
    attempts: int = 2,
    seconds: float | None = None,
    settle: Callable[[Outcome], Outcome] = as_it_is,
) -> list[Outcome]:
    """Run all jobs and return their outcomes in the order of the jobs; arguments as `LocalEngine.outcomes`.

    Example:
        >>> def double(number, report):
        ...     return 2 * number
        >>> [outcome.result for outcome in run_jobs([Job("a", 1), Job("b", 2)], double, engine=LocalEngine(0))]
        [2, 4]
    """
    by_name = {
        outcome.job.name: outcome
        for outcome in engine.outcomes(jobs, function, watcher, attempts=attempts, seconds=seconds, settle=settle)
    }
    return [by_name[job.name] for job in jobs]
