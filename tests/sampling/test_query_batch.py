"""Drawing for many surfaces at once, labels of every kind, and the strategies of related work."""

from __future__ import annotations

import math

import pytest
import torch

from pyimplicit.geometry.surface import Surface
from pyimplicit.geometry.surface_batch import SurfaceBatch
from pyimplicit.ops import RandomStream
from pyimplicit.sampling import (
    RELATED_STRATEGIES,
    STRATEGIES,
    Balanced,
    Component,
    Exponential,
    Linear,
    Mixture,
    SurfaceNoise,
    Uniform,
    sample_queries,
    sample_query_batch,
)
from tests.helpers import chi_square_fits, sphere, torus

OPEN = (torus()[0], torus()[1][1:])
SURFACES = [Surface(*torus()), Surface(*sphere(0.35, 3)), Surface(*OPEN)]
EVERY = list(STRATEGIES) + list(RELATED_STRATEGIES)
_NESTED = (Component(0.2, Uniform()), Component(0.5, Linear()), Component(0.3, SurfaceNoise(0.01)))
NESTED = Mixture("nested", "N", _NESTED)


def batch_on(device):
    return SurfaceBatch([surface.to(device) for surface in SURFACES])


@pytest.mark.parametrize("strategy", [*EVERY, NESTED], ids=lambda s: s if isinstance(s, str) else s.name)
def test_a_row_is_what_its_shape_draws_alone(device, strategy):
    """Points and labels depend on seed, shape and step, not on the other rows, their order, or the threads."""
    batch = batch_on(device)
    shapes = torch.tensor([1, 0, 2, 1], device=device)
    keys = torch.tensor([[1, 5], [0, 5], [2, 5], [1, 6]], device=device)
    together = sample_query_batch(batch, strategy, 300, 9, shapes=shapes, keys=keys)
    assert together.points.shape == (4, 300, 3)
    assert together.signed_distance.shape == (4, 300)
    torch.set_num_threads(1)
    turned = sample_query_batch(batch, strategy, 300, 9, shapes=shapes.flip(0), keys=keys.flip(0))
    assert torch.equal(turned.points.flip(0), together.points)
    assert torch.equal(turned.distance.flip(0), together.distance)
    for row, (shape, (key, step)) in enumerate(zip(shapes.tolist(), keys.tolist(), strict=True)):
        alone = sample_queries(batch[shape], strategy, 300, RandomStream(9, key, step))
        assert torch.equal(alone.points, together.points[row])
        torch.testing.assert_close(alone.signed_distance, together.distance[row], rtol=0, atol=1e-6)
    assert not torch.equal(together.points[0], together.points[3])


