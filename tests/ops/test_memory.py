"""Memory that is kept from step to step: buffers of operators, and the heap of the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from pyimplicit import ops
from tests.helpers import rand, randn

# Counts the pages that a process gets for tensors: before; small and large ones where only small ones are kept; large
# ones within two contexts of which the inner one ends first; and after.
COUNT_PAGES = """
import resource, torch
from pyimplicit import ops

def pages(times=4, size=1 << 24):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
counts = [pages()]
with ops.KeptHeap():
    pages(40, 1 << 22)  # until free pieces of the size are there
    counts += [pages(size=1 << 22), pages()]
with ops.KeptHeap(None) as kept:
    assert kept
    with ops.KeptHeap():
        pages(40)
        counts.append(pages())
    counts.append(pages())
counts.append(pages())
print(*counts)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library's allocator cannot be told")
def test_heap_is_kept_within_and_given_back_after():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COUNT_PAGES], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    before, small, large, within, still_within, after = map(int, done.stdout.split())
    of_one = (1 << 26) // 2**21  # if the system has huge pages for it
    assert min(before, after, large) > 3 * of_one
    assert max(within, still_within) < of_one
    assert small < of_one // 4


def test_pieces_that_no_allocator_is_told_to_keep():
    with pytest.raises(ValueError, match="largest: expected at most 33554432, or None, got 33554433"):
        ops.KeptHeap((1 << 25) + 1)
    with pytest.raises(ValueError, match="largest: expected at least 1, got 0"):
        ops.KeptHeap(0)


def test_kept_memory_is_used_again_but_never_under_a_tensor():
    grid, points = randn(1, 16, 4, 4, 4), rand(1, 1 << 17, 3)
    buffers = ops.KeptBuffers()
    with buffers:
        first = ops.sample_grids(grid, points)
        copy, place = first.clone(), first.data_ptr()
        second = ops.sample_grids(-grid, points)
        assert second.data_ptr() != place
        assert torch.equal(first, copy)
        view = first[0, 5]
        del first
        assert buffers.unused() == 0  # the view still refers to it
        assert ops.sample_grids(grid, points).data_ptr() not in (place, second.data_ptr())
        del view
        third = ops.sample_grids(grid, points)
        assert third.data_ptr() == place
        assert buffers.unused() > 0
    outside = ops.sample_grids(grid, points)
    assert buffers.unused() > 0
    assert torch.equal(outside, copy)
    assert torch.equal(third, copy)


def test_gradients_in_kept_memory_start_at_zero():
    grid = randn(2, 32, 40, 40, 40).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    buffers = ops.KeptBuffers()
    places = set()
    for step in range(3):
        points = rand(2, 50, 3, seed=step, low=-1, high=1)
        with buffers:
            (gradient,) = torch.autograd.grad(ops.sample_grids(grid, points).sum(), grid)
        places.add(gradient.data_ptr())
        assert float(gradient.double().sum()) == pytest.approx(2 * 50 * 32, rel=1e-5)
        del gradient
    assert len(places) == 1


def test_kept_memory_has_a_limit():
    buffers = ops.KeptBuffers(limit=0)
    with buffers:
        for count in (1 << 17, 1 << 18, 1 << 19):
            ops.sample_grids(randn(1, 16, 4, 4, 4), rand(1, count, 3))
    assert buffers.unused() <= 4 * 16 * (1 << 19)  # the last one alone
    with pytest.raises(ValueError, match="limit: expected at least 0"):
        ops.KeptBuffers(-1)
