"""Twins of the random numbers: Philox in int64 arithmetic."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyimplicit.ops.random import RandomStream

WORD = 0xFFFFFFFF
Words = tuple[Tensor, Tensor, Tensor, Tensor]  # each int64, 0 to 2**32 - 1


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Philox4x32-10 in int64 arithmetic: four words from a counter of four and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The products wrap modulo 2**64, which leaves all their 64 bits in place.
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32 & WORD) ^ c1 ^ k0, p1 & WORD, (p0 >> 32 & WORD) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def uniform(
    count: int,
    stream: RandomStream,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Twin of `pyimplicit.ops.uniform`."""
    words = torch.stack(words_of(count, stream, device)[:3], 1)
    ends = torch.tensor([low, high], dtype=dtype, device=device)
    values = ends[0] + (words >> 8).to(dtype) * 2.0**-24 * (ends[1] - ends[0])
    return torch.minimum(values, torch.nextafter(ends[1], ends[0]))


def normal(
    count: int, stream: RandomStream, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Twin of `pyimplicit.ops.normal`."""
    units = [open_uniform(word) for word in words_of(count, stream, device)]
    radius = [(-2 * units[i].log()).sqrt() for i in (0, 2)]
    angle = [2 * math.pi * units[i] for i in (1, 3)]
    values = (radius[0] * angle[0].cos(), radius[0] * angle[0].sin(), radius[1] * angle[1].cos())
    return torch.stack(values, 1).to(dtype)


def words_of(count: int, stream: RandomStream, device: torch.device | str) -> Words:
    """The four words of each of the first draws of a stream."""
    return words_at(torch.arange(count, device=device), stream)


def words_at(index: Tensor, stream: RandomStream) -> Words:
    """The four words of the draws of these indices."""

    def constant(value: int) -> Tensor:
        return torch.full_like(index, value & WORD)

    counter = (index & WORD, (index >> 32) | (stream.purpose << 16), constant(stream.shape), constant(stream.step))
    return philox(counter, (constant(stream.seed), constant(stream.seed >> 32)))


def open_uniform(word: Tensor) -> Tensor:
    """Numbers between 0 and 1, neither of them included."""
    return (word.double() + 0.5) * 2.0**-32


def uniform53(high: Tensor, low: Tensor) -> Tensor:
    """Numbers from 0 to below 1 with 53 bits."""
    return ((high << 21) | (low >> 11)).double() * 2.0**-53
