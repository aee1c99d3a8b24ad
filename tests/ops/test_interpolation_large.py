"""Interpolation large enough for sorting, slabs, streaming and memory of its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyimplicit import _native, ops
from pyimplicit.ops import _interpolation_kernels as kernels
from pyimplicit.ops import interpolation, reference
from tests.helpers import randn
from tests.ops.interpolation_cases import OFFSETS, every_layout, every_option, grids_of, points_of, tolerance

LANES = [lanes for lanes in (4, 8, 16) if lanes <= _native.vector_lanes()]

# ---- large enough for sorting, slabs, streaming and memory of its own; copies of a point share cells of the last grid


def large_case(dtype: torch.dtype = torch.float32, batch: int = 1) -> tuple[list[Tensor], Tensor, Tensor]:
    sizes = [(32, 40, 36, 33), (1, 64, 64, 64), (96, 17, 16, 15), (64, 3, 4, 5)]
    grids = [randn(batch, *size, seed=i, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
             for i, size in enumerate(sizes)]  # fmt: skip
    points = points_of(9000, 3, dtype, torch.device("cpu"), batch)
    points[:, 5::1000] = math.nan
    return grids, points, OFFSETS.to(dtype)


@every_option
@every_layout
@pytest.mark.parametrize("lanes", LANES)
def test_twin_with_vector_loops_equals_plain_body(options, layout, lanes):
    grids, points, offsets = large_case()
    chosen = kernels.Options(
        options["align_corners"],
        interpolation.PADDINGS.index(options["padding_mode"]),
        layout == "offset_fastest",
        False,
    )
    close = {"rtol": 1e-5, "atol": 2e-5, "equal_nan": True}
    rows = kernels.gather(grids, points, None, offsets, chosen, lanes)
    assert rows.nbytes > 1 << 24
    torch.testing.assert_close(rows, kernels.gather(grids, points, None, offsets, chosen, lanes=1), **close)
    rows = randn(*rows.shape, seed=6)
    for tangent in (None, randn(*points.shape, seed=7)):
        one, other = (kernels.gather(grids, points, tangent, offsets, chosen, way) for way in (lanes, 1))
        scale = 1 if tangent is None else 64  # slopes are in nodes
        torch.testing.assert_close(one, other, **close | {"atol": 2e-5 * scale})
        ways = [kernels.scatter(rows, grids, points, tangent, offsets, chosen, way) for way in (lanes, 1)]
        for one, other in zip(*ways, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * scale)
        one, other = (kernels.slope(rows, grids, points, tangent, offsets, chosen, way) for way in (lanes, 1))
        torch.testing.assert_close(one, other, **close | {"atol": 2e-2 * scale})


@pytest.mark.parametrize("batch", [1, 3])
@every_layout
def test_gradients_do_not_depend_on_the_threads(batch, layout):
    """Threads decide which grids are worked on together."""
    grids, points, offsets = large_case(batch=batch)
    chosen = kernels.Options(True, 1, layout == "offset_fastest", False)
    rows = randn(*kernels.row_shape(grids, points, offsets, False), seed=6)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3, 16):
            torch.set_num_threads(count)
            found.append(kernels.scatter(rows, grids, points, None, offsets, chosen))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@every_option
def test_segments_equal_plain_body(device, dtype, options):
    """What a GPU does where a fixed order of summation is asked for."""
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    grids = [grid.to(dtype) for grid in grids_of(computed, device)]
    points, offsets = points_of(200, 3, computed, device), OFFSETS.to(device, computed)
    points[:, 1] = math.nan
    chosen = kernels.Options(
        options["align_corners"], interpolation.PADDINGS.index(options["padding_mode"]), False, False
    )
    rows = randn(2, 200, 4 * 13, seed=6).to(device, dtype)
    for tangent in (None, randn(*points.shape, seed=7, dtype=computed).to(device)):
        ways = [
            kernels.scatter(rows, grids, points, tangent, offsets, chosen, lanes=1, segments=segments)
            for segments in (True, False)
        ]
        for one, other in zip(*ways, strict=True):
            torch.testing.assert_close(one, other, **tolerance(computed) | {"atol": 1e-4})


def test_large_results_equal_twin():
    """Sorted, in slabs, streamed past the caches, into memory of their own: the numbers stay the same."""
    grids, points, offsets = large_case(batch=2)
    points = points.nan_to_num(0.123)
    grids = [grid.requires_grad_() for grid in grids]
    features = ops.sample_grids(grids, points, offsets)
    expected = reference.sample_grids(grids, points, offsets)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    upstream = randn(*features.shape, seed=4)
    for one, other in zip(
        torch.autograd.grad(features, grids, upstream), torch.autograd.grad(expected, grids, upstream), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-4)
