"""Occupancy grids of clouds against their twin and the authors' way, a KD-tree over all nodes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pyimplicit import ops
from pyimplicit.ops import reference
from tests.helpers import rand

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("resolution", [2, 3, 16, 17, 40])
@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (-0.55, 0.55), (1.0, 3.0)])
def test_equals_twin(device, dtype, resolution, bounds):
    low, high = bounds
    margin = 0.1 * (high - low)  # some points lie outside
    points = rand(3, 300, 3, low=low - margin, high=high + margin, dtype=dtype).to(device)
    grid = ops.voxelise(points, resolution, low=low, high=high)
    assert grid.dtype == dtype
    assert torch.equal(grid, reference.voxelise(points, resolution, low=low, high=high))


@pytest.mark.parametrize("resolution", [32, 33])
def test_equals_tree_over_all_nodes(device, resolution):
    cloud = rand(1, 3000, 3, low=-0.6, high=0.6)
    axis = np.linspace(-0.5, 0.5, resolution)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    expected = torch.zeros(resolution**3)
    expected[torch.from_numpy(cKDTree(nodes).query(cloud[0].double().numpy())[1])] = 1
    assert torch.equal(ops.voxelise(cloud.to(device), resolution)[0].cpu().flatten(), expected)


def test_axes_are_x_y_z(device):
    grid = ops.voxelise(torch.tensor([[[-0.5, 0.0, 0.25]]], device=device), 5)
    assert grid.nonzero().tolist() == [[0, 0, 2, 3]]


def test_halfway_goes_up_and_outside_to_the_border(device):
    points = torch.tensor([[[0.0, -0.5, 0.5], [-9.0, 9.0, -0.5 - 1e-6]]], device=device)
    assert ops.voxelise(points, 2).nonzero().tolist() == [[0, 0, 1, 0], [0, 1, 0, 1]]
    just_below = torch.tensor([[[-1e-9, 0, 0]]], device=device)
    assert ops.voxelise(just_below, 2).nonzero().tolist() == [[0, 0, 1, 1]]


def test_duplicates_strides_and_nothing(device):
    points = rand(2, 50, 3, low=-0.5, high=0.5).to(device)
    grid = ops.voxelise(points, 9)
    assert torch.equal(ops.voxelise(torch.cat([points, points.flip(1)], 1), 9), grid)
    assert torch.equal(ops.voxelise(points.permute(2, 0, 1).contiguous().permute(1, 2, 0), 9), grid)
    assert not ops.voxelise(points[:, :0], 9).any()
    assert ops.voxelise(points[:0], 9).shape == (0, 9, 9, 9)
    assert not ops.voxelise(points.requires_grad_(), 9).requires_grad


POINTS = torch.zeros(1, 2, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.voxelise(POINTS[0], 8), ValueError, r"points: expected shape \[B, N, 3\]"),
        (lambda: ops.voxelise(POINTS.int(), 8), TypeError, "points: expected dtype float32 or float64"),
        (lambda: ops.voxelise(POINTS + math.nan, 8), ValueError, "points: expected finite"),
        (lambda: ops.voxelise(POINTS + math.inf, 8), ValueError, "points: expected finite"),
        (lambda: ops.voxelise(POINTS, 1), ValueError, "resolution: expected at least 2, got 1"),
        (lambda: ops.voxelise(POINTS, 8.0), TypeError, "resolution: expected a whole number"),
        (lambda: ops.voxelise(POINTS, 8, low="a"), TypeError, "low: expected a number, got str"),
        (lambda: ops.voxelise(POINTS, 8, low=0.5), ValueError, "high: expected more than low = 0.5, got 0.5"),
        (lambda: ops.voxelise(POINTS, 8, high=math.inf), ValueError, "high: expected at least"),
        (lambda: ops.voxelise(POINTS, 8, low=math.nan), ValueError, "low: expected at least"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
