"""Interpolation of grids and planes against `grid_sample`, forward and backward."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyimplicit import ops
from pyimplicit.ops import reference
from tests.helpers import rand, randn
from tests.ops.interpolation_cases import (
    DTYPES,
    OFFSETS,
    OPTIONS,
    compare_gradients,
    every_layout,
    every_option,
    grids_of,
    points_of,
    tolerance,
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


def test_features_are_not_held_for_constant_points(device):
    """Their gradients do not depend on their values, and IF-Net's finest volume is most of its memory."""
    points = rand(2, 30, 3, low=-1, high=1).to(device)
    grid = randn(2, 4, 5, 6, 7).to(device).requires_grad_()
    doubled = (2 * grid).contiguous(memory_format=torch.channels_last_3d)
    held = weakref.ref(doubled)
    features = ops.sample_grids(doubled, points)
    expected = features.detach()
    del doubled
    assert held() is None
    upstream = randn(*features.shape).to(device)
    (gradient,) = torch.autograd.grad(features, grid, upstream)
    again = ops.sample_grids(2 * grid, points.requires_grad_())  # here they are held
    assert torch.equal(again, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(again, grid, upstream)[0])


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


def test_slope_beside_nodes_is_of_one_cell(device):
    # Of x * y the slope is the same on both sides of a node: what comes from nodes of one cell and weights of another
    # is far off. Points within a few last bits of nodes, where rounding decides on the cell.
    width, height = 164, 67
    plane = torch.outer(torch.arange(height), torch.arange(width)).float()[None, None, None].to(device)
    for align_corners in (False, True):
        scale = (torch.tensor([width, height]) - int(align_corners)) / 2
        node = torch.stack((torch.arange(1, 1000) % (width - 3) + 1, torch.arange(1, 1000) % (height - 3) + 1), 1)
        points = (node + (0.0 if align_corners else 0.5)) / scale - 1
        for steps in range(-3, 4):
            near = points.clone()
            for _ in range(abs(steps)):
                near = torch.nextafter(near, torch.full_like(near, math.copysign(2.0, steps)))
            near = near.to(device).requires_grad_()
            features = ops.sample_planes(plane, near[None], align_corners=align_corners)
            (slope,) = torch.autograd.grad(features.sum(), near)
            torch.testing.assert_close(slope.cpu(), node.flip(1) * scale, rtol=1e-4, atol=1e-2)


def test_third_derivatives_are_refused(device):
    grid = randn(1, 2, 3, 3, 3, dtype=torch.float64).to(device).requires_grad_()
    points = rand(1, 5, 3, dtype=torch.float64).to(device).requires_grad_()
    (slope,) = torch.autograd.grad(ops.sample_grids(grid, points).square().sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), points, create_graph=True)
    with pytest.raises(NotImplementedError, match="sample_features cannot be differentiated a third time"):
        second.sum().backward()


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
