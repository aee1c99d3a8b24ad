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
from pyimplicit.ops import _interpolation_kernels as kernels
from pyimplicit.ops import interpolation, reference
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


@every_option
@every_layout
def test_grid_gradgradcheck(device, options, layout):
    grids = [randn(2, 2, 3, 4, 2, dtype=torch.float64), randn(2, 1, 2, 3, 3, seed=1, dtype=torch.float64)]
    grids = [grid.to(device).requires_grad_() for grid in grids]
    points = rand(2, 4, 3, low=-1.3, high=1.3, seed=3, dtype=torch.float64).to(device).requires_grad_()
    offsets = OFFSETS[:2].double().to(device)

    def gather(a: Tensor, b: Tensor, p: Tensor) -> Tensor:
        return ops.sample_grids([a, b], p, offsets, layout=layout, **options)

    assert torch.autograd.gradgradcheck(gather, (*grids, points))
    assert torch.autograd.gradgradcheck(gather, (grids[0], grids[1].detach(), points.detach()))
    assert torch.autograd.gradgradcheck(gather, (grids[0].detach(), grids[1].detach(), points))


@every_option
def test_plane_gradgradcheck(device, options):
    planes = randn(2, 3, 2, 3, 4, dtype=torch.float64).to(device).requires_grad_()
    own = rand(2, 3, 4, 2, low=-1.3, high=1.3, dtype=torch.float64).to(device).requires_grad_()
    shared = rand(2, 4, 2, low=-1.3, high=1.3, dtype=torch.float64).to(device).requires_grad_()
    for points in (own, shared):
        assert torch.autograd.gradgradcheck(lambda a, p: ops.sample_planes(a, p, **options), (planes, points))


@pytest.mark.parametrize("dtype", DTYPES)
def test_eikonal_term_equals_a_formula(device, dtype):
    """The squared slope of x y, which interpolation reproduces and whose derivatives are known."""
    axis = torch.linspace(-1, 1, 5, dtype=dtype)
    _, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    grid = (x * y)[None, None].to(device).contiguous().requires_grad_()
    points = rand(1, 40, 3, low=-0.9, high=0.9, dtype=dtype).to(device).requires_grad_()
    (slope,) = torch.autograd.grad(ops.sample_grids(grid, points).sum(), points, create_graph=True)
    torch.testing.assert_close(slope[..., :2].detach(), points.detach()[..., :2].flip(2), **tolerance(dtype))
    grad_points, grad_grid = torch.autograd.grad(slope.square().sum(), [points, grid])
    expected = torch.cat([2 * points.detach()[..., :2], torch.zeros_like(points[..., :1])], 2)
    torch.testing.assert_close(grad_points, expected, rtol=1e-4, atol=1e-4)
    # The squared slope is quadratic in the grid: its derivative along the grid itself is twice its value.
    torch.testing.assert_close((grad_grid * grid).sum(), 2 * slope.square().sum(), rtol=1e-4, atol=1e-4)


def test_third_derivatives_are_refused(device):
    grid = randn(1, 2, 3, 3, 3, dtype=torch.float64).to(device).requires_grad_()
    points = rand(1, 5, 3, dtype=torch.float64).to(device).requires_grad_()
    (slope,) = torch.autograd.grad(ops.sample_grids(grid, points).square().sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), points, create_graph=True)
    with pytest.raises(NotImplementedError, match="sample_features cannot be differentiated a third time"):
        second.sum().backward()


