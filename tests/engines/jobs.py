"""Jobs for the engine that succeed, fail or die. Nothing here imports torch, so workers start at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from pyimplicit.engines import Job, Outcome, Report


def act(payload: tuple[str, str], report: Report) -> str:
    """A job of the engine: what it does is its payload's first word, the second is a folder."""
    deed, folder = payload
    report(0.5, deed)
    if deed == "raise":
        raise RuntimeError("on purpose")
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "kill once" and not (Path(folder) / "killed").exists():
        (Path(folder) / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "disk full":
        raise OSError(28, "No space left on device")
    if deed == "wait":
        (Path(folder) / f"pid-{os.getpid()}").touch()
        time.sleep(60)
    if deed == "doze":
        (Path(folder) / f"doze-{os.getpid()}").touch()
        time.sleep(1)
    return f"{deed} done"


def environment() -> dict[str, str]:
    """The environment of a child process that imports these helpers."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


class Listener:
    """Remembers what a watcher is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def started(self, slot: int, job: Job) -> None:
        self.events.append(("started", job.name))

    def advanced(self, slot: int, job: Job, fraction: float, text: str) -> None:
        self.events.append(("advanced", job.name, fraction, text))

    def ended(self, slot: int, outcome: Outcome) -> None:
        self.events.append(("ended", outcome.job.name))


def worker_number(payload: None, report: Any) -> int:
    return os.getpid()
