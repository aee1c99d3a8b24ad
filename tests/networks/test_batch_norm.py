"""Batch normalisation with exact sums against torch's in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pyimplicit.networks.batch_norm import LINE, PIECE, batch_norm, conditional_batch_norm_relu, relu_batch_norm


def pair(kind: type[nn.BatchNorm1d | nn.BatchNorm3d], channels: int, **options: object) -> tuple[nn.Module, nn.Module]:
    """Two layers of one state, in double precision."""
    torch.manual_seed(0)
    first, second = kind(channels, **options).double(), kind(channels, **options).double()
    for parameter in first.parameters():
        nn.init.normal_(parameter)
    second.load_state_dict(first.state_dict())
    return first, second


@pytest.mark.parametrize("rows", [2, 7, 2 * PIECE // 6 + 5, PIECE // 2])
def test_rows_agree_with_torch(rows: int) -> None:
    own, expected = pair(nn.BatchNorm1d, 6)
    features = torch.randn(1, rows, 6, dtype=torch.float64, requires_grad=True)
    compare(batch_norm(own, features), expected(features[0])[None], features, own, expected)


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("channels", [5, LINE + 1])
def test_grids_after_relu_agree_with_torch(momentum: float | None, channels: int) -> None:
    own, expected = pair(nn.BatchNorm3d, channels, momentum=momentum)
    features = torch.randn(2, channels, 6, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last_3d)
    features.requires_grad_()
    compare(relu_batch_norm(own, features), expected(features.relu()), features, own, expected)


def compare(result: Tensor, wanted: Tensor, features: Tensor, own: nn.Module, expected: nn.Module) -> None:
    torch.testing.assert_close(result, wanted)
    probe = torch.randn_like(result)
    for ours, torchs in zip(
        torch.autograd.grad((result * probe).sum(), [features, *own.parameters()]),
        torch.autograd.grad((wanted * probe).sum(), [features, *expected.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(ours, torchs, rtol=1e-7, atol=1e-9 * float(torchs.abs().max()))
    for ours, torchs in zip(own.buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(ours, torchs)


def test_statistics_of_many_values_are_exact() -> None:
    features = torch.rand(1, 1 << 19, 2) + 3
    norm = nn.BatchNorm1d(2, momentum=1.0)
    batch_norm(norm, features)
    assert norm.running_var is not None
    expected = features.double().var((0, 1)).float()
    torch.testing.assert_close(norm.running_var, expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("affine", [True, False])
def test_second_derivatives(affine: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm3d(2, affine=affine).double()
    features = torch.randn(2, 2, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: relu_batch_norm(norm, x), features)


def test_evaluation_uses_running_statistics() -> None:
    own, expected = pair(nn.BatchNorm1d, 3)
    features = torch.randn(4, 5, 3, dtype=torch.float64)
    assert torch.equal(batch_norm(own.eval(), features), expected.eval()(features.flatten(0, 1)).view_as(features))


def conditional(features: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, nn.BatchNorm1d]:
    norm = nn.BatchNorm1d(features.shape[2], affine=False).double()
    return conditional_batch_norm_relu(norm, features, gamma, beta), norm


def test_conditional_normalisation_agrees_with_torch() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 2 * PIECE // LINE // 2 + 3, LINE // 2, dtype=torch.float64, requires_grad=True)
    gamma, beta = torch.randn(2, 3, LINE // 2, dtype=torch.float64, requires_grad=True)
    own, norm = conditional(features, gamma, beta)
    plain = nn.BatchNorm1d(LINE // 2, affine=False).double()
    expected = (gamma[:, None] * plain(features.flatten(0, 1)).view_as(features) + beta[:, None]).relu()
    torch.testing.assert_close(own, expected)
    probe = torch.randn_like(own)
    for ours, torchs in zip(
        torch.autograd.grad((own * probe).sum(), [features, gamma, beta]),
        torch.autograd.grad((expected * probe).sum(), [features, gamma, beta]),
        strict=True,
    ):
        torch.testing.assert_close(ours, torchs)
    for ours, torchs in zip(norm.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, torchs)


def test_second_derivatives_of_conditional_normalisation() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    gamma, beta = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True).unbind()
    assert torch.autograd.gradgradcheck(lambda *values: conditional(*values)[0], (features, gamma, beta))
