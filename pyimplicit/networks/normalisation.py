"""Batch and group normalisation in training on the CPU, with the ReLUs around them: exact statistics, few passes.

Torch's kernels for channels-last features add up float32 values one by one: on grids of 64^3 cells batch norm's results
are off by more than 1e-3 of their scale (`benchmarks.bench_convolution`). Here sums lose no more than the features' own
precision, and what else is done to a number is done in the same pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pyimplicit.ops import channels as kernels
from pyimplicit.ops._library import is_followed

# Averages factors [S, C] over what shares its statistics, and returns them as wide as before.
Pool = Callable[[Tensor], Tensor]


def batch_norm(
    norm: nn.BatchNorm1d,
    features: Tensor,  # [..., C]
) -> Tensor:  # [..., C]
    """Return `norm` of channels-last features: over all rows, as the layer would give it with exact sums."""
    rows = features.flatten(0, -2)
    if not _takes(rows, norm):
        return norm(rows).view_as(features)  # type: ignore[no-any-return]
    return _batch(norm, rows, after_relu=False).view_as(features)


def relu_batch_norm(
    norm: nn.BatchNorm3d,
    features: Tensor,  # [B, C, D, H, W]
) -> Tensor:  # [B, C, D, H, W]
    """Return norm(relu(features)), as the layers would give it with exact sums; channels last where they are."""
    if not _takes(features.movedim(1, -1), norm):
        return norm(features.relu())  # type: ignore[no-any-return]
    last = features.movedim(1, 4)
    return _batch(norm, last.flatten(0, 3), after_relu=True).view(last.shape).movedim(4, 1)


def conditional_batch_norm_relu(
    norm: nn.BatchNorm1d,
    features: Tensor,  # [B, T, C]
    gamma: Tensor,  # [B, C]
    beta: Tensor,  # [B, C]
) -> Tensor:  # [B, T, C]
    """Return relu(gamma * norm(features) + beta) for a `norm` without weight and bias."""
    rows = features.flatten(0, 1)
    if not _takes(rows, norm):
        return torch.addcmul(beta[:, None], gamma[:, None], norm(rows).view_as(features)).relu_()
    result, mean, variance = _normalise(features, gamma, beta, norm.eps, _over_shapes, relu=False, relu_result=True)
    update_statistics(norm, mean[0], variance[0], len(rows))
    return result


class GroupNorm(nn.GroupNorm):
    """Torch's layer, for features [B, C, ...] that are channels last on a CPU."""

    def forward(self, features: Tensor) -> Tensor:
        """Return normalised features of the same shape."""
        batch, channels = features.shape[:2]
        several = features.numel() > batch * self.num_groups  # torch refuses fewer
        same = channels == self.num_channels and (self.weight is None or self.weight.dtype == features.dtype)
        if not (several and same and _is_plain(features)):
            return super().forward(features)
        weight, bias = (None if of is None else of.expand(batch, -1) for of in (self.weight, self.bias))

        def pool(factors: Tensor) -> Tensor:
            groups = factors.view(batch, self.num_groups, -1)
            return groups.mean(2, keepdim=True).expand_as(groups).reshape(batch, -1)

        last = features.movedim(1, -1)
        rows = last.reshape(batch, -1, channels)
        result, _, _ = _normalise(rows, weight, bias, self.eps, pool, relu=False, relu_result=False)
        return result.view(last.shape).movedim(-1, 1)


