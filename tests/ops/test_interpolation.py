"""Interpolation of grids and planes against `grid_sample`, forward and backward."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyimplicit import ops
from pyimplicit.ops import reference
from tests.helpers import rand, randn

DTYPES = [torch.float32, torch.float64]
OPTIONS = [
    {"align_corners": align_corners, "padding_mode": padding_mode}
    for align_corners, padding_mode in itertools.product([True, False], ["border", "zeros"])
]
NAMES = [f"{'aligned' if o['align_corners'] else 'edges'}-{o['padding_mode']}" for o in OPTIONS]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
every_layout = pytest.mark.parametrize("layout", ["channel_fastest", "offset_fastest"])
OFFSETS = torch.tensor([[0.0, 0, 0], [0.07, 0, 0], [-0.07, 0.3, 0], [0, 0, 0.6]])


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 1e-5, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 1e-13}


def grids_of(dtype: torch.dtype, device: torch.device, batch: int = 2) -> list[Tensor]:
    """Three feature volumes of different channels and sizes."""
    shapes = [(batch, 3, 4, 5, 6), (batch, 1, 2, 2, 2), (batch, 9, 1, 7, 3)]
    return [randn(*shape, seed=i, dtype=dtype).to(device) for i, shape in enumerate(shapes)]


def points_of(count: int, axes: int, dtype: torch.dtype, device: torch.device, batch: int = 2) -> Tensor:
    """Points in and around [-1, 1], some of them on nodes, on the border, and far outside."""
    points = rand(batch, count, axes, seed=9, low=-1.6, high=1.6, dtype=dtype)
    points[:, ::7] = points[:, ::7].mul(2).round().div(2)
    points[:, 3::11, 0] = 1e30
    return points.to(device)


def compare_gradients(actual: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    upstream = randn(*actual.shape, seed=4, dtype=actual.dtype).to(actual.device)
    mine, theirs = (torch.autograd.grad(output, inputs, upstream) for output in (actual, expected))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(
            one, other, **tolerance(actual.dtype) | {"atol": 5e-5 if actual.dtype == torch.float32 else 1e-11}
        )


# ---- grids


@pytest.mark.parametrize("dtype", DTYPES)
@every_option
@every_layout
@pytest.mark.parametrize("offsets", [None, OFFSETS[:1], OFFSETS], ids=["none", "one", "several"])
def test_grids_equal_twin(device, dtype, options, layout, offsets):
    grids, points = grids_of(dtype, device), points_of(200, 3, dtype, device)
    offsets = None if offsets is None else offsets.to(device, dtype)
    features = ops.sample_grids(grids, points, offsets, layout=layout, **options)
    assert features.shape == (2, 200, 13 * (1 if offsets is None else len(offsets)))
    expected = reference.sample_grids(grids, points, offsets, layout=layout, **options)
    torch.testing.assert_close(features, expected, **tolerance(dtype))


@every_option
@every_layout
@pytest.mark.parametrize("dtype", DTYPES)
def test_grid_gradients_equal_twin(device, dtype, options, layout):
    grids = [grid.requires_grad_() for grid in grids_of(dtype, device)]
    points = (points_of(200, 3, dtype, device) * 0.97 + 0.003).requires_grad_()  # off the kinks at the nodes
    offsets = OFFSETS.to(device, dtype)
    compare_gradients(
        ops.sample_grids(grids, points, offsets, layout=layout, **options),
        reference.sample_grids(grids, points, offsets, layout=layout, **options),
        [*grids, points],
    )


@every_option
@every_layout
def test_grid_gradcheck(device, options, layout):
    grids = [randn(2, 2, 3, 4, 2, dtype=torch.float64), randn(2, 1, 2, 3, 3, seed=1, dtype=torch.float64)]
    grids = [grid.to(device).requires_grad_() for grid in grids]
    points = rand(2, 4, 3, low=-1.3, high=1.3, seed=3, dtype=torch.float64).to(device).requires_grad_()
    offsets = OFFSETS[:2].double().to(device)
    assert torch.autograd.gradcheck(
        lambda a, b, p: ops.sample_grids([a, b], p, offsets, layout=layout, **options), (*grids, points)
    )


def test_gradient_of_one_input_alone(device):
    grids, points = grids_of(torch.float64, device), points_of(50, 3, torch.float64, device) * 0.97
    for inputs in ([grids[1]], [points]):
        inputs[0].requires_grad_()
        compare_gradients(ops.sample_grids(grids, points), reference.sample_grids(grids, points), inputs)
        inputs[0].requires_grad_(False)


@pytest.mark.parametrize("memory", ["channels_last", "sliced", "expanded", "transposed"])
def test_grids_of_any_strides(device, memory):
    dense = randn(2, 4, 5, 5, 5, dtype=torch.float64).to(device)
    if memory == "channels_last":
        grid = dense.contiguous(memory_format=torch.channels_last_3d)
    elif memory == "sliced":
        grid = dense[:, 1:3, ::2, :, 1:]
    elif memory == "expanded":
        grid = dense[:1].expand(3, -1, -1, -1, -1)
    else:
        grid = dense.transpose(2, 4)
    grid.requires_grad_()
    points = points_of(6, 60, torch.float64, device, batch=len(grid)).transpose(1, 2)[..., ::2]
    assert not points.is_contiguous()
    points.requires_grad_()
    features, expected = ops.sample_grids(grid, points), reference.sample_grids(grid, points)
    torch.testing.assert_close(features, expected, **tolerance(torch.float64))
    compare_gradients(features, expected, [grid])


def test_one_grid_or_a_list(device):
    grid, points = randn(1, 3, 4, 4, 4).to(device), points_of(20, 3, torch.float32, device, batch=1)
    assert torch.equal(ops.sample_grids(grid, points), ops.sample_grids([grid], points))
    assert torch.equal(ops.sample_grids(grid, points), ops.sample_grids((grid,), points))


@pytest.mark.parametrize(("batch", "count"), [(0, 5), (3, 0), (1, 1)])
def test_grids_of_few_points(device, batch, count):
    grid = randn(batch, 2, 3, 3, 3).to(device).requires_grad_()
    points = torch.zeros(batch, count, 3, device=device, requires_grad=True)
    features = ops.sample_grids(grid, points, OFFSETS.to(device))
    assert features.shape == (batch, count, 8)
    features.sum().backward()
    assert grid.grad.shape == grid.shape
    assert points.grad.shape == points.shape
    assert float(grid.grad.sum()) == pytest.approx(2 * len(OFFSETS) * batch * count, rel=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(*[st.integers(1, 5)] * 3),
    align_corners=st.booleans(),
    padding_mode=st.sampled_from(["border", "zeros"]),
    seed=st.integers(0, 99),
)
def test_any_grid_equals_twin(size, align_corners, padding_mode, seed):
    grid = randn(1, 2, *size, seed=seed, dtype=torch.float64)
    points = rand(1, 30, 3, seed=seed, low=-2, high=2, dtype=torch.float64)
    options = {"align_corners": align_corners, "padding_mode": padding_mode}
    torch.testing.assert_close(
        ops.sample_grids(grid, points, **options), reference.sample_grids(grid, points, **options)
    )


def test_linear_functions_are_reproduced(device):
    """Trilinear interpolation is exact for x, y, z and their products; no other routine of torch is asked."""
    axis = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in (4, 5, 6)]
    z, y, x = torch.meshgrid(*axis, indexing="ij")
    grid = torch.stack([x, y, z, x * y * z])[None].to(device)
    points = rand(1, 100, 3, low=-1, high=1, dtype=torch.float64).to(device)
    expected = torch.cat([points, points.prod(2, keepdim=True)], 2)
    torch.testing.assert_close(ops.sample_grids(grid, points), expected)
    plane = torch.stack([x[0], y[0], x[0] * y[0]])[None, None].to(device)
    expected = torch.cat([points[..., :2], points[..., :2].prod(2, keepdim=True)], 2)
    torch.testing.assert_close(ops.sample_planes(plane, points[..., :2].contiguous()), expected)


# ---- planes


@pytest.mark.parametrize("dtype", DTYPES)
@every_option
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shared", [False, True], ids=["own points", "shared points"])
def test_planes_equal_twin(device, dtype, options, count, shared):
    planes = randn(2, count, 5, 4, 6, dtype=dtype).to(device).requires_grad_()
    points = points_of(150 if shared else 150 * count, 2, dtype, device) * 0.97 + 0.003
    points = (points if shared else points.reshape(2, count, 150, 2)).requires_grad_()
    features = ops.sample_planes(planes, points, **options)
    expected = reference.sample_planes(planes, points, **options)
    assert features.shape == (2, 150, 5)
    torch.testing.assert_close(features, expected, **tolerance(dtype))
    compare_gradients(features, expected, [planes, points])


@every_option
def test_plane_gradcheck(device, options):
    planes = randn(2, 3, 2, 3, 4, dtype=torch.float64).to(device).requires_grad_()
    points = rand(2, 3, 4, 2, low=-1.3, high=1.3, dtype=torch.float64).to(device).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, p: ops.sample_planes(a, p, **options), (planes, points))
    for inputs in ((planes, points.detach()), (planes.detach(), points)):
        assert torch.autograd.gradcheck(lambda a, p: ops.sample_planes(a, p, **options), inputs)


@pytest.mark.parametrize("memory", ["channels_last", "sliced", "expanded"])
def test_planes_of_any_strides(device, memory):
    dense = randn(2, 3, 4, 5, 6, dtype=torch.float64).to(device)
    if memory == "channels_last":
        planes = dense.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, 3))
    elif memory == "sliced":
        planes = dense[:, :, 1:3, ::2, 1:]
    else:
        planes = dense[:, :1].expand(-1, 3, -1, -1, -1)
    planes.requires_grad_()
    points = points_of(40, 4, torch.float64, device)[..., ::2]
    features, expected = ops.sample_planes(planes, points), reference.sample_planes(planes, points)
    torch.testing.assert_close(features, expected, **tolerance(torch.float64))
    compare_gradients(features, expected, [planes])


@pytest.mark.parametrize(("batch", "count"), [(0, 5), (3, 0), (1, 1)])
def test_planes_of_few_points(device, batch, count):
    planes = randn(batch, 2, 3, 4, 4).to(device).requires_grad_()
    points = torch.zeros(batch, count, 2, device=device, requires_grad=True)
    features = ops.sample_planes(planes, points)
    assert features.shape == (batch, count, 3)
    features.sum().backward()
    assert planes.grad.shape == planes.shape
    assert points.grad.shape == points.shape


# ---- points that are not numbers


@every_option
def test_nan_points_give_nan_features(device, options):
    points = torch.zeros(1, 4, 3, device=device)
    points[0, 1, 0], points[0, 2, 2] = math.nan, math.nan
    grids = grids_of(torch.float32, device, batch=1)
    features = ops.sample_grids(grids, points, OFFSETS.to(device), **options)
    assert features.isnan().all(2).tolist() == [[False, True, True, False]]
    assert not features[0, [0, 3]].isnan().any()
    planes = randn(1, 3, 2, 4, 4).to(device)
    features = ops.sample_planes(planes, points[..., :2].contiguous(), **options)
    assert features.isnan().all(2).tolist() == [[False, True, False, False]]
    assert not features[0, [0, 2, 3]].isnan().any()


@every_option
def test_nan_points_spoil_no_gradient_of_others(device, options):
    points = torch.zeros(1, 3, 3, device=device)
    points[0, 1] = math.nan
    points.requires_grad_()
    grid = randn(1, 2, 4, 4, 4).to(device).requires_grad_()
    ops.sample_grids(grid, points, **options).sum().backward()
    assert points.grad.isfinite().all(2).tolist() == [[True, False, True]]
    assert grid.grad.isfinite().all()


@pytest.mark.parametrize("far", [1e30, -1e30, math.inf, -math.inf])
def test_points_infinitely_far_away(device, far):
    grid = randn(1, 2, 4, 4, 4).to(device)
    points = torch.tensor([[[far, 0.1, 0.2]]], device=device)
    assert not ops.sample_grids(grid, points, padding_mode="zeros").any()
    border = torch.tensor([[[math.copysign(1, far), 0.1, 0.2]]], device=device)
    torch.testing.assert_close(ops.sample_grids(grid, points), ops.sample_grids(grid, border))


# ---- second derivatives


def test_second_derivatives_are_refused(device):
    grid = randn(1, 2, 3, 3, 3, dtype=torch.float64).to(device).requires_grad_()
    planes = randn(1, 2, 2, 3, 3, dtype=torch.float64).to(device).requires_grad_()
    points = rand(1, 5, 3, dtype=torch.float64).to(device).requires_grad_()
    for name, features in (
        ("sample_grids", ops.sample_grids(grid, points)),
        ("sample_planes", ops.sample_planes(planes, points[..., :2])),
    ):
        (slope,) = torch.autograd.grad(features.square().sum(), points, create_graph=True)
        with pytest.raises(NotImplementedError, match=f"{name} cannot be differentiated a second time"):
            slope.sum().backward()


# ---- errors

GRID, POINTS = torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 5, 3)
PLANES, FLAT = torch.zeros(2, 3, 4, 5, 5), torch.zeros(2, 3, 7, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.sample_grids([], POINTS), ValueError, "grids: expected at least one"),
        (
            lambda: ops.sample_grids(3, POINTS),
            TypeError,
            "grids: expected a torch tensor or a sequence of them, got int",
        ),
        (lambda: ops.sample_grids([None], POINTS), TypeError, "grids: expected a torch tensor, got NoneType"),
        (lambda: ops.sample_grids(GRID[0], POINTS), ValueError, r"grids: expected shape \[B, C, D, H, W\]"),
        (lambda: ops.sample_grids(GRID.half(), POINTS), TypeError, "grids: expected dtype float32 or float64"),
        (lambda: ops.sample_grids(GRID, POINTS.double()), TypeError, "points: expected dtype float32, got float64"),
        (lambda: ops.sample_grids([GRID, GRID.double()], POINTS), TypeError, r"grids\[1\]: expected dtype float32"),
        (lambda: ops.sample_grids([GRID, GRID[:1]], POINTS), ValueError, r"grids\[1\]: expected shape \[2, C"),
        (lambda: ops.sample_grids(GRID[:, :, :0], POINTS), ValueError, r"grids\[0\]: expected at least one channel"),
        (lambda: ops.sample_grids(GRID[:, :0], POINTS), ValueError, r"grids\[0\]: expected at least one channel"),
        (
            lambda: ops.sample_grids(GRID, POINTS[:1]),
            ValueError,
            r"points: expected shape \[2, N, 3\], got \[1, 5, 3\]",
        ),
        (lambda: ops.sample_grids(GRID, POINTS[..., :2]), ValueError, r"points: expected shape \[2, N, 3\]"),
        (lambda: ops.sample_grids(GRID, POINTS, torch.zeros(0, 3)), ValueError, "offsets: expected at least one"),
        (lambda: ops.sample_grids(GRID, POINTS, torch.zeros(3)), ValueError, r"offsets: expected shape \[K, 3\]"),
        (lambda: ops.sample_grids(GRID, POINTS, OFFSETS.double()), TypeError, "offsets: expected dtype float32"),
        (lambda: ops.sample_grids(GRID, POINTS, padding_mode="mirror"), ValueError, "padding_mode: expected one of"),
        (lambda: ops.sample_grids(GRID, POINTS, layout="fast"), ValueError, "layout: expected one of"),
        (lambda: ops.sample_planes(PLANES[0], FLAT), ValueError, r"planes: expected shape \[B, K, C, H, W\]"),
        (lambda: ops.sample_planes([PLANES], FLAT), TypeError, "planes: expected a torch tensor, got list"),
        (lambda: ops.sample_planes(PLANES[:, :0], FLAT[:, :0]), ValueError, "planes: expected at least one"),
        (lambda: ops.sample_planes(PLANES[..., :0], FLAT), ValueError, "planes: expected at least one"),
        (lambda: ops.sample_planes(PLANES, FLAT[:, :2]), ValueError, r"points: expected shape \[2, 3, N, 2\]"),
        (lambda: ops.sample_planes(PLANES, POINTS), ValueError, r"points: expected shape \[2, N, 2\]"),
        (lambda: ops.sample_planes(PLANES, FLAT.double()), TypeError, "points: expected dtype float32"),
        (lambda: ops.sample_planes(PLANES, None), TypeError, "points: expected a torch tensor, got NoneType"),
        (lambda: ops.sample_planes(PLANES, FLAT, padding_mode=1), ValueError, "padding_mode: expected one of"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_is_moved_between_devices():
    with pytest.raises(ValueError, match="points: expected a tensor on cuda:0, got one on cpu"):
        ops.sample_grids(GRID.cuda(), POINTS)
    with pytest.raises(ValueError, match="points: expected a tensor on cpu, got one on cuda:0"):
        ops.sample_planes(PLANES, FLAT.cuda())
