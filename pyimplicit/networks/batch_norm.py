"""Batch normalisation after a ReLU, for training on the CPU: exact statistics, and few passes over memory.

Torch's kernel for channels-last features adds up millions of float32 values one by one: on a grid of 128^3 cells its
variance is off by 1e-3, and with it everything that follows. Here sums are torch's own pairwise ones, taken over pieces
that stay in the cache, and the ReLU's derivative is applied in the same pass as the normalisation's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pyimplicit.ops import memory

PIECE = 1 << 18  # numbers that are worked on at a time
LINE = 256  # numbers at least of a line of operands: short lines cost more for each number


def relu_batch_norm(
    features: Tensor,  # [B, C, D, H, W]
    norm: nn.BatchNorm3d,
) -> Tensor:  # [B, C, D, H, W]
    """Return norm(relu(features)), which may overwrite `features`, as the layers in turn would give it."""
    plain = features.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling()
    if not (norm.training and features.device.type == "cpu" and plain):
        return norm(features.relu_())  # type: ignore[no-any-return]
    last = features.movedim(1, 4)
    rows = last.reshape(-1, last.shape[4])
    with torch.no_grad():
        mean, variance = _statistics(rows)
        update_statistics(norm, mean, variance, len(rows))
    normalised = _ReluBatchNorm.apply(rows, mean, variance, norm.weight, norm.bias, norm.eps)
    return normalised.view(last.shape).movedim(4, 1)


@torch.no_grad()
def update_statistics(norm: nn.BatchNorm3d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update running statistics as batch normalisation in training mode does: of the variance the unbiased one."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (count / (count - 1)), momentum)


class _ReluBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        rows: Tensor,  # [N, C], before the ReLU
        mean: Tensor,  # [C], of the ReLU
        variance: Tensor,  # [C]
        weight: Tensor,  # [C]
        bias: Tensor,  # [C]
        eps: float,
    ) -> Tensor:  # [N, C]
        inverse = torch.rsqrt(variance + eps)
        scale = weight * inverse
        normalised = memory.empty(rows.shape, rows.stride(), rows.dtype, rows.device)
        shift, scale_line = _lines(rows, bias - mean * scale, scale)
        for piece, out in _pieces(rows, normalised):
            torch.addcmul(shift, piece.relu(), scale_line, out=out)
        context.save_for_backward(rows, mean, inverse, weight)
        return normalised

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, mean, inverse, weight = context.saved_tensors
        gradient = gradient.contiguous()
        count, channels = rows.shape
        (mean_line,) = _lines(rows, mean)
        total, weighted = rows.new_zeros(2, channels, dtype=torch.float64)
        for piece, own in _pieces(rows, gradient):
            total += own.view(-1, channels).sum(0)
            weighted += (piece.relu() - mean_line).mul_(own).view(-1, channels).sum(0)
        by_bias, by_weight = total.to(rows.dtype), (weighted * inverse).to(rows.dtype)
        # weight / std * (gradient - its mean - normalised * mean(gradient * normalised)), as a sum of two products
        scale = weight * inverse
        slope = -scale * inverse * by_weight / count
        shift = -scale * by_bias / count - slope * mean
        shift_line, slope_line, scale_line = _lines(rows, shift, slope, scale)
        result = memory.empty(rows.shape, rows.stride(), rows.dtype, rows.device)
        for piece, own, out in _pieces(rows, gradient, result):
            positive = piece.relu()
            moved = torch.addcmul(shift_line, positive, slope_line).addcmul_(own, scale_line)
            torch.ops.aten.threshold_backward.grad_input(moved, positive, 0, grad_input=out)
        return result, None, None, by_weight, by_bias, None


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance [C] of relu(rows [N, C])."""
    count, channels = rows.shape
    total = rows.new_zeros(channels, dtype=torch.float64)
    for (piece,) in _pieces(rows):
        total += piece.relu().view(-1, channels).sum(0)
    mean = (total / count).to(rows.dtype)
    squares = torch.zeros_like(total)
    (mean_line,) = _lines(rows, mean)
    for (piece,) in _pieces(rows):
        squares += (piece.relu() - mean_line).square_().view(-1, channels).sum(0)
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
    cut = [table.view(-1, length).split(max(PIECE // length, 1)) for table in tables]
    return zip(*cut, strict=True)
