"""Timing shared by the benchmarks: competitors take turns in one process, medians are quoted, results kept as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from pyimplicit._native import build_info

PAUSE = 0.03  # seconds


def parse_arguments(
    description: str | None, arguments: list[str] | None, add: Callable[[argparse.ArgumentParser], object] | None = None
) -> argparse.Namespace:
    """The arguments every benchmark takes, with those that `add` adds; also sets the number of threads."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/local"))
    if add is not None:
        add(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    return options


def processor_name() -> str:
    """The processor as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def environment(device: torch.device) -> dict[str, Any]:
    """What a figure depends on besides the code."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit or None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": processor_name(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        **build_info(),
    }


def alternate(
    competitors: dict[str, Callable[[], Any]],
    device: torch.device,
    rounds: int = 7,
    warm_up: int = 1,
    warm_turns: bool = False,
) -> dict[str, float]:
    """Median seconds of each competitor, which run one after the other in every round.

    A pause before each, because thread pools (OpenMP's above all) go on spinning for a while after a call, on the very
    processors that the next competitor needs: without it a short call pays for whoever came before. The processor stays
    busy meanwhile, because one that was idle is slow for some milliseconds. With `warm_turns` it is the competitor
    itself that runs, untimed, in the pause: else a call of less than a millisecond is mostly the time in which the
    interpreter, the library and the data come back to caches that others have used.
    """

    def run(call: Callable[[], Any]) -> float:
        end = time.perf_counter() + PAUSE
        while time.perf_counter() < end:
            if warm_turns:
                call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    for _ in range(warm_up):
        for call in competitors.values():
            run(call)
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(rounds):
        for name, call in competitors.items():
            seconds[name].append(run(call))
    return {name: statistics.median(values) for name, values in seconds.items()}


def save(name: str, rows: list[dict[str, Any]], device: torch.device, out: Path) -> Path:
    """Write the rows of a benchmark with its environment; returns the file."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}_{device.type}.json"
    path.write_text(json.dumps({"environment": environment(device), "rows": rows}, indent=1) + "\n")
    return path


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table; the keys of the first row are its columns."""
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in text)) for i, column in enumerate(columns)]
    print(f"\n{title}")
    print("  ".join(column.rjust(width) for column, width in zip(columns, widths, strict=True)))
    for line in text:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
