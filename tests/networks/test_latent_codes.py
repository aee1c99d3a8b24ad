from __future__ import annotations

import math

import pytest
import torch

from pyimplicit.networks import LatentCodes


def test_start_is_normal_with_the_stated_deviation_then_projected() -> None:
    codes = LatentCodes(4000, 64, max_norm=None, seed=1)
    assert codes.weight.std().item() == pytest.approx(1 / 8, rel=0.02)
    assert LatentCodes(4000, 64, std=0.01, seed=1).weight.std().item() == pytest.approx(0.01, rel=0.02)
    bounded = LatentCodes(4000, 64, seed=1).weight
    norms = codes.weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(bounded, codes.weight / norms.clamp(min=1))


def test_seed_decides_alone() -> None:
    first = LatentCodes(5, 4, seed=7).weight
    torch.manual_seed(123)
    assert torch.equal(first, LatentCodes(5, 4, seed=7).weight)
    assert not torch.equal(first, LatentCodes(5, 4, seed=8).weight)


def test_absent_codes_do_not_move_and_present_ones_follow_adam() -> None:
    codes = LatentCodes(6, 4, max_norm=None, seed=0)
    plain = codes.weight.detach().clone()[:2].requires_grad_()
    before = codes.weight.detach().clone()
    optimizer, reference = codes.optimizer(0.1), torch.optim.Adam([plain], 0.1)
    for _ in range(5):
        for rows, step in ((codes(torch.tensor([0, 1])), optimizer), (plain, reference)):
            step.zero_grad()
            (rows - 3).square().sum().backward()
            step.step()
    torch.testing.assert_close(codes.weight[:2], plain)
    assert torch.equal(codes.weight[2:], before[2:])
    # rows 0 and 1 have momentum now; a step on others must not carry them on
    held = codes.weight[:2].detach().clone()
    optimizer.zero_grad()
    codes(torch.tensor([4])).sum().backward()
    optimizer.step()
    assert torch.equal(codes.weight[:2], held)


def test_a_code_twice_in_a_batch_counts_twice() -> None:
    codes = LatentCodes(3, 2, seed=0)
    codes(torch.tensor([1, 1])).sum().backward()
    assert codes.weight.grad.to_dense().tolist() == [[0, 0], [2, 2], [0, 0]]


def test_projection_keeps_direction_and_short_rows() -> None:
    codes = LatentCodes(4, 2, max_norm=2.0, seed=0)
    with torch.no_grad():
        codes.weight.copy_(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [30.0, -40.0]]))
    codes.project_(torch.tensor([0, 1, 2]))
    torch.testing.assert_close(codes.weight[:3], torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, 0.0]]))
    assert codes.weight[3].norm() == 50
    codes.project_()
    assert codes.weight[3].norm().item() == pytest.approx(2)
    assert codes.weight.requires_grad
    LatentCodes(4, 2, max_norm=None, seed=0).project_()


def test_same_values_as_a_table_renormalised_at_lookup() -> None:
    # torch's Embedding with max_norm is what DeepSDF's authors use.
    embedding = torch.nn.Embedding(5, 3, max_norm=1.0)
    codes = LatentCodes(5, 3, max_norm=1.0)
    with torch.no_grad():
        start = 2 * torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
        embedding.weight.copy_(start)
        codes.weight.copy_(start)
        codes.project_()
    indices = torch.tensor([0, 3, 4])
    theirs, ours = torch.optim.SGD([embedding.weight], 0.5), torch.optim.SGD([codes.weight], 0.5)
    for _ in range(4):
        for rows, step in ((embedding(indices), theirs), (codes(indices), ours)):
            step.zero_grad()
            (rows - 2).square().sum().backward()
            step.step()
        codes.project_(indices)
    torch.testing.assert_close(codes(indices), embedding(indices), rtol=1e-5, atol=1e-5)


def test_bad_arguments_are_named() -> None:
    codes = LatentCodes(3, 2, seed=0)
    with pytest.raises(ValueError, match="indices: expected values from 0 to 2, got 1 to 3"):
        codes(torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="indices: expected values from 0 to 2, got -1 to 0"):
        codes(torch.tensor([-1, 0]))
    with pytest.raises(TypeError, match="indices: expected dtype int64"):
        codes(torch.tensor([1.0]))
    with pytest.raises(ValueError, match="count: expected at least 1"):
        LatentCodes(0, 2)
    with pytest.raises(ValueError, match="max_norm: expected a finite number above 0"):
        LatentCodes(1, 2, max_norm=math.inf)
    assert codes(torch.empty(0, dtype=torch.int64)).shape == (0, 2)
