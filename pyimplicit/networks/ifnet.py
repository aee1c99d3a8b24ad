"""IF-Net: features of a voxel grid at several resolutions, read at the query point and at six points around it.

Paper: Implicit Functions in Feature Space for 3D Shape Reconstruction and Completion. J. Chibane, T. Alldieck,
G. Pons-Moll. CVPR 2020. Parameter names are the authors'. Their weights were trained under torch 1.1, where the
padding of convolutions was zeros whatever its name and where the outermost nodes of a grid were its corners: hence
zero padding here, and `align_corners=True`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit import ops
from pyimplicit.checks import check_choice, check_count, check_positive, check_tensor
from pyimplicit.networks.base import Code, Network
from pyimplicit.networks.first_level import first_level
from pyimplicit.networks.large_grids import pool_beside, relu_in_place
from pyimplicit.networks.layers import GridConvolution
from pyimplicit.networks.linear import pointwise
from pyimplicit.networks.normalisation import relu_batch_norm

# variant: (levels of convolutions, resolution, padding of the gather, coordinates beside the features)
VARIANTS: dict[str, tuple[int, int, str, bool]] = {
    "points": (5, 128, "border", False),
    "128vox": (5, 128, "zeros", False),
    "svr": (6, 256, "border", True),
}
# Names of the convolutions and the normalisation of each level, as the authors chose them.
LEVELS = (
    ("conv_in", None, "conv_in_bn"),
    ("conv_0", "conv_0_1", "conv0_1_bn"),
    ("conv_1", "conv_1_1", "conv1_1_bn"),
    ("conv_2", "conv_2_1", "conv2_1_bn"),
    ("conv_3", "conv_3_1", "conv3_1_bn"),
    ("conv_4", "conv_4_1", "conv4_1_bn"),
)
# The authors' distance to the six points around a query point, where the grid spans [-1, 1]: 0.0361 mesh units.
DISPLACEMENT = 0.0722
WIDEST = 8  # channels of the deepest levels, in multiples of the first one's


class FeatureGrids(Network):
    """What IF-Net and NDF share: a voxel grid, its features at several resolutions, and the layers that read them.

    The code is a dict: "grid_0" is the voxel grid [B, 1, R, R, R], "grid_k" the features [B, C, R', R', R'] of level
    k; the axes are x, y, z.
    """

    kind = "encoder"

    def __init__(
        self,
        config: dict[str, Any],
        variant: str | None,
        *,
        levels: int,
        padding_mode: str,
        with_coordinates: bool,
    ) -> None:
        super().__init__(config, variant)
        self.levels = levels
        self.padding_mode = padding_mode
        self.with_coordinates = with_coordinates
        width, hidden = config["width"], config["hidden_size"]
        resolution, smallest = config["resolution"], 2 ** (levels - 1)
        if resolution < smallest:
            raise ValueError(
                f"resolution: expected at least {smallest}, which {levels} levels halve to 1, got {resolution}"
            )
        channels = [1] + [width * min(1 << level, WIDEST) for level in range(levels)]
        self.channels = channels
        for level, (first, second, _) in enumerate(LEVELS[:levels]):
            self.add_module(first, GridConvolution(channels[level], channels[level + 1]))
            if second is not None:
                self.add_module(second, GridConvolution(channels[level + 1], channels[level + 1]))
        features = 7 * sum(channels) + (3 if with_coordinates else 0)
        self.fc_0 = nn.Conv1d(features, 2 * hidden if with_coordinates else hidden, 1)
        self.fc_1 = nn.Conv1d(self.fc_0.out_channels, hidden, 1)
        self.fc_2 = nn.Conv1d(hidden, hidden, 1)
        self.fc_out = nn.Conv1d(hidden, 1, 1)
        for level, (_, _, norm) in enumerate(LEVELS[:levels]):
            self.add_module(norm, nn.BatchNorm3d(channels[level + 1]))

    def encode(
        self,
        clouds: Tensor,  # [B, N, 3] or [B, R, R, R]
    ) -> dict[str, Tensor]:  # [B, C, R', R', R'] each
        """Return the feature grids of a batch of point clouds or of voxel grids; see `Network.encode`.

        Args:
            clouds: Point clouds [B, N, 3], which are voxelised, or voxel grids [B, R, R, R] of 0 and 1 whose axes are
                x, y, z and whose outermost nodes lie at -0.5 and 0.5. R is the config's resolution.
        """
        resolution = self.config["resolution"]
        if isinstance(clouds, Tensor) and clouds.dim() == 4:
            grid = check_tensor("clouds", clouds, ("B", *[resolution] * 3), (self.dtype,), self.device)
        else:
            grid = ops.voxelise(self._check_clouds(clouds), resolution)
        batch = grid.shape[0]
        if self.training and batch * (resolution >> (self.levels - 1)) ** 3 < 2:
            raise ValueError(
                f"clouds: expected at least 2 in training mode, as the coarsest of {self.levels} levels has one cell "
                f"at resolution {resolution} and batch normalisation needs a variance, got {batch}"
            )
        code = {"grid_0": grid[:, None]}
        pooled = code["grid_0"]  # what the next level starts from
        for level, (first, second, norm) in enumerate(LEVELS[: self.levels]):
            normalise = self.get_submodule(norm)
            assert isinstance(normalise, nn.BatchNorm3d)
            if level == 0 and self.training:
                done = first_level(pooled, self.get_submodule(first), normalise)
                if done is not None:
                    code["grid_1"], pooled = done
                    continue
            features = self.get_submodule(first)(pooled)
            if second is not None:
                features = self.get_submodule(second)(relu_in_place(features))
            features = relu_batch_norm(normalise, features)
            if level + 1 < self.levels:
                features, pooled = pool_beside(features)
            code[f"grid_{level + 1}"] = features
        return code

    def decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,  # [B, C, R', R', R'] each
    ) -> Tensor:  # [B, T]
        """Return one value [B, T] a point; see `Network.decode`."""
        self._check_points(points)
        sizes = [self.config["resolution"] >> max(level - 1, 0) for level in range(self.levels + 1)]
        shapes = {f"grid_{k}": (self.channels[k], *[size] * 3) for k, size in enumerate(sizes)}
        grids = self._check_parts(code, points.shape[0], shapes)
        where = 2 * points.flip(2)  # [B, T, 3]: z, y, x, as the last axis of a grid is z and comes first here
        displacements = _displacements(self.config["displacement"], points.dtype, points.device)
        weight, width = self.fc_0.weight.squeeze(2), len(displacements) * sum(self.channels)
        hidden = ops.sample_grids_linear(
            [grids[name] for name in shapes],
            where,
            weight[:, :width],
            self.fc_0.bias,
            displacements,
            align_corners=self.config["align_corners"],
            padding_mode=self.padding_mode,
            layout="offset_fastest",
            relu=not self.with_coordinates,
        )  # [B, T, hidden]
        if self.with_coordinates:
            hidden = (hidden + F.linear(where, weight[:, width:])).relu_()
        for layer in (self.fc_1, self.fc_2):
            hidden = pointwise(layer, hidden, relu=True)
        return pointwise(self.fc_out, hidden).squeeze(2)

    def own_key(self, author_key: str) -> str:
        """Return our name: without the part, as AIR-Nets' authors keep their copy of IF-Net split in two."""
        return author_key.removeprefix("encoder.").removeprefix("decoder.")


class IFNet(FeatureGrids):
    """Implicit feature network. Trained with binary cross-entropy on its logits.

    Args:
        variant: "points" (completion of point clouds), "128vox" (super-resolution of voxel grids; the same layers,
            features fade to 0 outside the cube) or "svr" (one more level, and coordinates beside the features).
        resolution: Nodes per axis of the voxel grid; the variant's if None (128, 128, 256).
        width: Channels of the finest level; the next ones have 2, 4, 8 and 8 (and 8) times as many.
        hidden_size: Width of the layers that read the features; the first one of "svr" has twice as many.
        displacement: Distance to the six points around a query point, in units in which the cube's half edge is 1.
        align_corners: Whether the outermost nodes of a grid lie on the faces of the cube. True is what the authors
            trained with; their code under torch 1.3 or later, and AIR-Nets' copy of it, runs with False.

    Raises:
        TypeError: A size that is not a whole number.
        ValueError: An unknown variant, a size below 1, a resolution that cannot be halved often enough.

    Source:
        Chibane et al., Implicit Functions in Feature Space, section 3 and supplementary section 2.

    Example:
        >>> network = IFNet(resolution=16, width=2, hidden_size=8)
        >>> code = network.encode(torch.rand(2, 30, 3) - 0.5)
        >>> network.decode(torch.rand(2, 5, 3) - 0.5, code).shape
        torch.Size([2, 5])
    """

    name = "ifnet"

    def __init__(
        self,
        *,
        variant: str = "points",
        resolution: int | None = None,
        width: int = 16,
        hidden_size: int = 256,
        displacement: float = DISPLACEMENT,
        align_corners: bool = True,
    ) -> None:
        levels, default_resolution, padding_mode, with_coordinates = VARIANTS[
            check_choice("variant", variant, tuple(VARIANTS))
        ]
        config = {
            "resolution": check_count("resolution", default_resolution if resolution is None else resolution),
            "width": check_count("width", width),
            "hidden_size": check_count("hidden_size", hidden_size),
            "displacement": check_positive("displacement", displacement),
            "align_corners": bool(align_corners),
        }
        super().__init__(config, variant, levels=levels, padding_mode=padding_mode, with_coordinates=with_coordinates)


def _displacements(distance: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the point itself and its six neighbours: 0, -x, +x, -y, +y, -z, +z in the grid's coordinates, [7, 3]."""
    steps = distance * torch.eye(3, dtype=dtype, device=device)
    return F.pad(torch.stack([-steps, steps], 1).view(6, 3), (0, 0, 1, 0))
