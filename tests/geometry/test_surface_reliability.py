"""Meshes and points that look odd, and what other libraries got wrong, end in a right answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pyimplicit.geometry.surface import Surface
from tests import helpers
from tests.geometry.bodies import flipped
from tests.geometry.surface_queries import QUERIES, SIGNED, check_right
from tests.helpers import (
    around,
    box,
    diagonal,
    join,
    moved,
    rand,
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

VERTICES, FACES = box()
SURFACE = Surface(VERTICES, FACES)
POINTS = around(box(), 60)


# ---- meshes that look odd and are not


LAYOUTS: dict[str, tuple[Any, Any]] = {
    **{f"faces of {name}": (VERTICES, FACES.numpy().astype(name)) for name in ("int8", "int16", "uint16", "uint32")},
    "faces of uint64": (VERTICES, FACES.numpy().astype(np.uint64)),
    "faces of uint8": (VERTICES, FACES.to(torch.uint8)),
    "faces of another byte order": (VERTICES, FACES.numpy().astype(">i4")),
    "turned vertices": (VERTICES.T.contiguous().T, FACES),
    "turned faces": (VERTICES, FACES.T.contiguous().T),
    "Fortran order": (np.asfortranarray(VERTICES.numpy()), np.asfortranarray(FACES.numpy())),
    "every other column": (torch.stack([VERTICES, VERTICES + 1], 2)[..., 0], torch.stack([FACES, -FACES], 2)[..., 0]),
    "a slice of more": (torch.cat([VERTICES + 9, VERTICES])[8:], torch.cat([-FACES, FACES])[12:]),
    "backwards in memory": (VERTICES.numpy()[::-1].copy()[::-1], FACES.numpy()[::-1].copy()[::-1]),
    "vertices of another byte order": (VERTICES.numpy().astype(">f8"), FACES.numpy()),
    "with history": (VERTICES.clone().requires_grad_(), FACES),
    "a parameter": (torch.nn.Parameter(VERTICES.clone()), FACES),
    "one expanded face": (VERTICES, torch.cat([FACES, FACES[:1].expand(3, 3)])),
    "negative zeros": (torch.where(VERTICES == 0, -0.0, VERTICES), FACES),
    "vertices nobody uses": (torch.cat([VERTICES, rand(50, 3, dtype=torch.float64)]), FACES),
}


@pytest.mark.parametrize(("vertices", "faces"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_types_and_layouts_do_not_matter(vertices, faces):
    found = Surface(vertices, faces).unsigned_distance(POINTS.double())
    assert torch.equal(found, SURFACE.unsigned_distance(POINTS.double()))
    assert not found.requires_grad


def test_arrays_that_cannot_be_written():
    """As numpy gives for a mapped file; torch warns of them, and a warning here is an error."""
    vertices, faces = VERTICES.numpy().copy(), FACES.numpy().copy()
    vertices.flags.writeable = faces.flags.writeable = False
    assert torch.equal(Surface(vertices, faces).unsigned_distance(POINTS), SURFACE.unsigned_distance(POINTS))


def fan(count: int) -> helpers.Mesh:
    """Faces around one edge, like the pages of a book."""
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    rim = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    vertices = torch.cat([torch.tensor([[0.0, 0, -1], [0, 0, 1]], dtype=torch.float64), rim])
    ends = torch.tensor([0, 1]).expand(count, 2)
    return vertices, torch.cat([ends, torch.arange(count).unsqueeze(1) + 2], 1)


def shrinking(count: int, factor: float) -> helpers.Mesh:
    """Each triangle is smaller than the one before and nearer to the origin: the tree has to be deep."""
    size = factor ** torch.arange(count, dtype=torch.float64)
    corners = torch.tensor([[1.0, 0, 0], [1.2, 0, 0.05], [1, 0.1, 0]], dtype=torch.float64)
    return (size[:, None, None] * corners).reshape(-1, 3), torch.arange(3 * count).reshape(count, 3)


def strip() -> helpers.Mesh:
    """A Moebius strip, which has one side."""
    turn = math.pi * torch.arange(20, dtype=torch.float64) / 20
    across = torch.stack([turn.cos() * (2 * turn).cos(), turn.cos() * (2 * turn).sin(), turn.sin()], 1)
    middle = torch.stack([(2 * turn).cos(), (2 * turn).sin(), 0 * turn], 1)
    k = torch.arange(20)
    after = torch.where(k == 19, torch.tensor(20), k + 1)  # the strip meets itself upside down
    other, other_after = k + 20, torch.where(k == 19, torch.tensor(0), k + 21)
    faces = torch.cat([torch.stack([k, after, other], 1), torch.stack([after, other_after, other], 1)])
    return torch.cat([middle + 0.2 * across, middle - 0.2 * across]), faces


def concentric(count: int) -> helpers.Mesh:
    """Triangles of all sizes around one middle: nothing to split them by."""
    corners = torch.tensor([[1.0, 0, 0], [-0.5, 0.8, 0], [-0.5, -0.8, 0]], dtype=torch.float64)
    sizes = torch.linspace(0.1, 1, count, dtype=torch.float64)
    return (sizes[:, None, None] * corners).reshape(-1, 3), torch.arange(3 * count).reshape(count, 3)


POINT = torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64)
ODD_MESHES: dict[str, helpers.Mesh] = {
    **{f"{count} faces": soup(count, seed=count) for count in (1, 2, 7, 8, 9, 63, 64, 65, 513)},
    "one point": (POINT, torch.zeros(1, 3, dtype=torch.int64)),
    "one point a hundred times": (POINT, torch.zeros(100, 3, dtype=torch.int64)),
    "points": (VERTICES, torch.arange(8).unsqueeze(1).expand(8, 3)),
    "edges": (VERTICES, FACES[:, [0, 1, 1]]),
    "edges of three corners": (
        torch.arange(9, dtype=torch.float64).reshape(3, 3),
        torch.tensor([[0, 1, 2], [2, 0, 1]]),
    ),
    "some faces without area": (VERTICES, torch.cat([FACES, FACES[:, [0, 0, 1]], FACES[:, [2, 2, 2]]])),
    "a face a thousand times": (VERTICES, torch.cat([FACES[:1].repeat(1000, 1), FACES])),
    "a face in every order": (VERTICES, FACES[0][torch.cartesian_prod(*[torch.arange(3)] * 3)]),
    "a face and its back": (VERTICES, torch.cat([FACES[:1], FACES[:1].flip(1)])),
    "a body and its inside": join(box(), flipped(box())),
    "inside out": flipped(torus()),
    "closed and flat": (VERTICES * torch.tensor([1.0, 1, 0], dtype=torch.float64), FACES),
    "concentric": concentric(300),
    "a book": fan(50),
    "a strip of one side": strip(),
    "two bodies at one corner": join(tetrahedron(), (-tetrahedron()[0] + 2, tetrahedron()[1].flip(1))),
    "shrinking by 2": shrinking(60, 0.5),
    "shrinking by 1000": shrinking(12, 1e-3),
    "growing by 10": shrinking(9, 10.0),
    "slivers of 1e6": slivers(200, 1e6),
    "slivers of 1e12": slivers(200, 1e12),
    "a needle of 1e6": box((-0.5, -5e-7, -5e-7), (0.5, 5e-7, 5e-7)),
    "far away in float32": rounded(moved(sphere(), (1e4, -1e4, 2e4))),
    "ten thousand million wide": rounded((torus()[0] * 1e10, torus()[1])),
    "in pieces": unwelded(torus(rings=8, sides=6)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ODD_MESHES)
def test_odd_meshes_are_answered(name, dtype):
    mesh = rounded(ODD_MESHES[name])
    points = around(mesh, 150, dtype=dtype)
    check_right(Surface(*mesh), mesh, points + (diagonal(mesh) == 0))


def test_a_vertex_nobody_uses_spoils_nothing():
    far = torch.cat([VERTICES, torch.tensor([[1e9, 0, 0]], dtype=torch.float64)])
    check_right(Surface(far, FACES), rounded(box()), POINTS)


@pytest.mark.parametrize("size", [1e-12, 1e-15, 1e-20, 1e-30, 1e-37, 1e-42])
@pytest.mark.parametrize("name", ["sphere", "soup"])
def test_tiny_meshes_are_answered_or_refused(name, size):
    """Squares and cubes of such lengths leave float32: no crash, no NaN, no distance of 0 to everything."""
    vertices, faces = {"sphere": sphere(0.4, 1), "soup": soup(60)}[name]
    mesh = rounded((vertices * size, faces))
    try:
        surface = Surface(*mesh)
    except ValueError as error:
        assert "vertices" in str(error)  # noqa: PT017  either of the two is right
    else:
        check_right(surface, mesh, around(mesh, 150))


# ---- points that look odd and are not


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_layouts_of_points_do_not_matter(query):
    expected = query(SURFACE, POINTS)
    for points in (
        torch.stack([POINTS, POINTS + 1], 2)[..., 0],
        POINTS.T.contiguous().T,
        torch.cat([POINTS + 9, POINTS])[60:],
        torch.nn.Parameter(POINTS.clone()),
        POINTS + torch.zeros(3).requires_grad_(),
    ):
        assert torch.equal(query(SURFACE, points), expected)
    with torch.inference_mode():
        assert torch.equal(query(SURFACE, POINTS.clone()), expected)
    assert torch.equal(query(SURFACE, POINTS[:1].expand(40, 3)), expected[:1].expand(40))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", QUERIES)
def test_no_points_and_no_gradients(name, dtype):
    none = torch.zeros(0, 3, dtype=dtype, requires_grad=True)
    found = QUERIES[name](SURFACE, none)
    assert found.shape == (0,)
    if name in ("closest", "unsigned", *SIGNED):
        found.sum().backward()
        assert none.grad.shape == (0, 3)


@pytest.mark.parametrize("reach", [1e10, 1e19, 1e20, 1e30, 1e38])
@pytest.mark.parametrize("name", ["box", "open box", "soup"])
def test_points_very_far_away(name, reach):
    """Their squares leave float32; no sign, no gradient and no other point in the call may suffer from it."""
    mesh = {"box": box(), "open box": (VERTICES, FACES[1:]), "soup": soup(100)}[name]
    surface, near = Surface(*mesh), around(mesh, 100)
    directions = torch.nn.functional.normalize(randn(40, 3), dim=1)
    far = torch.cat([reach * directions, reach * torch.eye(3), -reach * torch.eye(3)])
    points = torch.cat([far, near]).requires_grad_()
    for found in (surface.signed_distance(points), surface.signed_distance(points, "winding")):
        torch.testing.assert_close(found[:46], far.double().norm(dim=1).float(), rtol=1e-6, atol=0)
        (slope,) = torch.autograd.grad(found.sum(), points)
        assert torch.allclose(slope[:46], torch.nn.functional.normalize(far.double(), dim=1).float(), atol=1e-5)
    assert torch.equal(found[46:].detach(), surface.signed_distance(near, "winding"))
    assert not surface.contains(points)[:46].any()
    assert bool((surface.winding_number(points)[:46].abs() < 1e-6).all())
    assert surface.closest_point(points).point.isfinite().all()


def test_points_at_the_end_of_float32():
    corner = torch.tensor([[3.4e38, 3.4e38, 3.4e38], [3.4e38, 0, 0], [0, -3.4e38, 0]])
    for query in QUERIES.values():
        assert not query(SURFACE, corner).isnan().any()
    assert SURFACE.unsigned_distance(corner[1:]).tolist() == pytest.approx([3.4e38] * 2)
    assert not SURFACE.contains(corner).any()


def test_tiny_and_negative_zero_coordinates():
    points = torch.tensor([[0.0, 0, 0], [-0.0, 0, -0.0], [1e-45, 0, 0], [0, -1e-40, 1e-38], [1e-30, 1e-30, -1e-30]])
    assert torch.equal(SURFACE.signed_distance(points), torch.full((5,), -0.2))
    assert SURFACE.contains(points).all()


def test_the_same_point_many_times():
    for name, query in QUERIES.items():
        for point in (POINTS[:1], VERTICES[:1].float(), torch.zeros(1, 3)):
            many = query(SURFACE, point.repeat(5000, 1))
            assert torch.equal(many, query(SURFACE, point).expand(5000)), name


def test_points_on_a_line_and_on_a_lattice():
    """Sorting them along a curve has nothing to go by, or many ties."""
    line = torch.linspace(-2, 2, 400)[:, None] * torch.tensor([[1.0, 0, 0]])
    lattice = torch.cartesian_prod(*[torch.linspace(-0.6, 0.6, 9)] * 3)
    for points in (line, lattice, line + torch.tensor([0.4, 0.3, 0.2])):
        check_right(SURFACE, rounded(box()), points)


def test_rays_of_all_lengths():
    directions = torch.tensor([[2.0, 0, 0], [0, -1, 0], [0, 0, 4]], dtype=torch.float64)
    expected = torch.tensor([0.2, 0.3, 0.05], dtype=torch.float64)
    for length in (1e-200, 1e-30, 1e-10, 1e10, 1e30, 1e200):
        found = SURFACE.cast_rays(torch.zeros(3, 3, dtype=torch.float64), directions * length)
        assert found.hit.all(), length
        torch.testing.assert_close(found.t * length, expected, rtol=1e-5, atol=0)
    far = SURFACE.cast_rays(torch.tensor([[1e30, 0, 0], [-1e30, 0, 0]]), torch.tensor([[-1.0, 0, 0]] * 2))
    assert far.hit.tolist() == [True, False]
    assert not far.t.isnan().any()


# ---- known failures of others


@pytest.mark.parametrize("sign", ["auto", "pseudonormal", "winding"])
def test_points_around_a_corner_tetrahedron(sign):
    """NVIDIA/warp#1836: points outside, up to 2 away, whose closest feature is an edge or a corner, came out inside."""
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    surface = Surface(corners, torch.tensor([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]]))
    steps = torch.arange(-2.0625, 3.1, 0.25)
    lattice = torch.cartesian_prod(steps, steps, steps)
    points = torch.cat([lattice, 2 * randn(4000, 3), corners.mean(0) + 0.2 * randn(4000, 3, seed=1)])
    heights = torch.cat([points, (1 - points.sum(1, keepdim=True)) / math.sqrt(3)], 1).double()  # above each face
    clear = heights.abs().amin(1) > 1e-5
    inside = (heights > 0).all(1)
    found = surface.signed_distance(points, sign)
    assert torch.equal((found < 0)[clear], inside[clear])
    assert torch.equal(surface.contains(points, sign)[clear], inside[clear])
    # Inside, the nearest face decides; the distance to its plane is a formula.
    torch.testing.assert_close(found[inside].double(), -heights[inside].amin(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sign", ["auto", "pseudonormal", "winding"])
def test_points_on_lines_through_corners_of_the_unit_cube(sign):
    """isl-org/Open3D#5105: a ray along the diagonal of the cube grazed a corner, and [-1, -1, 0] came out inside.

    And mikedh/trimesh#73: a point in the plane of a face, but beside it, came out at distance 0.
    """
    surface = Surface(*box((0, 0, 0), (1, 1, 1)))
    cases = {
        (-1.0, -1.0, 0.0): math.sqrt(2),
        (-1.0, -1.0, -1.0): math.sqrt(3),
        (0.5, 0.5, 0.5): -0.5,
        (2.0, 2.0, 2.0): math.sqrt(3),
        (-1.0, 0.0, 0.0): 1.0,
        (2.0, 1.0, 1.0): 1.0,
        (1.5, 1.0, 0.5): 0.5,
        (0.0, 0.0, -0.25): 0.25,
        (0.25, 0.25, 0.25): -0.25,
        (1.0, -0.5, 1.0): 0.5,
    }
    points = torch.tensor(list(cases))
    expected = torch.tensor(list(cases.values()))
    torch.testing.assert_close(surface.signed_distance(points, sign), expected)
    assert torch.equal(surface.contains(points, sign), expected < 0)
    # The whole lattice around the cube, most of it in planes of faces and on lines through edges and diagonals.
    steps = torch.arange(-2, 3.1, 0.25, dtype=torch.float64)
    lattice = torch.cartesian_prod(steps, steps, steps)
    reach = (lattice - 0.5).abs() - 0.5
    formula = reach.clamp(min=0).norm(dim=1) + reach.amax(1).clamp(max=0)
    for points in (lattice, lattice.float()):
        found = surface.signed_distance(points, sign).double()
        off = formula.abs() > 1e-6  # on the surface either sign is right
        torch.testing.assert_close(found[off], formula[off], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found[~off].abs(), formula[~off].abs(), rtol=0, atol=1e-6)


def test_points_on_the_axes_of_a_ball():
    """NVIDIAGameWorks/kaolin#566: rays along an axis met a corner of the mesh and lost count."""
    surface = Surface(*sphere(2.0, 3))
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    for reach, inside in ((0.0, True), (1.0, True), (1.999, True), (2.001, False), (9.0, False)):
        assert surface.contains(reach * axes).tolist() == [inside] * 6


@pytest.mark.parametrize("name", ["tetrahedron", "box", "torus", "needle", "soup", "slivers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_exactly_on_corners_edges_and_faces(name, dtype):
    """Distance 0, a face that holds the point, weights that give it back, and a gradient without NaN."""
    needle = box((-0.5, -5e-7, -5e-7), (0.5, 5e-7, 5e-7))
    mesh = rounded(
        {"tetrahedron": tetrahedron(), "box": box(), "torus": torus(rings=8, sides=6), "needle": needle}.get(name)
        or {"soup": soup(40), "slivers": slivers(40)}[name]
    )
    surface, points = Surface(*mesh), special_points(mesh).to(dtype).requires_grad_()
    hit = surface.closest_point(points)
    size = diagonal(mesh)
    corners = mesh[0][mesh[1][hit.face]]
    given_back = (hit.barycentric.double().unsqueeze(2) * corners).sum(1)
    assert bool(((given_back - points.double()).norm(dim=1) <= 2e-6 * size).all())
    assert bool((hit.distance <= 1e-6 * size).all())
    found = surface.signed_distance(points)
    assert bool((found.abs() <= 1e-6 * size).all())
    for value in (hit.distance, hit.point, found):
        (slope,) = torch.autograd.grad(value.sum(), points, retain_graph=True)
        assert slope.isfinite().all()
    assert not surface.winding_number(points).isnan().any()
    # The corners themselves are numbers that float32 holds.
    assert float(surface.unsigned_distance(mesh[0][mesh[1].unique()].to(dtype)).max()) <= 2e-7 * size
