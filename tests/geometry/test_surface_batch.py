"""The public batch of surfaces: the answers of its surfaces, whatever the way to ask."""

from __future__ import annotations

import pickle

import pytest
import torch

from pyimplicit import Surface, SurfaceBatch
from tests.helpers import around, box, join, moved, sphere, torus

MESHES = [torus(), box(), join(sphere(0.3), moved(sphere(0.3), (0.2, 0, 0))), (torus()[0], torus()[1][1:])]


def batch_on(device: torch.device) -> SurfaceBatch:
    return SurfaceBatch([Surface(*mesh, device=device) for mesh in MESHES])


def points_on(device: torch.device, rows: int = 4) -> torch.Tensor:
    return torch.stack([around(MESHES[row % 4], 120, seed=row) for row in range(rows)]).to(device)


def test_answers_are_those_of_the_surfaces(device):
    batch, points = batch_on(device), points_on(device)
    hit = batch.closest_point(points)
    for row, surface in enumerate(batch.surfaces):
        one = surface.closest_point(points[row])
        assert torch.equal(hit.distance[row], one.distance)
        assert torch.equal(hit.point[row], one.point)
        assert torch.equal(batch.unsigned_distance(points)[row], surface.unsigned_distance(points[row]))
        assert torch.equal(batch.signed_distance(points)[row], surface.signed_distance(points[row]))
        assert torch.equal(batch.contains(points)[row], surface.signed_distance(points[row]) < 0)


def test_any_rows_in_any_order(device):
    batch, points, shapes = batch_on(device), points_on(device, 6), torch.tensor([3, 0, 0, 2, 1, 2], device=device)
    found = batch.signed_distance(points, shapes)
    for row, shape in enumerate(shapes.tolist()):
        assert torch.equal(found[row], batch[shape].signed_distance(points[row]))


def test_preparing_changes_no_answer(device):
    """Whether by hand or after enough points."""
    points = points_on(device)
    fresh, prepared, soon = batch_on(device), batch_on(device).prepare(), batch_on(device)
    expected = fresh.signed_distance(points)
    assert torch.equal(prepared.signed_distance(points), expected)
    for _ in range(40):
        assert torch.equal(soon.signed_distance(points), expected)
    assert all(surface.hierarchy.start_leaf is not None for surface in soon.surfaces)


def test_gradient(device):
    batch, points = batch_on(device), points_on(device).double().requires_grad_()
    batch.signed_distance(points).sum().backward()
    lengths = points.grad.norm(dim=2)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_pickle_and_devices(device):
    batch, points = batch_on(device), points_on(device)
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.signed_distance(points), batch.signed_distance(points))
    assert batch.to(device) is batch
    assert batch.to("cpu").device == torch.device("cpu")
    assert len(batch) == 4
    assert "4 surfaces" in repr(batch)


SURFACE = Surface(*torus())
BATCH = SurfaceBatch([SURFACE])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: SurfaceBatch([]), ValueError, "surfaces: expected at least one"),
        (lambda: SurfaceBatch([SURFACE, torus()]), TypeError, "surfaces: expected Surface objects, got tuple"),
        (lambda: BATCH.unsigned_distance(torch.zeros(1, 3)), ValueError, r"points: expected shape \[B, N, 3\]"),
        (lambda: BATCH.signed_distance([[[0.0, 0, 0]]]), TypeError, "points: expected a torch tensor, got list"),
        (lambda: BATCH.contains([[[0.0, 0, 0]]]), TypeError, "points: expected a torch tensor, got list"),
        (lambda: BATCH.closest_point(torch.zeros(2, 1, 3)), ValueError, r"shapes: expected shape \[2\]"),
        (lambda: BATCH.closest_point(torch.zeros(1, 1, 3), torch.tensor([1])), ValueError, "shapes: expected numbers"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
