"""The distance mask as the study uses it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pyimplicit.geometry.surface import Surface
from pyimplicit.sampling import DistanceMask
from tests.helpers import rand, torus

SURFACE = Surface(*torus())


@pytest.mark.parametrize("distance", [0.02, 0.1, 0.3])
def test_mask_of_a_grid_equals_a_tree(device, distance):
    """The nodes of a 49^3 grid, as surface extraction asks them: 117,649 decisions by another library."""
    cloud = SURFACE.sample_surface(3000, seed=1).points
    axis = torch.linspace(-0.5, 0.5, 49)
    points = torch.cartesian_prod(axis, axis, axis)
    mask = DistanceMask.from_cloud(cloud, distance).to(device)(points.to(device)).cpu().numpy()
    nearest, _ = cKDTree(cloud.double().numpy()).query(points.double().numpy(), workers=2)
    decided = np.abs(nearest - distance) > 1e-12
    assert np.array_equal(mask[decided], (nearest <= distance)[decided])
    assert 0 < mask.sum() < len(mask)


def test_mask_keeps_the_surface(device):
    """Every surface point lies within the covering radius of a dense cloud."""
    cloud = SURFACE.sample_surface(10_000, seed=1).points
    mask = DistanceMask.from_cloud(cloud, 0.05).to(device)
    assert mask(SURFACE.sample_surface(5000, seed=2).points.to(device)).all()
    assert mask.distance == 0.05


def test_default_distance_is_the_papers():
    assert DistanceMask.from_cloud(torch.zeros(1, 3)).distance == 0.1


def test_mask_has_the_shape_of_its_points(device):
    mask = DistanceMask.from_cloud(rand(20, 3).to(device), 0.2)
    assert mask(rand(4, 6, 3).to(device)).shape == (4, 6)
    assert mask(torch.zeros(0, 3, device=device)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: DistanceMask.from_cloud(torch.zeros(0, 3)), ValueError, "cloud: expected at least one point"),
        (lambda: DistanceMask.from_cloud(torch.zeros(2, 3), -0.1), ValueError, "distance: expected a finite number"),
        (lambda: DistanceMask.from_cloud(torch.full((2, 3), math.nan)), ValueError, "cloud: expected finite"),
        (lambda: DistanceMask.from_cloud(torch.zeros(2, 3))(torch.zeros(2)), ValueError, "points: expected shape"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
