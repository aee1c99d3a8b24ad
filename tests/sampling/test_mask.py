"""The distance mask as the study uses it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pyimplicit.fields import SDF, Field
from pyimplicit.generation import extract_mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import reference
from pyimplicit.sampling import DistanceMask
from pyimplicit.sampling import mask as mask_module
from pyimplicit.sampling.mask import CUBE
from tests.helpers import rand, torus

SURFACE = Surface(*torus())
MASK, BATCH = DistanceMask.from_cloud(torch.zeros(4, 3)), DistanceMask.from_cloud(torch.zeros(2, 4, 3))


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


@pytest.mark.parametrize("resolution", [1, 2, 33])
def test_grid_is_the_mask_of_its_nodes(device, resolution):
    mask = DistanceMask.from_cloud(SURFACE.sample_surface(3000, seed=1).points.to(device), 0.1)
    low, high = (-0.6, -0.5, -0.4), (0.5, 0.4, 0.7)
    axes = [torch.linspace(a, b, resolution, dtype=torch.float64).float() for a, b in zip(low, high, strict=True)]
    nodes = torch.cartesian_prod(*axes).reshape(resolution, resolution, resolution, 3).to(device)
    assert torch.equal(mask.grid(resolution, (low, high)), mask(nodes))
    assert torch.equal(mask.grid(resolution, torch.tensor([low, high], dtype=torch.float64)), mask(nodes))


def test_grid_has_the_nodes_of_extraction():
    """Only nodes that the mask keeps need the field: extraction asks at these very coordinates."""
    asked = []
    field = Field(lambda points: (asked.append(points), points.norm(dim=1) - 0.4)[1], SDF())
    extract_mesh(field, resolution=16)
    mask = DistanceMask.from_cloud(SURFACE.sample_surface(500).points, 0.1)
    assert torch.equal(mask.grid(17, CUBE).reshape(-1), mask(torch.cat(asked)))


def test_preparing_never_changes_the_answer(device, monkeypatch):
    monkeypatch.setattr(mask_module, "CELLS_FROM", 3000)
    points = rand(2000, 3, low=-0.6, high=0.6).to(device)
    cloud = SURFACE.sample_surface(3000, seed=1).points
    for mask in (DistanceMask.from_cloud(cloud.to(device)), DistanceMask.from_surface(SURFACE.to(device))):
        first = mask(points)
        assert mask._cells is None
        assert torch.equal(mask(points), first)
        assert mask._cells is not None
        assert torch.equal(mask(points), first)
        assert 0 < first.sum() < len(first)


# ---- a mesh


@pytest.mark.parametrize("distance", [1e-3, 0.03, 0.1, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mask_of_a_mesh_is_exact(device, distance, dtype):
    """Half of the points as near to the radius as float32 allows: by distances in double, and by all faces in turn."""
    vertices, faces = torus(rings=9, sides=5)
    surface = Surface(vertices.float(), faces, device=device)
    mesh = surface.mesh.vertices.double(), surface.mesh.faces
    points = rand(4000, 3, low=-0.6, high=0.6, dtype=torch.float64)
    drawn = surface.sample_surface(2000)
    points[::2] = (drawn.points + distance * drawn.normals).cpu()
    points = points.to(dtype)
    expected = reference.unsigned_distance(points.double(), *mesh)
    decided = (expected - distance).abs() > 1e-8  # the hierarchy rounds its triangles
    by_distance = (surface.unsigned_distance(points.double().to(device)) <= distance).cpu()
    for mask in (DistanceMask.from_surface(surface, distance), DistanceMask.from_surface(surface, distance).prepare()):
        found = mask(points.to(device)).cpu()
        assert torch.equal(found, by_distance)
        assert torch.equal(found[decided], (expected <= distance)[decided])
    assert decided.sum() > 2000


@pytest.mark.parametrize("resolution", [1, 3, 30])
def test_grid_of_a_mesh(device, resolution):
    surface = SURFACE.to(device)
    for distance in (0.01, 0.1):
        mask = DistanceMask.from_surface(surface, distance)
        axis = torch.linspace(-0.5, 0.5, resolution, dtype=torch.float64).float()
        nodes = torch.cartesian_prod(axis, axis, axis).double().reshape(-1, 3)
        expected = surface.unsigned_distance(nodes.to(device)) <= distance
        assert torch.equal(mask.grid(resolution).reshape(-1), expected)


def test_mask_of_a_mesh_far_away():
    mask = DistanceMask.from_surface(SURFACE, 0.1)
    assert not mask(torch.tensor([[1e30, 0, 0], [0, -1e300, 0]], dtype=torch.float64)).any()


# ---- compaction


def test_compact_and_scatter(device):
    mask = DistanceMask.from_cloud(SURFACE.sample_surface(3000, seed=1).points.to(device), 0.05)
    points = rand(1000, 3, low=-0.5, high=0.5).to(device).requires_grad_()
    kept, indices = mask.compact(points)
    assert torch.equal(indices, mask(points).nonzero()[:, 0])
    assert torch.equal(kept, points[indices])
    values = DistanceMask.scatter(kept.square().sum(1), indices, 1000, fill=-1.0)
    expected = torch.where(mask(points), points.square().sum(1), -1.0)
    assert torch.equal(values, expected)
    values.sum().backward()
    slope = points.grad.clone()
    points.grad = None
    torch.where(mask(points), points.square().sum(1), -1.0).sum().backward()
    torch.testing.assert_close(slope, points.grad)


def test_scatter_to_a_grid_of_features(device):
    values, indices = rand(3, 2).to(device), torch.tensor([7, 0, 3], device=device)
    grid = DistanceMask.scatter(values, indices, (2, 2, 2), fill=0.5)
    assert grid.shape == (2, 2, 2, 2)
    assert torch.equal(grid[1, 1, 1], values[0])
    assert torch.equal(grid[0, 1, 1], values[2])
    assert int((grid == 0.5).sum()) == 10
    assert DistanceMask.scatter(values[:0], indices[:0], 4).tolist() == [[0.0, 0.0]] * 4


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
        (lambda: DistanceMask.from_surface(torch.zeros(2, 3)), TypeError, "surface: expected a Surface, got Tensor"),
        (lambda: DistanceMask.from_surface(SURFACE, 0.0), ValueError, "distance: expected a finite number"),
        (lambda: DistanceMask.from_surface(SURFACE)(torch.zeros(2)), ValueError, "points: expected shape"),
        (lambda: DistanceMask.from_surface(SURFACE)(torch.full((2, 3), math.nan)), ValueError, "points: expected fin"),
        (lambda: MASK.grid(0), ValueError, "resolution: expected at least 1"),
        (lambda: MASK.grid(2.0), TypeError, "resolution: expected a whole number"),
        (lambda: MASK.grid(2, ((0, 0, 0), (1, 1, 0))), ValueError, "bounds: expected a finite lowest"),
        (lambda: MASK.grid(2, "cube"), ValueError, "bounds: expected a finite lowest"),
        (lambda: MASK.grid(2, dtype=torch.float16), TypeError, "dtype: expected float32 or float64"),
        (lambda: MASK.compact(torch.zeros(2, 2, 3)), ValueError, r"points: expected shape \[N, 3\]"),
        (lambda: BATCH.compact(torch.zeros(2, 3)), ValueError, "points: expected the mask of a single cloud"),
        (lambda: MASK.scatter(torch.zeros(2), torch.zeros(3).long(), 3), ValueError, "values: expected 3 rows"),
        (lambda: MASK.scatter([0.0], torch.zeros(1).long(), 3), TypeError, "values: expected a torch tensor"),
        (lambda: MASK.scatter(torch.zeros(1), torch.zeros(1), 3), TypeError, "indices: expected dtype int64"),
        (lambda: MASK.scatter(torch.zeros(1), torch.tensor([3]), 3), ValueError, "indices: expected 0..2, got 3..3"),
        (lambda: MASK.scatter(torch.zeros(1), torch.tensor([-1]), 3), ValueError, "indices: expected 0..2, got -1"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
