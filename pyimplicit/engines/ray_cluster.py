"""Jobs on a Ray cluster: as on local processes, and a node that dies costs only the jobs it was at.

Every node has pyimplicit installed. Payloads and results travel through Ray, so no folder needs to be shared, unless a
payload names one. Source of the interface: Ray documentation, "Ray Core: tasks, actors, fault tolerance".
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
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
    one_line,
    too_long,
)
from pyimplicit.errors import EngineError

POLL_SECONDS = 0.25
"""How long to wait for an outcome before looking at progress and time limits."""

NODE_LOSSES = 10
"""How often a job may lose its node without that counting as an attempt."""


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster.

    Args:
        address: "host:port" of the cluster's head, "auto" for the one this machine belongs to, None for one of this
            machine alone that lives as long as this process.
        cpus: CPUs that a job takes.
        gpus: GPUs that a job takes; Ray shows each job its own.
        window: Jobs handed to the cluster at a time, None for twice as many as it can run at once.

    Raises:
        ValueError: A number out of range.
    """

    address: str | None = "auto"
    cpus: float = 1
    gpus: float = 0
    window: int | None = None

    def __post_init__(self) -> None:
        if not self.cpus >= 0 or not self.gpus >= 0 or self.cpus + self.gpus == 0:
            raise ValueError(f"cpus, gpus: expected numbers not both 0, got {self.cpus} and {self.gpus}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window: expected at least 1, got {self.window}")

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
        """Run jobs and yield each outcome as soon as it is final; arguments as `LocalEngine.outcomes`.

        Raises:
            EngineError: Ray is not installed, the cluster cannot be reached, or it can never run such a job.
        """
        ray = _import_ray()
        ours = not ray.is_initialized()
        if ours:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", include_dashboard=None)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise EngineError(f"no Ray cluster at {self.address}: {one_line(error)}") from error
        try:
            ledger = Ledger(watcher or Silent(), attempts, settle)
            yield from _Cluster(ray, self, function, ledger, iter(jobs), seconds).run()
        finally:
            if ours:
                ray.shutdown()


@dataclass
class _Task:
    job: Job
    slot: int
    started: float | None = None


