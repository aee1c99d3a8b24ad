"""What vector attention does with pairs of a point and another, in float32 on the CPU: few passes over their channels.

Not operators of torch: they are parts of `pyimplicit.networks.vector_attention`, which has the derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.ops import memory


def pair_sums(
    own: Tensor | None,  # [B, N, C]
    others: Tensor,  # [B, M, C]
    neighbours: Tensor | None,  # [B, N, K] int64; None for all others in order
    pairs: Tensor,  # [B, N, K, C]
    lanes: int = 0,
) -> Tensor:  # [B, N, K, C]
    """Return own + others + pairs for each pair. All contiguous."""
    results = _like(pairs)
    _native.call(
        "pair_sums", pairs.device, **_table(pairs, others, neighbours), own=own, others=others, pairs=pairs,
        results=results, lanes=lanes,
    )  # fmt: skip
    return results


def pair_sum_gradients(
    gradients: Tensor,  # [B, N, K, C]
    others: Tensor,  # [B, M, C]; only its shape counts
    neighbours: Tensor | None,  # [B, N, K]
    of_own: bool,
    lanes: int = 0,
) -> tuple[Tensor | None, Tensor]:  # [B, N, C], [B, M, C]
    """Return the gradients of `own` and `others`; those of the pairs are the sums' own."""
    batch, points, _, channels = gradients.shape
    by_own = gradients.new_empty(batch, points, channels) if of_own else None
    by_others = torch.empty_like(others)
    _native.call(
        "pair_sum_gradients", gradients.device, **_table(gradients, others, neighbours), gradients=gradients,
        of_own=by_own, of_others=by_others, lanes=lanes,
    )  # fmt: skip
    return by_own, by_others


def attend(
    weights: Tensor,  # [B, N, K, C]
    others: Tensor | None,  # [B, M, C]
    neighbours: Tensor | None,  # [B, N, K]
    pairs: Tensor,  # [B, N, K, C]
    extra: tuple[Tensor, Tensor] | None,  # [B, C] both
    lanes: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:  # [B, N, C] each
    """Return the sums of softmax(weights) * (others + pairs) over the K pairs of each point, and what gradients need.

    `extra` is the weight and the value of one more pair, the same for all points of a shape. Gradients need the largest
    weight, and the sum of e^(weight - largest).
    """
    batch, points, _, channels = pairs.shape
    results, largest, sums = (pairs.new_empty(batch, points, channels) for _ in range(3))
    extra_weight, extra_value = (None, None) if extra is None else extra
    _native.call(
        "vector_attention", pairs.device, **_table(pairs, others, neighbours), weights=weights, others=others,
        pairs=pairs, extra_weight=extra_weight, extra_value=extra_value, results=results, largest=largest,
        sums=sums, lanes=lanes,
    )  # fmt: skip
    return results, largest, sums


def attend_gradients(
    gradients: Tensor,  # [B, N, C]
    weights: Tensor,  # [B, N, K, C]
    others: Tensor | None,  # [B, M, C]
    neighbours: Tensor | None,  # [B, N, K]
    pairs: Tensor,  # [B, N, K, C]
    extra: tuple[Tensor, Tensor] | None,  # [B, C] both
    found: tuple[Tensor, Tensor, Tensor],  # [B, N, C] each, from `attend`
    lanes: int = 0,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of the weights, the others, the pairs, and the extra weight and value."""
    of_weights, of_pairs = _like(weights), _like(pairs)
    of_others = None if others is None else torch.empty_like(others)
    of_extra = (None, None) if extra is None else (torch.empty_like(extra[0]), torch.empty_like(extra[1]))
    extra_weight, extra_value = (None, None) if extra is None else extra
    _native.call(
        "vector_attention_gradients", pairs.device, **_table(pairs, others, neighbours), weights=weights, others=others,
        pairs=pairs, extra_weight=extra_weight, extra_value=extra_value, results=found[0], largest=found[1],
        sums=found[2], gradients=gradients, of_weights=of_weights, of_pairs=of_pairs, of_others=of_others,
        of_extra_weight=of_extra[0], of_extra_value=of_extra[1], lanes=lanes,
    )  # fmt: skip
    return of_weights, of_others, of_pairs, *of_extra


def _table(pairs: Tensor, others: Tensor | None, neighbours: Tensor | None) -> dict[str, Any]:
    shapes, points, each, channels = pairs.shape
    count = each if others is None else others.shape[1]
    return {
        "shapes": shapes, "points": points, "other_count": count, "neighbours": each, "channels": channels,
        "index": neighbours,
    }  # fmt: skip


def _like(pairs: Tensor) -> Tensor:
    return memory.empty(pairs.shape, pairs.stride(), pairs.dtype, pairs.device)
