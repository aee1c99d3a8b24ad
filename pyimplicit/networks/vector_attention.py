"""Vector attention among points: one weight a channel, and features of pairs beside those of points.

A CPU runs kernels of its own in float32: a torch operator for each step would pass over all pairs a dozen times.

Source: Zhao, Jiang, Jia, Torr and Koltun, "Point Transformer", ICCV 2021, section 3.1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit.ops import vector_attention as kernels
from pyimplicit.ops._library import is_followed


def pair_sums(
    own: Tensor | None,  # [B, N, C]
    others: Tensor,  # [B, M, C]
    neighbours: Tensor | None,  # [B, N, K] int64, among the others; None for all M of them
    pairs: Tensor,  # [B, N, K, C]
) -> Tensor:  # [B, N, K, C]
    """Return for every point and other the sum of both's features and of the pair's."""
    given = (own, others, neighbours, pairs)
    rows = (*pairs.shape[:2], pairs.shape[3])
    if not _takes(pairs, others, neighbours, own) or (own is not None and own.shape != rows):
        return _pair_sums(*given)
    return _PairSums.apply(*_contiguous(*given))  # type: ignore[no-any-return, no-untyped-call]


def attend(
    weights: Tensor,  # [B, N, K, C], before the softmax
    others: Tensor | None,  # [B, M, C]
    neighbours: Tensor | None,  # [B, N, K] int64, among the others; None for all M of them
    pairs: Tensor,  # [B, N, K, C]
    extra: tuple[Tensor, Tensor] | None = None,  # [B, C] both
) -> Tensor:  # [B, N, C]
    """Return for every point the mean of its others' and pairs' features with softmax(weights).

    `extra` is the weight, before the softmax, and the feature of one more, the same for all points of a shape.
    """
    extra_weight, extra_value = (None, None) if extra is None else extra
    given = (weights, others, neighbours, pairs, extra_weight, extra_value)
    shape = (pairs.shape[0], pairs.shape[3])
    fits = weights.shape == pairs.shape and all(one.shape == shape for one in extra or ())
    if not fits or not _takes(pairs, others, neighbours, weights, *(extra or ())):
        return _attend(*given)
    return _Attend.apply(*_contiguous(*given))  # type: ignore[no-any-return, no-untyped-call]


def take(
    rows: Tensor,  # [B, N, C]
    indices: Tensor | None,  # [B, M, K], or None for all N rows for every one of N
) -> Tensor:  # [B, M, K, C] or [B, 1, N, C]
    """Gather rows of each shape."""
    if indices is None:
        return rows[:, None]
    first = torch.arange(rows.shape[0], device=rows.device).mul_(rows.shape[1])
    gathered: Tensor = F.embedding(indices + first[:, None, None], rows.flatten(0, 1))
    return gathered


def _takes(pairs: Tensor, others: Tensor | None, neighbours: Tensor | None, *more: Tensor | None) -> bool:
    """Whether the kernels can take these; they read memory as it is, so nothing may be other than expected."""
    given = [tensor for tensor in (pairs, others, *more) if tensor is not None]
    if is_followed(*given, *([] if neighbours is None else [neighbours])):
        return False
    if not all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in given):
        return False
    shapes, points, each, channels = pairs.shape
    if pairs.numel() == 0:
        return False
    if others is None:
        return neighbours is None
    if others.shape[::2] != (shapes, channels):
        return False
    if neighbours is None:
        return others.shape[1] == each
    if neighbours.shape != (shapes, points, each) or neighbours.dtype != torch.int64 or not neighbours.is_cpu:
        return False
    least, most = neighbours.aminmax()
    return int(least) >= 0 and int(most) < others.shape[1]  # elsewhere torch says what is wrong


def _pair_sums(own: Tensor | None, others: Tensor, neighbours: Tensor | None, pairs: Tensor) -> Tensor:
    sums = take(others, neighbours) + pairs
    return sums if own is None else own[:, :, None] + sums


def _attend(
    weights: Tensor,
    others: Tensor | None,
    neighbours: Tensor | None,
    pairs: Tensor,
    extra_weight: Tensor | None,
    extra_value: Tensor | None,
) -> Tensor:
    values = pairs if others is None else take(others, neighbours) + pairs
    if extra_weight is None or extra_value is None:
        return (weights.softmax(2) * values).sum(2)
    count = weights.shape[2]
    weights = torch.cat([weights, extra_weight[:, None, None].expand(-1, weights.shape[1], -1, -1)], 2).softmax(2)
    # split, whose gradient is one table, not one for each slice
    nearby, elsewhere = torch.split(weights, [count, 1], 2)
    return (nearby * values).sum(2) + elsewhere[:, :, 0] * extra_value[:, None]


def _contiguous(*tensors: Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


class _PairSums(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor | None, others: Tensor, neighbours: Tensor | None, pairs: Tensor) -> Tensor:
        context.save_for_backward(others, neighbours)
        context.has_own = own is not None
        return kernels.pair_sums(own, others, neighbours, pairs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        others, neighbours = context.saved_tensors
        if torch.is_grad_enabled() or is_followed(gradient):
            by_own = gradient.sum(2) if context.has_own else None
            if neighbours is None:
                return by_own, gradient.sum(1), None, gradient
            first = torch.arange(len(others), device=others.device) * others.shape[1]
            at = (neighbours + first[:, None, None]).flatten()
            rows = gradient.new_zeros(others.shape).flatten(0, 1).index_add(0, at, gradient.flatten(0, 2))
            return by_own, rows.view(others.shape), None, gradient
        gradient = gradient.contiguous()
        by_own, by_others = kernels.pair_sum_gradients(gradient, others, neighbours, context.has_own)
        return by_own, by_others, None, gradient


class _Attend(torch.autograd.Function):
    """Keeps its inputs, of which the linear layers around it keep most anyway."""

    @staticmethod
    def forward(
        context: Any,
        weights: Tensor,
        others: Tensor | None,
        neighbours: Tensor | None,
        pairs: Tensor,
        extra_weight: Tensor | None,
        extra_value: Tensor | None,
    ) -> Tensor:
        given = (weights, others, neighbours, pairs, extra_weight, extra_value)
        extra = None if extra_weight is None or extra_value is None else (extra_weight, extra_value)
        found = kernels.attend(weights, others, neighbours, pairs, extra)
        context.save_for_backward(*given, *found)
        return found[0]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        given, found = context.saved_tensors[:6], context.saved_tensors[6:]
        weights, others, neighbours, pairs, extra_weight, extra_value = given
        asking = torch.is_grad_enabled()  # for a derivative of this
        if asking or is_followed(gradient):
            asked = context.needs_input_grad
            with torch.autocast("cpu", enabled=False), torch.enable_grad():
                # Views: what one of them depends on another must not count here, and does where they are made.
                inputs = [None if of is None else of.view_as(of) for of in given]
                again = _attend(*inputs)  # type: ignore[arg-type]
                wanted = [of for of, by in zip(inputs, asked, strict=True) if by]
                slopes = iter(torch.autograd.grad(again, wanted, gradient, create_graph=asking))  # type: ignore[arg-type]
            return tuple(next(slopes) if by else None for by in asked)
        extra = None if extra_weight is None else (extra_weight, extra_value)
        of_weights, of_others, of_pairs, *of_extra = kernels.attend_gradients(
            gradient.contiguous(), weights, others, neighbours, pairs, extra, found
        )
        return of_weights, of_others, None, of_pairs, *of_extra
