"""Memory of large results on the CPU: in huge pages, zero from the start, and kept for the next step if asked for.

A fresh page costs more than writing it: a gradient of 268 MB is filled several times faster when its memory is used a
second time. Torch gives large CPU tensors back to the system as soon as nobody holds them, so every step of a training
run pays for its pages again. Inside `KeptBuffers` the operators that write large results do not, inside `KeptHeap`
nothing does.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count

# Smaller results are torch's: the allocator of the C library keeps their memory itself.
LARGE = 1 << 22  # bytes
# Pieces of the heap that a training keeps, and what stands for all of them.
MOST_KEPT, KEEP_ALL = 1 << 25, -1
# A kept block serves a result that fills at least this share of it.
LEAST_SHARE = 0.75
_HUGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)
_FRESH = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


class KeptBuffers:
    """Keeps the memory of large CPU results (of interpolation, convolution, normalisation) for later ones.

    Used as a context, as often as wanted; the memory stays with the object and goes with it. Memory is used again only
    when no tensor refers to it any more, so results are never overwritten. Inside, what any thread of the process
    computes takes part, backward passes included. On a GPU, where torch keeps memory itself, it does nothing.

    Args:
        limit: Bytes of unused memory kept at most.

    Raises:
        TypeError: A limit that is not a whole number.
        ValueError: A negative limit.

    Example:
        >>> from pyimplicit import ops
        >>> grid, points = torch.rand(1, 2, 4, 4, 4), torch.rand(1, 5, 3)
        >>> buffers = KeptBuffers()
        >>> for step in range(3):
        ...     with buffers:
        ...         features = ops.sample_grids(grid, points)
    """

    def __init__(self, limit: int = 1 << 33) -> None:
        self.limit = check_count("limit", limit, minimum=0)
        self._blocks: list[mmap.mmap] = []  # in use and free, oldest first

    def __enter__(self) -> KeptBuffers:
        with _lock:
            _active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _lock:
            _active.remove(self)

    def unused(self) -> int:
        """Bytes that are kept and in no tensor's use."""
        with _lock:
            return sum(map(len, self._free()))

    def _free(self) -> list[mmap.mmap]:
        # Three references to a block nobody uses: the list's, the loop's and the count's own.
        return [block for block in self._blocks if sys.getrefcount(block) == 3]

    def _take(self, bytes_: int) -> mmap.mmap | None:
        fitting = [block for block in self._free() if LEAST_SHARE * len(block) <= bytes_ <= len(block)]
        return min(fitting, key=len) if fitting else None

    def _keep(self, block: mmap.mmap) -> None:
        free = self._free()
        unused = sum(map(len, free))
        while free and unused > self.limit:
            oldest = free.pop(0)
            unused -= len(oldest)
            self._blocks.remove(oldest)
        self._blocks.append(block)


_lock = threading.Lock()
_active: list[KeptBuffers] = []
_heaps: list[int] = []  # what each context of `KeptHeap` that is entered keeps


class KeptHeap:
    """Context in which the process keeps memory that is freed, for what is allocated next.

    The C library's allocator gives large pieces back to the system at once and gets them again, page by page, at the
    next step of a training run, whose steps allocate the same sizes over and over. In here it keeps them; at the end
    they go back. It concerns the whole process, all threads and libraries of it. Contexts may lie in one another: the
    most generous counts. Afterwards the allocator has the limits that a process starts with, and no longer adapts them.
    A process that is forked inside keeps its memory for good.

    Entering it returns whether the allocator could be told: only that of glibc can. Elsewhere nothing changes.

    Args:
        largest: Bytes of the largest pieces that are kept, up to 32 MiB; None keeps all of them. Large ones save most
            time and leave gaps between those in use (`benchmarks.bench_networks --all-kept` says how much of either).

    Raises:
        TypeError: Not a whole number.
        ValueError: Below 1, or more than 32 MiB, which older versions of glibc do not take.

    Example:
        >>> with KeptHeap() as kept:
        ...     gradients = torch.rand(1 << 20)
        >>> kept in (True, False)
        True
    """

    def __init__(self, largest: int | None = MOST_KEPT) -> None:
        if largest is not None and check_count("largest", largest) > MOST_KEPT:
            raise ValueError(f"largest: expected at most {MOST_KEPT}, or None, got {largest}")
        self.largest = KEEP_ALL if largest is None else largest

    def __enter__(self) -> bool:
        with _lock:
            _heaps.append(self.largest)
            return _native.keep_heap(KEEP_ALL if KEEP_ALL in _heaps else max(_heaps))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _lock:
            _heaps.remove(self.largest)
            _native.keep_heap(KEEP_ALL if KEEP_ALL in _heaps else max(_heaps, default=0))


def empty(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor, dense in the memory layout of `strides`."""
    return _allocate(shape, strides, dtype, device)[0]


def zeros(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of zeros, dense in the memory layout of `strides`."""
    values, are_zero = _allocate(shape, strides, dtype, device)
    if are_zero:
        return values
    if device.type == "cpu":
        _native.fill_zeros(values)
        return values
    return values.zero_()


def _allocate(
    shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, bool]:
    """The tensor, and whether its memory is known to be zero."""
    count = 1
    for size in shape:
        count *= size
    bytes_ = count * dtype.itemsize
    if device.type != "cpu" or bytes_ < LARGE or _HUGE_PAGES is None:
        return torch.empty_strided(shape, strides, dtype=dtype, device=device), False
    block, fresh = _take(bytes_)
    # The storage holds the block, and so keeps it from being taken again.
    flat = torch.frombuffer(block, dtype=dtype, count=count)
    return torch.empty(0, dtype=dtype, device="cpu").set_(flat.untyped_storage(), 0, shape, strides), fresh


def _take(bytes_: int) -> tuple[mmap.mmap, bool]:
    """A block of memory, and whether it is fresh from the system, which hands out zeros."""
    with _lock:
        buffers = _active[-1] if _active else None
        block = buffers._take(bytes_) if buffers is not None else None
        if block is not None:
            return block, False
        block = mmap.mmap(-1, bytes_, flags=_FRESH)
        if _HUGE_PAGES is not None:
            with contextlib.suppress(OSError):  # a kernel without huge pages
                block.madvise(_HUGE_PAGES)
        if buffers is not None:
            buffers._keep(block)
        return block, True