@torch.no_grad()
def update_statistics(norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update running statistics as batch normalisation in training mode does: of the variance the unbiased one."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), momentum)


def _takes(features: Tensor, norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Whether features [..., C] are normalised here: elsewhere torch's sums are exact, or it knows what to refuse."""
    several = features.shape[-1] == norm.num_features and features.numel() > features.shape[-1]
    return norm.training and several and _is_plain(features)


def _is_plain(features: Tensor) -> bool:
    return features.device.type == "cpu" and features.dtype in kernels.DTYPES and not is_followed(features)


def _batch(norm: nn.modules.batchnorm._BatchNorm, rows: Tensor, after_relu: bool) -> Tensor:
    weight, bias = (None if of is None else of[None] for of in (norm.weight, norm.bias))
    result, mean, variance = _normalise(rows[None], weight, bias, norm.eps, _apart, after_relu, relu_result=False)
    update_statistics(norm, mean[0], variance[0], len(rows))
    return result[0]


def _apart(factors: Tensor) -> Tensor:
    return factors


def _over_shapes(factors: Tensor) -> Tensor:
    return factors.mean(0, keepdim=True).expand_as(factors)


def _normalise(
    values: Tensor,  # [S, N, C]
    gamma: Tensor | None,  # [S, C]; None for ones
    beta: Tensor | None,  # [S, C]; None for zeros
    eps: float,
    pool: Pool,
    relu: bool,  # of the values
    relu_result: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # [S, N, C], and statistics [S, C] float64
    values = values.contiguous()
    with torch.no_grad():
        own_mean, own_variance = kernels.moments(values, relu)
        mean = pool(own_mean)
        variance = pool(own_variance + (own_mean - mean).square())
    result: Tensor = _Normalisation.apply(  # type: ignore[no-untyped-call]
        values, gamma, beta, mean, variance, eps, pool, relu, relu_result
    )
    return result, mean, variance


class _Normalisation(torch.autograd.Function):
    """Keeps its input, and its result if a ReLU made it, which the next layer keeps anyway."""

    @staticmethod
    def forward(
        context: Any,
        values: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        pool: Pool,
        relu: bool,
        relu_result: bool,
    ) -> Tensor:
        inverse = torch.rsqrt(variance + eps)
        scale = inverse if gamma is None else gamma * inverse
        shift = -mean * scale if beta is None else beta - mean * scale
        result = kernels.affine(values, scale, shift, relu, relu_result)
        context.save_for_backward(values, gamma, beta, mean, inverse, result if relu_result else None)
        context.given = eps, pool, relu, relu_result
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, gamma, beta, mean, inverse, gate = context.saved_tensors
        eps, pool, relu, relu_result = context.given
        asking = torch.is_grad_enabled()  # for a derivative of this
        if asking or is_followed(gradient):
            wanted = context.needs_input_grad[:3]
            with torch.enable_grad():
                # Views: what one of them depends on another must not count here, and does where they are made.
                values, gamma, beta = (None if of is None else of.view_as(of) for of in (values, gamma, beta))
                assert values is not None
                inputs = [of for of in (values, gamma, beta) if of is not None and of.requires_grad]
                again = _differentiable(values, gamma, beta, eps, pool, relu, relu_result)
            found = iter(torch.autograd.grad(again, inputs, gradient, create_graph=asking))
            return *(next(found) if asked else None for asked in wanted), *[None] * 6
        gradient = gradient.contiguous()
        count = values.shape[1]
        center = mean.to(values.dtype)
        of_beta, of_gamma = kernels.products(gradient, values, center, gate, relu)
        of_gamma = (of_gamma - (mean - center) * of_beta) * inverse
        # With x the normalised value: inverse * (gamma * gradient - its mean - x * the mean of gamma * gradient * x)
        scale = inverse if gamma is None else gamma * inverse
        by_mean, by_spread = (pool(of if gamma is None else gamma * of) / count for of in (of_beta, of_gamma))
        slope = -inverse * inverse * by_spread
        shift = -inverse * by_mean - slope * mean
        of_values = kernels.affine_gradient(gradient, values, gate, scale, slope, shift, relu)
        return (
            of_values,
            None if gamma is None else of_gamma.to(gamma.dtype),
            None if beta is None else of_beta.to(beta.dtype),
            *[None] * 6,
        )


def _differentiable(
    values: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float, pool: Pool, relu: bool, relu_result: bool
) -> Tensor:
    """The same by torch."""
    values = values.relu() if relu else values
    moved = values - pool(values.mean(1))[:, None]
    result = moved * torch.rsqrt(pool(moved.square().mean(1)) + eps)[:, None]
    result = result if gamma is None else result * gamma[:, None]
    result = result if beta is None else result + beta[:, None]
    return result.relu() if relu_result else result
