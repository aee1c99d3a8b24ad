"""Refined vertices and normals from the field: exact fields, trained-like ones, and what cannot be differentiated."""

from __future__ import annotations

import math

import pytest
import torch

from pyimplicit import networks
from pyimplicit.errors import ExtractionError
from pyimplicit.fields import SDF, Field, Occ, network_field, surface_field
from pyimplicit.generation import extract_mesh, extract_mesh_with_report, field_normals, refine_vertices
from pyimplicit.geometry import Mesh, Surface, inspect_mesh
from pyimplicit.sampling import DistanceMask
from tests.helpers import torus


def ball():
    return Field(lambda points: points.norm(dim=1) - 0.4, SDF())


def steep_ball():
    """Logits that rise steeply and are flat far away: a Newton step from there would fly off."""
    return Field(lambda points: 40 * torch.tanh(30 * (0.4 - points.norm(dim=1))), Occ(), level=0.0)


@pytest.mark.parametrize("field", [ball(), steep_ball()], ids=["distance", "steep logits"])
def test_vertices_come_to_the_level(field):
    mesh = extract_mesh(field, resolution=24)
    refined = refine_vertices(field, mesh, reach=1 / 48)
    before, after = ((part.vertices.norm(dim=1) - 0.4).abs().max() for part in (mesh, refined))
    assert after < 2e-6
    assert after < before / 100
    assert torch.equal(refined.faces, mesh.faces)
    assert inspect_mesh(refined).is_solid


def box_distance(points):
    """Exact signed distance to a box, which has edges where no grid line is."""
    beyond = points.abs() - torch.tensor([0.31, 0.23, 0.37])
    return beyond.clamp(min=0).norm(dim=1) + beyond.amax(dim=1).clamp(max=0)


@pytest.mark.parametrize("options", [{"method": "dense"}, {"method": "mise"}, {"mask": 0.1}], ids=str)
@pytest.mark.parametrize("shape", ["ball", "box", "torus"])
def test_every_extractor_refines(shape, options):
    distance = {
        "ball": lambda points: points.norm(dim=1) - 0.4,
        "box": box_distance,
        "torus": lambda points: torch.stack((points[:, :2].norm(dim=1) - 0.3, points[:, 2]), dim=1).norm(dim=1) - 0.13,
    }[shape]
    volume = {"ball": 4 / 3 * math.pi * 0.4**3, "box": 8 * 0.31 * 0.23 * 0.37, "torus": 2 * math.pi**2 * 0.3 * 0.13**2}
    field, cells = Field(distance, SDF()), 64
    if "mask" in options:
        options = {"mask": DistanceMask.from_cloud(extract_mesh(field, 96).vertices, options["mask"])}
    plain = extract_mesh(field, cells, **options)
    mesh, report = extract_mesh_with_report(field, cells, refine=3, **options)
    assert torch.equal(mesh.faces, plain.faces)
    assert report == extract_mesh_with_report(field, cells, **options)[1]
    off, before = (distance(part.vertices).abs().max() * cells for part in (mesh, plain))
    assert off < 1e-4
    assert before > 1e-3
    found = inspect_mesh(mesh)
    assert found.is_solid
    assert found.volume == pytest.approx(volume[shape], rel=0.01)


def test_caps_stay_where_they_are():
    field = Field(lambda points: points.norm(dim=1) - 0.6, SDF())
    plain, refined = extract_mesh(field, 32), extract_mesh(field, 32, refine=3)
    cap = (plain.vertices.abs() > 0.5).any(dim=1)
    assert cap.any()
    assert torch.equal(refined.vertices[cap], plain.vertices[cap])
    assert refined.vertices[~cap].abs().max() <= 0.5  # none leaves the bounds
    off, before = ((mesh.vertices.norm(dim=1) - 0.6).abs() for mesh in (refined, plain))
    inner = (refined.vertices.abs() < 0.5).all(dim=1)
    assert off[inner].max() < 1e-5
    assert off[~cap & ~inner].max() <= before[~cap].max()
    assert inspect_mesh(refined).is_solid


def test_no_vertex_goes_beyond_the_reach():
    field = ball()
    mesh = extract_mesh(field, resolution=8)
    shifted = Mesh(mesh.vertices * 0.9, mesh.faces)
    refined = refine_vertices(field, shifted, reach=0.01)
    assert (refined.vertices - shifted.vertices).norm(dim=1).max() <= 0.01 + 1e-6
    assert ((refined.vertices.norm(dim=1) - 0.4).abs() < (shifted.vertices.norm(dim=1) - 0.4).abs()).all()


def test_the_field_of_a_surface_and_parts():
    vertices, faces = torus()
    surface = Surface(vertices.float() * 0.5, faces)
    field = surface_field(surface, "sdf")
    mesh = extract_mesh(field, resolution=64)
    refined = refine_vertices(field, mesh, reach=1 / 128, max_points=1000)
    assert surface.unsigned_distance(refined.vertices).max() < 1e-5
    assert torch.equal(refined.vertices, refine_vertices(field, mesh, reach=1 / 128).vertices)


@pytest.mark.parametrize("field", [ball(), steep_ball()], ids=["distance", "steep logits"])
def test_normals_point_outward(field):
    points = torch.nn.functional.normalize(torch.randn(100, 3, generator=torch.Generator().manual_seed(0)), dim=1) * 0.4
    torch.testing.assert_close(field_normals(field, points, max_points=30), points / 0.4, rtol=0, atol=1e-5)


def test_a_network_has_gradients():
    network = networks.create("deepsdf", code_size=8, hidden_size=32, hidden_layers=4, skip_layer=2)
    field = network_field(network, torch.zeros(1, 8))
    points = torch.rand(20, 3) - 0.5
    value, slope = field.value_and_gradient(points)
    torch.testing.assert_close(value, field(points))
    step = torch.tensor([1e-3, 0.0, 0.0])
    torch.testing.assert_close(slope[:, 0], (field(points + step) - field(points - step)) / 2e-3, rtol=0.05, atol=1e-3)


def test_refusals():
    field, mesh = ball(), extract_mesh(ball(), resolution=8)
    flat = Field(lambda points: torch.zeros(len(points)), SDF())
    broken = Field(lambda points: points.sum(1) * math.nan, SDF())
    with pytest.raises(ValueError, match="function: expected values that can be differentiated"):
        refine_vertices(flat, mesh, reach=0.1)
    with pytest.raises(ExtractionError, match="not all finite"):
        refine_vertices(broken, mesh, reach=0.1)
    with pytest.raises(ValueError, match="reach"):
        refine_vertices(field, mesh, reach=0.0)
    with pytest.raises(TypeError, match="mesh: expected a Mesh"):
        refine_vertices(field, mesh.vertices, reach=0.1)
    with pytest.raises(ValueError, match="refine: expected at least 0, got -1"):
        extract_mesh(field, 8, refine=-1)
