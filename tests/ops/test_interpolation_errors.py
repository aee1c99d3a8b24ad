"""Arguments that interpolation refuses, by an error that names them."""

from __future__ import annotations

import pytest
import torch

from pyimplicit import ops
from tests.ops.interpolation_cases import OFFSETS

GRID, POINTS = torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 5, 3)
MATRIX = torch.zeros(5, 3)
PLANES, FLAT = torch.zeros(2, 3, 4, 5, 5), torch.zeros(2, 3, 7, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.sample_grids([], POINTS), ValueError, "grids: expected at least one"),
        (
            lambda: ops.sample_grids(3, POINTS),
            TypeError,
            "grids: expected a torch tensor or a sequence of them, got int",
        ),
        (lambda: ops.sample_grids([None], POINTS), TypeError, "grids: expected a torch tensor, got NoneType"),
        (lambda: ops.sample_grids(GRID[0], POINTS), ValueError, r"grids: expected shape \[B, C, D, H, W\]"),
        (lambda: ops.sample_grids(GRID.int(), POINTS), TypeError, "grids: expected dtype float32 or float64"),
        (
            lambda: ops.sample_grids(GRID.half(), POINTS.double()),
            TypeError,
            "points: expected dtype float32 or float16",
        ),
        (
            lambda: ops.sample_grids([GRID, GRID[:, :2]], POINTS, sum_grids=True),
            ValueError,
            r"grids\[1\]: expected shape",
        ),
        (lambda: ops.sample_grids_linear(GRID.half(), POINTS, MATRIX), TypeError, "weight: expected dtype float16"),
        (lambda: ops.sample_grids_linear(GRID, POINTS, MATRIX[:, :2]), ValueError, r"weight: expected shape \[O, 3\]"),
        (lambda: ops.sample_grids_linear(GRID, POINTS, MATRIX, MATRIX[0]), ValueError, r"bias: expected shape \[5\]"),
        (
            lambda: ops.sample_grids_linear(GRID, POINTS, MATRIX, coarse=[True, True]),
            ValueError,
            "coarse: expected one entry for each of 1 grids, got 2",
        ),
        (lambda: ops.sample_grids(GRID, POINTS.double()), TypeError, "points: expected dtype float32, got float64"),
        (lambda: ops.sample_grids([GRID, GRID.double()], POINTS), TypeError, r"grids\[1\]: expected dtype float32"),
        (lambda: ops.sample_grids([GRID, GRID[:1]], POINTS), ValueError, r"grids\[1\]: expected shape \[2, C"),
        (lambda: ops.sample_grids(GRID[:, :, :0], POINTS), ValueError, r"grids\[0\]: expected at least one channel"),
        (lambda: ops.sample_grids(GRID[:, :0], POINTS), ValueError, r"grids\[0\]: expected at least one channel"),
        (
            lambda: ops.sample_grids(GRID, POINTS[:1]),
            ValueError,
            r"points: expected shape \[2, N, 3\], got \[1, 5, 3\]",
        ),
        (lambda: ops.sample_grids(GRID, POINTS[..., :2]), ValueError, r"points: expected shape \[2, N, 3\]"),
        (lambda: ops.sample_grids(GRID, POINTS, torch.zeros(0, 3)), ValueError, "offsets: expected at least one"),
        (lambda: ops.sample_grids(GRID, POINTS, torch.zeros(3)), ValueError, r"offsets: expected shape \[K, 3\]"),
        (lambda: ops.sample_grids(GRID, POINTS, OFFSETS.double()), TypeError, "offsets: expected dtype float32"),
        (lambda: ops.sample_grids(GRID, POINTS, padding_mode="mirror"), ValueError, "padding_mode: expected one of"),
        (lambda: ops.sample_grids(GRID, POINTS, layout="fast"), ValueError, "layout: expected one of"),
        (lambda: ops.sample_planes(PLANES[0], FLAT), ValueError, r"planes: expected shape \[B, K, C, H, W\]"),
        (lambda: ops.sample_planes([PLANES], FLAT), TypeError, "planes: expected a torch tensor, got list"),
        (lambda: ops.sample_planes(PLANES[:, :0], FLAT[:, :0]), ValueError, "planes: expected at least one"),
        (lambda: ops.sample_planes(PLANES[..., :0], FLAT), ValueError, "planes: expected at least one"),
        (lambda: ops.sample_planes(PLANES, FLAT[:, :2]), ValueError, r"points: expected shape \[2, 3, N, 2\]"),
        (lambda: ops.sample_planes(PLANES, POINTS), ValueError, r"points: expected shape \[2, N, 2\]"),
        (lambda: ops.sample_planes(PLANES, FLAT.double()), TypeError, "points: expected dtype float32"),
        (lambda: ops.sample_planes(PLANES, None), TypeError, "points: expected a torch tensor, got NoneType"),
        (lambda: ops.sample_planes(PLANES, FLAT, padding_mode=1), ValueError, "padding_mode: expected one of"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_is_moved_between_devices():
    with pytest.raises(ValueError, match="points: expected a tensor on cuda:0, got one on cpu"):
        ops.sample_grids(GRID.cuda(), POINTS)
    with pytest.raises(ValueError, match="points: expected a tensor on cpu, got one on cuda:0"):
        ops.sample_planes(PLANES, FLAT.cuda())
