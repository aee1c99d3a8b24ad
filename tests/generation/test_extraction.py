"""Meshes of exact fields, measured against the shapes the fields were made of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyimplicit.errors import ExtractionError
from pyimplicit.fields import SDF, UDF, Field, Occ, surface_field
from pyimplicit.generation import extract_mesh
from pyimplicit.geometry.mesh import Mesh, inspect_mesh
from pyimplicit.geometry.surface import Surface

CENTRE = torch.tensor([0.03, -0.02, 0.05])


def ball(points: Tensor, radius: float = 0.35) -> Tensor:
    return (points - CENTRE).norm(dim=1) - radius


def box(points: Tensor) -> Tensor:
    apart = points.abs() - torch.tensor([0.31, 0.22, 0.4])
    return apart.clamp(min=0).norm(dim=1) + apart.amax(dim=1).clamp(max=0)


def torus(points: Tensor) -> Tensor:
    ring = points[:, [0, 2]].norm(dim=1) - 0.3
    return torch.stack([ring, points[:, 1]], dim=1).norm(dim=1) - 0.12


SHAPES = {
    "ball": (ball, 4 / 3 * math.pi * 0.35**3),
    "box": (box, 8 * 0.31 * 0.22 * 0.4),
    "torus": (torus, 2 * math.pi**2 * 0.3 * 0.12**2),
}


def check_closed(mesh: Mesh) -> None:
    report = inspect_mesh(mesh)
    assert report.is_solid
    assert report.boundary_edges == report.non_manifold_edges == report.inconsistent_edges == 0
    assert report.degenerate_faces == report.duplicate_faces == report.unreferenced_vertices == 0


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_exact_shapes(name, sign):
    """Both sign conventions: distances negative inside, and logits positive inside."""
    distance, volume = SHAPES[name]
    field = Field(distance, SDF()) if sign == 1 else Field(lambda points: -40 * distance(points), Occ())
    mesh = extract_mesh(field, resolution=64)
    check_closed(mesh)
    assert mesh.vertices.dtype == torch.float32
    assert distance(mesh.vertices).abs().max() < 0.1 / 64
    assert inspect_mesh(mesh).volume == pytest.approx(volume, rel=0.01)
    assert inspect_mesh(mesh).components == 1


def test_vertices_have_no_offset():
    """A half-cell shift would move the plane and the bounding box of the ball by 1/64."""
    plane = extract_mesh(Field(lambda points: points[:, 1] - 0.123, SDF()), resolution=32)
    top = plane.vertices[plane.vertices[:, 1] > 0.1]
    torch.testing.assert_close(top[:, 1], torch.full_like(top[:, 1], 0.123), atol=1e-5, rtol=0)
    low, high = extract_mesh(Field(ball, SDF()), resolution=32).bounds
    torch.testing.assert_close((low + high) / 2, CENTRE, atol=5e-4, rtol=0)
    torch.testing.assert_close(high - low, torch.full((3,), 0.7), atol=1e-3, rtol=0)


def test_cut_by_the_bounds_the_mesh_is_closed_there():
    slab = Field(lambda points: points[:, 2].abs() - 0.25, SDF())
    for resolution in (5, 32):
        mesh = extract_mesh(slab, resolution=resolution)
        check_closed(mesh)
        assert inspect_mesh(mesh).volume == pytest.approx(0.5, rel=0.01)
        assert mesh.vertices.abs().max() < 0.5 + 0.01 / resolution


def test_other_bounds():
    """Two octants of the ball, in cells that are not cubes."""
    bounds = ((-0.5, -0.02, 0.05), (0.5, 0.5, 0.5))
    mesh = extract_mesh(Field(ball, SDF()), resolution=48, bounds=bounds)
    check_closed(mesh)
    assert inspect_mesh(mesh).volume == pytest.approx(SHAPES["ball"][1] / 4, rel=0.01)
    inner = Field(ball, SDF(), bounds=bounds)
    assert torch.equal(extract_mesh(inner, resolution=48).vertices, mesh.vertices)


def test_values_exactly_at_the_level():
    """Nodes at the level count as outside, whole regions of them too."""
    diamond = Field(lambda points: points.abs().sum(dim=1) - 0.25, SDF())  # nodes of a grid of 16 lie on it
    mesh = extract_mesh(diamond, resolution=16)
    check_closed(mesh)
    assert (mesh.vertices.abs().sum(dim=1) - 0.25).abs().max() < 0.01 / 16
    assert inspect_mesh(mesh).volume == pytest.approx(4 / 3 * 0.25**3, rel=0.02)
    flat = Field(lambda points: ball(points).clamp(min=0) - (ball(points) < -0.2).float(), SDF())
    check_closed(extract_mesh(flat, resolution=16))


def test_random_smooth_fields_are_closed():
    generator = torch.Generator().manual_seed(0)
    for trial in range(1000):
        frequency = torch.randn(3, 8, generator=generator) * 12
        phase, weight = torch.rand(2, 8, generator=generator) * 6
        step = 0.5 if trial % 2 else 0.0  # every second one in steps, with many values exactly at the level

        def wave(points: Tensor, frequency=frequency, phase=phase, weight=weight, step=step) -> Tensor:
            values = (points @ frequency + phase).sin() @ weight
            return (values / step).round() * step if step else values

        mesh = extract_mesh(Field(wave, SDF() if trial % 3 else Occ()), resolution=16 if trial < 24 else 7)
        check_closed(mesh)


def test_occupancy_of_a_surface_crosses_half_way():
    """The field of 0 and 1 has ties everywhere; its surface is off by at most half a cell."""
    surface = Surface(extract_mesh(Field(torus, SDF()), resolution=32))
    mesh = extract_mesh(surface_field(surface, "occ"), resolution=32)
    check_closed(mesh)
    assert torus(mesh.vertices).abs().max() < 0.9 / 32
    exact = extract_mesh(surface_field(surface, "sdf"), resolution=32)
    assert torus(exact.vertices).abs().max() < 0.1 / 32


def test_unsigned_distance_gives_a_shell_above_its_level():
    shell = Field(lambda points: ball(points).abs(), UDF(), level=0.05)
    mesh = extract_mesh(shell, resolution=48)
    check_closed(mesh)
    assert inspect_mesh(mesh).components == 2
    assert inspect_mesh(mesh).volume == pytest.approx(4 / 3 * math.pi * (0.4**3 - 0.3**3), rel=0.02)
    with pytest.raises(ExtractionError, match="unsigned distances only have a surface to extract at a level above 0"):
        extract_mesh(Field(lambda points: ball(points).abs(), UDF()), resolution=8)


def test_chunks_do_not_change_the_mesh():
    whole = extract_mesh(Field(ball, SDF()), resolution=10)
    sizes, calls = [], []

    def counted(points: Tensor) -> Tensor:
        sizes.append(len(points))
        return ball(points)

    chunked = extract_mesh(
        Field(counted, SDF()), resolution=10, max_points=100, progress=lambda done, total: calls.append((done, total))
    )
    assert torch.equal(whole.vertices, chunked.vertices)
    assert torch.equal(whole.faces, chunked.faces)
    assert max(sizes) == 100
    assert sum(sizes) == 11**3
    assert calls == [(min(done, 1331), 1331) for done in range(100, 1431, 100)]


def test_float64_values_are_accepted():
    mesh = extract_mesh(Field(lambda points: ball(points.double()), SDF()), resolution=16)
    torch.testing.assert_close(mesh.vertices, extract_mesh(Field(ball, SDF()), resolution=16).vertices)


@pytest.mark.parametrize("value", [0.5, -0.5, 0.0])
@pytest.mark.parametrize("kind", [SDF(), Occ()])
def test_a_field_that_never_crosses(value, kind):
    field = Field(lambda points: points.new_full(points.shape[:1], value), kind)
    with pytest.raises(ExtractionError, match=f"never cross the level 0: .* lie between {value:g} and {value:g}"):
        extract_mesh(field, resolution=4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(bad):
    def broken(points: Tensor) -> Tensor:
        return torch.where(points[:, 0] == 0.25, bad, ball(points))

    with pytest.raises(ExtractionError, match=rf"expected finite values, got {bad} at \(0.25, -0.5, -0.5\)"):
        extract_mesh(Field(broken, SDF()), resolution=8, max_points=50)


def test_the_error_states_the_range_of_the_values():
    with pytest.raises(
        ExtractionError, match=r"never cross the level 3: at 9\^3 nodes they lie between -0\.\d+ and 0\."
    ):
        extract_mesh(Field(ball, SDF(), level=3.0), resolution=8)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"field": ball}, TypeError, "field: expected a Field"),
        ({"resolution": 0}, ValueError, "resolution: expected at least 1"),
        ({"resolution": 8.0}, TypeError, "resolution: expected a whole number"),
        ({"max_points": 0}, ValueError, "max_points: expected at least 1"),
        ({"bounds": ((0, 0, 0), (0, 1, 1))}, ValueError, "bounds: expected"),
    ],
)
def test_refusals(arguments, error, words):
    with pytest.raises(error, match=words):
        extract_mesh(**{"field": Field(ball, SDF()), "resolution": 4} | arguments)
