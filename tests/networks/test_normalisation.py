"""Batch normalisation with exact sums against torch's in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.fx.experimental.proxy_tensor
from torch import Tensor, nn

from pyimplicit.networks.normalisation import GroupNorm, batch_norm, conditional_batch_norm_relu, relu_batch_norm
from pyimplicit.ops import channels as kernels

PIECE = 1 << 16  # numbers that the kernels work on at a time
LINE = 64  # and in a line


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


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (96, 8), (130, 10)])
@pytest.mark.parametrize("affine", [True, False])
def test_group_normalisation_agrees_with_torch(channels: int, groups: int, affine: bool) -> None:
    torch.manual_seed(0)
    norm = GroupNorm(groups, channels, affine=affine).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    features = torch.randn(3, channels, 7, 9, 12, dtype=torch.float64).to(memory_format=torch.channels_last_3d)
    features.requires_grad_()
    result = norm(features)
    expected = torch.nn.functional.group_norm(features, groups, norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(result, expected)
    assert result.is_contiguous(memory_format=torch.channels_last_3d)
    probe, inputs = torch.randn_like(result), [features, *norm.parameters()]
    slopes = (torch.autograd.grad((of * probe).sum(), inputs) for of in (result, expected))
    for ours, torchs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, torchs)


def test_second_derivatives_of_group_normalisation() -> None:
    torch.manual_seed(0)
    norm = GroupNorm(2, 4).double()
    features = torch.randn(2, 4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(norm, features)


def test_group_normalisation_is_exact_where_most_cells_are_empty() -> None:
    """As the grid of a cloud is; channels of very different size share a group."""
    torch.manual_seed(0)
    features = torch.zeros(1, 32, 32, 32, 32).to(memory_format=torch.channels_last_3d)
    a, b, c = torch.randint(32, (3, 500))
    features[0, :, a, b, c] = torch.randn(32, 500) * torch.logspace(-2, 2, 32)[:, None]
    norm = GroupNorm(8, 32)
    expected = nn.GroupNorm(8, 32).double()(features.double())
    torch.testing.assert_close(norm(features).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("after", [True, False])
def test_nan_is_not_taken_for_a_number_below_0(after: bool) -> None:
    features = torch.randn(2, 5, 3)
    features[1, 2, 0] = torch.nan
    result = relu_or_conditional(features, after)
    assert result[..., 0].isnan().all()
    assert result[..., 1:].isfinite().all()


def relu_or_conditional(features: Tensor, after: bool) -> Tensor:
    """The two that have a ReLU, before or after."""
    if after:
        return conditional_batch_norm_relu(
            nn.BatchNorm1d(3, affine=False), features, torch.ones(2, 3), torch.ones(2, 3)
        )
    grids = features.movedim(2, 1)[..., None, None]
    return relu_batch_norm(nn.BatchNorm3d(3), grids)[..., 0, 0].movedim(1, 2)


@pytest.mark.parametrize("threads", [2, 5])
def test_same_bits_on_any_number_of_threads(threads: int) -> None:
    torch.manual_seed(0)
    features, probe = torch.randn(2, 4, 40_000, 24)
    found = []
    for count in (1, threads):
        torch.set_num_threads(count)
        inputs = features.clone().requires_grad_()
        result = conditional_batch_norm_relu(nn.BatchNorm1d(24, affine=False), inputs, probe[:, 0], probe[:, 1])
        found.append((result.detach(), *torch.autograd.grad((result * probe).sum(), inputs)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("first_row", [0.0, 1000.0, -3.0])
def test_statistics_do_not_depend_on_where_an_outlier_lies(first_row: float) -> None:
    torch.manual_seed(0)
    features = 1000 + 0.01 * torch.randn(20_000, 4)
    features[0] = first_row
    norm = nn.BatchNorm1d(4, momentum=1.0)
    batch_norm(norm, features)
    torch.testing.assert_close(norm.running_var, features.double().var(0).float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(norm.running_mean, features.double().mean(0).float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("same", [True, False])
def test_a_graph_of_the_gradient_does_not_change_it(same: bool) -> None:
    """Also where gamma and beta come from the features themselves, or are one tensor."""
    torch.manual_seed(0)
    features = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)

    def value() -> Tensor:
        gamma = features.mean(1) + 1
        return conditional(features, gamma, gamma if same else features.sum(1))[0].sin().sum()

    plain, graphed = (torch.autograd.grad(value(), features, create_graph=asked)[0] for asked in (False, True))
    torch.testing.assert_close(plain, graphed)


def layers() -> dict[str, Callable[[Tensor], Tensor]]:
    options = {"track_running_stats": False}
    batch, grids, group = nn.BatchNorm1d(4, **options), nn.BatchNorm3d(4, **options), GroupNorm(2, 4)
    apart = nn.BatchNorm1d(4, affine=False, **options)
    return {
        "batch": lambda x: batch_norm(batch, x),
        "relu, batch": lambda x: relu_batch_norm(grids, x.view(2, 5, 4, 1, 1).transpose(1, 2)),
        "conditional": lambda x: conditional_batch_norm_relu(apart, x, x[:, 0], x[:, 1]),
        "group": lambda x: group(x.transpose(1, 2)),
    }


@pytest.mark.parametrize("name", layers())
def test_traces_and_transforms_see_operators_of_torch(name: str) -> None:
    """What the kernels did would be missing in them."""
    layer, inputs, other = layers()[name], torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    expected = layer(other)
    torch.testing.assert_close(torch.fx.experimental.proxy_tensor.make_fx(layer)(inputs)(other), expected)
    slope = torch.func.grad(lambda x: layer(x).sin().sum())(other)
    wanted = torch.autograd.grad(layer(other.requires_grad_()).sin().sum(), other)[0]
    torch.testing.assert_close(slope, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (2, 3000, 16), (2, 900, 67), (1, 3, 70_000)])
def test_kernels_for_any_processor(plain: bool, relu: bool, gated: bool, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values, gradients, gate = torch.randn(3, *shape)
    scale, slope, shift = torch.randn(3, shape[0], shape[2])
    used = values.double().relu() if relu else values.double()
    passed = gradients.double() * (gate > 0) if gated else gradients.double()
    for ours, wanted in zip(
        kernels.moments(values, relu, plain), (used.mean(1), used.var(1, correction=0)), strict=True
    ):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)
    sums = kernels.products(gradients, values, shift, gate if gated else None, relu, plain)
    size = shape[1] ** 0.5
    for ours, wanted in zip(sums, (passed.sum(1), (passed * (used - shift[:, None])).sum(1)), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-5 * size)
    result = kernels.affine(values, scale, shift, relu, gated, plain)
    wanted = scale[:, None] * used + shift[:, None]
    torch.testing.assert_close(result.double(), wanted.relu() if gated else wanted, rtol=1e-5, atol=1e-5)
    result = kernels.affine_gradient(gradients, values, gate if gated else None, scale, slope, shift, relu, plain)
    wanted = scale[:, None] * passed + slope[:, None] * values + shift[:, None]
    torch.testing.assert_close(result.double(), wanted * (values > 0) if relu else wanted, rtol=1e-5, atol=1e-5)
