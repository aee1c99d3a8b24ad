"""The figures of `bench_prepare`: processor time is counted once, of workers that live and of those that have ended."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import pytest

from benchmarks.preparing_rate import Mark, mark, projection, thirds
from pyimplicit.engines import Job, LocalEngine, local


def burn(seconds: float, report: Any) -> float:
    """Take some processor time; returns what this process has taken in all."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return time.process_time()


def count_once() -> None:
    """Check the marks, in a process that has no other children: theirs would be counted when they end."""
    local.JOBS_OF_WORKER = 2
    start, marks, ended, last = mark(0.0, 0), [], 0.0, 0.0
    for outcome in LocalEngine(1).outcomes([Job(str(k), 0.2) for k in range(5)], burn):
        marks.append(mark(0.0, len(marks) + 1))
        if outcome.result < last:  # another worker
            ended += last
        last = outcome.result
        counted = marks[-1].workers - start.workers
        # A worker also takes some time to come and go, but it is not counted twice or left out.
        assert ended + last - 0.03 <= counted <= ended + last + 0.15 * len(marks)
    assert ended > 4 * 0.2
    after = mark(0.0, 5)
    assert after.workers - start.workers == pytest.approx(marks[-1].workers - start.workers, abs=0.3)
    assert after.workers_memory == 0 < marks[0].workers_memory < 2000
    assert marks[-1].parent - start.parent < 0.2 * 5  # the workers' time is not the parent's


def test_processor_time_of_living_and_of_ended_workers_is_counted_once() -> None:
    process = multiprocessing.get_context("spawn").Process(target=count_once)
    process.start()
    process.join()
    assert process.exitcode == 0  # its traceback is in what it wrote


def test_rows_of_marks() -> None:
    """A hundred shapes of 0.2 s, in which a worker takes 0.1 s of a processor and the parent 0.01 s."""
    marks = [Mark(0.2 * k, k, 1 + 0.01 * k, 2 + 0.1 * k, 50 + k, 70) for k in range(1, 101)]
    rows = thirds(marks)
    assert [row["shapes"] for row in rows] == [33, 33, 33]
    for row, memory in zip(rows, (84, 117, 150), strict=True):
        assert row["shapes/s"] == pytest.approx(5)
        assert row["shapes/processor s"] == pytest.approx(1 / 0.11)
        assert row["ms of parent"] == pytest.approx(10)
        assert (row["MiB parent"], row["MiB workers"]) == (memory, 70)
    one, some, many = projection(1000, marks, size=1e6)
    assert one["hours"] == pytest.approx(1000 * 0.11 / 3600)
    assert (some["shapes/s"], some["bound by"]) == (pytest.approx(100), "books")
    assert (many["GB"], many["MB/s to write"]) == (pytest.approx(1), pytest.approx(100))
