"""Closest points, distances and winding numbers against brute force in double precision, and their derivatives."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyimplicit import _native, ops
from pyimplicit.ops import reference
from tests.helpers import (
    Mesh,
    around,
    box,
    bvh_of,
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
)

DTYPES = [torch.float32, torch.float64]
MESHES = {
    "tetrahedron": tetrahedron(),
    "box": box(),
    "sphere": sphere(),
    "torus": torus(),
    "soup": soup(300),
    "slivers": slivers(),
    "one face": (torch.eye(3).double(), torch.tensor([[0, 1, 2]])),
    "bodies": join(sphere(0.2, 1), moved(torus(), (0.1, 0.0, 0.2)), box()),
}
every_mesh = pytest.mark.parametrize("mesh", [rounded(mesh) for mesh in MESHES.values()], ids=MESHES.keys())
CLOSED = [name for name in MESHES if name in ("tetrahedron", "box", "sphere", "torus", "bodies")]
every_closed_mesh = pytest.mark.parametrize("mesh", [rounded(MESHES[name]) for name in CLOSED], ids=CLOSED)


def check_closest(hit: ops.ClosestPoint, points: Tensor, mesh: Mesh) -> None:
    """Distance as by brute force; the parts of the answer fit each other (faces may differ where two are as near)."""
    vertices, faces = mesh
    exact, size = points.double().cpu(), diagonal(mesh)
    expected = reference.closest_point(exact, vertices, faces).distance
    step = torch.finfo(points.dtype).eps
    tolerance = 1e-6 * size + 4 * step * torch.maximum(exact.abs().amax(1), expected)
    assert hit.distance.dtype == hit.point.dtype == hit.barycentric.dtype == points.dtype
    assert hit.face.dtype == torch.int64
    assert bool(((hit.distance.double().cpu() - expected).abs() <= tolerance).all())
    assert bool((hit.distance >= 0).all())

    barycentric, point = hit.barycentric.double().cpu(), hit.point.double().cpu()
    assert bool((barycentric >= -1e-6).all())
    assert bool(((barycentric.sum(1) - 1).abs() <= 1e-6).all())
    mixed = (vertices[faces[hit.face.cpu()]] * barycentric.unsqueeze(2)).sum(1)
    assert bool(((mixed - point).norm(dim=1) <= 1e-6 * size + 4 * step * vertices.abs().max()).all())
    assert bool((((exact - point).norm(dim=1) - expected).abs() <= tolerance + 4 * step * vertices.abs().max()).all())


@pytest.mark.parametrize("dtype", DTYPES)
@every_mesh
def test_closest_point_equals_twin(device, dtype, mesh):
    points = around(mesh, 1500, dtype=dtype)
    check_closest(ops.closest_point(points.to(device), bvh_of(mesh, device)), points, mesh)


@every_mesh
def test_closest_point_at_corners_edges_and_faces(device, mesh):
    points = special_points(mesh)[:3000]
    hit = ops.closest_point(points.to(device), bvh_of(mesh, device))
    check_closest(hit, points, mesh)
    assert float(hit.distance.max()) <= 1e-6 * diagonal(mesh)


def test_a_million_pairs_on_slivers(device):
    """Triangles a million times as long as thin: every distance within 1e-6 of the diagonal."""
    mesh = slivers(1000, 1e6)
    points = around(mesh, 1200)
    found = ops.unsigned_distance(points.to(device), bvh_of(mesh, device)).cpu()
    expected = reference.unsigned_distance(points.double(), *mesh)
    assert float((found - expected).abs().max()) <= 1e-6 * diagonal(mesh)


@pytest.mark.parametrize("away", [(1e6, 0.0, 0.0), (-1e6, 1e6, 3e5)])
def test_mesh_a_million_sizes_away(device, away):
    """float64 vertices keep a mesh exact wherever it is."""
    mesh = moved(sphere(), away)
    points = around(mesh, 1000, dtype=torch.float64)
    hit = ops.closest_point(points.to(device), bvh_of(mesh, device))
    expected = reference.unsigned_distance(points, *mesh)
    assert float((hit.distance.cpu() - expected).abs().max()) <= 1e-6 * diagonal(mesh)
    assert float(((points - hit.point.cpu()).norm(dim=1) - expected).abs().max()) <= 1e-6 * diagonal(mesh)


@pytest.mark.parametrize("size", [1e-30, 1e-9, 1e-4, 1e4, 1e11, 1e30])
def test_mesh_of_any_size(device, size):
    vertices, faces = torus()
    mesh, bvh = rounded((vertices * size, faces)), bvh_of((vertices * size, faces), device)
    points = around(mesh, 600)
    check_closest(ops.closest_point(points.to(device), bvh), points, mesh)
    found = ops.signed_distance(points.to(device), bvh, "winding").cpu()
    assert float((found - reference.signed_distance(points.double(), *mesh)).abs().max()) <= 3e-6 * diagonal(mesh)


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    size=st.sampled_from([0.0, 1e-4, 0.1, 2.0]),
    flat=st.booleans(),
    repeats=st.integers(1, 3),
)
def test_any_soup_equals_twin(count, seed, size, flat, repeats):
    """Random, coplanar, repeated and point-like triangles."""
    vertices, faces = soup(count, seed, size)
    mesh = rounded((vertices * torch.tensor([1.0, 1.0, 0.0 if flat else 1.0]), faces.repeat(repeats, 1)))
    points = rand(50, 3, seed=seed, low=-1, dtype=torch.float64)
    check_closest(ops.closest_point(points, bvh_of(mesh)), points, mesh)


@pytest.mark.parametrize("dtype", DTYPES)
def test_points_extremely_far_away(device, dtype):
    """At 1e30 the answer is 1e30, not infinity and not an error."""
    points = torch.tensor([[1e30, 0, 0], [0, -1e30, 0], [3e29, 4e29, 0], [1e10, 1e10, 1e10]], dtype=dtype)
    hit = ops.closest_point(points.to(device), bvh_of(box(), device))
    torch.testing.assert_close(hit.distance.cpu(), points.double().norm(dim=1).to(dtype), rtol=1e-6, atol=0)
    assert bool((hit.point.abs() <= 0.4 + 1e-6).all())
    assert ops.winding_number(points.to(device), bvh_of(box(), device)).abs().max() < 1e-12
    assert bool((ops.signed_distance(points.to(device), bvh_of(box(), device), "winding") > 0).all())


def test_points_beyond_float32_are_answered_or_refused(device):
    points = torch.tensor([[1e200, 0.0, 0.0]], dtype=torch.float64, device=device)
    try:
        distance = ops.unsigned_distance(points, bvh_of(box(), device))
    except ValueError as error:
        assert "points" in str(error)  # noqa: PT017  either of the two is right
    else:
        torch.testing.assert_close(distance, points[:, 0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_few_points(device, count):
    mesh, points = torus(), around(torus(), 9)[:count]
    bvh = bvh_of(mesh, device)
    hit = ops.closest_point(points.to(device), bvh)
    assert hit.distance.shape == hit.face.shape == (count,)
    assert hit.point.shape == hit.barycentric.shape == (count, 3)
    check_closest(hit, points, rounded(mesh)) if count else None
    assert ops.winding_number(points.to(device), bvh).shape == (count,)
    assert ops.signed_distance(points.to(device), bvh, "winding").shape == (count,)


def test_strided_points(device):
    bvh = bvh_of(torus(), device)
    points = around(torus(), 300).to(device)
    wide = torch.stack([points, points + 1], 2)[..., 0]
    turned = points.T.contiguous().T
    assert not wide.is_contiguous()
    assert not turned.is_contiguous()
    for strided in (wide, turned):
        assert torch.equal(ops.unsigned_distance(strided, bvh), ops.unsigned_distance(points, bvh))
        assert torch.equal(ops.winding_number(strided, bvh), ops.winding_number(points, bvh))
    assert torch.equal(ops.unsigned_distance(points[::3], bvh), ops.unsigned_distance(points, bvh)[::3])


def test_integer_types_of_faces():
    vertices, faces = torus()
    points = around(torus(), 100)
    expected = ops.unsigned_distance(points, ops.build_bvh(vertices, faces))
    assert torch.equal(ops.unsigned_distance(points, ops.build_bvh(vertices, faces.int())), expected)
    assert torch.equal(ops.unsigned_distance(points, ops.build_bvh(vertices.float(), faces.T.contiguous().T)), expected)


# ---- winding number


@every_mesh
def test_exact_winding_number_equals_twin(device, mesh):
    points = around(mesh, 700, dtype=torch.float64)
    found = ops.winding_number(points.to(device), bvh_of(mesh, device), beta=math.inf).cpu()
    expected = reference.winding_number(points, *mesh)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@every_closed_mesh
def test_fast_winding_number_decides_like_the_exact_one(device, dtype, mesh):
    points = around(mesh, 1500, dtype=dtype)
    found = ops.winding_number(points.to(device), bvh_of(mesh, device)).cpu().double()
    expected = reference.winding_number(points.double(), *mesh)
    away = reference.unsigned_distance(points.double(), *mesh) > 1e-6 * diagonal(mesh)
    assert float((found - expected)[away].abs().max()) < 0.02
    assert torch.equal((found > 0.5)[away], (expected > 0.5)[away])


def test_fast_winding_number_of_soups(device):
    mesh = rounded(soup(1500, size=0.03))
    points = around(mesh, 1000)
    found = ops.winding_number(points.to(device), bvh_of(mesh, device)).cpu()
    expected = reference.winding_number(points.double(), *mesh)
    assert float((found - expected).abs().max()) < 0.05


def test_winding_number_counts_bodies(device):
    """2 where two bodies overlap, 0 in a cavity, -1 in a body that is inside out."""
    inner, outer = sphere(0.2), sphere(0.4)
    flipped = (inner[0], inner[1].flip(1))
    middle = torch.zeros(1, 3, device=device)
    for mesh, expected in ((join(inner, outer), 2), (join(flipped, outer), 0), (flipped, -1)):
        assert float(ops.winding_number(middle, bvh_of(mesh, device))) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
@every_mesh
def test_contains_equals_twin(device, dtype, mesh):
    """On any mesh, also where the winding number is close to a half: there it is looked at again."""
    points = around(mesh, 1500, dtype=dtype)
    expected = reference.winding_number(points.double(), *mesh)
    clear = (reference.unsigned_distance(points.double(), *mesh) > 1e-6 * diagonal(mesh)) & (
        (expected - 0.5).abs() > 1e-3
    )
    found = ops.contains(points.to(device), bvh_of(mesh, device)).cpu()
    assert found.dtype == torch.bool
    assert torch.equal(found[clear], (expected > 0.5)[clear])


# ---- signed distance


@every_closed_mesh
@pytest.mark.parametrize("dtype", DTYPES)
def test_signed_distance_equals_twin(device, dtype, mesh):
    points = around(mesh, 1500, dtype=dtype)
    found = ops.signed_distance(points.to(device), bvh_of(mesh, device), "winding").cpu().double()
    expected = reference.signed_distance(points.double(), *mesh)
    assert float((found - expected).abs().max()) <= 3e-6 * diagonal(mesh)


# ---- derivatives


def points_off_the_kinks(mesh: Mesh, count: int) -> Tensor:
    """Points whose nearest feature does not change within a step of numerical differentiation."""
    points = around(mesh, 4 * count + 40, seed=5, dtype=torch.float64)
    near = points[:, None] + 1e-4 * torch.cat([torch.eye(3), -torch.eye(3)])
    hits = reference.closest_point(torch.cat([points[:, None], near], 1).reshape(-1, 3), *mesh)
    feature = (hits.barycentric > 1e-9).long() @ torch.tensor([1, 2, 4]) + 8 * hits.face
    steady = (feature.reshape(-1, 7) == feature.reshape(-1, 7)[:, :1]).all(1)
    return points[steady & (hits.distance.reshape(-1, 7)[:, 0] > 0.01)][:count].clone()


@pytest.mark.parametrize("name", ["tetrahedron", "torus", "soup"])
def test_distance_and_point_gradcheck(device, name):
    mesh = rounded(MESHES[name])
    bvh, points = bvh_of(mesh, device), points_off_the_kinks(mesh, 12).to(device).requires_grad_()
    assert len(points) == 12

    def answers(p: Tensor) -> tuple[Tensor, Tensor]:
        hit = ops.closest_point(p, bvh)
        return hit.distance, hit.point

    assert torch.autograd.gradcheck(answers, (points,), eps=1e-6, atol=1e-5)
    assert torch.autograd.gradgradcheck(answers, (points,), eps=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", ["box", "torus", "soup"])
def test_gradient_equals_twin(device, name):
    mesh = rounded(MESHES[name])
    points = points_off_the_kinks(mesh, 60)
    mine, theirs = points.to(device, copy=True).requires_grad_(), points.clone().requires_grad_()
    hit, twin = ops.closest_point(mine, bvh_of(mesh, device)), reference.closest_point(theirs, *mesh)
    upstream = randn(len(points), 3, dtype=torch.float64)
    (hit.distance.sum() + (hit.point * upstream.to(device)).sum()).backward()
    (twin.distance.sum() + (twin.point * upstream).sum()).backward()
    torch.testing.assert_close(mine.grad.cpu(), theirs.grad, rtol=1e-5, atol=1e-6)


def test_gradient_of_the_distance_has_length_one(device):
    """Also a hair's breadth from the surface, where the difference of two points is all rounding."""
    mesh = rounded(sphere())
    corners = mesh[0][mesh[1]]
    normals = torch.nn.functional.normalize(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    )
    for height in (1e-7, 1e-4, 0.1):
        points = (corners.mean(1) + height * normals).float().to(device).requires_grad_()
        ops.unsigned_distance(points, bvh_of(mesh, device)).sum().backward()
        off = (points.grad.cpu().double() - normals).norm(dim=1)
        outside = ((points.detach().cpu().double() - corners.mean(1)) * normals).sum(1) > 0
        assert outside.float().mean() > 0.9
        assert float(off[outside].max()) < 1e-3


