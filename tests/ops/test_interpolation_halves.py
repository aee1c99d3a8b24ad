"""Interpolation of bfloat16 and float16: stored as such, summed in float32."""

from __future__ import annotations

import pytest
import torch

from pyimplicit import ops
from pyimplicit.ops import reference
from tests.helpers import rand, randn
from tests.ops.interpolation_cases import OFFSETS, every_layout, points_of


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
