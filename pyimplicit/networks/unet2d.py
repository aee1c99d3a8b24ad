"""The two-dimensional U-Net of ConvONet's plane encoders.

Papers: U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger, Fischer, Brox, MICCAI 2015);
Convolutional Occupancy Networks (Peng et al., ECCV 2020), section 3.1. Parameter names are ConvONet's authors'.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet2D(nn.Module):
    """Pairs of 3x3 convolutions at `depth` resolutions with skips; no normalisation and no final activation.

    Args:
        channels: Channels in and out.
        width: Channels of the finest level; each coarser level has twice as many.
        depth: Number of levels. Heights and widths must be divisible by 2 ** (depth - 1).

    Example:
        >>> UNet2D(4, width=4, depth=2)(torch.rand(1, 4, 8, 8)).shape
        torch.Size([1, 4, 8, 8])
    """

    def __init__(self, channels: int, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        sizes = [width << level for level in range(depth)]
        self.down_convs = nn.ModuleList(
            _ConvPair(first, size) for first, size in zip([channels, *sizes[:-1]], sizes, strict=True)
        )
        self.up_convs = nn.ModuleList(_Up(size) for size in sizes[:0:-1])
        self.conv_final = nn.Conv2d(width, channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(
        self,
        maps: Tensor,  # [B, channels, H, W]
    ) -> Tensor:  # [B, channels, H, W]
        """Return maps of the same size."""
        skips: list[Tensor] = []
        for level, down in enumerate(self.down_convs):
            maps = down(maps if level == 0 else F.max_pool2d(maps, 2))
            skips.append(maps)
        for up, skip in zip(self.up_convs, skips[-2::-1], strict=True):
            maps = up(maps, skip)
        return self.conv_final(maps)  # type: ignore[no-any-return]


class _ConvPair(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.conv2(self.conv1(maps).relu_()).relu_()  # type: ignore[no-any-return]


class _Up(nn.Module):
    """Double the resolution, halve the channels; the upsampled map comes before the skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # In the authors' order: equal seeds give equal weights.
        self.upconv = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.conv1 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(channels // 2, channels // 2, 3, padding=1)

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        maps = torch.cat([self.upconv(maps), skip], 1)
        return self.conv2(self.conv1(maps).relu_()).relu_()  # type: ignore[no-any-return]
