"""Batch normalisation in training on the CPU, possibly after a ReLU: exact statistics, and few passes over memory.

Torch's kernel for channels-last features adds up float32 values one by one: on a grid of 128^3 cells its variance is
off by 1e-3, on 12,000 points by 1e-5, and with it everything that follows. Here sums are torch's own pairwise ones,
taken over pieces that stay in the cache, and the ReLU's derivative is applied in the same pass as the normalisation's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pyimplicit.ops import memory

PIECE = 1 << 18  # numbers that are worked on at a time
LINE = 256  # numbers at least of a line of operands: short lines cost more for each number


def batch_norm(
    norm: nn.BatchNorm1d,
    features: Tensor,  # [..., C]
) -> Tensor:  # [..., C]
    """Return `norm` of channels-last features: over all rows, as the layer would give it with exact sums."""
    rows = features.flatten(0, -2)
    result: Tensor = _exact(rows, norm, False) if _takes(rows, norm) else norm(rows)
    return result.view_as(features)


def relu_batch_norm(
    norm: nn.BatchNorm3d,
    features: Tensor,  # [B, C, D, H, W]
) -> Tensor:  # [B, C, D, H, W]
    """Return norm(relu(features)), as the layers would give it with exact sums; channels last where they are."""
    if not _takes(features, norm):
        return norm(features.relu())  # type: ignore[no-any-return]
    last = features.movedim(1, 4)
    return _exact(last.reshape(-1, last.shape[4]), norm, True).view(last.shape).movedim(4, 1)


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
    with torch.no_grad():
        mean, variance = _statistics(rows.contiguous(), False)
        update_statistics(norm, mean, variance, len(rows))
    return _ConditionalBatchNorm.apply(  # type: ignore[no-any-return, no-untyped-call]
        features, mean, variance, gamma, beta, norm.eps
    )


@torch.no_grad()
def update_statistics(norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update running statistics as batch normalisation in training mode does: of the variance the unbiased one."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (count / (count - 1)), momentum)


def _takes(features: Tensor, norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Whether the sums are done here: elsewhere torch's own are exact, or the layer is traced or of halves."""
    plain = features.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling()
    return norm.training and plain and features.device.type == "cpu" and features.numel() > features.shape[-1]


def _exact(rows: Tensor, norm: nn.modules.batchnorm._BatchNorm, after_relu: bool) -> Tensor:
    rows = rows.contiguous()
    with torch.no_grad():
        mean, variance = _statistics(rows, after_relu)
        update_statistics(norm, mean, variance, len(rows))
    normalised: Tensor = _BatchNorm.apply(  # type: ignore[no-untyped-call]
        rows, mean, variance, norm.weight, norm.bias, norm.eps, after_relu
    )
    return normalised


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        rows: Tensor,  # [N, C], before the ReLU
        mean: Tensor,  # [C], after it
        variance: Tensor,  # [C]
        weight: Tensor | None,  # [C]
        bias: Tensor | None,  # [C]
        eps: float,
        after_relu: bool,
    ) -> Tensor:  # [N, C]
        inverse = torch.rsqrt(variance + eps)
        scale = inverse if weight is None else weight * inverse
        shift = -mean * scale if bias is None else bias - mean * scale
        normalised = memory.empty(rows.shape, rows.stride(), rows.dtype, rows.device)
        shift_line, scale_line = _lines(rows, shift, scale)
        for piece, out in _pieces(rows, normalised):
            torch.addcmul(shift_line, piece.relu() if after_relu else piece, scale_line, out=out)
        context.save_for_backward(rows, mean, inverse, weight)
        context.eps, context.after_relu = eps, after_relu
        return normalised

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, mean, inverse, weight = context.saved_tensors
        if torch.is_grad_enabled():  # the derivative of this will be asked for: torch's knows its own
            values = rows.relu() if context.after_relu else rows
            wanted = [True, weight is not None, weight is not None]
            result, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, values, weight, None, None, mean, inverse, True, context.eps, wanted
            )
            result = result * (rows > 0) if context.after_relu else result
            return result, None, None, by_weight, by_bias, None, None
        scale = inverse if weight is None else weight * inverse
        gradient = gradient.contiguous()
        count, channels = rows.shape
        (mean_line,) = _lines(rows, mean)
        total, weighted = rows.new_zeros(2, channels, dtype=torch.float64)
        for piece, own in _pieces(rows, gradient):
            values = piece.relu() if context.after_relu else piece
            total += own.view(-1, channels).sum(0)
            weighted += (values - mean_line).mul_(own).view(-1, channels).sum(0)
        by_bias, by_weight = total.to(rows.dtype), (weighted * inverse).to(rows.dtype)
        # scale * (gradient - its mean - normalised * mean(gradient * normalised)), as a sum of two products
        slope = -scale * inverse * by_weight / count
        shift = -scale * by_bias / count - slope * mean
        shift_line, slope_line, scale_line = _lines(rows, shift, slope, scale)
        result = memory.empty(rows.shape, rows.stride(), rows.dtype, rows.device)
        for piece, own, out in _pieces(rows, gradient, result):
            if context.after_relu:
                positive = piece.relu()
                moved = torch.addcmul(shift_line, positive, slope_line).addcmul_(own, scale_line)
                torch.ops.aten.threshold_backward.grad_input(moved, positive, 0, grad_input=out)
            else:
                torch.addcmul(shift_line, piece, slope_line, out=out).addcmul_(own, scale_line)
        if weight is None:
            return result, None, None, None, None, None, None
        return result, None, None, by_weight, by_bias, None, None


