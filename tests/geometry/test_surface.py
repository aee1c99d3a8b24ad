"""The public surface: exact distances and right signs on good and bad meshes, on every device."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyimplicit.errors import MeshError
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream, reference
from tests import helpers
from tests.helpers import (
    around,
    box,
    chi_square_fits,
    diagonal,
    join,
    moved,
    randn,
    rounded,
    slivers,
    soup,
    special_points,
    sphere,
    tetrahedron,
    torus,
    unwelded,
)


def flipped(mesh: helpers.Mesh) -> helpers.Mesh:
    return mesh[0], mesh[1].flip(1)


def surface_of(mesh: helpers.Mesh, device: torch.device | str = "cpu") -> Surface:
    return Surface(*mesh, device=device)


def twisted(mesh: helpers.Mesh, turns: float = 1.5) -> helpers.Mesh:
    angle = 2 * math.pi * turns * mesh[0][:, 2]
    x, y, z = mesh[0].unbind(1)
    return torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos(), z], 1), mesh[1]


SIMPLE = {
    "tetrahedron": tetrahedron(),
    "box": box(),
    "flat box": box((-0.5, -0.5, -1e-4), (0.5, 0.5, 1e-4)),
    "sphere": sphere(),
    "torus": torus(),
    "twisted torus": twisted(torus()),
    "unwelded torus": unwelded(torus()),
}
HARD = {
    "overlapping bodies": join(sphere(0.3, 1), moved(torus(), (0.1, 0.0, 0.1)), box()),
    "touching boxes": join(box((0, 0, 0), (0.3, 0.3, 0.3)), box((0.3, 0, 0), (0.5, 0.3, 0.3))),
    "cavity": join(sphere(0.4), flipped(sphere(0.2, 1))),
    "repeated body": join(sphere(0.3, 1), sphere(0.3, 1)),
    "with faces without area": join(torus(), (torch.zeros(3, 3).double() + 0.32, torch.tensor([[0, 1, 2], [0, 0, 1]]))),
}


def wrong_signs(surface: Surface, mesh: helpers.Mesh, points: Tensor, sign: str = "auto") -> int:
    """Signs that differ from the double-precision winding number, away from the surface."""
    mesh, exact = rounded(mesh), points.double().cpu()
    away = reference.unsigned_distance(exact, *mesh) > 1e-6 * diagonal(mesh)
    inside = reference.winding_number(exact, *mesh) > 0.5
    return int(((surface.signed_distance(points, sign).cpu() < 0) != inside)[away].sum())


# ---- construction


def test_from_mesh_or_arrays():
    vertices, faces = torus()
    points = around(torus(), 200)
    expected = Surface(Mesh(vertices, faces)).signed_distance(points)
    for surface in (
        Surface(vertices.float(), faces),
        Surface(vertices.float(), faces.int()),
        Surface(vertices.float().numpy(), faces.numpy()),
    ):
        assert torch.equal(surface.signed_distance(points), expected)
        assert surface.mesh.vertices.dtype == torch.float32
        assert surface.is_closed


def test_moving_to_a_device(device):
    surface = surface_of(torus())
    assert surface.to("cpu") is surface
    assert surface.to(torch.device("cpu")) is surface
    moved_there = surface.to(device)
    assert moved_there.device == device
    assert moved_there.to(device) is moved_there
    points = around(torus(), 200)
    surface.signed_distance(points)  # whatever was prepared on the first device must not stay there
    again = surface.to(device)
    torch.testing.assert_close(again.signed_distance(points.to(device)).cpu(), surface.signed_distance(points))


def test_it_says_what_it_is(device):
    text = repr(surface_of(box(), device))
    assert "8 vertices, 12 faces" in text
    assert str(device) in text


VERTICES, FACES = box()
SURFACE = surface_of(box())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Surface(VERTICES), TypeError, r"faces: expected \[F, 3\] integers beside vertices, got none"),
        (lambda: Surface(Mesh(VERTICES, FACES), FACES), TypeError, "faces: expected none beside a Mesh"),
        (lambda: Surface(VERTICES * math.nan, FACES), MeshError, "vertices: expected finite"),
        (lambda: Surface(VERTICES, FACES + 1), MeshError, "faces: expected 0 to 7"),
        (lambda: Surface(VERTICES, FACES - 1), MeshError, "faces: expected 0 to 7"),
        (lambda: Surface(VERTICES, FACES[:0]), MeshError, "empty mesh"),
        (lambda: Surface(VERTICES, FACES.float()), TypeError, "faces"),
        (lambda: Surface(VERTICES[:, :2], FACES), MeshError, r"vertices: expected shape \[n, 3\]"),
        (lambda: SURFACE.signed_distance(torch.zeros(1, 3), "parity"), ValueError, "sign: expected one of auto"),
        (lambda: SURFACE.contains(torch.zeros(1, 3), "parity"), ValueError, "sign: expected one of auto"),
        (lambda: SURFACE.signed_distance(torch.zeros(1, 2)), ValueError, r"points: expected shape \[N, 3\]"),
        (lambda: SURFACE.contains(torch.full((1, 3), math.nan)), ValueError, "points: expected finite"),
        (lambda: SURFACE.winding_number(torch.full((1, 3), math.inf)), ValueError, "points: expected finite"),
        (lambda: SURFACE.sample_surface(0), ValueError, "count: expected at least 1"),
        (lambda: SURFACE.sample_surface(3, seed=-1), ValueError, "seed: expected at least 0"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


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


def test_queries_are_one_function(device):
    """`closest_point`, `unsigned_distance` and `signed_distance` agree with each other."""
    surface, points = surface_of(torus(), device), around(torus(), 800).to(device)
    hit, unsigned = surface.closest_point(points), surface.unsigned_distance(points)
    torch.testing.assert_close(hit.distance, unsigned, rtol=1e-5, atol=1e-7)
    assert torch.equal(surface.signed_distance(points).abs(), unsigned)
    assert torch.equal(surface.signed_distance(points, "winding").abs(), unsigned)


def test_no_points(device):
    surface, none = surface_of(torus(), device), torch.zeros(0, 3, device=device)
    assert (
        surface.signed_distance(none).shape
        == surface.contains(none).shape
        == surface.winding_number(none).shape
        == (0,)
    )


def test_signed_distance_gradient(device):
    surface = surface_of(sphere(0.4, 3), device)
    points = (0.3 * randn(60, 3, dtype=torch.float64)).to(device).requires_grad_()
    for sign in ("pseudonormal", "winding"):
        (slope,) = torch.autograd.grad(surface.signed_distance(points, sign).sum(), points)
        assert float((slope * torch.nn.functional.normalize(points.detach(), dim=1)).sum(1).min()) > 0.95


# ---- exactness


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_exact_on_slivers_anywhere(device, offset):
    mesh = moved(slivers(300), (offset, -offset, offset))
    points = around(mesh, 1000, dtype=torch.float64)
    found = surface_of(mesh, device).unsigned_distance(points.to(device)).cpu()
    expected = reference.unsigned_distance(points, *mesh)
    assert float((found - expected).abs().max()) <= 1e-6 * diagonal(mesh)


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


def test_many_pairs_against_brute_force(device):
    """More than a million pairs of points and faces over meshes of all kinds."""
    pairs = 0
    for name, mesh in (SIMPLE | HARD).items():
        points = around(mesh, 600, seed=8)
        found = surface_of(mesh, device).unsigned_distance(points.to(device)).cpu()
        expected = reference.unsigned_distance(points.double(), *rounded(mesh))
        assert float((found - expected).abs().max()) <= 1e-6 * diagonal(mesh), name
        pairs += 600 * len(mesh[1])
    assert pairs > 1e6


# ---- bad meshes


def test_duplicate_faces(device):
    vertices, faces = torus()
    once, twice = surface_of((vertices, faces), device), surface_of((vertices, torch.cat([faces, faces])), device)
    points = around(torus(), 500).to(device)
    torch.testing.assert_close(twice.unsigned_distance(points), once.unsigned_distance(points), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(twice.winding_number(points), 2 * once.winding_number(points), rtol=0, atol=0.05)


def test_faces_without_area_are_points_and_segments(device):
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    segment = Surface(vertices, torch.tensor([[0, 1, 2], [1, 1, 1], [0, 0, 1]]), device=device)
    points = torch.tensor([[0.5, 3.0, 4.0], [-3, 0, 4], [5, 4, 0]], device=device)
    torch.testing.assert_close(segment.unsigned_distance(points), torch.full((3,), 5.0, device=device))
    assert not segment.contains(points).any()
    assert segment.winding_number(points).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="faces: expected a mesh of positive, finite area"):
        segment.sample_surface(3)


def test_one_point_mesh(device):
    surface = Surface(torch.full((3, 3), 0.5), torch.tensor([[0, 1, 2]]), device=device)
    hit = surface.closest_point(torch.tensor([[0.5, 0.5, 2.5], [0.5, 0.5, 0.5]], device=device))
    assert hit.distance.tolist() == [2.0, 0.0]
    assert hit.point.tolist() == [[0.5, 0.5, 0.5]] * 2


def test_unwelded_mesh_is_closed(device):
    """An STL file repeats every vertex; the surface is closed all the same."""
    surface, welded = surface_of(unwelded(torus()), device), surface_of(torus(), device)
    points = around(torus(), 1000).to(device)
    assert surface.is_closed
    torch.testing.assert_close(surface.signed_distance(points), welded.signed_distance(points), rtol=1e-5, atol=1e-7)


def test_negative_zeros_are_the_same_place(device):
    vertices, faces = unwelded(box((0, 0, 0), (1, 1, 1)))
    vertices[::5] = torch.where(vertices[::5] == 0, -0.0, vertices[::5])
    assert surface_of((vertices, faces), device).is_closed


# ---- samples on the surface


@pytest.mark.parametrize("mesh", [torus(), box((-0.5, -0.01, -0.2), (0.5, 0.01, 0.2))], ids=["torus", "flat box"])
def test_samples_are_area_uniform_and_on_their_faces(device, mesh):
    surface = surface_of(mesh, device)
    samples = surface.sample_surface(60_000, seed=5)
    vertices, faces = rounded(mesh)
    corners = vertices[faces]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = cross.norm(dim=1) / 2
    counts = torch.bincount(samples.face.cpu(), minlength=len(faces)).double()
    assert chi_square_fits(counts, 60_000 * areas / areas.sum())

    normals, points = samples.normals.double().cpu(), samples.points.double().cpu()
    face = samples.face.cpu()
    torch.testing.assert_close(normals, (cross / cross.norm(dim=1, keepdim=True))[face], rtol=1e-5, atol=1e-6)
    assert float(((points - corners[face, 0]) * normals).sum(1).abs().max()) < 1e-6
    assert float(surface.unsigned_distance(samples.points).max()) < 1e-6 * diagonal(mesh)


def test_samples_depend_on_the_seed_alone(device):
    surface = surface_of(torus(), device)
    one, again, other = (surface.sample_surface(500, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.points, again.points)
    assert torch.equal(one.face, again.face)
    assert not torch.equal(one.points, other.points)
    assert torch.equal(surface.sample_surface(500, RandomStream(1)).points, one.points)
    assert torch.equal(surface.sample_surface(200, 1).points, one.points[:200])
    assert one.points.shape == one.normals.shape == (500, 3)
    assert one.points.dtype == one.normals.dtype == torch.float32
    assert one.face.dtype == torch.int64


def test_samples_skip_faces_without_area(device):
    mesh = HARD["with faces without area"]
    samples = surface_of(mesh, device).sample_surface(3000)
    assert int(samples.face.max()) < len(torus()[1])
    torch.testing.assert_close(samples.normals.norm(dim=1), torch.ones(3000, device=device))


def test_arrays_of_the_caller_are_left_alone():
    vertices, faces = (array.clone() for array in torus())
    surface = Surface(vertices, faces)
    points = around(torus(), 100)
    before = surface.signed_distance(points)
    vertices += 1
    faces.fill_(0)
    assert torch.equal(surface.signed_distance(points), before)
    array = torus()[0].numpy().copy()
    Surface(array, torus()[1].numpy())
    assert np.array_equal(array, torus()[0].numpy())