@dataclass
class _Cluster:
    ray: Any
    engine: RayEngine
    function: Function
    ledger: Ledger
    jobs: Iterator[Job]
    seconds: float | None
    next_up: deque[Job] = field(default_factory=deque)
    tasks: dict[Any, _Task] = field(default_factory=dict)  # by the reference of the result
    losses: dict[str, int] = field(default_factory=dict)
    begun: int = 0
    heard: int = 0  # messages of the board

    def run(self) -> Iterator[Outcome]:
        board = self._board()
        # The function travels once, not with every job.
        function = self.ray.put(self.function)
        # A crash is ours to judge, so Ray repeats nothing by itself.
        task = self.ray.remote(_work).options(
            num_cpus=self.engine.cpus, num_gpus=self.engine.gpus, max_retries=0, scheduling_strategy="SPREAD"
        )
        try:
            while True:
                window = self.engine.window or self._room()
                while len(self.tasks) < window and (job := self._next()) is not None:
                    self.begun += 1
                    reference = task.remote(function, job, self.begun, board)
                    self.tasks[reference] = _Task(job, self._slot())
                if not self.tasks:
                    return
                done, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=POLL_SECONDS)
                self._hear(board)
                for reference in done:
                    found = self.tasks.pop(reference)
                    yield from self._judge(found, self._result(reference, found))
                for reference, late in [item for item in self.tasks.items() if self._is_late(item[1])]:
                    self._cancel(reference)
                    del self.tasks[reference]
                    reason = too_long(self.seconds or 0.0)
                    yield from self._judge(late, Outcome(late.job, reason=reason, timed_out=True))
        finally:
            for reference in self.tasks:
                self._cancel(reference)
            self.ray.kill(board)

    def _board(self) -> Any:
        """Start the actor that jobs report to, beside this process: it must not die with another node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = self.ray.get_runtime_context().get_node_id()
        # Ray puts what needs no resources on any node unless the affinity is hard (pull request 25360 of ray).
        strategy = NodeAffinitySchedulingStrategy(here, soft=False)
        return self.ray.remote(_Board).options(num_cpus=0, scheduling_strategy=strategy).remote()

    def _room(self) -> int:
        """Return how many jobs to keep with the cluster: twice what it can run, so that no worker waits."""
        total = self.ray.cluster_resources()
        fits = [
            total.get(kind, 0) / need for kind, need in (("CPU", self.engine.cpus), ("GPU", self.engine.gpus)) if need
        ]
        if min(fits) < 1 and not self.tasks:
            raise EngineError(
                f"the cluster has {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs; "
                f"a job takes {self.engine.cpus:g} and {self.engine.gpus:g}"
            )
        return max(1, 2 * int(min(fits)))

    def _next(self) -> Job | None:
        return self.next_up.popleft() if self.next_up else next(self.jobs, None)

    def _slot(self) -> int:
        """Return the lowest number that no task in the cluster has."""
        taken = {task.slot for task in self.tasks.values()}
        return next(slot for slot in range(len(taken) + 1) if slot not in taken)

    def _hear(self, board: Any) -> None:
        """Take in what the jobs have reported since the last time."""
        try:
            messages = self.ray.get(board.take.remote(self.heard))
        except self.ray.exceptions.ActorUnavailableError:  # not reached this time: Ray says so where it is dead
            return
        except self.ray.exceptions.RayError as error:
            raise EngineError(f"the cluster's head was lost: {one_line(error)}") from error
        self.heard += len(messages)
        by_name = {task.job.name: task for task in self.tasks.values()}
        for name, fraction, text in messages:
            task = by_name.get(name)
            if task is None:
                continue
            if task.started is None:
                task.started = time.monotonic()
                self.ledger.begin(task.slot, task.job)
            if fraction is not None:
                self.ledger.watcher.advanced(task.slot, task.job, fraction, text)

    def _is_late(self, task: _Task) -> bool:
        return self.seconds is not None and task.started is not None and time.monotonic() - task.started > self.seconds

    def _cancel(self, reference: Any) -> None:
        with contextlib.suppress(Exception):
            self.ray.cancel(reference, force=True)

    def _result(self, reference: Any, task: _Task) -> Outcome:
        """Return how a task ended; a lost node is forgiven, a dead worker is not."""
        errors = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(reference)
            return outcome
        except (errors.NodeDiedError, errors.ObjectLostError, errors.RaySystemError) as error:
            return Outcome(task.job, reason=f"node lost: {type(error).__name__}", crashed=True)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            return Outcome(task.job, reason=f"worker process died: {type(error).__name__}", crashed=True)
        except Exception as error:  # a payload or result that does not pickle, a module that is not there
            return Outcome(task.job, reason=one_line(error)[:500])

    def _judge(self, task: _Task, outcome: Outcome) -> Iterator[Outcome]:
        name = task.job.name
        if task.started is None:
            self.ledger.begin(task.slot, task.job)
        if outcome.crashed and str(outcome.reason).startswith("node lost"):
            self.losses[name] = self.losses.get(name, 0) + 1
            if self.losses[name] <= NODE_LOSSES:
                self.ledger.forgive(task.job)
        final = self.ledger.judge(task.slot, outcome)
        if final is None:
            self.next_up.append(task.job)
        else:
            self.losses.pop(name, None)
            yield final


class _Board:
    """Where jobs, on whatever node, say that they have begun and how far they are."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, float | None, str]] = []
        self.first = 0  # how many there were before these

    def post(self, name: str, fraction: float | None, text: str) -> None:
        self.messages.append((name, fraction, text))

    def take(self, heard: int) -> list[tuple[str, float | None, str]]:
        """Return all but the first `heard` messages. An answer that was lost on its way is given again."""
        heard = max(heard, self.first)  # questions may overtake each other
        self.messages = self.messages[heard - self.first :]
        self.first = heard
        return self.messages


def _work(function: Function, job: Job, number: int, board: Any) -> Outcome:
    """Carry out one job in a worker of the cluster."""
    board.post.remote(job.name, None, "")
    return call(job, function, limited(lambda fraction, text: board.post.remote(job.name, fraction, text)))


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody unless asked for
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise EngineError("Ray is not installed; `pip install pyimplicit[ray]` brings it") from error
    return ray
