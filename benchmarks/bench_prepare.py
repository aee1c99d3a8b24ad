"""Preparing sets at scale: memory, rate and projection of many shapes, and what random kills cost.

    python -m benchmarks.bench_prepare [--shapes 50000] [--limit-seconds 120] [--kills 20] [--only rate kills ...]
    python -m benchmarks.bench_prepare --only rate --points 500 --cells 24 --limit-seconds 2100 [--name X]

"rate" prepares procedural cars for some time with everything in it, and projects the rest. Its rates by processor time,
of all processes together, hold on a machine that has other work too. With few points and coarse cars all of them are
done in less than an hour, by the same code. "manifest" carries all the shapes through shards and manifest, each with
one point in place of its samples. "kills" ends a process by SIGKILL at random moments until its set is complete, and
compares the set with one made without interruption. "sets" prepares the sets of real meshes that were fetched, closed
by fusion, each twice: the second time there is nothing to do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import parse_arguments, print_rows, save
from benchmarks.preparing_rate import rate, resident
from pyimplicit.data import (
    DEBIAN_SETS,
    DebianMeshes,
    LabelledPoints,
    PrepareConfig,
    ShapeSamples,
    StoredSet,
    prepare_set,
)
from pyimplicit.engines import LocalEngine
from pyimplicit.errors import DataError

PARTS = ("rate", "manifest", "kills", "sets")


class OnePoint:
    """As many shapes as wanted, each of one point: what is left is the cost of keeping the books."""

    name = "one-point"

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def names(self) -> list[str]:
        """One name a shape."""
        return [f"shape-{index:06d}" for index in range(self.count)]

    groups = names

    def load_samples(self, index: int) -> ShapeSamples:
        """One point."""
        point = torch.full((1, 3), index / self.count)
        return ShapeSamples(evaluation=LabelledPoints(point, torch.zeros(1)))


def manifest(shapes: int, scratch: Path) -> list[dict[str, Any]]:
    """A row for a tenth of the shapes and one for all."""
    rows = []
    for count in (shapes // 10, shapes):
        source, folder = OnePoint(count), scratch / str(count)
        before, peak = resident(), 0.0
        start = time.perf_counter()

        def progress(done: int, total: int) -> None:
            nonlocal peak
            if done % 500 == 0:
                peak = max(peak, resident())

        prepare_set(source, folder, engine=LocalEngine(0), progress=progress)
        made = time.perf_counter()
        peak_all = max(peak, resident())
        prepare_set(source, folder, engine=LocalEngine(0))
        again = time.perf_counter()
        stored = StoredSet(folder)
        assert float(stored.tensor(count - 1, "evaluation.points")[0, 0]) == np.float32((count - 1) / count)
        rows.append(
            {
                "shapes": count, "ms a shape": 1e3 * (made - start) / count, "MiB more": peak - before,
                "with manifest": peak_all - before, "s second run": again - made,
                "s open and read": time.perf_counter() - again,
                "manifest MB": (folder / "manifest.json").stat().st_size / 1e6,
            }
        )  # fmt: skip
    return rows


def wait_for(process: subprocess.Popen[bytes], sign: Callable[[], bool]) -> None:
    """Wait until a sign is seen or the process has ended."""
    while process.poll() is None and not sign():
        time.sleep(0.01)


def holds_lock(process: subprocess.Popen[bytes], out: Path) -> bool:
    """Whether it is this process that works in the folder: a lock file stays behind whoever was killed."""
    try:
        return (out / "set.lock").read_text().strip() == str(process.pid)
    except OSError:
        return False


def kills(count: int, scratch: Path, seed: int = 0) -> list[dict[str, Any]]:
    """One row: what random kills hit, and whether the set is the same in the end."""
    shapes = 12 * count
    config = ["--count", str(shapes), "--cloud", "5000", "--evaluation", "5000", "--shard-size", "8"]
    command = [sys.executable, "-m", "pyimplicit", "prepare", "procedural", "--processes", "1", *config, "--out"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    whole, out = scratch / "whole", scratch / "killed"
    with subprocess.Popen([*command, str(whole)], **quiet) as process:
        wait_for(process, lambda: holds_lock(process, whole))
        locked = time.perf_counter()
        wait_for(process, lambda: any((whole / "pending").glob("*.safetensors")))
        first = time.perf_counter() - locked  # its worker starts meanwhile
    work = time.perf_counter() - locked - first

    def done() -> int:
        found = {int(path.stem) for path in (out / "pending").glob("*.safetensors") if path.stem.isdigit()}
        for path in (out / "shards").glob("*.json"):
            found |= {entry["index"] for entry in json.loads(path.read_text())["entries"]}
        return len(found)

    random = np.random.default_rng(seed)
    progress: list[int] = []
    for _ in range(count):
        with subprocess.Popen([*command, str(out)], **quiet) as process:
            wait_for(process, lambda: holds_lock(process, out))
            time.sleep(float(random.uniform(0.0, first + 2.0 * work / count)))
            hit = process.poll() is None
            process.kill()
        if hit:
            progress.append(done())
    start = time.perf_counter()
    subprocess.run([*command, str(out)], check=True, **quiet)
    rest = time.perf_counter() - start
    killed, expected = StoredSet(out), StoredSet(whole)
    killed.verify()
    return [
        {
            "kills": count, "hit work": len(progress), "after shapes": " ".join(map(str, progress)),
            "shapes": len(killed), "lost": len(set(expected.names()) - set(killed.names())),
            "doubled": len(killed) - len(set(killed.names())), "same content": killed.content == expected.content,
            "files left over": sum(1 for path in out.rglob("*") if ".tmp" in path.name or "pending/" in str(path)),
            "s whole": first + work, "s rest": rest,
        }
    ]  # fmt: skip


def sets(processes: int, scratch: Path) -> list[dict[str, Any]]:
    """One row for each set of real meshes."""
    rows = []
    config = PrepareConfig(method="fusion", resolution=256)
    for name in DEBIAN_SETS:
        try:
            source = DebianMeshes(name)
        except DataError as error:
            print(f"left out: {error}")
            continue
        folder = scratch / name
        start = time.perf_counter()
        stored = prepare_set(source, folder, config, engine=LocalEngine(processes), threads=1)
        made = time.perf_counter()
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.name != "set.lock"}
        prepare_set(source, folder, config, engine=LocalEngine(processes), threads=1)
        again = time.perf_counter()
        after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.name != "set.lock"}
        rows.append(
            {
                "set": name, "meshes": len(source), "prepared": len(stored), "processes": processes,
                "s": made - start, "s a shape": (made - start) * processes / len(source),
                "MB": sum(path.stat().st_size for path in after) / 1e6,
                "s second run": again - made, "nothing changed": before == after,
            }
        )  # fmt: skip
        print_rows("", rows[-1:])
    return rows


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--shapes", type=int, default=50_000)
        parser.add_argument("--limit-seconds", type=float, default=120.0)
        parser.add_argument("--processes", type=int, default=2)
        parser.add_argument("--points", type=int, default=100_000, help="of clouds and evaluation; pools have a fifth")
        parser.add_argument("--cells", type=int, default=72, help="along the length of a procedural car")
        parser.add_argument("--kills", type=int, default=20)
        parser.add_argument("--name", help="of the file of results")
        parser.add_argument("--only", nargs="+", choices=PARTS)

    options = parse_arguments(__doc__, arguments, add)
    chosen = options.only or PARTS
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        parts = {
            "rate": lambda: rate(
                options.shapes,
                options.limit_seconds,
                options.processes,
                options.points,
                options.cells,
                scratch / "rate",
            ),
            "manifest": lambda: manifest(options.shapes, scratch / "manifest"),
            "kills": lambda: kills(options.kills, scratch / "kills"),
            "sets": lambda: sets(options.processes, scratch / "sets"),
        }
        for name in chosen:
            found = parts[name]()
            print_rows(name, found)
            rows += [{"part": name, **row} for row in found]
    name = options.name or ("prepare" if len(chosen) == len(parts) else f"prepare_{'_'.join(chosen)}")
    print(save(name, rows, torch.device("cpu"), options.out))


if __name__ == "__main__":
    main()