def test_gradient_on_the_surface_is_finite(device):
    points = special_points(box()).to(device).requires_grad_()
    hit = ops.closest_point(points, bvh_of(box(), device))
    (hit.distance.sum() + hit.point.sum()).backward()
    assert points.grad.isfinite().all()


def test_signed_distance_gradient(device):
    """Points uphill on both sides of a sphere."""
    points = (randn(50, 3, dtype=torch.float64) * 0.25).to(device).requires_grad_()
    ops.signed_distance(points, bvh_of(sphere(0.4, 4), device), "winding").sum().backward()
    uphill = torch.nn.functional.normalize(points.detach(), dim=1)
    assert float((points.grad * uphill).sum(1).min()) > 0.98


def test_barycentric_coordinates_carry_no_gradient(device):
    points = rand(4, 3).to(device).requires_grad_()
    hit = ops.closest_point(points, bvh_of(box(), device))
    assert not hit.barycentric.requires_grad
    assert not hit.face.requires_grad


# ---- the hierarchy as a value


def test_moving_there_and_back(device):
    bvh = bvh_of(torus())
    points = around(torus(), 100)
    back = bvh.to(device).to("cpu")
    assert torch.equal(ops.unsigned_distance(points, back), ops.unsigned_distance(points, bvh))


# ---- errors

