"""The signs of distances, and what `contains` says: right on good and bad meshes, on every device."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import reference
from tests import helpers
from tests.geometry.bodies import HARD, SIMPLE, flipped
from tests.geometry.surface_queries import surface_of
from tests.helpers import (
    around,
    box,
    diagonal,
    join,
    moved,
    randn,
    rounded,
    soup,
    special_points,
    sphere,
    tetrahedron,
    torus,
)


def wrong_signs(surface: Surface, mesh: helpers.Mesh, points: Tensor, sign: str = "auto") -> int:
    """Signs that differ from the double-precision winding number, away from the surface."""
    mesh, exact = rounded(mesh), points.double().cpu()
    away = reference.unsigned_distance(exact, *mesh) > 1e-6 * diagonal(mesh)
    inside = reference.winding_number(exact, *mesh) > 0.5
    return int(((surface.signed_distance(points, sign).cpu() < 0) != inside)[away].sum())


# ---- what "auto" picks


@pytest.mark.parametrize("name", SIMPLE)
def test_auto_is_pseudonormal_for_one_simple_body(name):
    assert surface_of(SIMPLE[name]).sign_method == "pseudonormal"


@pytest.mark.parametrize("name", ["touching boxes", "repeated body"])
def test_auto_is_winding_where_no_normal_tells(name):
    surface = surface_of(HARD[name])
    assert surface.is_closed
    assert surface.sign_method == "winding"


@pytest.mark.parametrize("name", ["cavity", "with faces without area"])
def test_auto_is_pseudonormal_where_bodies_are_apart(name):
    assert surface_of(HARD[name]).sign_method == "pseudonormal"


def test_auto_is_winding_for_open_flipped_and_soups():
    vertices, faces = torus()
    for mesh in ((vertices, faces[1:]), flipped(torus()), soup(20)):
        assert surface_of(mesh).sign_method == "winding"
    assert not surface_of((vertices, faces[1:])).is_closed


# ---- signs


@pytest.mark.parametrize("sign", ["auto", "pseudonormal", "winding"])
@pytest.mark.parametrize("name", SIMPLE)
def test_signs_of_simple_bodies(device, name, sign):
    mesh = SIMPLE[name]
    assert wrong_signs(surface_of(mesh, device), mesh, around(mesh, 1200).to(device), sign) == 0


@pytest.mark.parametrize("sign", ["auto", "winding"])
@pytest.mark.parametrize("name", HARD)
def test_signs_of_hard_bodies(device, name, sign):
    mesh = HARD[name]
    assert wrong_signs(surface_of(mesh, device), mesh, around(mesh, 900).to(device), sign) == 0


@pytest.mark.parametrize("sign", ["pseudonormal", "winding"])
@pytest.mark.parametrize("name", ["box", "sphere", "torus"])
def test_signs_beside_points_on_the_surface(device, name, sign):
    """Points on the surface have no sign to speak of, and must not pass theirs on to their neighbours."""
    vertices, faces = mesh = torus(rings=12, sides=8) if name == "torus" else SIMPLE[name]
    corners = vertices[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = torch.nn.functional.normalize(normals)
    heights = [0.0, *(side * height for height in (1e-6, 1e-5, 1e-4, 3e-4, 1e-3) for side in (1, -1))]
    feet = (corners.mean(1), corners[:, 0], corners[:, :2].mean(1))
    points = torch.cat([foot + height * normals for height in heights for foot in feet]).float()
    assert wrong_signs(surface_of(mesh, device), mesh, points.to(device), sign) == 0


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["tetrahedron", "box", "sphere", "torus"]),
    scale=st.tuples(*[st.sampled_from([0.01, 0.3, 1.0, 3.0])] * 3),
    count=st.sampled_from([1, 3, 40, 300]),
)
def test_signs_of_stretched_and_turned_bodies(seed, kind, scale, count):
    turn = torch.linalg.qr(randn(3, 3, seed=seed, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn).sign()
    mesh = rounded(((SIMPLE[kind][0] * torch.tensor(scale)) @ turn, SIMPLE[kind][1]))
    surface, points = surface_of(mesh), around(mesh, count, seed=seed)
    assert wrong_signs(surface, mesh, points, "winding") == 0
    if surface.sign_method == "pseudonormal":
        assert wrong_signs(surface, mesh, points, "pseudonormal") == 0


def test_points_around_a_regular_tetrahedron(device):
    """The closest feature is often an edge or a corner, where a face normal alone gives the wrong sign."""
    surface = surface_of(tetrahedron(), device)
    directions = torch.nn.functional.normalize(randn(4000, 3, dtype=torch.float64), dim=1)
    for radius in (0.3, 0.57, 1.0, 1.7, 2.0, 5.0):
        points = (radius * directions).float()
        assert wrong_signs(surface, tetrahedron(), points.to(device)) == 0
    outside = (1.01 * tetrahedron()[0]).float().to(device)
    assert bool((surface.signed_distance(outside) > 0).all())
    assert not surface.contains(outside).any()
    assert surface.contains(0.99 * outside / 1.01).all()


@pytest.mark.parametrize("sign", ["auto", "winding"])
def test_points_near_the_corner_of_an_axis_aligned_cube(device, sign):
    """A ray through a corner or along an edge meets several faces at once; distances and signs do not care."""
    surface = surface_of(box((-1, -1, -1), (1, 1, 1)), device)
    steps = torch.tensor([-1.5, -1 - 1e-3, -1 + 1e-3, -0.5, 0.0, 0.5, 1 - 1e-3, 1 + 1e-3, 1.5], dtype=torch.float64)
    points = torch.cartesian_prod(steps, steps, steps)
    reach = points.abs() - 1
    expected = reach.clamp(min=0).norm(dim=1) + reach.amax(1).clamp(max=0)
    found = surface.signed_distance(points.float().to(device), sign).cpu().double()
    assert float((found - expected).abs().max()) < 1e-6
    near_corner = torch.tensor([[1.0001, 1.0001, 1.0001], [0.9999, 0.9999, 0.9999], [1.1, 1, 1], [1, 1, 0.9999]])
    assert surface.contains(near_corner.to(device), sign).tolist()[:3] == [False, True, False]


@pytest.mark.parametrize("name", ["tetrahedron", "box", "sphere", "torus"])
def test_points_exactly_on_the_surface(device, name):
    """On vertices, edges and faces the distance is 0 for both signs, and nothing is NaN."""
    mesh = rounded(SIMPLE[name])
    surface, points = surface_of(mesh, device), special_points(mesh).to(device)
    for sign in ("pseudonormal", "winding"):
        assert float(surface.signed_distance(points, sign).abs().max()) <= 1e-6 * diagonal(mesh)
    assert not surface.winding_number(points).isnan().any()
    corners = mesh[0].float().to(device)
    assert float(surface.signed_distance(corners).abs().max()) <= 1e-7 * diagonal(mesh)


def test_vertices_of_the_unit_cube_are_not_inside(device):
    surface = surface_of(box((0, 0, 0), (1, 1, 1)), device)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).to(device)
    assert surface.signed_distance(corners).tolist() == [0.0] * 8
    assert not surface.contains(corners).any()


def test_overlapping_bodies_are_one(device):
    """Inside the overlap of two spheres the winding number is 2 and the point is inside."""
    mesh = join(moved(sphere(0.3), (-0.15, 0, 0)), moved(sphere(0.3), (0.15, 0, 0)))
    surface = surface_of(mesh, device)
    points = torch.tensor([[0.0, 0, 0], [-0.3, 0, 0], [0.3, 0, 0], [0, 0.4, 0]], device=device)
    assert surface.winding_number(points).round().tolist() == [2, 1, 1, 0]
    assert surface.contains(points).tolist() == [True, True, True, False]
    assert (surface.signed_distance(points) < 0).tolist() == [True, True, True, False]


def test_open_mesh(device):
    """A torus that lacks one of its faces still has an inside; pseudonormals are refused."""
    vertices, faces = torus()
    surface, points = surface_of((vertices, faces[1:]), device), around(torus(), 2000).to(device)
    whole = surface_of(torus(), device)
    away = whole.unsigned_distance(points) > 0.05
    assert torch.equal(surface.contains(points)[away], whole.contains(points)[away])
    with pytest.raises(ValueError, match="sign: 'pseudonormal' needs a closed, consistently oriented mesh"):
        surface.signed_distance(points, "pseudonormal")


def test_inside_out_mesh_has_no_inside(device):
    surface = surface_of(flipped(sphere()), device)
    assert not surface.contains(torch.zeros(1, 3, device=device)).any()
    assert float(surface.winding_number(torch.zeros(1, 3, device=device))) == pytest.approx(-1, abs=0.01)


def test_contains_is_the_sign(device):
    for mesh in (torus(), HARD["overlapping bodies"]):
        surface, points = surface_of(mesh, device), around(mesh, 1000).to(device)
        away = surface.unsigned_distance(points) > 1e-5
        for sign in ("auto", "winding"):
            inside = surface.contains(points, sign)
            assert inside.dtype == torch.bool
            assert torch.equal(inside[away], (surface.signed_distance(points, sign) < 0)[away])


@pytest.mark.parametrize("away", [30, 1e3, 3e4, 1e6])
@pytest.mark.parametrize("name", ["sphere", "torus", "overlapping bodies"])
def test_signs_far_from_the_origin(device, name, away):
    """float64 vertices and points: the sign is as good as at the origin, though float32 could not hold the mesh."""
    mesh = moved(rounded((SIMPLE | HARD)[name]), (away, -away, 0.3 * away))
    surface, points = surface_of(mesh, device), around(mesh, 700, dtype=torch.float64)
    expected = reference.signed_distance(points, *mesh)
    assert surface.is_closed
    found = surface.signed_distance(points.to(device)).cpu()
    assert float((found - expected).abs().max()) <= 3e-6 * diagonal(mesh)
