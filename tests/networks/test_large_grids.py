"""ReLU and pooling of large grids: torch's numbers, in memory that is kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pyimplicit.networks import large_grids
from pyimplicit.networks.large_grids import pool_beside, relu_in_place
from tests.helpers import randn

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def chain(grids, relu, pool):
    features = relu(grids * 1)
    features, pooled = pool(features)
    return (features * features.detach().roll(1)).sum() + pooled.square().sum()


def by_torch(grids):
    return grids, F.max_pool3d(grids, 2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_torchs(device, layout, dtype):
    grids = randn(2, 5, 6, 7, 4, dtype=dtype).to(device).contiguous(memory_format=layout).requires_grad_()
    found, expected = chain(grids, relu_in_place, pool_beside), chain(grids, torch.relu_, by_torch)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(value, grids)[0] for value in (found, expected)))


@pytest.mark.parametrize("used", [[0], [1], [0, 1]])
def test_either_result_may_go_unused(used):
    grids = randn(1, 2, 4, 4, 4, dtype=torch.float64).requires_grad_()
    slopes = [torch.autograd.grad(sum(call(grids)[k].sin().sum() for k in used), grids)[0]
              for call in (pool_beside, by_torch)]  # fmt: skip
    assert torch.equal(*slopes)


def test_any_number_of_derivatives():
    grids = randn(1, 2, 4, 4, 4, dtype=torch.float64).requires_grad_()
    relu = lambda grids: relu_in_place(grids * 1).square()  # noqa: E731
    assert torch.autograd.gradcheck(relu, grids)
    assert torch.autograd.gradgradcheck(relu, grids)
    assert torch.autograd.gradcheck(pool_beside, grids)
    assert torch.autograd.gradgradcheck(lambda grids: pool_beside(grids)[1].square(), grids)


def test_gradients_take_kept_memory(monkeypatch):
    taken = []
    original = large_grids.memory.empty
    monkeypatch.setattr(large_grids.memory, "empty", lambda *given: taken.append(given[0]) or original(*given))
    grids = randn(1, 2, 4, 4, 4).requires_grad_()
    torch.autograd.grad(chain(grids, relu_in_place, pool_beside), grids)
    assert len(taken) == 2


def test_autocast_keeps_the_type():
    with torch.autocast("cpu", torch.bfloat16):
        features, pooled = pool_beside(randn(1, 2, 4, 4, 4))
    assert features.dtype == pooled.dtype == torch.float32
