"""How far a study has got: a bar with the time left and a line per worker, or plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pyimplicit.engines import Job, Outcome
from pyimplicit.study.records import DONE, Record


class StudyProgress:
    """Hears of everything that happens in a study and says nothing; the base of those that do."""

    def __enter__(self) -> StudyProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def preparing(self, done: int, total: int) -> None:
        """Hear that `done` of `total` shapes are prepared."""

    def begin(self, total: int, done: int) -> None:
        """Hear that the study has `total` runs, of which `done` were found finished."""

    def started(self, slot: int, job: Job) -> None:
        """Hear that a worker has begun a run."""

    def advanced(self, slot: int, job: Job, fraction: float, text: str) -> None:
        """Hear that a run has got further."""

    def ended(self, slot: int, outcome: Outcome) -> None:
        """Hear that a run is over."""


class BarProgress(StudyProgress):
    """Bars in a terminal, redrawn in place."""

    def __init__(self, console: Console | None = None) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}", markup=False),
            console=console or Console(stderr=True),
        )
        self._whole: TaskID | None = None
        self._lines: dict[int, TaskID] = {}
        self._preparation: TaskID | None = None
        self._clock = _TimeLeft()

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines.values():
            self._bars.remove_task(line)
        self._bars.stop()

    def preparing(self, done: int, total: int) -> None:
        """Draw the bar of the preparation."""
        if self._preparation is None:
            self._preparation = self._bars.add_task("preparing shapes", total=total, note="")
        self._bars.update(self._preparation, completed=done, total=total, note=f"{done} of {total}")

    def begin(self, total: int, done: int) -> None:
        """Draw the bar of the study."""
        if self._preparation is not None:
            self._bars.remove_task(self._preparation)
        self._clock.begin(total, done)
        self._whole = self._bars.add_task("study", total=total, completed=done, note=self._clock.text())

    def started(self, slot: int, job: Job) -> None:
        """Give the worker's line to the run."""
        if slot not in self._lines:
            self._lines[slot] = self._bars.add_task("", total=1.0, note="")
        self._bars.reset(self._lines[slot], description=f"  {job.payload.spec.label}", note="starting")
        self._clock.fractions[slot] = 0.0

    def advanced(self, slot: int, job: Job, fraction: float, text: str) -> None:
        """Move the worker's bar and the study's."""
        self._bars.update(self._lines[slot], completed=fraction, note=text)
        self._clock.fractions[slot] = fraction
        self._draw()

    def ended(self, slot: int, outcome: Outcome) -> None:
        """Print the result above the bars."""
        self._clock.finish(slot)
        self._bars.console.print(result_line(outcome), markup=False, highlight=False)
        self._bars.update(self._lines[slot], completed=1.0, note="done")
        self._draw()

    def _draw(self) -> None:
        if self._whole is not None:
            self._bars.update(self._whole, completed=self._clock.progress(), note=self._clock.text())


class LineProgress(StudyProgress):
    """One line for each thing that is finished, for logs."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._clock = _TimeLeft()
        self._said = time.monotonic()

    def preparing(self, done: int, total: int) -> None:
        """Say how many shapes are prepared, every few seconds and at the end."""
        if done == total or time.monotonic() - self._said >= 10.0:
            self._said = time.monotonic()
            self._say(f"prepared {done} of {total} shapes")

    def begin(self, total: int, done: int) -> None:
        """Say how many runs there are."""
        self._clock.begin(total, done)
        self._say(f"{total} runs, {done} of them finished before")

    def started(self, slot: int, job: Job) -> None:
        """Remember that the worker is at the start of a run."""
        self._clock.fractions[slot] = 0.0

    def advanced(self, slot: int, job: Job, fraction: float, text: str) -> None:
        """Remember how far the worker is."""
        self._clock.fractions[slot] = fraction

    def ended(self, slot: int, outcome: Outcome) -> None:
        """Say the result."""
        self._clock.finish(slot)
        self._say(f"[{self._clock.done}/{self._clock.total}] {result_line(outcome)}; {self._clock.text()}")

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class _TimeLeft:
    """Seconds left, from the work done since the start; runs found finished before do not count as speed."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self.fractions: dict[int, float] = {}
        self._before = 0
        self._start = time.monotonic()

    def begin(self, total: int, done: int) -> None:
        self.total, self.done, self._before = total, done, done
        self._start = time.monotonic()

    def finish(self, slot: int) -> None:
        self.done += 1
        self.fractions[slot] = 0.0

    def progress(self) -> float:
        return self.done + sum(self.fractions.values())

    def text(self) -> str:
        elapsed, fresh = time.monotonic() - self._start, self.progress() - self._before
        runs = f"{self.done} of {self.total} runs"
        if self.done == self.total or fresh < 0.05 or elapsed < 1.0:
            return f"{runs}, {format_seconds(elapsed)} so far"
        return f"{runs}, about {format_seconds(elapsed / fresh * (self.total - self.progress()))} left"


def format_seconds(seconds: float) -> str:
    """Seconds as people write them.

    Example:
        >>> format_seconds(75), format_seconds(7265)
        ('1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def result_line(outcome: Outcome) -> str:
    """Return a finished run in one line."""
    label = outcome.job.payload.spec.label
    record: Record = outcome.result
    if record.status != DONE:
        return f"{label}: {record.status}, {record.reason}"
    # A cloud, which unsigned distances end in, has no IoU.
    names = {"iou": "IoU", "f_score": "F-Score"}
    return f"{label}: " + ", ".join(f"{names[m]} {record.means[m]:.3f}" for m in names if m in record.means)


def create_progress(wanted: bool | StudyProgress = True) -> StudyProgress:
    """Bars in a terminal, lines elsewhere, silence for False; an object is passed through."""
    if isinstance(wanted, StudyProgress):
        return wanted
    if not wanted:
        return StudyProgress()
    return BarProgress() if sys.stderr.isatty() else LineProgress()
