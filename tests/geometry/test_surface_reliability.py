"""Bad input ends in a right answer or in an error that names the argument; and what holds for every surface."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyimplicit import ops
from pyimplicit.errors import MeshError
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import reference
from tests import helpers
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

SIGNED = {
    "signed": lambda surface, points: surface.signed_distance(points),
    "signed, pseudonormal": lambda surface, points: surface.signed_distance(points, "pseudonormal"),
    "signed, winding": lambda surface, points: surface.signed_distance(points, "winding"),
}
QUERIES: dict[str, Callable[[Surface, Any], Any]] = {
    "closest": lambda surface, points: surface.closest_point(points).distance,
    "unsigned": lambda surface, points: surface.unsigned_distance(points),
    **SIGNED,
    "winding": lambda surface, points: surface.winding_number(points),
    "contains": lambda surface, points: surface.contains(points),
    "contains, winding": lambda surface, points: surface.contains(points, "winding"),
}
ANY_MESH = [name for name in QUERIES if name != "signed, pseudonormal"]


def tolerance(mesh: helpers.Mesh, points: Tensor) -> Tensor:
    """What a distance may be off by: 1e-6 of the diagonal and the rounding of the point and of the answer, [N]."""
    step = torch.finfo(points.dtype).eps
    reach = points.double().abs().amax(1)
    return 1e-6 * diagonal(mesh) + 4 * step * reach + 4 * torch.finfo(points.dtype).smallest_normal * step


def check_right(surface: Surface, mesh: helpers.Mesh, points: Tensor) -> None:
    """All queries against sums and brute force in double precision over the faces of `mesh`."""
    exact, off = points.double(), tolerance(mesh, points)
    distance, winding = reference.unsigned_distance(exact, *mesh), reference.winding_number(exact, *mesh)
    hit = surface.closest_point(points)
    for found in (hit.distance, surface.unsigned_distance(points)):
        assert bool(((found.double() - distance).abs() <= off).all())
    assert bool((((exact - hit.point.double()).norm(dim=1) - distance).abs() <= 2 * off).all())
    assert bool(((hit.face >= 0) & (hit.face < len(mesh[1]))).all())
    assert bool((hit.barycentric >= -1e-6).all())
    assert bool(((hit.barycentric.sum(1) - 1).abs() <= 1e-5).all())

    # A single face seen from two radii away is known to some percent; in closed meshes such errors cancel.
    assert bool(((surface.winding_number(points) - winding).abs() <= 0.05 * (1 + winding.abs())).all())
    clear = (distance > off) & ((winding - 0.5).abs() > 0.02)
    for sign in ("auto", "winding"):
        found = surface.signed_distance(points, sign)
        assert bool(((found.double().abs() - distance).abs() <= off).all())
        assert torch.equal((found < 0)[clear], (winding > 0.5)[clear])
        assert torch.equal(surface.contains(points, sign)[clear], (winding > 0.5)[clear])


# ---- meshes that are refused


def with_value(value: float, vertex: int = 5) -> Tensor:
    spoilt = VERTICES.clone()
    spoilt[vertex, 1] = value
    return spoilt


def with_index(index: int) -> Tensor:
    spoilt = FACES.clone()
    spoilt[7, 2] = index
    return spoilt


REFUSED_MESHES: dict[str, tuple[Any, Any, str]] = {
    "NaN in one vertex": (with_value(math.nan), FACES, r"vertices: expected finite .* at vertex 5"),
    "infinity in one vertex": (with_value(math.inf), FACES, "vertices: expected finite .* at vertex 5"),
    "minus infinity in the last vertex": (with_value(-math.inf, 7), FACES, "vertices: expected finite .* at vertex 7"),
    "NaN in a vertex no face uses": (torch.cat([VERTICES, VERTICES[:1] * math.nan]), FACES, "vertices: .* vertex 8"),
    "beyond float32": (with_value(1e39), FACES, "vertices: expected finite float32"),
    "vertices in a list": (VERTICES.tolist(), FACES, "vertices: expected a numpy array or torch tensor, got list"),
    "no vertices at all": (None, FACES, "vertices: expected a numpy array or torch tensor, got NoneType"),
    "a file name": ("mesh.obj", FACES, "vertices: expected a numpy array or torch tensor, got str"),
    "whole vertices": (VERTICES.long(), FACES, "vertices: expected float32 or float64, got int64"),
    "half vertices": (VERTICES.half(), FACES, "vertices: expected float32 or float64, got float16"),
    "bfloat16 vertices": (VERTICES.bfloat16(), FACES, "vertices: expected .* float32 or float64"),
    "complex vertices": (VERTICES.to(torch.complex64), FACES, "vertices: expected float32 or float64"),
    "long double vertices": (VERTICES.numpy().astype(np.longdouble), FACES, "vertices: expected float32 or float64"),
    "vertices of objects": (VERTICES.numpy().astype(object), FACES, "vertices: expected float32 or float64, got obj"),
    "sparse vertices": (VERTICES.to_sparse(), FACES, "vertices: expected a dense tensor"),
    "vertices nowhere": (VERTICES.to("meta"), FACES, "vertices: expected a tensor on the CPU, got one on meta"),
    "one number for vertices": (torch.tensor(1.0), FACES, r"vertices: expected shape \[n, 3\], got \[\]"),
    "flat vertices": (VERTICES.reshape(-1), FACES, r"vertices: expected shape \[n, 3\], got \[24\]"),
    "a batch of vertices": (VERTICES[None], FACES, r"vertices: expected shape \[n, 3\], got \[1, 8, 3\]"),
    "homogeneous vertices": (torch.ones(8, 4), FACES, r"vertices: expected shape \[n, 3\], got \[8, 4\]"),
    "no vertex": (VERTICES[:0], FACES, "empty mesh: expected vertices and faces, got 0 and 12"),
    "nothing": (VERTICES[:0], FACES[:0], "empty mesh: expected vertices and faces, got 0 and 0"),
    "faces in a list": (VERTICES, FACES.tolist(), "faces: expected a numpy array or torch tensor, got list"),
    "boolean faces": (VERTICES, FACES.bool(), "faces: expected integers, got bool"),
    "float64 faces": (VERTICES, FACES.double(), "faces: expected integers, got float64"),
    "faces nowhere": (VERTICES, FACES.to("meta"), "faces: expected a tensor on the CPU, got one on meta"),
    "one number for faces": (VERTICES, torch.tensor(1), r"faces: expected shape \[n, 3\], got \[\]"),
    "one face without its axis": (VERTICES, FACES[0], r"faces: expected shape \[n, 3\], got \[3\]"),
    "squares": (VERTICES, torch.zeros(6, 4, dtype=torch.int64), r"faces: expected shape \[n, 3\], got \[6, 4\]"),
    "a batch of faces": (VERTICES, FACES[None], r"faces: expected shape \[n, 3\], got \[1, 12, 3\]"),
    "one index of -1": (VERTICES, with_index(-1), r"faces: expected 0 to 7, got .* at face 7"),
    "one index of V": (VERTICES, with_index(8), r"faces: expected 0 to 7, got .* at face 7"),
    "right but for 2**32": (VERTICES, FACES + 2**32, "faces: expected 0 to 7"),  # as int32 it would be right
    "an index of -2**32": (VERTICES, with_index(-(2**32)), "faces: expected 0 to 7"),
    "an index of 2**63": (VERTICES, FACES.numpy().astype(np.uint64) + np.uint64(2**63), "faces: expected 0 to 7"),
    "int8 below 0": (VERTICES, FACES.to(torch.int8) - 1, "faces: expected 0 to 7"),
}


@pytest.mark.parametrize(("vertices", "faces", "words"), REFUSED_MESHES.values(), ids=REFUSED_MESHES.keys())
def test_meshes_that_are_refused(vertices, faces, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Surface(vertices, faces)


@pytest.mark.parametrize(
    ("vertices", "faces", "words"),
    [
        (VERTICES.numpy(), FACES, "vertices: expected a torch tensor, got ndarray"),
        (VERTICES.long(), FACES, "vertices: expected dtype float32 or float64, got int64"),
        (VERTICES.bfloat16(), FACES, "vertices: expected dtype"),
        (VERTICES.to("meta"), FACES, "vertices: expected a tensor on cpu, got one on meta"),
        (VERTICES.to_sparse(), FACES, "vertices"),
        (torch.tensor(0.5), FACES, r"vertices: expected shape \[V, 3\], got \[\]"),
        (with_value(math.nan), FACES, r"vertices: expected finite values, got nan at index \[5, 1\]"),
        (VERTICES * 1e40, FACES, "vertices: expected finite values, got -?inf"),
        (VERTICES, FACES.numpy(), "faces: expected a torch tensor, got ndarray"),
        (VERTICES, None, "faces: expected a torch tensor, got NoneType"),
        (VERTICES, FACES.bool(), "faces: expected dtype int32 or int64, got bool"),
        (VERTICES, FACES.to(torch.uint8), "faces: expected dtype int32 or int64, got uint8"),
        (VERTICES, FACES.to("meta"), "faces: expected a tensor on cpu, got one on meta"),
        (VERTICES, torch.tensor(1), r"faces: expected shape \[F, 3\], got \[\]"),
        (VERTICES, with_index(-1), "faces: expected indices in 0..7, got -1..7"),
        (VERTICES, with_index(8), "faces: expected indices in 0..7, got 0..8"),
        (VERTICES, FACES + 2**32, "faces: expected indices in 0..7"),
    ],
)
def test_hierarchies_that_are_refused(vertices, faces, words):
    with pytest.raises((TypeError, ValueError), match=words):
        ops.build_bvh(vertices, faces)


def test_refusals_are_of_the_stated_types():
    """Whoever catches `MeshError` gets what is wrong with a mesh's content, not with the types of its arrays."""
    with pytest.raises(MeshError):
        Surface(with_value(math.nan), FACES)
    with pytest.raises(MeshError):
        Surface(VERTICES, with_index(-1))
    with pytest.raises(TypeError):
        Surface(VERTICES.half(), FACES)


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


