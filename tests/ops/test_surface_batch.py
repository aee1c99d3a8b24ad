"""Queries for several surfaces in one call, against their twins and against one surface after the other."""

from __future__ import annotations

import math

import pytest
import torch

from pyimplicit import _native, ops
from pyimplicit.ops import reference
from pyimplicit.ops.surface import morton_order
from tests.helpers import around, box, bvh_of, diagonal, moved, rand, rounded, slivers, soup, sphere, torus

MESHES = [rounded(mesh) for mesh in (torus(), box(), soup(40), moved(sphere(), (30.0, -20.0, 10.0)), slivers(30))]
SHAPES = [0, 3, 2, 0, 4, 1, 1]
POINTS = torch.stack([around(MESHES[shape], 90, seed=row) for row, shape in enumerate(SHAPES)])


def bvhs_on(device: torch.device) -> list[ops.SurfaceBVH]:
    return [bvh_of(mesh, device) for mesh in MESHES]


def table_on(device: torch.device, start: bool = False) -> ops.SurfaceTable:
    bvhs = bvhs_on(device)
    return ops.SurfaceTable.of([ops.build_start_grid(bvh) if start else bvh for bvh in bvhs], ["winding"] * len(bvhs))


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_twin(device, dtype, start, threads):
    torch.set_num_threads(threads)
    points, shapes = POINTS.to(device, dtype), torch.tensor(SHAPES, device=device)
    table = table_on(device, start)
    exact = POINTS.to(dtype).double()
    hit, twin = ops.batch_closest_point(points, table, shapes), reference.batch_closest_point(exact, MESHES, shapes)
    size = torch.tensor([diagonal(MESHES[shape]) for shape in SHAPES], dtype=torch.float64).unsqueeze(1)
    reach = size + exact.abs().amax((1, 2)).unsqueeze(1) * (1e-1 if dtype == torch.float32 else 0)
    assert bool(((hit.distance.cpu() - twin.distance).abs() <= 1e-6 * reach).all())
    assert bool(((exact - hit.point.cpu()).norm(dim=2) - twin.distance <= 2e-6 * reach).all())
    corners = torch.stack(
        [MESHES[s][0][MESHES[s][1][f]] for s, f in zip(SHAPES, hit.face.cpu(), strict=True)]
    )  # [B, N, 3, 3]
    named = (corners * hit.barycentric.cpu().double().unsqueeze(3)).sum(2)
    assert bool(((named - hit.point.cpu()).norm(dim=2) <= 2e-6 * reach).all())
    for signed in (False, True):
        found = ops.batch_distance(points, table, shapes, signed=signed).cpu()
        expected = reference.batch_distance(exact, MESHES, shapes, signed=signed)
        assert bool(((found - expected).abs() <= 3e-6 * reach).all())


def test_equals_one_after_the_other(device):
    """To the last bit: a batch is only another way to call."""
    table, bvhs, shapes = table_on(device), bvhs_on(device), torch.tensor(SHAPES, device=device)
    points = POINTS.to(device)
    found = ops.batch_distance(points, table, shapes, signed=True)
    for row, shape in enumerate(SHAPES):
        assert torch.equal(found[row], ops.signed_distance(points[row], bvhs[shape], "winding"))


def test_gradient_equals_one_after_the_other(device):
    table, bvhs, shapes = table_on(device), bvhs_on(device), torch.tensor(SHAPES, device=device)
    together, apart = (POINTS.to(device, torch.float64, copy=True).requires_grad_() for _ in range(2))
    hit = ops.batch_closest_point(together, table, shapes)
    signed = ops.batch_distance(together, table, shapes, signed=True)
    (hit.distance.sum() + hit.point.square().sum() + signed.sum()).backward()
    for row, shape in enumerate(SHAPES):
        one = ops.closest_point(apart[row], bvhs[shape])
        sign = ops.signed_distance(apart[row], bvhs[shape], "winding")
        (one.distance.sum() + one.point.square().sum() + sign.sum()).backward()
    torch.testing.assert_close(together.grad, apart.grad)


def test_gradcheck(device):
    table, shapes = table_on(device), torch.tensor([0, 1], device=device)
    points = rand(2, 4, 3, seed=3, low=-0.9, high=0.9, dtype=torch.float64).to(device).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: ops.batch_distance(p, table, shapes, signed=True), (points,), eps=1e-6, atol=1e-4
    )


@pytest.mark.parametrize(("rows", "each"), [(0, 5), (3, 0), (1, 1)])
def test_few_points(device, rows, each):
    table, shapes = table_on(device), torch.zeros(rows, dtype=torch.int64, device=device)
    points = torch.zeros(rows, each, 3, device=device)
    assert ops.batch_closest_point(points, table, shapes).face.shape == (rows, each)
    assert ops.batch_distance(points, table, shapes, signed=True).shape == (rows, each)


CPU = torch.device("cpu")
TABLE = table_on(CPU)
BVH = bvh_of(torus())
ZERO = torch.zeros(2, 4, 3)
FIRST = torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.batch_closest_point(ZERO[0], TABLE, FIRST), ValueError, r"points: expected shape \[B, N, 3\]"),
        (lambda: ops.batch_closest_point(ZERO * math.nan, TABLE, FIRST), ValueError, "points: expected finite"),
        (lambda: ops.batch_closest_point(ZERO.long(), TABLE, FIRST), TypeError, "points: expected dtype"),
        (lambda: ops.batch_closest_point(ZERO, TABLE, FIRST[:1]), ValueError, r"shapes: expected shape \[2\]"),
        (lambda: ops.batch_closest_point(ZERO, TABLE, FIRST.int()), TypeError, "shapes: expected dtype int64"),
        (lambda: ops.batch_closest_point(ZERO, TABLE, FIRST + 5), ValueError, r"shapes: expected numbers in 0..4"),
        (lambda: ops.batch_distance(ZERO, TABLE, FIRST - 1, signed=True), ValueError, "shapes: expected numbers"),
        (lambda: ops.batch_distance(ZERO.to("meta"), TABLE, FIRST, signed=True), ValueError, "points: expected a tens"),
        (lambda: ops.SurfaceTable.of([], []), ValueError, "bvhs: expected at least one"),
        (lambda: ops.SurfaceTable.of([BVH], ["parity"]), ValueError, "sign: expected"),
        (lambda: ops.SurfaceTable.of([BVH], ["pseudonormal"]), ValueError, "sign: 'pseudonormal' needs"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- the order in which a GPU answers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_morton_order_is_a_short_walk(device, dtype):
    points = rand(4000, 3, seed=1, dtype=dtype).to(device)
    order = morton_order(points)
    assert torch.equal(order.sort().values, torch.arange(4000, device=device))

    def walk(p):
        return float((p[1:] - p[:-1]).norm(dim=1).mean())

    assert walk(points[order]) < 0.2 * walk(points)


def test_order_changes_no_answer(device, monkeypatch):
    """The plain body, answering in an order handed to it as on a GPU, gives each point its own answer."""
    points, bvh = around(MESHES[0], 700).to(device), ops.build_start_grid(bvh_of(MESHES[0], device))
    expected = ops.unsigned_distance(points, bvh)
    call = _native.call

    def ordered(kernel, *arguments, **keywords):
        if kernel == "surface_query":
            keywords |= {"plain": True, "order": morton_order(points)}
        call(kernel, *arguments, **keywords)

    monkeypatch.setattr(_native, "call", ordered)
    torch.testing.assert_close(ops.unsigned_distance(points, bvh), expected, rtol=0, atol=1e-6)
