"""The public surface: what it is made of, exact distances, faces of every kind, and points drawn on it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pyimplicit import ops
from pyimplicit.errors import MeshError
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream, reference
from pyimplicit.sampling import sample_queries
from tests.geometry.bodies import HARD, SIMPLE
from tests.geometry.surface_queries import surface_of
from tests.helpers import (
    around,
    box,
    chi_square_fits,
    diagonal,
    moved,
    randn,
    rounded,
    slivers,
    sphere,
    torus,
    unwelded,
)

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


def test_defaults_of_torch_do_not_matter():
    """Kernels write to arrays of a type and on a device that are their own."""
    vertices, faces = torus()
    vertices, points = vertices.float(), around(torus(), 300)

    def answers() -> list[torch.Tensor]:
        surface = Surface(vertices, faces)
        asked = points.clone().requires_grad_()
        distance = surface.prepare().signed_distance(asked)
        slope = torch.autograd.grad(distance.sum(), asked)[0]
        drawn = sample_queries(surface, "linear", 50).points
        grid = ops.build_cloud_grid(vertices, 0.1)
        masks = [ops.distance_mask(points, grid, cells) for cells in (None, ops.build_mask_cells(grid))]
        chosen = ops.weighted_choice(distance.detach().abs(), 20)
        return [distance.detach(), slope, drawn, *masks, chosen]

    expected = answers()
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = answers()
    finally:
        torch.set_default_dtype(default)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


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
