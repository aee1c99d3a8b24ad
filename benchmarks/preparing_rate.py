"""The rate and the memory of preparing many procedural cars, by the clock and by processor time."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyimplicit.data import PrepareConfig, ProceduralCars, prepare_set
from pyimplicit.engines import LocalEngine

CLUSTER_CORES = (64, 512)


class Stop(Exception):
    """The time is over."""


def resident(pid: int | str = "self") -> float:
    """Memory that a process has to itself in MiB; pages of files, which the system takes back at will, left out."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("RssAnon")), 0.0)


@dataclass(frozen=True)
class Mark:
    """How far the work was at some moment, and what it had taken so far."""

    seconds: float  # by the clock
    done: int  # shapes
    parent: float  # seconds of a processor
    workers: float
    parent_memory: float  # MiB
    workers_memory: float


def mark(start: float, done: int) -> Mark:
    """Take a mark. Workers that have ended count by what the system keeps of them, living ones by what it says now."""
    living = multiprocessing.active_children()  # this waits for workers that have ended, so it has to come first
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime + sum(processor_seconds(child.pid or 0) for child in living)
    memory = sum(resident(child.pid or 0) for child in living)
    return Mark(time.perf_counter() - start, done, time.process_time(), seconds, resident(), memory)


def processor_seconds(pid: int) -> float:
    """Seconds of a processor that a living process has taken, its own children included that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def rate(shapes: int, limit: float, processes: int, points: int, cells: int, scratch: Path) -> list[dict[str, Any]]:
    """One row for each third of the shapes that the time was enough for, and those that project."""
    marks: list[Mark] = []
    start = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal start
        start = start or time.perf_counter()  # the workers have started
        # Marks are kept in the process that is measured: one a second takes nothing.
        if not marks or done == total or time.perf_counter() - start >= marks[-1].seconds + 1:
            marks.append(mark(start, done))
        if time.perf_counter() - start > limit:
            raise Stop

    config = PrepareConfig(cloud=points, evaluation=points, pools=(("balanced_surface", max(1, points // 5)),))
    source, stored = ProceduralCars(shapes, resolution=cells), None
    with contextlib.suppress(Stop):
        stored = prepare_set(source, scratch, config, engine=LocalEngine(processes), threads=1, progress=progress)
    size = sum(path.stat().st_size for path in scratch.rglob("*.safetensors")) / marks[-1].done
    rows = thirds(marks)
    if stored is not None:
        manifest = (scratch / "manifest.json").stat().st_size / 1e6
        rows.append({"what": "complete", "shapes": len(stored), "MiB parent": resident(), "manifest MB": manifest})
    return rows + projection(shapes, marks, size)


def thirds(marks: list[Mark]) -> list[dict[str, Any]]:
    """One row for each third of the shapes between the first and the last mark."""
    first, last = marks[0].done, marks[-1].done
    ends = [next(k for k, mark in enumerate(marks) if mark.done >= first + (last - first) * n / 3) for n in range(4)]
    rows = []
    for number, (low, high) in enumerate(itertools.pairwise(ends)):
        begin, end, part = marks[low], marks[high], marks[low : high + 1]
        done, processor = end.done - begin.done, end.parent + end.workers - begin.parent - begin.workers
        if not done:
            continue
        rows.append(
            {
                "what": f"third {number + 1}", "shapes": done, "shapes/s": done / (end.seconds - begin.seconds),
                "processor s": processor, "shapes/processor s": done / processor,
                "ms of parent": 1e3 * (end.parent - begin.parent) / done,
                "MiB parent": max(mark.parent_memory for mark in part),
                "MiB workers": max(mark.workers_memory for mark in part),
            }
        )  # fmt: skip
    return rows


def projection(shapes: int, marks: list[Mark], size: float) -> list[dict[str, Any]]:
    """One row for each number of cores, by processor time: each core works, one process keeps the books of all."""
    begin, end = marks[0], marks[-1]
    done = end.done - begin.done
    if done == 0:
        return []
    worker, parent = (end.workers - begin.workers) / done, (end.parent - begin.parent) / done
    rows = []
    for cores in (1, *CLUSTER_CORES):
        speed = 1 / (worker + parent) if cores == 1 else min((cores - 1) / worker, 1 / parent)
        rows.append(
            {
                "what": f"{shapes:,} shapes, {cores} cores", "shapes": shapes, "shapes/s": speed,
                "hours": shapes / speed / 3600, "GB": shapes * size / 1e9, "MB/s to write": speed * size / 1e6,
                "bound by": "books" if cores > 1 and (cores - 1) / worker > 1 / parent else "shapes",
            }
        )  # fmt: skip
    return rows
