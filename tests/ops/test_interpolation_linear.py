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
