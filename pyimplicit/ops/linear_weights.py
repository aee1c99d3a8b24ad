"""Linear weights of a distance, and weighted choice from a pool."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_finite, check_not_negative, check_positive, check_tensor
from pyimplicit.ops._library import register
from pyimplicit.ops.random import RandomStream

CHILDREN = 64  # of a node of the tree of sums, as in csrc/sampling/linear_weights.h


def linear_weights(
    distance: Tensor,  # [...]
    tau: float = 0.1,
    mu: float | None = None,
) -> Tensor:
    """Sampling weight that falls linearly with the distance to the surface: mu (tau - g) up to tau, then 0.

    Args:
        distance: Unsigned distances, any shape, float32 or float64, mesh units, not negative.
        tau: Distance at which the weight reaches 0, mesh units, above 0.
        mu: Slope, above 0; None means 1 / tau, a weight of 1 on the surface.

    Returns:
        Weights of the same shape, 0 or more. Differentiable: the slope is -mu within tau.

    Raises:
        ValueError: `tau` or `mu` not a finite number above 0; a negative or not finite distance.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-A, equation 2.

    Example:
        >>> linear_weights(torch.tensor([0.0, 0.05, 0.2]), tau=0.1)
        tensor([1.0000, 0.5000, 0.0000])
    """
    check_not_negative("distance", check_finite("distance", check_tensor("distance", distance, ("...",))))
    tau = check_positive("tau", tau)
    mu = 1 / tau if mu is None else check_positive("mu", mu)
    weights: Tensor = _linear_weights_op(distance.contiguous(), tau, mu)
    return weights


def weighted_choice(
    weights: Tensor,  # [N]
    count: int,
    seed: int | RandomStream = 0,
    replacement: bool = False,
) -> Tensor:
    """Indices drawn with probability proportional to their weights.

    Args:
        weights: [N] float32 or float64, finite, not negative; they need not sum to 1.
        count: How many to draw, at least 1; without replacement at most the number of positive weights.
        seed: The same seed and weights give the same indices on any number of threads and any device.
        replacement: Whether an index may be drawn more than once. Without, each draw is made among what is left
            (successive sampling), in the order in which it was drawn.

    Returns:
        Indices [count] int64; none of weight 0.

    Raises:
        ValueError: Negative or not finite weights, no positive weight, a sum beyond float64, or too many asked for.

    Source:
        Wong and Easton, "An Efficient Method for Weighted Sampling without Replacement", 1980 (the tree of sums);
        Efraimidis and Spirakis, "Weighted Random Sampling with a Reservoir", 2006 (successive sampling).

    Example:
        >>> weighted_choice(torch.tensor([0.0, 2.0, 0.0, 1.0]), 2).sort().values
        tensor([1, 3])
    """
    check_tensor("weights", weights, ("N",))
    check_count("count", count)
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    chosen: Tensor = _weighted_choice_op(
        weights.detach().contiguous(), count, stream.seed, stream.shape, stream.step, stream.purpose, replacement
    )
    return chosen


# ---- operators


def _linear_weights_kernel(distance: Tensor, tau: float, mu: float) -> Tensor:
    weights = torch.empty_like(distance)
    _native.call(
        "linear_weights", distance.device, distance.dtype, distance=distance, count=distance.numel(), tau=tau, mu=mu,
        weights=weights,
    )  # fmt: skip
    return weights


def _linear_weights_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    distance, ctx.tau, ctx.mu = inputs
    ctx.save_for_backward(distance)


def _linear_weights_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (distance,) = ctx.saved_tensors
    return torch.where(distance > ctx.tau, 0.0, -ctx.mu * gradient), None, None


_linear_weights_op = register(
    "linear_weights",
    "(Tensor distance, float tau, float mu) -> Tensor",
    _linear_weights_kernel,
    lambda distance, tau, mu: torch.empty_like(distance),
    _linear_weights_backward,
    _linear_weights_context,
)


def _weighted_choice_kernel(
    weights: Tensor, count: int, seed: int, shape: int, step: int, purpose: int, replacement: bool
) -> Tensor:
    stream = RandomStream(seed, shape, step, purpose)
    sums = _sum_tree(weights, None if replacement else count)
    if replacement:
        return _draw(weights, sums, None, stream, 0, count)
    if weights.device.type == "cpu":
        chosen = torch.empty(count, dtype=torch.int64, device=weights.device)
        _native.call(
            "choose_distinct", weights.device, weights.dtype, weights=weights, count=weights.shape[0], sums=sums,
            **vars(stream), wanted=count, chosen=chosen,
        )  # fmt: skip
        return chosen
    return _choose_in_rounds(weights, sums, stream, count)


def _choose_in_rounds(weights: Tensor, sums: Tensor, stream: RandomStream, count: int) -> Tensor:
    """Without replacement on a GPU; `csrc/sampling/choose_distinct.h` does the same on the CPU."""
    taken = torch.zeros((weights.shape[0] + CHILDREN - 1) // CHILDREN, dtype=torch.int64, device=weights.device)
    rounds: list[Tensor] = []
    found = drawn = 0
    while found < count:
        # Those drawn before are out of the tree, and a draw counts when it is the first of its index: together this is
        # drawing one after the other among what is left. A round brings at least one, and seldom less than half.
        candidates = _draw(weights, sums, taken if rounds else None, stream, drawn, count - found)
        drawn += count - found
        ordered, order = candidates.sort(stable=True)
        is_first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=is_first[1:])
        rounds.append(candidates[order[is_first].sort().values])
        found += rounds[-1].shape[0]
        if found < count:
            new = ordered[is_first]
            _native.call(
                "take_out", weights.device, weights.dtype, weights=weights, count=weights.shape[0], sorted=new,
                sorted_count=new.shape[0], taken=taken, sums=sums,
            )  # fmt: skip
    return torch.cat(rounds) if len(rounds) > 1 else rounds[0]


def _sum_tree(weights: Tensor, most: int | None) -> Tensor:
    """Sums of 64 weights each, of 64 of those and so on, in float64; raises if `most` different ones are not there."""
    nodes, size = 0, weights.shape[0]
    while size > 1 or nodes == 0:
        size = (size + CHILDREN - 1) // CHILDREN
        nodes += size
        if size == 0:
            raise ValueError("weights: expected at least one positive weight, got none")
    sums = torch.empty(nodes, dtype=torch.float64, device=weights.device)
    above = torch.empty((weights.shape[0] + CHILDREN - 1) // CHILDREN, dtype=torch.uint8, device=weights.device)
    _native.call(
        "sum_weights", weights.device, weights.dtype, weights=weights, count=weights.shape[0], sums=sums,
        positive=above,
    )  # fmt: skip
    if int(above.max()) > CHILDREN:  # a weight that is none
        check_not_negative("weights", check_finite("weights", weights))
    positive = int(above.sum())
    if positive == 0:
        raise ValueError("weights: expected at least one positive weight, got none")
    if most is not None and most > positive:
        raise ValueError(f"count: expected at most {positive}, the number of positive weights, got {most}")
    if not math.isfinite(float(sums[-1])):
        raise ValueError("weights: expected a finite sum, got infinity")
    return sums


def _draw(weights: Tensor, sums: Tensor, taken: Tensor | None, stream: RandomStream, first: int, draws: int) -> Tensor:
    chosen = torch.empty(draws, dtype=torch.int64, device=weights.device)
    _native.call(
        "draw_from_tree", weights.device, weights.dtype, weights=weights, count=weights.shape[0], sums=sums,
        taken=taken, **vars(stream), first=first, draws=draws, chosen=chosen,
    )  # fmt: skip
    return chosen


_weighted_choice_op = register(
    "weighted_choice",
    "(Tensor weights, int count, int seed, int shape, int step, int purpose, bool replacement) -> Tensor",
    _weighted_choice_kernel,
    lambda weights, count, *_: weights.new_empty(count, dtype=torch.int64),
)
