"""The distance mask against brute force and a KD-tree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from pyimplicit import ops
from pyimplicit.ops import reference
from tests.helpers import rand, sphere


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [1e-6, 0.01, 0.1, 0.7, 100.0])
def test_mask_equals_twin(device, dtype, distance):
    cloud, points = rand(500, 3, low=-0.5, high=0.5), rand(3000, 3, seed=1, low=-0.8, high=0.8, dtype=dtype)
    points[:500] = cloud  # distance 0 counts at any radius
    mask = ops.distance_mask(points.to(device), ops.build_cloud_grid(cloud, distance).to(device))
    assert mask.dtype == torch.bool
    assert torch.equal(mask.cpu(), reference.distance_mask(points, cloud, distance))
    assert mask[:500].all()


@pytest.mark.parametrize("distance", [1e-5, 0.003, 0.03, 0.1, 5.0])
def test_mask_equals_tree_on_many_points(device, distance):
    """120,000 points, half of them near the cloud, decided by another library."""
    cloud = (sphere(0.4, 4)[0] + 0.01 * rand(1026, 3, dtype=torch.float64)).float()
    points = rand(120_000, 3, seed=2, low=-0.5, high=0.5)
    points[::2] = cloud[torch.arange(60_000) % len(cloud)] + 1.2 * distance * rand(60_000, 3, seed=3, low=-1)
    nearest, _ = cKDTree(cloud.double().numpy()).query(points.double().numpy(), workers=2)
    mask = ops.distance_mask(points.to(device), ops.build_cloud_grid(cloud.to(device), distance)).cpu().numpy()
    undecided = np.abs(nearest - distance) <= 1e-12 * distance
    assert undecided.sum() < 10
    assert np.array_equal(mask[~undecided], (nearest <= distance)[~undecided])
    assert mask.sum() > 0


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 40),
    distance=st.floats(1e-4, 10),
    stretch=st.tuples(*[st.sampled_from([0.0, 1e-3, 1.0, 50.0])] * 3),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
)
def test_any_cloud_equals_twin(seed, size, distance, stretch, offset):
    """Flat, long and far-away clouds."""
    cloud = rand(size, 3, seed=seed, low=-1) * torch.tensor(stretch) + offset
    points = cloud[torch.arange(100) % size].double() + distance * rand(
        100, 3, seed=seed + 1, low=-1, dtype=torch.float64
    )
    mask = ops.distance_mask(points, ops.build_cloud_grid(cloud, distance))
    assert torch.equal(mask, reference.distance_mask(points, cloud, distance))


def test_exactly_at_the_distance_counts(device):
    grid = ops.build_cloud_grid(torch.zeros(1, 3, device=device), 0.5)
    points = torch.tensor([[0.5, 0, 0], [0, -0.5, 0], [0.3, 0.4, 0], [0.5, 1e-3, 0]], dtype=torch.float64)
    assert ops.distance_mask(points.to(device), grid).tolist() == [True, True, True, False]


def test_any_shape_of_points(device):
    cloud, points = rand(50, 3).to(device), rand(2, 5, 7, 3, seed=1).to(device)
    grid = ops.build_cloud_grid(cloud, 0.2)
    mask = ops.distance_mask(points, grid)
    assert mask.shape == (2, 5, 7)
    assert torch.equal(mask, reference.distance_mask(points, cloud, 0.2))
    turned = points.permute(2, 0, 1, 3)
    assert torch.equal(ops.distance_mask(turned, grid), mask.permute(2, 0, 1))
    assert ops.distance_mask(points[0, 0, 0], grid).shape == ()
    assert ops.distance_mask(points[:0], grid).shape == (0, 5, 7)


def test_far_points_are_far(device):
    grid = ops.build_cloud_grid(rand(50, 3).to(device), 0.2)
    points = torch.tensor([[1e30, 0, 0], [0, -1e30, 0], [0.5, 0.5, 1e300]], dtype=torch.float64, device=device)
    assert not ops.distance_mask(points, grid).any()


def test_the_grid_stays_small():
    """However small the distance, the grid has at most 2 Mi cells."""
    grid = ops.build_cloud_grid(rand(1000, 3), 1e-9)
    assert len(grid.cell_start) <= 2**21 + 1
    assert int(grid.cell_start[-1]) == 1000


CLOUD, POINTS = torch.zeros(4, 3), torch.zeros(2, 3)
GRID = ops.build_cloud_grid(CLOUD, 0.1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.build_cloud_grid(CLOUD[:0], 0.1), ValueError, "cloud: expected at least one point"),
        (lambda: ops.build_cloud_grid(CLOUD.double(), 0.1), TypeError, "cloud: expected dtype float32"),
        (lambda: ops.build_cloud_grid(CLOUD[:, :2], 0.1), ValueError, r"cloud: expected shape \[M, 3\]"),
        (lambda: ops.build_cloud_grid(CLOUD.tolist(), 0.1), TypeError, "cloud: expected a torch tensor, got list"),
        (lambda: ops.build_cloud_grid(CLOUD + math.nan, 0.1), ValueError, "cloud: expected finite"),
        (lambda: ops.build_cloud_grid(CLOUD, 0), ValueError, "distance: expected a finite number above 0"),
        (lambda: ops.build_cloud_grid(CLOUD, math.nan), ValueError, "distance"),
        (lambda: ops.build_cloud_grid(CLOUD, math.inf), ValueError, "distance"),
        (lambda: ops.build_cloud_grid(CLOUD, None), TypeError, "distance: expected a number, got NoneType"),
        (lambda: ops.distance_mask(POINTS[:, :2], GRID), ValueError, r"points: expected shape \[..., 3\]"),
        (lambda: ops.distance_mask(torch.tensor(1.0), GRID), ValueError, "points: expected shape"),
        (lambda: ops.distance_mask(POINTS.int(), GRID), TypeError, "points: expected dtype float32 or float64"),
        (lambda: ops.distance_mask(POINTS + math.inf, GRID), ValueError, "points: expected finite"),
        (lambda: ops.distance_mask(POINTS * math.nan, GRID), ValueError, "points: expected finite"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
