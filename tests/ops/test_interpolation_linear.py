"""A linear layer applied to the nodes before the gather, or to the features after it."""

from __future__ import annotations

import pytest
import torch

from pyimplicit import ops
from pyimplicit.ops import reference
from tests.helpers import rand, randn
from tests.ops.interpolation_cases import (
    OFFSETS,
    compare_gradients,
    every_layout,
    every_option,
    grids_of,
    points_of,
    tolerance,
)


@pytest.mark.parametrize("coarse", [None, [True, True, True], [False, True, False], [False, False, False]])
@every_layout
@every_option
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_linear_layer_first_or_last(device, coarse, layout, options, with_bias, relu):
    dtype = torch.float64
    grids = [grid.requires_grad_() for grid in grids_of(dtype, device)]
    points = (points_of(60, 3, dtype, device) * 0.97 + 0.003).requires_grad_()
    offsets = OFFSETS.to(device, dtype)
    weight = randn(5, 4 * 13, dtype=dtype).to(device).requires_grad_()
    bias = randn(5, seed=3, dtype=dtype).to(device).requires_grad_() if with_bias else None
    arguments = (grids, points, weight, bias, offsets)
    result = ops.sample_grids_linear(*arguments, layout=layout, relu=relu, coarse=coarse, **options)
    expected = reference.sample_grids_linear(*arguments, layout=layout, relu=relu, **options)
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


def test_halves_and_autocast_keep_the_plain_order(device):
    """Numbers at the nodes would be rounded before they are added up."""
    grid, points = randn(1, 16, 2, 2, 2).to(device), rand(1, 300, 3, low=-1, high=1).to(device)
    weight = randn(24, 16, seed=2).to(device)
    halves = ops.sample_grids_linear(grid.bfloat16(), points, weight.bfloat16())
    plain = ops.sample_grids_linear(grid.bfloat16(), points, weight.bfloat16(), coarse=[False])
    assert halves.dtype == torch.bfloat16
    assert torch.equal(halves, plain)
    with torch.autocast(device.type, torch.bfloat16):
        result = ops.sample_grids_linear(grid, points, weight)
        assert torch.equal(result, ops.sample_grids_linear(grid, points, weight, coarse=[False]))
        bias = randn(24, seed=3).to(device)
        at_nodes = ops.sample_grids_linear(grid, points, weight, bias, coarse=[True])
    assert result.dtype == at_nodes.dtype == torch.bfloat16


def test_shapes_alone():
    """Tensors without memory, as exporters and planners of memory use them."""
    grid, points = torch.empty(2, 3, 4, 4, 4, device="meta"), torch.empty(2, 900, 3, device="meta")
    assert ops.sample_grids_linear(grid, points, torch.empty(24, 3, device="meta")).shape == (2, 900, 24)


def test_export_with_any_number_of_points():
    """Which grids come first depends on the number of points, which compiled code is to leave open."""

    class Layer(torch.nn.Module):
        def forward(self, grid, points, weight):
            return ops.sample_grids_linear(grid, points, weight)

    count = torch.export.Dim("count", min=2, max=100000)
    inputs = (randn(1, 3, 4, 4, 4), rand(1, 50, 3, low=-1, high=1), randn(24, 3))
    exported = torch.export.export(Layer(), inputs, dynamic_shapes=({}, {1: count}, {}))
    more = (inputs[0], rand(1, 5000, 3, low=-1, high=1, seed=1), inputs[2])
    torch.testing.assert_close(exported.module()(*more), ops.sample_grids_linear(*more), rtol=1e-5, atol=1e-5)


def test_layer_of_dense_points_on_wide_maps(device):
    """Many points to a cell, in the order of cells, are added to the nodes together."""
    grids = [randn(1, 40, 9, 8, 7, seed=i).to(device).requires_grad_() for i in range(2)]
    points = (rand(1, 5000, 3, low=-1.05, high=1.05).to(device)).requires_grad_()
    weight = (randn(600, 80 * 4, seed=2).to(device) / 10).requires_grad_()
    arguments = (grids, points, weight, None, OFFSETS.to(device))
    result = ops.sample_grids_linear(*arguments, coarse=[True, True])
    expected = reference.sample_grids_linear([g.double() for g in grids], points.double(), weight.double(), None,
                                             OFFSETS.to(device).double())  # fmt: skip
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=2e-5)
    upstream = randn(*result.shape, seed=4).to(device)
    inputs = [*grids, weight]
    mine = torch.autograd.grad(result, inputs, upstream, retain_graph=True)
    theirs = torch.autograd.grad(expected, inputs, upstream.double())
    for one, other in zip(mine, theirs, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6 * scale)