VERTICES, FACES = box()
BVH = ops.build_bvh(VERTICES, FACES)
POINTS = torch.zeros(2, 3)
YES = torch.ones(12, dtype=torch.bool)
NAN = torch.tensor([[0.0, 0.0, 0.0], [0.0, math.nan, 0.0]])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.build_bvh(VERTICES[:, :2], FACES), ValueError, r"vertices: expected shape \[V, 3\]"),
        (lambda: ops.build_bvh(VERTICES.half(), FACES), TypeError, "vertices: expected dtype float32 or float64"),
        (lambda: ops.build_bvh(VERTICES.tolist(), FACES), TypeError, "vertices: expected a torch tensor, got list"),
        (lambda: ops.build_bvh(VERTICES * math.nan, FACES), ValueError, "vertices: expected finite"),
        (lambda: ops.build_bvh(VERTICES * math.inf, FACES), ValueError, "vertices: expected finite"),
        (lambda: ops.build_bvh(VERTICES * 1e200, FACES), ValueError, "vertices: expected finite"),
        (lambda: ops.build_bvh(VERTICES, FACES.short()), TypeError, "faces: expected dtype int32 or int64"),
        (lambda: ops.build_bvh(VERTICES, FACES.float()), TypeError, "faces: expected dtype"),
        (lambda: ops.build_bvh(VERTICES, FACES[:, :2]), ValueError, r"faces: expected shape \[F, 3\]"),
        (lambda: ops.build_bvh(VERTICES, FACES[0]), ValueError, r"faces: expected shape \[F, 3\], got \[3\]"),
        (lambda: ops.build_bvh(VERTICES, FACES[:0]), ValueError, "faces: expected between 1 and"),
        (lambda: ops.build_bvh(VERTICES, FACES + 1), ValueError, "faces: expected indices in 0..7, got 1..8"),
        (lambda: ops.build_bvh(VERTICES, FACES - 1), ValueError, "faces: expected indices in 0..7, got -1..6"),
        (lambda: ops.build_bvh(VERTICES, FACES + 2**40), ValueError, "faces: expected indices"),
        (lambda: ops.build_bvh(VERTICES[:0], FACES), ValueError, "faces: expected indices"),
        (lambda: ops.closest_point(POINTS[0], BVH), ValueError, r"points: expected shape \[N, 3\], got \[3\]"),
        (lambda: ops.closest_point(POINTS[:, :2], BVH), ValueError, "points: expected shape"),
        (lambda: ops.closest_point(torch.tensor(1.0), BVH), ValueError, "points: expected shape"),
        (lambda: ops.closest_point(POINTS.long(), BVH), TypeError, "points: expected dtype float32 or float64"),
        (lambda: ops.closest_point(POINTS.half(), BVH), TypeError, "points: expected dtype"),
        (lambda: ops.closest_point(POINTS.numpy(), BVH), TypeError, "points: expected a torch tensor, got ndarray"),
        (lambda: ops.closest_point(NAN, BVH), ValueError, r"points: expected finite values, got nan at index \[1, 1\]"),
        (lambda: ops.unsigned_distance(NAN, BVH), ValueError, "points: expected finite"),
        (lambda: ops.unsigned_distance(POINTS - math.inf, BVH), ValueError, "points: expected finite values, got -inf"),
        (lambda: ops.signed_distance(NAN, BVH, "winding"), ValueError, "points: expected finite"),
        (lambda: ops.signed_distance(POINTS, BVH, "parity"), ValueError, "sign: expected 'pseudonormal' or 'winding'"),
        (lambda: ops.signed_distance(POINTS, BVH, "pseudonormal"), ValueError, "sign: 'pseudonormal' needs a closed"),
        (lambda: ops.winding_number(NAN, BVH), ValueError, "points: expected finite"),
        (lambda: ops.winding_number(POINTS, BVH, 0.5), ValueError, "beta: expected at least 1"),
        (lambda: ops.winding_number(POINTS, BVH, math.nan), ValueError, "beta: expected at least 1, got nan"),
        (lambda: BVH.closed(torch.zeros(5, 6).int(), YES), ValueError, r"pseudonormals: expected shape \[12, 6"),
        (
            lambda: ops.signed_distance(
                POINTS, replace(BVH.closed(torch.zeros(12, 6).int(), YES), leaf_sides=None), "pseudonormal"
            ),
            ValueError,
            "sign: 'pseudonormal' needs a closed",
        ),
        (lambda: BVH.closed(torch.zeros(12, 6).int(), YES[1:]), ValueError, r"gentle: expected shape \[12\], got \[11"),
        (lambda: BVH.closed(torch.zeros(12, 6).int(), YES.int()), TypeError, "gentle: expected dtype bool, got int32"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_points_on_another_device_are_refused():
    with pytest.raises(ValueError, match="points: expected a tensor on cpu, got one on meta"):
        ops.closest_point(torch.zeros(2, 3, device="meta"), BVH)


# ---- the CPU's specialised kernels against the plain bodies they replace


@every_mesh
def test_specialised_kernels_equal_plain_ones(monkeypatch, mesh):
    points, bvh = around(mesh, 1000), bvh_of(mesh)
    fast = ops.closest_point(points, bvh), ops.winding_number(points, bvh), ops.signed_distance(points, bvh, "winding")
    inside = ops.contains(points, bvh)
    call = _native.call

    def plain_call(kernel: str, *arguments: Any, **keywords: Any) -> None:
        call(kernel, *arguments, **(keywords | ({"plain": True} if "plain" in keywords else {})))

    monkeypatch.setattr(_native, "call", plain_call)
    plain = ops.closest_point(points, bvh), ops.winding_number(points, bvh), ops.signed_distance(points, bvh, "winding")
    size = diagonal(mesh)
    torch.testing.assert_close(fast[0].distance, plain[0].distance, rtol=0, atol=1e-6 * size)
    torch.testing.assert_close(fast[1], plain[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(fast[2], plain[2], rtol=0, atol=3e-6 * size)
    clear = (plain[1] - 0.5).abs() > 5e-3
    assert torch.equal(inside[clear], ops.contains(points, bvh)[clear])
