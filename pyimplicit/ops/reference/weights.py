"""Twins of the weights, and of the choices made by them."""

from __future__ import annotations

import torch
from torch import Tensor

from pyimplicit.ops.random import RandomStream
from pyimplicit.ops.reference.random import Words, uniform53, words_at, words_of


def linear_weights(
    distance: Tensor,  # [...]
    tau: float = 0.1,
    mu: float | None = None,
) -> Tensor:
    """Twin of `pyimplicit.ops.linear_weights`."""
    return (1 / tau if mu is None else mu) * (tau - distance).clamp(min=0)


def weighted_choice(
    weights: Tensor,  # [N]
    count: int,
    seed: int | RandomStream = 0,
    replacement: bool = False,
) -> Tensor:
    """Twin of `pyimplicit.ops.weighted_choice`: without replacement, one draw after the other."""
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    left = weights.double().clone()
    if replacement:
        return _draw_from_tree(left, words_of(count, stream, weights.device))
    chosen: list[Tensor] = []
    found = drawn = 0
    while found < count:
        candidates = _draw_from_tree(left, words_at(drawn + torch.arange(count - found, device=weights.device), stream))
        drawn += count - found
        for candidate in candidates.tolist():
            if left[candidate] > 0:
                left[candidate] = 0
                chosen.append(torch.tensor([candidate], device=weights.device))
                found += 1
    return torch.cat(chosen)


def _draw_from_tree(weights: Tensor, words: Words) -> Tensor:
    """Indices at uniform places of a tree of sums of 64, each made of eight interleaved sums."""
    levels = [weights]
    while len(levels) == 1 or len(levels[-1]) > 1:
        padded = torch.nn.functional.pad(levels[-1], (0, -len(levels[-1]) % 64)).reshape(-1, 8, 8)
        lanes = [_add_up(padded[:, :, lane])[:, -1] for lane in range(8)]
        odd, even = (((lanes[i] + lanes[i + 4]) + (lanes[i + 2] + lanes[i + 6])) for i in (1, 0))
        levels.append(even + odd)
    target = uniform53(words[0], words[1]) * levels[-1]
    place = torch.zeros_like(words[0])
    for level in levels[-2::-1]:
        values = torch.nn.functional.pad(level, (0, -len(level) % 64)).reshape(-1, 64)[place]
        running = _add_up(values)
        passed = (running > target.unsqueeze(1)) & (values > 0)
        last = 63 - (values > 0).flip(1).long().argmax(1)
        child = torch.where(passed.any(1), passed.long().argmax(1), last).unsqueeze(1)
        before = torch.nn.functional.pad(running, (1, 0)).gather(1, child)
        target = target - before[:, 0]
        place = 64 * place + child[:, 0]
    return place


def _add_up(values: Tensor) -> Tensor:
    """Running sums along axis 1, added one after the other."""
    sums = [values[:, 0]]
    for column in values.unbind(1)[1:]:
        sums.append(sums[-1] + column)
    return torch.stack(sums, 1)