# ---- halves


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@every_layout
def test_halves_are_rounded_once(device, dtype, memory_format, layout):
    """Stored as halves, computed in float32: the only loss is the rounding of the result."""
    grids = [randn(2, c, 4, 5, 6, seed=c).to(device, dtype).contiguous(memory_format=memory_format) for c in (1, 19, 8)]
    grids = [grid.requires_grad_() for grid in grids]
    points = (points_of(150, 3, torch.float32, device) * 0.97 + 0.003).requires_grad_()
    offsets = OFFSETS.to(device)
    wide = [grid.detach().float().requires_grad_() for grid in grids]
    features = ops.sample_grids(grids, points, offsets, layout=layout)
    expected = reference.sample_grids(wide, points, offsets, layout=layout)
    assert features.dtype == dtype
    torch.testing.assert_close(features, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-5)
    upstream = randn(*features.shape, seed=4).to(device, dtype)
    mine = torch.autograd.grad(features, [*grids, points], upstream)
    theirs = torch.autograd.grad(expected, [*wide, points], upstream.float())
    for one, other in zip(mine[:-1], theirs[:-1], strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-3)
    torch.testing.assert_close(mine[-1], theirs[-1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_is_read_and_written_as_torch_does(device, dtype):
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    values = bits.view(dtype).to(device)
    for channels in (1, 8):  # one by one, and in vectors
        grid = values.reshape(-1, channels, 1, 1, 1)
        read = ops.sample_grids(grid, torch.zeros(len(grid), 1, 3, device=device)).flatten()
        torch.testing.assert_close(read, values, rtol=0, atol=0, equal_nan=True)
    # Halfway between neighbours, where rounding to the nearest even shows.
    pairs = torch.stack([values[:-1], values[1:]], 1)
    pairs = pairs[pairs.isfinite().all(1)]
    grid = pairs.reshape(-1, 1, 1, 1, 2)
    middle = ops.sample_grids(grid, torch.zeros(len(grid), 1, 3, device=device)).flatten()
    expected = (pairs[:, 0].float() * 0.5 + pairs[:, 1].float() * 0.5).to(dtype)
    torch.testing.assert_close(middle, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_points_of_halves_are_float32_inside(device, dtype):
    grid, planes = randn(1, 2, 9, 9, 9).to(device, dtype), randn(1, 3, 2, 9, 9).to(device, dtype)
    points = rand(1, 20, 3, low=-1, high=1).to(device, dtype).requires_grad_()
    assert torch.equal(ops.sample_grids(grid, points), ops.sample_grids(grid, points.float()))
    flat = points[..., :2]
    assert torch.equal(ops.sample_planes(planes, flat), ops.sample_planes(planes, flat.float()))
    ops.sample_grids(grid, points).float().sum().backward()
    assert points.grad.dtype == dtype


# ---- the sum of grids, many grids, memory formats


@pytest.mark.parametrize("count", [2, 19])
@every_layout
@pytest.mark.parametrize("summed", [False, True])
def test_many_grids(device, count, layout, summed):
    """More grids than a kernel takes at once, put one after the other or added up."""
    grids = [
        randn(2, 3, 4, 3, 2 + i % 3, seed=i, dtype=torch.float64).to(device).requires_grad_() for i in range(count)
    ]
    points = (points_of(40, 3, torch.float64, device) * 0.97 + 0.003).requires_grad_()
    options = {"layout": layout, "sum_grids": summed}
    offsets = OFFSETS.double().to(device)
    features = ops.sample_grids(grids, points, offsets, **options)
    expected = reference.sample_grids(grids, points, offsets, **options)
    torch.testing.assert_close(features, expected, **tolerance(torch.float64))
    compare_gradients(features, expected, [*grids, points])


def test_many_planes(device):
    planes = randn(2, 19, 3, 4, 5, dtype=torch.float64).to(device).requires_grad_()
    for points in (points_of(30, 2, torch.float64, device), points_of(19 * 30, 2, torch.float64, device)):
        where = (points if points.shape[1] == 30 else points.reshape(2, 19, 30, 2)) * 0.97 + 0.003
        features, expected = ops.sample_planes(planes, where), reference.sample_planes(planes, where)
        torch.testing.assert_close(features, expected, **tolerance(torch.float64))
        compare_gradients(features, expected, [planes])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 8, 24, 32, 77, 130])
@pytest.mark.parametrize("copies", [1, 7, 9])
@every_layout
def test_channels_last_equals_twin(device, dtype, channels, copies, layout):
    """All lengths of the vector loops, and both ways of laying out the rows."""
    grids = [randn(2, channels, 9, 8, 7, dtype=dtype), randn(2, 8, 2, 3, 4, seed=1, dtype=dtype)]
    grids = [g.to(device).contiguous(memory_format=torch.channels_last_3d).requires_grad_() for g in grids]
    points = (points_of(90, 3, dtype, device) * 0.97 + 0.003).requires_grad_()
    offsets = rand(copies, 3, seed=2, low=-0.3, high=0.3, dtype=dtype).to(device)
    for options in OPTIONS:
        features = ops.sample_grids(grids, points, offsets, layout=layout, **options)
        expected = reference.sample_grids(grids, points, offsets, layout=layout, **options)
        torch.testing.assert_close(features, expected, **tolerance(dtype))
        compare_gradients(features, expected, grids)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_gradients_have_the_memory_format_of_the_grids(device, memory_format):
    grid = randn(2, 8, 4, 5, 6).to(device).contiguous(memory_format=memory_format).requires_grad_()
    (gradient,) = torch.autograd.grad(ops.sample_grids(grid, torch.zeros(2, 3, 3, device=device)).sum(), grid)
    assert gradient.is_contiguous(memory_format=memory_format)
    planes = randn(2, 3, 5, 6, 8).to(device).movedim(-1, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(ops.sample_planes(planes, torch.zeros(2, 3, 2, device=device)).sum(), planes)
    assert gradient.stride() == planes.stride()


# ---- large enough for sorting, slabs, streaming and memory of its own; copies of a point share cells of the last grid


def large_case(dtype: torch.dtype = torch.float32, batch: int = 1) -> tuple[list[Tensor], Tensor, Tensor]:
    sizes = [(32, 40, 36, 33), (1, 64, 64, 64), (96, 17, 16, 15), (64, 3, 4, 5)]
    grids = [randn(batch, *size, seed=i, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
             for i, size in enumerate(sizes)]  # fmt: skip
    points = points_of(9000, 3, dtype, torch.device("cpu"), batch)
    points[:, 5::1000] = math.nan
    return grids, points, OFFSETS.to(dtype)


@every_option
@every_layout
def test_twin_with_vector_loops_equals_plain_body(options, layout):
    grids, points, offsets = large_case()
    chosen = kernels.Options(
        options["align_corners"],
        interpolation.PADDINGS.index(options["padding_mode"]),
        layout == "offset_fastest",
        False,
    )
    close = {"rtol": 1e-5, "atol": 2e-5, "equal_nan": True}
    rows = kernels.gather(grids, points, None, offsets, chosen)
    assert rows.nbytes > 1 << 24
    torch.testing.assert_close(rows, kernels.gather(grids, points, None, offsets, chosen, plain=True), **close)
    rows = randn(*rows.shape, seed=6)
    for tangent in (None, randn(*points.shape, seed=7)):
        one, other = (kernels.gather(grids, points, tangent, offsets, chosen, plain=plain) for plain in (False, True))
        scale = 1 if tangent is None else 64  # slopes are in nodes
        torch.testing.assert_close(one, other, **close | {"atol": 2e-5 * scale})
        ways = [kernels.scatter(rows, grids, points, tangent, offsets, chosen, how) for how in ("", "plain")]
        for one, other in zip(*ways, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * scale)
        one, other = (kernels.slope(rows, grids, points, tangent, offsets, chosen, plain) for plain in (False, True))
        torch.testing.assert_close(one, other, **close | {"atol": 2e-2 * scale})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@every_option
def test_segments_equal_plain_body(device, dtype, options):
    """What a GPU does where a fixed order of summation is asked for."""
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    grids = [grid.to(dtype) for grid in grids_of(computed, device)]
    points, offsets = points_of(200, 3, computed, device), OFFSETS.to(device, computed)
    points[:, 1] = math.nan
    chosen = kernels.Options(
        options["align_corners"], interpolation.PADDINGS.index(options["padding_mode"]), False, False
    )
    rows = randn(2, 200, 4 * 13, seed=6).to(device, dtype)
    for tangent in (None, randn(*points.shape, seed=7, dtype=computed).to(device)):
        ways = [kernels.scatter(rows, grids, points, tangent, offsets, chosen, how) for how in ("segments", "plain")]
        for one, other in zip(*ways, strict=True):
            torch.testing.assert_close(one, other, **tolerance(computed) | {"atol": 1e-4})


def test_large_results_equal_twin():
    """Sorted, in slabs, streamed past the caches, into memory of their own: the numbers stay the same."""
    grids, points, offsets = large_case(batch=2)
    points = points.nan_to_num(0.123)
    grids = [grid.requires_grad_() for grid in grids]
    features = ops.sample_grids(grids, points, offsets)
    expected = reference.sample_grids(grids, points, offsets)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    upstream = randn(*features.shape, seed=4)
    for one, other in zip(
        torch.autograd.grad(features, grids, upstream), torch.autograd.grad(expected, grids, upstream), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-4)


# ---- kept memory


def test_kept_memory_is_used_again_but_never_under_a_tensor():
    grid, points = randn(1, 16, 4, 4, 4), rand(1, 1 << 17, 3)
    buffers = ops.KeptBuffers()
    with buffers:
        first = ops.sample_grids(grid, points)
        copy, place = first.clone(), first.data_ptr()
        second = ops.sample_grids(-grid, points)
        assert second.data_ptr() != place
        assert torch.equal(first, copy)
        view = first[0, 5]
        del first
        assert buffers.unused() == 0  # the view still refers to it
        assert ops.sample_grids(grid, points).data_ptr() not in (place, second.data_ptr())
        del view
        third = ops.sample_grids(grid, points)
        assert third.data_ptr() in (place, third.data_ptr())
        assert buffers.unused() > 0
    outside = ops.sample_grids(grid, points)
    assert buffers.unused() > 0
    assert torch.equal(outside, copy)
    assert torch.equal(third, copy)


def test_gradients_in_kept_memory_start_at_zero():
    grid = randn(2, 32, 40, 40, 40).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    buffers = ops.KeptBuffers()
    places = set()
    for step in range(3):
        points = rand(2, 50, 3, seed=step, low=-1, high=1)
        with buffers:
            (gradient,) = torch.autograd.grad(ops.sample_grids(grid, points).sum(), grid)
        places.add(gradient.data_ptr())
        assert float(gradient.double().sum()) == pytest.approx(2 * 50 * 32, rel=1e-5)
        del gradient
    assert len(places) == 1


def test_kept_memory_has_a_limit():
    buffers = ops.KeptBuffers(limit=0)
    with buffers:
        for count in (1 << 17, 1 << 18, 1 << 19):
            ops.sample_grids(randn(1, 16, 4, 4, 4), rand(1, count, 3))
    assert buffers.unused() <= 4 * 16 * (1 << 19)  # the last one alone
    with pytest.raises(ValueError, match="limit: expected at least 0"):
        ops.KeptBuffers(-1)


# ---- the linear layer before the gather


@pytest.mark.parametrize("coarse", [None, [True, True, True], [False, True, False], [False, False, False]])
@every_layout
@every_option
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_layer_first_or_last(device, coarse, layout, options, with_bias):
    dtype = torch.float64
    grids = [grid.requires_grad_() for grid in grids_of(dtype, device)]
    points = (points_of(60, 3, dtype, device) * 0.97 + 0.003).requires_grad_()
    offsets = OFFSETS.to(device, dtype)
    weight = randn(5, 4 * 13, dtype=dtype).to(device).requires_grad_()
    bias = randn(5, seed=3, dtype=dtype).to(device).requires_grad_() if with_bias else None
    arguments = (grids, points, weight, bias, offsets)
    result = ops.sample_grids_linear(*arguments, layout=layout, coarse=coarse, **options)
    expected = reference.sample_grids_linear(*arguments, layout=layout, **options)
    torch.testing.assert_close(result, expected, **tolerance(dtype))
    compare_gradients(result, expected, [*grids, points, weight, *([bias] if with_bias else [])])


def test_linear_layer_in_float32(device):
    """Both orders agree to rounding, with many displacements and without any."""
    grid = randn(2, 16, 8, 8, 8).to(device)
    points = rand(2, 700, 3, low=-1, high=1).to(device)
    for offsets in (None, rand(18, 3, seed=1, low=-0.2, high=0.2).to(device)):
        weight = randn(24, 16 * (1 if offsets is None else 18), seed=2).to(device)
        results = [ops.sample_grids_linear(grid, points, weight, None, offsets, coarse=[c]) for c in (False, True)]
        torch.testing.assert_close(*results, rtol=1e-5, atol=2e-5 * float(results[0].abs().max()))


# ---- errors

GRID, POINTS = torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 5, 3)
MATRIX = torch.zeros(5, 3)
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
        (lambda: ops.sample_grids(GRID.int(), POINTS), TypeError, "grids: expected dtype float32 or float64"),
        (
            lambda: ops.sample_grids(GRID.half(), POINTS.double()),
            TypeError,
            "points: expected dtype float32 or float16",
        ),
        (
            lambda: ops.sample_grids([GRID, GRID[:, :2]], POINTS, sum_grids=True),
            ValueError,
            r"grids\[1\]: expected shape",
        ),
        (lambda: ops.sample_grids_linear(GRID.half(), POINTS, MATRIX), TypeError, "grids: expected dtype float32 or"),
        (lambda: ops.sample_grids_linear(GRID, POINTS, MATRIX[:, :2]), ValueError, r"weight: expected shape \[O, 3\]"),
        (lambda: ops.sample_grids_linear(GRID, POINTS, MATRIX, MATRIX[0]), ValueError, r"bias: expected shape \[5\]"),
        (
            lambda: ops.sample_grids_linear(GRID, POINTS, MATRIX, coarse=[True, True]),
            ValueError,
            "coarse: expected one entry for each of 1 grids, got 2",
        ),
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
