"""The three-dimensional U-Net of ConvONet's grid encoders.

Papers: 3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation (Çiçek et al., MICCAI 2016);
Convolutional Occupancy Networks (Peng et al., ECCV 2020), section 3.1. Parameter names are ConvONet's authors'.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit.networks.layers import GridConvolution
from pyimplicit.networks.normalisation import GroupNorm
from pyimplicit.ops._library import is_followed

# Channels of a group norm share the statistics of this many groups; fewer where it does not divide the channels.
GROUPS = 8


class UNet3D(nn.Module):
    """Pairs of (group norm, 3x3x3 convolution, ReLU) at `levels` resolutions with skips; no final activation.

    Args:
        channels: Channels in and out.
        width: Channels of the finest level; each coarser level has twice as many.
        levels: Number of resolutions. Any size of grid works: a coarse map is upsampled to the size of its skip.

    Example:
        >>> UNet3D(4, width=4, levels=2)(torch.rand(1, 4, 8, 8, 8)).shape
        torch.Size([1, 4, 8, 8, 8])
    """

    def __init__(self, channels: int, width: int = 32, levels: int = 3) -> None:
        super().__init__()
        sizes = [width << level for level in range(levels)]
        self.encoders = nn.ModuleList(
            _Level(first, max(size // 2, first), size)
            for first, size in zip([channels, *sizes[:-1]], sizes, strict=True)
        )
        self.decoders = nn.ModuleList(
            _Level(coarse + fine, fine, fine) for coarse, fine in zip(sizes[:0:-1], sizes[-2::-1], strict=True)
        )
        self.final_conv = nn.Conv3d(width, channels, 1)

    def forward(
        self,
        grids: Tensor,  # [B, channels, D, H, W]
    ) -> Tensor:  # [B, channels, D, H, W]
        """Return grids of the same size."""
        skips: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            grids = encoder(grids if level == 0 else F.max_pool3d(grids, 2))
            skips.append(grids)
        for decoder, skip in zip(self.decoders, skips[-2::-1], strict=True):
            grids = decoder(_beside(skip, grids))
        return self.final_conv(grids)  # type: ignore[no-any-return]


def _beside(
    fine: Tensor,  # [B, C, D, H, W]
    coarse: Tensor,  # [B, C', D', H', W']
) -> Tensor:  # [B, C + C', D, H, W]
    """Concatenate fine grids and coarse ones brought to their size, each cell taking the nearest value."""
    twice = fine.shape[2:] == torch.Size(2 * size for size in coarse.shape[2:])
    plain = fine.device.type == "cpu" and fine.dtype == coarse.dtype and not is_followed(fine, coarse)
    if twice and plain:
        return _DoubledBeside.apply(fine, coarse)  # type: ignore[no-any-return, no-untyped-call]
    return torch.cat([fine, F.interpolate(coarse, size=fine.shape[2:], mode="nearest")], 1)


def _in_pairs(grids: Tensor, axis: int) -> Tensor:
    """Cut an axis of even size in two: places, and the pair at each."""
    return grids.view(*grids.shape[:axis], grids.shape[axis] // 2, 2, *grids.shape[axis + 1 :])


class _DoubledBeside(torch.autograd.Function):
    """The same for grids of twice the size, channels last: torch's way copies them twice more forward and back."""

    @staticmethod
    def forward(context: Any, fine: Tensor, coarse: Tensor) -> Tensor:
        context.own = fine.shape[1]
        both = fine.new_empty(fine.shape[0], *fine.shape[2:], context.own + coarse.shape[1])
        both[..., : context.own] = fine.movedim(1, 4)
        pairs = both[..., context.own :]
        for axis in (1, 3, 5):
            pairs = _in_pairs(pairs, axis)
        pairs.copy_(coarse.movedim(1, 4)[:, :, None, :, None, :, None])
        return both.movedim(4, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        of_coarse = gradient[:, context.own :]
        for axis in (2, 3, 4):
            first, second = _in_pairs(of_coarse, axis).unbind(axis + 1)
            of_coarse = first + second
        return gradient[:, : context.own], of_coarse


class _Level(nn.Module):
    """Two convolutions; the extra name level is the authors'."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.basic_module = nn.Sequential()
        self.basic_module.add_module("SingleConv1", _NormConv(in_channels, hidden_channels))
        self.basic_module.add_module("SingleConv2", _NormConv(hidden_channels, out_channels))

    def forward(self, grids: Tensor) -> Tensor:
        return self.basic_module(grids)  # type: ignore[no-any-return]


class _NormConv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.groupnorm = GroupNorm(math.gcd(GROUPS, in_channels), in_channels)
        self.conv = GridConvolution(in_channels, out_channels, bias=False)

    def forward(self, grids: Tensor) -> Tensor:
        return self.conv(self.groupnorm(grids)).relu_()  # type: ignore[no-any-return]
