"""Blocks that more than one network is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit import ops
from pyimplicit.networks.linear import Linear
from pyimplicit.ops._library import is_followed
from pyimplicit.ops.convolution import has_wrong_gradients
from pyimplicit.ops.linear import linear

# Numbers of a table that is worked on at a time.
PART = 1 << 22


def in_parts(
    work: Callable[[slice], Tensor],  # part of the queries: [B, n, ...]
    count: int,  # queries
    entries: int,  # of the largest table for one query, summed over the batch
    on: Tensor,
) -> Tensor:  # [B, count, ...]
    """Work on some queries at a time on a CPU: small tables stay in the caches, and `ops.KeptHeap` keeps them."""
    most = part_size(count, entries, on)
    if most == count:
        return work(slice(None))
    return torch.cat([work(slice(first, first + most)) for first in range(0, count, most)], 1)


def part_size(count: int, entries: int, on: Tensor) -> int:
    """Return how many queries `in_parts` works on at a time."""
    if on.device.type != "cpu" or torch.compiler.is_compiling():
        return count
    return min(max(PART // max(entries, 1), 1), count)


class ResnetBlockFC(nn.Module):
    """Two linear layers with ReLUs before them, beside a shortcut; starts as its shortcut, as the last weight is 0.

    Args:
        in_size: Features in.
        out_size: Features out; `in_size` if None. The hidden layer has the smaller of both.

    Source:
        Occupancy Networks: Learning 3D Reconstruction in Function Space (Mescheder et al. 2019), supplementary
        section on network architectures.

    Example:
        >>> block = ResnetBlockFC(4)
        >>> x = torch.randn(2, 5, 4)
        >>> torch.equal(block(x), x + block.fc_1.bias)
        True
    """

    def __init__(self, in_size: int, out_size: int | None = None) -> None:
        super().__init__()
        out_size = in_size if out_size is None else out_size
        hidden_size = min(in_size, out_size)
        self.fc_0 = Linear(in_size, hidden_size, relu=True)
        self.fc_1 = Linear(hidden_size, out_size)
        self.shortcut = Linear(in_size, out_size, bias=False) if in_size != out_size else None
        nn.init.zeros_(self.fc_1.weight)

    def forward(
        self,
        x: Tensor,  # [..., N, in_size - P]
        shared: Tensor | None = None,  # [..., 1, P]
    ) -> Tensor:  # [..., N, out_size]
        """Apply the block to x, or to cat[x, shared repeated N times], which is not formed.

        A linear layer of a concatenation is the sum of two linear layers, and the one of `shared` runs once.
        """
        hidden = self.fc_1(_linear(self.fc_0, F.relu(x), None if shared is None else F.relu(shared)))
        shortcut = x if self.shortcut is None else _linear(self.shortcut, x, shared)
        return torch.add(hidden, shortcut)


def _linear(layer: Linear, x: Tensor, shared: Tensor | None) -> Tensor:
    if shared is None:
        return layer(x)  # type: ignore[no-any-return]
    own = x.shape[-1]
    result = linear(x, layer.weight[:, :own]) + F.linear(shared, layer.weight[:, own:], layer.bias)
    return result.relu_() if layer.relu else result


def relu_dropout(features: Tensor, probability: float, training: bool, kept: Tensor | None = None) -> Tensor:
    """Return dropout(relu(features)) in the memory of `features`, of which nothing else is kept for the backward pass.

    Draws what `torch.nn.functional.dropout` draws: equal seeds drop the same features. `kept`, a table of bools like
    `features`, was drawn before.
    """
    if not training or probability == 0:
        return features.relu_()
    return _ReluDropout.apply(features, probability, kept)  # type: ignore[no-any-return, no-untyped-call]


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor, probability: float, kept: Tensor | None) -> Tensor:
        # features that are dropped anyway when all are; torch does not divide by 0 there either
        context.factor = 1 / (1 - probability) if probability < 1 else 0.0
        if kept is None:
            kept = torch.empty_like(features).bernoulli_(1 - probability)
        features.relu_().mul_(context.factor).mul_(kept)
        context.mark_dirty(features)
        context.save_for_backward(features)
        return features

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (result,) = context.saved_tensors  # above 0 where the ReLU let it pass and it was kept
        return torch.ops.aten.threshold_backward(gradient, result.detach(), 0).mul_(context.factor), None, None


class GridConvolution(nn.Conv3d):
    """A 3x3x3 convolution with zeros around: `ops.convolve_grids` on a CPU, torch's under transforms and autocast."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, grids: Tensor) -> Tensor:  # [B, C, D, H, W] to [B, O, D, H, W]
        """Return the convolved grids, channels last where the given ones are, and on a CPU."""
        if is_followed(grids, self.weight):
            return super().forward(grids)
        if grids.device.type == "cpu":
            if not torch.is_autocast_enabled("cpu"):
                return ops.convolve_grids(grids, self.weight, self.bias)
            kind = torch.get_autocast_dtype("cpu")
            if has_wrong_gradients(grids.device, kind, grids.shape[2]):
                bias = None if self.bias is None else self.bias.to(kind)
                return ops.convolve_grids(grids.to(kind), self.weight.to(kind), bias)
        weight, layout = self.weight, torch.channels_last_3d
        if grids.is_contiguous(memory_format=layout):
            weight = weight.contiguous(memory_format=layout)
        return F.conv3d(grids, weight, self.bias, padding=1)
