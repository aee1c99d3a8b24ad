"""ConvONet: features on planes or a grid, refined by a U-Net, interpolated at the query point.

Paper: Convolutional Occupancy Networks. S. Peng, M. Niemeyer, L. Mescheder, M. Pollefeys, A. Geiger. ECCV 2020. These
are its point cloud networks for objects. Parameter names are the authors'.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit import ops
from pyimplicit.checks import check_between, check_choice, check_count
from pyimplicit.networks.base import Code, Network
from pyimplicit.networks.layers import ResnetBlockFC
from pyimplicit.networks.unet2d import UNet2D
from pyimplicit.networks.unet3d import UNet3D

# variant: (feature maps by the coordinates they span, resolution, U-Net levels)
VARIANTS: dict[str, tuple[tuple[tuple[int, ...], ...], int, int]] = {
    "3plane": (((0, 2), (0, 1), (1, 2)), 64, 4),
    "1plane": (((0, 2),), 64, 4),
    "grid32": (((0, 1, 2),), 32, 3),
    "grid64": (((0, 1, 2),), 64, 4),
}
# The authors keep unit coordinates below 1 by these margins, and widen the box by them; they differ.
PLANE_MARGIN = 1e-5
GRID_MARGIN = 1e-3


class ConvONet(Network):
    """Convolutional occupancy network. Trained with binary cross-entropy on its logits.

    Points outside the padded box take the features of its border. The code is one tensor: planes
    [B, K, feature_size, resolution, resolution] for K planes, or a grid [B, feature_size, resolution, resolution,
    resolution]; the first coordinate of a plane or grid is the last axis.

    Args:
        variant: "3plane" (xz, xy, yz), "1plane" (xz), "grid32" or "grid64".
        resolution: Cells per axis of the feature maps; the variant's if None. Planes need a multiple of
            2 ** (unet_depth - 1).
        feature_size: Channels of the feature maps.
        hidden_size: Width of the point encoder.
        decoder_size: Width of the decoder.
        encoder_blocks: Residual blocks of the point encoder.
        decoder_blocks: Residual blocks of the decoder.
        unet_width: Channels of the finest level of the U-Net.
        unet_depth: Levels of the U-Net; the variant's if None (4 for planes, 3 for grid32, 4 for grid64).
        padding: The maps span a box of edge 1 + padding.

    Raises:
        TypeError: A size that is not a whole number.
        ValueError: An unknown variant, a size below 1, a resolution that the U-Net cannot halve often enough.

    Source:
        Peng et al., Convolutional Occupancy Networks, section 3 and supplementary section 1.

    Example:
        >>> small = dict(resolution=8, feature_size=4, hidden_size=4, decoder_size=4, unet_width=4, unet_depth=2)
        >>> network = ConvONet(variant="1plane", **small)
        >>> network.decode(torch.zeros(2, 5, 3), network.encode(torch.rand(2, 30, 3) - 0.5)).shape
        torch.Size([2, 5])
    """

    name = "convonet"
    kind = "encoder"

    def __init__(
        self,
        *,
        variant: str = "3plane",
        resolution: int | None = None,
        feature_size: int = 32,
        hidden_size: int = 32,
        decoder_size: int = 32,
        encoder_blocks: int = 5,
        decoder_blocks: int = 5,
        unet_width: int = 32,
        unet_depth: int | None = None,
        padding: float = 0.1,
    ) -> None:
        axes, default_resolution, default_depth = VARIANTS[check_choice("variant", variant, tuple(VARIANTS))]
        config = {
            "resolution": check_count("resolution", default_resolution if resolution is None else resolution),
            "feature_size": check_count("feature_size", feature_size),
            "hidden_size": check_count("hidden_size", hidden_size),
            "decoder_size": check_count("decoder_size", decoder_size),
            "encoder_blocks": check_count("encoder_blocks", encoder_blocks),
            "decoder_blocks": check_count("decoder_blocks", decoder_blocks),
            "unet_width": check_count("unet_width", unet_width),
            "unet_depth": check_count("unet_depth", default_depth if unet_depth is None else unet_depth),
            "padding": check_between("padding", padding, 0, math.inf),
        }
        super().__init__(config, variant)
        resolution, unet_depth = int(config["resolution"]), int(config["unet_depth"])
        factor = 2 ** (unet_depth - 1)
        if resolution < factor or (len(axes[0]) == 2 and resolution % factor):
            wanted = "a multiple of" if len(axes[0]) == 2 else "at least"
            raise ValueError(
                f"resolution: expected {wanted} {factor}, so that {unet_depth} U-Net levels fit, got {resolution}"
            )
        self.box = _Box(axes, config["padding"])
        # In the authors' order: equal seeds give equal weights.
        self.decoder = _Decoder(self.box, config)
        self.encoder = _Encoder(self.box, config)

    def encode(
        self,
        clouds: Tensor,  # [B, N, 3]
    ) -> Tensor:  # [B, K, C, R, R] or [B, C, R, R, R]
        """Return the feature maps of a batch of point clouds; see `Network.encode`."""
        return self.encoder(self._check_clouds(clouds))  # type: ignore[no-any-return]

    def decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,  # [B, K, C, R, R] or [B, C, R, R, R]
    ) -> Tensor:  # [B, T]
        """Return the occupancy logits [B, T] of the points; see `Network.decode`."""
        self._check_points(points)
        size = self.config["resolution"]
        maps = (self.config["feature_size"], *[size] * len(self.box.axes[0]))
        shape = maps if self.box.is_grid else (len(self.box.axes), *maps)
        return self.decoder(points, self._check_code(code, points.shape[0], *shape))  # type: ignore[no-any-return]


class _Box:
    """Where a coordinate of space lies on the feature maps; u in [0, 1] spans the padded box."""

    def __init__(self, axes: tuple[tuple[int, ...], ...], padding: float) -> None:
        self.axes = axes
        self.is_grid = len(axes[0]) == 3
        self.margin = GRID_MARGIN if self.is_grid else PLANE_MARGIN
        self.edge = 1 + padding + self.margin

    def unit(
        self,
        points: Tensor,  # [B, N, 3]
    ) -> Tensor:  # [B, N, 3]
        """Return unit coordinates, those outside set to the border (with no gradient)."""
        u = points / self.edge + 0.5
        # not a clamp: the authors leave values between 1 - margin and 1 as they are
        u = torch.where(u >= 1, 1 - self.margin, u)
        return torch.where(u < 0, 0.0, u)

    def cells(
        self,
        points: Tensor,  # [B, N, 3]
        resolution: int,
    ) -> Tensor:  # [K, B, N]
        """Return the cell of each point on each of the K maps; the first coordinate runs fastest."""
        cell = (self.unit(points) * resolution).long().clamp_(max=resolution - 1)
        strides = [resolution**position for position in range(len(self.axes[0]))]
        return torch.stack(
            [sum(cell[..., axis] * stride for axis, stride in zip(axes, strides, strict=True)) for axes in self.axes]
        )


class _Encoder(nn.Module):
    """PointNet whose pooling is local to the cells of the maps, then a U-Net that all planes share."""

    def __init__(self, box: _Box, config: dict[str, Any]) -> None:
        super().__init__()
        self.box = box
        self.resolution: int = config["resolution"]
        hidden_size, feature_size = config["hidden_size"], config["feature_size"]
        self.fc_pos = nn.Linear(3, 2 * hidden_size)
        self.blocks = nn.ModuleList(
            ResnetBlockFC(2 * hidden_size, hidden_size) for _ in range(config["encoder_blocks"])
        )
        self.fc_c = nn.Linear(hidden_size, feature_size)
        if box.is_grid:
            self.unet3d = UNet3D(feature_size, config["unet_width"], config["unet_depth"])
        else:
            self.unet = UNet2D(feature_size, config["unet_width"], config["unet_depth"])

    def forward(self, clouds: Tensor) -> Tensor:
        size, dims = self.resolution, len(self.box.axes[0])
        groups = ops.build_cell_groups(self.box.cells(clouds, size), size**dims)
        features = self.blocks[0](self.fc_pos(clouds))  # [B, N, hidden_size]
        for block in self.blocks[1:]:
            features = features.to(clouds.dtype)  # under autocast it is none that the kernels take
            features = block(torch.cat([features, ops.pool_local(features, groups)], 2))
        # Channels last but for grids on a GPU, where torch's group norm knows the other layout only.
        first = self.box.is_grid and clouds.device.type != "cpu"
        maps = ops.scatter_mean(self.fc_c(features).to(clouds.dtype), groups, channels_first=first)
        if first:
            return self.unet3d(maps.view(*maps.shape[1:3], *[size] * dims))  # type: ignore[no-any-return]
        maps = maps.view(-1, *[size] * dims, maps.shape[-1]).movedim(-1, 1)  # [K * B, C, R, R] or [B, C, R, R, R]
        if self.box.is_grid:
            return self.unet3d(maps)  # type: ignore[no-any-return]
        planes: Tensor = self.unet(maps)
        return planes.view(-1, clouds.shape[0], *planes.shape[1:]).transpose(0, 1)  # [B, K, C, R, R]


class _Decoder(nn.Module):
    """Residual blocks of the point, each after adding a linear function of the interpolated features."""

    def __init__(self, box: _Box, config: dict[str, Any]) -> None:
        super().__init__()
        self.box = box
        width, blocks = config["decoder_size"], config["decoder_blocks"]
        self.fc_c = nn.ModuleList(nn.Linear(config["feature_size"], width) for _ in range(blocks))
        self.fc_p = nn.Linear(3, width)
        self.blocks = nn.ModuleList(ResnetBlockFC(width) for _ in range(blocks))
        self.fc_out = nn.Linear(width, 1)

    def forward(self, points: Tensor, maps: Tensor) -> Tensor:
        # Nodes at the corners of the box, though cells were filled by floor: half a texel of shift, as trained by
        # the authors.
        where = 2 * self.box.unit(points) - 1  # [B, T, 3] in [-1, 1]
        if self.box.is_grid:
            sampled = ops.sample_grids(maps, where, align_corners=True, padding_mode="border")
        else:
            x, y, z = where.unbind(2)
            spans = [torch.stack([(x, y, z)[axis] for axis in axes], 2) for axes in self.box.axes]
            planar = torch.stack(spans, 1)  # [B, K, T, 2]
            sampled = ops.sample_planes(maps, planar, align_corners=True, padding_mode="border")
        features = self.fc_p(points)  # [B, T, width]
        for inject, block in zip(self.fc_c, self.blocks, strict=True):
            features = block(features + inject(sampled))
        return self.fc_out(F.relu(features)).squeeze(2)  # type: ignore[no-any-return]
