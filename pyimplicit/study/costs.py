"""What a run costs: seconds by phase, seconds of a training step, and peak memory."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class Clock:
    """Seconds by phase, and what one training step takes by the wall's clock and by the processor's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._first: tuple[float, float, int] | None = None  # wall, processor, steps done before the first one heard of

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start

    def step(self, done: int) -> None:
        """Hear that `done` steps are over. The first step heard of warms up and does not count."""
        now = (time.perf_counter(), time.process_time(), done)
        if self._first is None:
            self._first = now
        elif done > self._first[2]:
            steps = done - self._first[2]
            self.seconds["train_step"] = (now[0] - self._first[0]) / steps
            # Of all threads of the process; other programs on the machine do not lengthen it.
            self.seconds["train_step_processor"] = (now[1] - self._first[1]) / steps


class MemoryWatch:
    """Peak memory of a training, apart from what the process held before it.

    On Linux what the allocator keeps of earlier runs is given back and the kernel's high-water mark of the resident set
    reset at the start; elsewhere only the peak of the whole process is known. On a CUDA device torch's own statistics
    are used.
    """

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        self._before: float | None = None
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        try:
            _trim()
            _CLEAR.write_text("5")
            self._before = _status("VmRSS")
        except OSError:
            self._before = None

    def train_peak(self) -> dict[str, float]:
        """Bytes that training took at its peak beyond what was there before; call it when training ends."""
        if self._cuda:
            return {"train_peak": float(torch.cuda.max_memory_allocated())}
        peak = None if self._before is None else _status("VmHWM")
        return {} if peak is None or self._before is None else {"train_peak": max(0.0, peak - self._before)}

    def run_peak(self) -> dict[str, float]:
        """Bytes at the peak of the run: of the worker process over its runs so far, and of a CUDA device."""
        found: dict[str, float] = {}
        if sys.platform != "win32":
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            found["process_peak"] = float(peak if sys.platform == "darwin" else peak * 1024)
        if self._cuda:
            found["cuda_peak_allocated"] = float(torch.cuda.max_memory_allocated())
            found["cuda_peak_reserved"] = float(torch.cuda.max_memory_reserved())
        return found


def _trim() -> None:
    """Give free memory of the allocator back to the system, where the C library can."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    gc.collect()
    trim(0)


def _status(key: str) -> float | None:
    """Bytes of an entry of the process's status, or None where there is none."""
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return float(line.split()[1]) * 1024
    return None