@pytest.mark.parametrize("strategy", [*EVERY, NESTED], ids=lambda s: s if isinstance(s, str) else s.name)
def test_labels(device, strategy):
    """Unsigned, signed and closest-point labels agree with the surface, on closed and open meshes."""
    for surface in (SURFACES[0].to(device), SURFACES[2].to(device)):
        signed = sample_queries(surface, strategy, 400, 2)
        unsigned = sample_queries(surface, strategy, 400, 2, label="unsigned")
        full = sample_queries(surface, strategy, 400, 2, closest=True)
        assert torch.equal(signed.points, unsigned.points)
        assert torch.equal(signed.points, full.points)
        expected = surface.signed_distance(signed.points)
        torch.testing.assert_close(signed.signed_distance, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(unsigned.unsigned_distance, expected.abs(), rtol=0, atol=1e-6)
        torch.testing.assert_close(full.signed_distance, expected, rtol=0, atol=1e-6)
        hit = surface.closest_point(signed.points)
        assert torch.equal(full.closest.point, hit.point)
        assert torch.equal(full.closest.face, hit.face)
        assert torch.equal(signed.occupancy, (signed.signed_distance < 0).float())
        with pytest.raises(ValueError, match="label: expected"):
            _ = unsigned.occupancy


def test_closest_points_of_a_batch(device):
    batch = batch_on(device)
    queries = sample_query_batch(batch, "balanced_surface", 200, closest=True)
    for row, surface in enumerate(batch.surfaces):
        assert torch.equal(queries.closest.face[row], surface.closest_point(queries.points[row]).face)
    normals = batch.face_normals(queries.closest.face)
    assert normals.shape == (3, 200, 3)
    torch.testing.assert_close(normals.norm(dim=2), torch.ones_like(normals[..., 0]))


def test_explicit_signs():
    surface = SURFACES[0]
    drawn = sample_queries(surface, "linear", 300, 1, sign="winding")
    torch.testing.assert_close(drawn.signed_distance, surface.signed_distance(drawn.points, "winding"))


# ---- related work


@pytest.mark.parametrize("source", [Uniform(), STRATEGIES["balanced_surface"], Linear()])
@pytest.mark.parametrize("inside", [0.5, 0.2])
def test_balanced_sides(device, source, inside):
    """Exactly the wanted share inside; each side distributed as the source is, given the side."""
    surface = SURFACES[1].to(device)
    drawn = sample_queries(surface, Balanced("b", "B", source, inside), 5001, 3)
    assert int((drawn.signed_distance < 0).sum()) == round(inside * 5001)
    plain = source.draw(surface, 200_000, RandomStream(77))
    distance = surface.signed_distance(plain)
    for side in (lambda d: d < 0, lambda d: d >= 0):
        edges = torch.linspace(-0.4, 0.6, 31)
        everywhere = torch.histogram(distance[side(distance)].cpu(), edges).hist.double()
        found = torch.histogram(drawn.signed_distance[side(drawn.signed_distance)].cpu(), edges).hist.double()
        held = everywhere > 2000
        assert chi_square_fits(found[held], everywhere[held] * (found[held].sum() / everywhere[held].sum()))


def test_balanced_refuses_what_has_no_inside():
    flat = Surface(torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0, 0.4, 0]]), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"surface: expected one with 0\.5 of 20 points inside, got 0 inside"):
        sample_queries(flat, "equal_inside_outside", 20)
    with pytest.raises(ValueError, match="inside: expected above 0 and below 1"):
        Balanced("b", "B", Uniform(), 1.0)


@pytest.mark.parametrize("beta", [5.0, 30.0])
def test_exponential_density_around_a_sphere(device, beta):
    """Distances from a sphere inside the cube: density exp(-beta g) times the area of the spheres at g."""
    radius, count = 0.25, 40_000
    surface = Surface(*sphere(radius, 5), device=device)
    reach = sample_queries(surface, Exponential(beta), count, 4).points.double().norm(dim=1).cpu()
    edges = torch.linspace(0.0, 0.5, 41, dtype=torch.float64)
    kept = reach < 0.5
    fine = torch.linspace(0, 0.5, 40_001, dtype=torch.float64)
    density = torch.exp(-beta * (fine - radius).abs()) * fine.square()
    shares = (density[:-1] + density[1:]).reshape(40, -1).sum(1)
    expected = float(kept.sum()) * shares / shares.sum()
    held = expected > 20
    counts = torch.histogram(reach[kept], edges).hist
    assert chi_square_fits(counts[held], expected[held] * counts[held].sum() / expected[held].sum())


def test_mixtures_of_strategies(device):
    drawn = sample_queries(SURFACES[0].to(device), NESTED, 1000, 5)
    assert float(drawn.unsigned_distance[200:700].max()) < 0.1
    assert float(drawn.unsigned_distance[700:].median()) < 0.02
    assert torch.equal(drawn.points[:200], sample_queries(SURFACES[0].to(device), "uniform", 200, 5).points)


def test_errors():
    batch = SurfaceBatch(SURFACES)
    for call, error, words in (
        (lambda: sample_query_batch(batch, "linear", 0), ValueError, "count: expected at least 1"),
        (lambda: sample_query_batch(batch, "linear", 5, label="sign"), ValueError, "label: expected one of"),
        (lambda: sample_query_batch(batch, "linear", 5, shapes=torch.tensor([3])), ValueError, "shapes: expected"),
        (
            lambda: sample_query_batch(batch, "linear", 5, shapes=torch.tensor([0.5])),
            TypeError,
            "keys|shapes: expected",
        ),
        (lambda: sample_query_batch(batch, "linear", 5, keys=torch.tensor([[0, 0]])), ValueError, "streams.keys"),
        (lambda: sample_query_batch(batch, "linear", 5, -1), ValueError, "seed: expected at least 0"),
        (lambda: Exponential(math.inf), ValueError, "beta: expected a finite number above 0"),
    ):
        with pytest.raises(error, match=words):
            call()
