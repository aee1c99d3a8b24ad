"""Features, points and options that the tests of interpolation share."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

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