def flipped(mesh: helpers.Mesh) -> helpers.Mesh:
    return mesh[0], mesh[1].flip(1)


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


# ---- points that are refused

REFUSED_POINTS: dict[str, tuple[Any, str]] = {
    "a list": (POINTS.tolist(), "points: expected a torch tensor, got list"),
    "an array": (POINTS.numpy(), "points: expected a torch tensor, got ndarray"),
    "None": (None, "points: expected a torch tensor, got NoneType"),
    "int64": (POINTS.long(), "points: expected dtype float32 or float64, got int64"),
    "int32": (POINTS.int(), "points: expected dtype"),
    "bool": (POINTS.bool(), "points: expected dtype"),
    "half": (POINTS.half(), "points: expected dtype float32 or float64, got float16"),
    "bfloat16": (POINTS.bfloat16(), "points: expected dtype"),
    "complex": (POINTS.to(torch.complex64), "points: expected dtype"),
    "0-d": (torch.tensor(0.5), r"points: expected shape \[N, 3\], got \[\]"),
    "1-d": (POINTS[0], r"points: expected shape \[N, 3\], got \[3\]"),
    "3-d": (POINTS[None], r"points: expected shape \[N, 3\], got \[1, 60, 3\]"),
    "two columns": (POINTS[:, :2], r"points: expected shape \[N, 3\], got \[60, 2\]"),
    "four columns": (torch.zeros(5, 4), r"points: expected shape \[N, 3\], got \[5, 4\]"),
    "no columns": (torch.zeros(5, 0), r"points: expected shape \[N, 3\], got \[5, 0\]"),
    "NaN in the last": (torch.cat([POINTS, POINTS[:1] * math.nan]), r"points: expected finite .* \[60, 0\]"),
    "infinity": (torch.cat([POINTS, torch.tensor([[0, math.inf, 0]])]), r"points: expected finite .* \[60, 1\]"),
    "beyond float32": (torch.tensor([[0, 0, 1e39]], dtype=torch.float64), "points: expected finite"),
    "NaN in float64": (torch.full((1, 3), math.nan, dtype=torch.float64), "points: expected finite"),
    "nowhere": (POINTS.to("meta"), "points: expected a tensor on cpu, got one on meta"),
    "sparse": (POINTS.to_sparse(), "points: "),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
@pytest.mark.parametrize(("points", "words"), REFUSED_POINTS.values(), ids=REFUSED_POINTS.keys())
def test_points_that_are_refused(query, points, words):
    with pytest.raises((TypeError, ValueError), match=words):
        query(SURFACE, points)


@pytest.mark.parametrize("sign", [None, 1, "", "Winding", b"winding", ["winding"]])
def test_signs_that_are_refused(sign):
    for query in (SURFACE.signed_distance, SURFACE.contains):
        with pytest.raises((TypeError, ValueError), match="sign: expected"):
            query(POINTS, sign)


@pytest.mark.parametrize(
    ("origins", "directions", "words"),
    [
        (POINTS.tolist(), POINTS, "origins: expected a torch tensor, got list"),
        (POINTS[0], POINTS, r"origins: expected shape \[N, 3\], got \[3\]"),
        (POINTS.half(), POINTS.half(), "origins: expected dtype"),
        (POINTS.to("meta"), POINTS, "origins: expected a tensor on cpu, got one on meta"),
        (POINTS - math.inf, POINTS, "origins: expected finite"),
        (POINTS, POINTS.numpy(), "directions: expected a torch tensor, got ndarray"),
        (POINTS, POINTS[:1], r"directions: expected shape \[60, 3\], got \[1, 3\]"),
        (POINTS, POINTS.to("meta"), "directions: expected a tensor on cpu, got one on meta"),
        (POINTS, POINTS * math.nan, "directions: expected finite"),
        (POINTS, POINTS + math.inf, "directions: expected finite"),
        (POINTS, torch.where(torch.arange(60)[:, None] == 9, 0.0, POINTS), "directions: .* length 0"),
    ],
)
def test_rays_that_are_refused(origins, directions, words):
    with pytest.raises((TypeError, ValueError), match=words):
        SURFACE.cast_rays(origins, directions)


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


# ---- what holds for every surface


def spun(mesh: helpers.Mesh, seed: int) -> tuple[helpers.Mesh, Tensor]:
    """The mesh turned at random, and the turn."""
    turn = torch.linalg.qr(randn(3, 3, seed=seed, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn).sign()
    return (mesh[0] @ turn, mesh[1]), turn


KINDS: dict[str, Callable[[int], helpers.Mesh]] = {
    "tetrahedron": lambda seed: tetrahedron(),
    "box": lambda seed: box(),
    "sphere": lambda seed: sphere(0.4, 1 + seed % 2),
    "torus": lambda seed: torus(rings=5 + seed % 9, sides=3 + seed % 5),
    "star": lambda seed: (
        sphere(0.4, 2)[0] * rand(66, 1, seed=seed, low=0.4, high=1, dtype=torch.float64),
        sphere(0.4, 2)[1],
    ),
    "crossing itself": lambda seed: (
        sphere(0.4, 1)[0] + 0.2 * randn(18, 3, seed=seed, dtype=torch.float64),
        sphere(0.4, 1)[1],
    ),
}


@st.composite
def closed_bodies(draw: st.DrawFn) -> helpers.Mesh:
    """One to three bodies of all kinds, stretched, turned and moved; some inside others, inside out or crossing."""
    parts = []
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        seed = draw(st.integers(0, 10_000))
        vertices, faces = KINDS[draw(st.sampled_from(sorted(KINDS)))](seed)
        scale = torch.tensor(draw(st.tuples(*[st.sampled_from([0.05, 0.5, 1.0, 2.0])] * 3)), dtype=torch.float64)
        part, _ = spun((vertices * scale, faces), seed)
        parts.append(moved(part, draw(st.sampled_from([(0.0, 0.0, 0.0), (0.2, -0.1, 0.1), (0.7, 0.5, -0.4)]))))
        if draw(st.integers(0, 5)) == 0:
            parts[-1] = flipped(parts[-1])
    return rounded(join(*parts))


@st.composite
def any_mesh(draw: st.DrawFn) -> helpers.Mesh:
    """Closed bodies, some with holes, and soups."""
    if draw(st.booleans()):
        return rounded(soup(draw(st.integers(1, 60)), draw(st.integers(0, 10_000)), draw(st.sampled_from([0.01, 0.3]))))
    vertices, faces = draw(closed_bodies())
    return vertices, faces[draw(st.sampled_from([0, 0, 1, 3])) :]


seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=40)
@given(mesh=any_mesh(), seed=seeds)
def test_distance_changes_no_faster_than_the_point(mesh, seed):
    """|d(p) - d(q)| <= |p - q|, for near and far pairs."""
    surface, p = Surface(*mesh), around(mesh, 300, seed=seed)
    steps = diagonal(mesh) * torch.tensor([1e-5, 1e-3, 0.1, 1.0])[torch.arange(300) % 4, None]
    q = p + steps * randn(300, 3, seed=seed + 1)
    apart = (p.double() - q.double()).norm(dim=1)
    change = (surface.unsigned_distance(p).double() - surface.unsigned_distance(q).double()).abs()
    assert bool((change <= apart + tolerance(mesh, p) + tolerance(mesh, q)).all())


@settings(deadline=None, max_examples=30)
@given(mesh=closed_bodies(), seed=seeds)
def test_signed_distance_changes_no_faster_than_the_point(mesh, seed):
    """Across the surface too, where it passes 0; where bodies cross, its magnitude does while the sign stays."""
    surface, p = Surface(*mesh), around(mesh, 300, seed=seed)
    q = p + 0.01 * diagonal(mesh) * randn(300, 3, seed=seed + 1)
    apart = (p.double() - q.double()).norm(dim=1)
    for sign in ("auto", "winding"):
        one, other = (surface.signed_distance(points, sign).double() for points in (p, q))
        change = torch.where(one.sign() == other.sign(), (one.abs() - other.abs()).abs(), one.abs() + other.abs())
        assert bool((change <= apart + tolerance(mesh, p) + tolerance(mesh, q)).all())


@settings(deadline=None, max_examples=40)
@given(mesh=any_mesh(), seed=seeds)
def test_no_point_of_the_surface_is_nearer_than_the_closest(mesh, seed):
    """d(q) <= |q - c(p)| for all p and q, and the closest point of a closest point is itself."""
    surface, p = Surface(*mesh), around(mesh, 100, seed=seed, dtype=torch.float64)
    hit = surface.closest_point(p)
    off = 3e-6 * diagonal(mesh)
    assert bool((hit.distance[:, None] <= torch.cdist(p, hit.point) + off).all())
    corners = torch.cdist(p, mesh[0][mesh[1].unique()])
    assert bool((hit.distance[:, None] <= corners + off).all())
    assert float(surface.unsigned_distance(hit.point).max()) <= off


@settings(deadline=None, max_examples=30)
@given(mesh=any_mesh(), seed=seeds, away=st.sampled_from([0.0, 1.0, 100.0]))
def test_turning_and_moving_everything_changes_nothing(mesh, seed, away):
    points = around(mesh, 300, seed=seed, dtype=torch.float64)
    (vertices, faces), turn = spun(mesh, seed)
    shift = away * diagonal(mesh) * randn(3, seed=seed, dtype=torch.float64)
    one, other = Surface(*mesh), Surface(vertices + shift, faces)
    there = points @ turn + shift
    off = 2e-6 * diagonal(mesh)
    distance = one.unsigned_distance(points)
    assert float((other.unsigned_distance(there) - distance).abs().max()) <= off
    back = (other.closest_point(there).point - shift) @ turn.T
    assert float(((back - points).norm(dim=1) - distance).abs().max()) <= 2 * off
    winding = one.winding_number(points)
    clear = (distance > off) & ((winding - 0.5).abs() > 0.03)
    assert torch.equal(
        (other.signed_distance(there, "winding") < 0)[clear], (one.signed_distance(points, "winding") < 0)[clear]
    )


@settings(deadline=None, max_examples=60)
@given(mesh=closed_bodies(), seed=seeds, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_signs_are_those_of_the_winding_number(mesh, seed, dtype):
    """Also where a single body crosses itself, and its normals say nothing of inside and outside."""
    surface, points = Surface(*mesh), around(mesh, 300, seed=seed, dtype=dtype)
    clear = reference.unsigned_distance(points.double(), *mesh) > 1e-6 * diagonal(mesh)
    inside = reference.winding_number(points.double(), *mesh) > 0.5
    for sign in ("auto", "winding"):
        assert torch.equal((surface.signed_distance(points, sign) < 0)[clear], inside[clear]), sign
        assert torch.equal(surface.contains(points, sign)[clear], inside[clear]), sign


# ---- an answer depends on its point alone, bit by bit


MANY = {
    "torus": torus(rings=40, sides=20),
    "bodies": join(sphere(0.3, 2), moved(torus(), (0.1, 0.0, 0.1)), box()),
    "open": (sphere(0.4, 4)[0], sphere(0.4, 4)[1][7:]),
    "soup": soup(700, size=0.05),
}


@pytest.fixture(params=MANY)
def many(request: pytest.FixtureRequest) -> tuple[Surface, Tensor]:
    mesh = rounded(MANY[request.param])
    return Surface(*mesh), around(mesh, 6000)


def queries_of(surface: Surface) -> dict[str, Callable[[Surface, Any], Any]]:
    closed = surface.sign_method == "pseudonormal"
    return {name: QUERIES[name] for name in QUERIES if closed or name in ANY_MESH}


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_do_not_depend_on_the_other_points(many, dtype, threads):
    """Any part of a batch in any order, on any number of threads, gets the bits that the whole gets on one thread."""
    surface, points = many[0], many[1].to(dtype)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(3))
    parts = {
        "all again": torch.arange(6000),
        "shuffled": order,
        "backwards": torch.arange(6000).flip(0),
        "a third": torch.arange(0, 6000, 3),
        "two thousand": order[:2000],
        "a few": order[:19],
    }
    for name, query in queries_of(surface).items():
        torch.set_num_threads(1)
        whole = query(surface, points)
        torch.set_num_threads(threads)
        for part, chosen in parts.items():
            assert torch.equal(query(surface, points[chosen]), whole[chosen]), f"{name}, {part}"
        for i in range(0, 6000, 600):
            assert torch.equal(query(surface, points[i : i + 1]), whole[i : i + 1]), f"{name}, point {i}"


@settings(deadline=None, max_examples=25)
@given(mesh=any_mesh(), seed=seeds, count=st.sampled_from([2, 9, 100, 700]), threads=st.sampled_from([1, 2, 16]))
def test_any_part_of_any_batch(mesh, seed, count, threads):
    surface, points = Surface(*mesh), around(mesh, count, seed=seed)
    chosen = torch.randint(count, (count // 2,), generator=torch.Generator().manual_seed(seed))
    for name, query in queries_of(surface).items():
        torch.set_num_threads(1)
        whole = query(surface, points)
        torch.set_num_threads(threads)
        assert torch.equal(query(surface, points[chosen]), whole[chosen]), name


def test_results_do_not_depend_on_what_was_asked_before(many):
    """Nor on what a surface may have prepared for the many points it was asked about."""
    surface, points = many
    fresh = {name: query(surface, points[:500]) for name, query in queries_of(surface).items()}
    bounds = surface.mesh.bounds
    crowd = bounds[0] + (bounds[1] - bounds[0]) * rand(150_000, 3)
    surface.unsigned_distance(crowd)
    surface.signed_distance(crowd[:50_000])
    for name, query in queries_of(surface).items():
        assert torch.equal(query(surface, points[:500]), fresh[name]), name


def test_several_python_threads_may_ask_at_once(many):
    """Whatever a surface makes at its first query, it makes safely."""
    other, points = many
    expected = {name: query(other, points) for name, query in queries_of(other).items()}
    for _ in range(3):
        surface = Surface(other.mesh)
        with ThreadPoolExecutor(4) as pool:
            jobs = {name: pool.submit(query, surface, points) for name, query in queries_of(other).items()}
            for name, job in jobs.items():
                assert torch.equal(job.result(), expected[name]), name


def test_copies_answer_alike(many):
    surface, points = many
    for other in (copy.copy(surface), copy.deepcopy(surface), pickle.loads(pickle.dumps(surface)), surface.to("cpu")):
        for name, query in queries_of(surface).items():
            assert torch.equal(query(other, points[:500]), query(surface, points[:500])), name


def test_a_surface_outlives_its_mesh_and_its_arrays():
    vertices, faces = (array.clone() for array in torus())
    surface = Surface(Mesh(vertices, faces))
    expected = Surface(*torus()).signed_distance(POINTS)
    vertices.fill_(math.nan)
    faces.fill_(-1)
    del vertices, faces
    assert torch.equal(surface.signed_distance(POINTS), expected)