class _ConditionalBatchNorm(torch.autograd.Function):
    """Keeps its input and its result, which the next layer keeps anyway, and nothing in between."""

    @staticmethod
    def forward(
        context: Any,
        features: Tensor,  # [B, T, C]
        mean: Tensor,  # [C]
        variance: Tensor,  # [C]
        gamma: Tensor,  # [B, C]
        beta: Tensor,  # [B, C]
        eps: float,
    ) -> Tensor:  # [B, T, C]
        features = features.contiguous()
        inverse = torch.rsqrt(variance + eps)
        scale = gamma * inverse
        shift = beta - mean * scale
        result = memory.empty(features.shape, features.stride(), features.dtype, features.device)
        shift_lines, scale_lines = _lines_by_shape(features, shift, scale)
        for shapes, piece, out in _pieces_by_shape(features, result):
            torch.addcmul(shift_lines[shapes], piece, scale_lines[shapes], out=out).relu_()
        context.save_for_backward(features, mean, inverse, gamma, result)
        context.eps = eps
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, mean, inverse, gamma, result = context.saved_tensors
        channels = features.shape[2]
        if torch.is_grad_enabled():  # the derivative of this will be asked for: torch's layers know their own
            passed = gradient * (result > 0)
            rows = features.flatten(0, 1)
            normalised = torch.native_batch_norm(rows, None, None, None, None, True, 0.0, context.eps)[0]
            by_rows = torch.ops.aten.native_batch_norm_backward(
                (passed * gamma[:, None]).flatten(0, 1), rows, None, None, None, mean, inverse, True, context.eps,
                [True, False, False],
            )[0]  # fmt: skip
            by_gamma = (passed * normalised.view_as(passed)).sum(1)
            return by_rows.view_as(features), None, None, by_gamma, passed.sum(1), None
        passed = torch.ops.aten.threshold_backward(gradient.contiguous(), result, 0)  # [B, T, C]
        by_gamma = features.new_zeros(*gamma.shape, dtype=torch.float64)
        (mean_line,) = _lines(features[0], mean)
        for shapes, piece, part in _pieces_by_shape(features, passed):
            by_gamma[shapes] += (piece - mean_line).mul_(part).view(len(piece), -1, channels).sum(1)
        by_gamma = (by_gamma * inverse).to(gamma.dtype)
        by_beta = passed.sum(1)
        count = features.shape[0] * features.shape[1]
        slope = -inverse * inverse * (gamma * by_gamma).sum(0) / count
        shift = -inverse * (gamma * by_beta).sum(0) / count - slope * mean
        shift_line, slope_line = _lines(features[0], shift, slope)
        (scale_lines,) = _lines_by_shape(features, gamma * inverse)
        for shapes, piece, part in _pieces_by_shape(features, passed):
            part.mul_(scale_lines[shapes]).addcmul_(piece, slope_line).add_(shift_line)
        return passed, None, None, by_gamma, by_beta, None


def _statistics(rows: Tensor, after_relu: bool) -> tuple[Tensor, Tensor]:
    """Return mean and variance [C] of rows [N, C], or of their ReLU."""
    count, channels = rows.shape
    total = rows.new_zeros(channels, dtype=torch.float64)
    for (piece,) in _pieces(rows):
        total += (piece.relu() if after_relu else piece).view(-1, channels).sum(0)
    mean = (total / count).to(rows.dtype)
    squares = torch.zeros_like(total)
    (mean_line,) = _lines(rows, mean)
    for (piece,) in _pieces(rows):
        values = piece.relu() if after_relu else piece
        squares += (values - mean_line).square_().view(-1, channels).sum(0)
    return mean, (squares / count).to(rows.dtype)


def _width(rows: Tensor) -> int:
    """Return how many rows are taken as one line: a power of 2 that divides their number."""
    together = 1
    while together * rows.shape[1] < LINE and rows.shape[0] % (2 * together) == 0:
        together *= 2
    return together


def _lines(rows: Tensor, *values: Tensor) -> Iterator[Tensor]:
    """Repeat values [C] to the length of a line."""
    together = _width(rows)
    return (value.repeat(together) for value in values)


def _pieces(*tables: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tables [N, C] of one shape into pieces that the cache holds, several rows in a line."""
    together = _width(tables[0])
    length = together * tables[0].shape[1]
    cut = [torch.split(table.view(-1, length), max(PIECE // length, 1)) for table in tables]
    return zip(*cut, strict=True)


def _lines_by_shape(features: Tensor, *values: Tensor) -> Iterator[Tensor]:
    """Repeat values [B, C] to the length of a line of features [B, T, C]: [B, 1, line]."""
    together = _width(features[0])
    return (value.repeat(1, together)[:, None] for value in values)


def _pieces_by_shape(*tables: Tensor) -> Iterator[tuple[Any, ...]]:
    """Cut tables [B, T, C] of one shape into pieces [b, lines, line] that the cache holds, each after its slice of B.

    They are several rows of B where these are small, so that a small batch is worked on at once, or parts of one.
    """
    count, rows, channels = tables[0].shape
    length = _width(tables[0][0]) * channels
    lined = [table.view(count, -1, length) for table in tables]
    several = max(PIECE // (rows * channels), 1)
    most = max(PIECE // length, 1)
    for first in range(0, count, several):
        shapes = slice(first, first + several)
        for begin in range(0, lined[0].shape[1], most if several == 1 else lined[0].shape[1]):
            end = begin + most if several == 1 else None
            yield (shapes, *(table[shapes, begin:end] for table in lined))
