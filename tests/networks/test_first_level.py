"""The sparse finest level against the dense layers it stands for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyimplicit.networks.first_level import first_level


@pytest.mark.parametrize("cells", [[], [(0, 0, 0, 0)], [(0, 15, 15, 15), (1, 7, 8, 0), (1, 8, 8, 1)]])
def test_agrees_with_the_dense_layers(cells: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    grids = torch.zeros(2, 1, 16, 16, 16, dtype=torch.float64)
    for b, x, y, z in cells:
        grids[b, 0, x, y, z] = 1
    convolution, norm = nn.Conv3d(1, 5, 3, padding=1).double(), nn.BatchNorm3d(5).double()
    nn.init.uniform_(convolution.bias, 0.1, 0.5)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)  # where a weight is negative the largest value is no longer the largest
    dense = nn.BatchNorm3d(5).double()
    dense.load_state_dict(norm.state_dict())

    result = first_level(grids, convolution, norm)
    assert result is not None
    features = dense(convolution(grids).relu())
    expected = (features, F.max_pool3d(features, 2))
    probes = [torch.randn_like(value) for value in expected]
    parameters = list(convolution.parameters())
    gradients = []
    for values, own in ((result, norm), (expected, dense)):
        total = sum((value * probe).sum() for value, probe in zip(values, probes, strict=True))
        gradients.append(torch.autograd.grad(total, [*parameters, *own.parameters()]))
    for ours, dense_value in zip((*result, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(ours, dense_value, rtol=1e-6, atol=1e-7)
    for ours, dense_value in zip(norm.buffers(), dense.buffers(), strict=True):
        torch.testing.assert_close(ours, dense_value)


def test_leaves_full_odd_and_differentiable_grids_to_the_dense_layers() -> None:
    layers = nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2)
    assert first_level(torch.ones(1, 1, 8, 8, 8), *layers) is None
    assert first_level(torch.zeros(1, 1, 9, 9, 9), *layers) is None
    assert first_level(torch.zeros(1, 1, 8, 8, 8, requires_grad=True), *layers) is None
    assert int(layers[1].num_batches_tracked or 0) == 0


def test_autocast_leaves_it_exact() -> None:
    grids = torch.zeros(1, 1, 16, 16, 16)
    grids[0, 0, 3, 4, 5] = 1
    layers = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4)
    expected = first_level(grids, *layers)
    with torch.autocast("cpu", torch.bfloat16):
        found = first_level(grids, *layers)
    assert expected is not None
    assert found is not None
    for ours, plain in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, plain)
