"""Linear interpolation of feature grids (trilinear) and feature planes (bilinear) at query points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyimplicit.checks import check_choice, check_tensor
from pyimplicit.ops._sample_features import sample_features
from pyimplicit.ops.linear import linear

PADDINGS = ("zeros", "border")  # in the order of `Padding` in csrc/interpolation/interpolation_maps.h
LAYOUTS = ("channel_fastest", "offset_fastest")
MOST_MAPS = 16  # of one call of a kernel: `kMostMaps` in csrc/interpolation/interpolation_maps.h
# Halves are stored as such, but summed in float32, and their points are float32: a half has too few digits for them.
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def sample_grids(
    grids: Tensor | Sequence[Tensor],  # [B, C, D, H, W] each
    points: Tensor,  # [B, N, 3]
    offsets: Tensor | None = None,  # [K, 3]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
    layout: str = "channel_fastest",
    sum_grids: bool = False,
) -> Tensor:
    """Trilinear interpolation of one or several feature grids at points and at displaced copies of them.

    Fastest with grids in `torch.channels_last_3d`; gradients have the memory format of the grids. Large results and
    gradients on the CPU use their memory again inside `KeptBuffers`.

    Args:
        grids: Feature volumes [B, C, D, H, W], each with its own C, D, H, W, in any memory format: float32, float64,
            or bfloat16 or float16 (summed in float32).
        points: [B, N, 3] in [-1, 1] on the device of the grids: x runs along W (the last axis), y along H, z along D,
            as in `torch.nn.functional.grid_sample`. Of the grids' dtype, or float32 for halves, for which halves are
            converted. A NaN coordinate gives NaN features; such a point adds nothing to the gradient of the grids.
        offsets: [K, 3] displacements added to every point, or None for the points alone (K = 1). Of the points' dtype.
        align_corners: Whether -1 and 1 are the first and last node, or the outer faces of the first and last cell.
        padding_mode: "border" clamps coordinates to the grid, "zeros" fades to zero outside.
        layout: Order of the result's last axis. With S channels in all, counted over the grids in order:
            "channel_fastest" puts channel c at displacement k to k S + c, "offset_fastest" to c K + k (IF-Net).
        sum_grids: Whether the grids, of equal C, are added up instead of put one after the other; then S = C.

    Returns:
        Features [B, N, K S] of the grids' dtype. Differentiable twice in grids and points; along an axis where
        "border" clamps, the gradient is zero. On a GPU the gradient of the grids is summed in no fixed order, unless
        `torch.use_deterministic_algorithms` asks for one.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device, an empty grid, an unknown padding or layout.

    Source:
        Chibane, Alldieck, Pons-Moll, "Implicit Functions in Feature Space for 3D Shape Reconstruction and
        Completion", CVPR 2020, section 3.2.

    Example:
        >>> grid = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
        >>> sample_grids(grid, torch.tensor([[[0.0, 0.0, 0.0], [1.0, -1.0, -1.0]]]))
        tensor([[[3.5000],
                 [1.0000]]])
    """
    volumes, points, offsets = _check_grids(grids, points, offsets)
    padding = PADDINGS.index(check_choice("padding_mode", padding_mode, PADDINGS))
    offset_fastest = check_choice("layout", layout, LAYOUTS) == "offset_fastest"
    if sum_grids:
        for index, grid in enumerate(volumes):
            check_tensor(f"grids[{index}]", grid, ("B", volumes[0].shape[1], "D", "H", "W"), DTYPES)
    options = (align_corners, padding, offset_fastest, bool(sum_grids))
    parts = [
        sample_features(volumes[start : start + MOST_MAPS], points, offsets, *options)
        for start in range(0, len(volumes), MOST_MAPS)
    ]
    return _joined(parts, 1 if offsets is None else offsets.shape[0], offset_fastest, bool(sum_grids))


def _joined(parts: list[Tensor], copies: int, offset_fastest: bool, summed: bool) -> Tensor:
    """One result of those of several calls, for more grids than a kernel takes."""
    if len(parts) == 1:
        return parts[0]
    if summed:
        return torch.stack(parts).sum(0)
    if offset_fastest:
        return torch.cat(parts, 2)
    return torch.cat([part.view(*part.shape[:2], copies, -1) for part in parts], 3).flatten(2)


# Nodes a point up to which a linear layer is applied to a grid's nodes instead of to the points' features. Found on
# IF-Net's grids, for which `python -m benchmarks.bench_interpolation` prints what either costs.
NODES_PER_POINT = 0.45


def sample_grids_linear(
    grids: Tensor | Sequence[Tensor],  # [B, C, D, H, W] each
    points: Tensor,  # [B, N, 3]
    weight: Tensor,  # [O, K S]
    bias: Tensor | None = None,  # [O]
    offsets: Tensor | None = None,  # [K, 3]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
    layout: str = "channel_fastest",
    relu: bool = False,
    coarse: Sequence[bool] | None = None,
) -> Tensor:
    """A linear layer of `sample_grids`, applied to the nodes of coarse grids before it instead of to points after it.

    Both orders give the same function, because interpolation is linear; they differ by rounding. Where a grid has far
    fewer nodes than there are points the first costs less.

    Args:
        grids: As for `sample_grids`.
        points: As for `sample_grids`.
        weight: The layer's matrix [O, K S] of the grids' dtype, its columns in the order of `layout`.
        bias: The layer's bias [O], or None.
        offsets: As for `sample_grids`.
        align_corners: As for `sample_grids`.
        padding_mode: As for `sample_grids`.
        layout: As for `sample_grids`.
        relu: Whether the result is the ReLU of the layer's.
        coarse: For each grid, whether the layer is applied to its nodes; None for what costs less. Then it is applied
            to no grid's in halves or under autocast, whose results at the nodes would be rounded, and in compiled
            code, which is to take any number of points.

    Returns:
        [B, N, O], differentiable in grids, points, weight and bias.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device, an empty grid, an unknown padding or layout, or not one entry of `coarse`
            a grid.

    Example:
        >>> grid = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
        >>> sample_grids_linear(grid, torch.zeros(1, 1, 3), torch.tensor([[1.0], [2.0]]), coarse=[True])
        tensor([[[3.5000, 7.0000]]])
    """
    volumes, points, offsets = _check_grids(grids, points, offsets)
    padding = PADDINGS.index(check_choice("padding_mode", padding_mode, PADDINGS))
    offset_fastest = check_choice("layout", layout, LAYOUTS) == "offset_fastest"
    dtype, device = volumes[0].dtype, points.device
    copies, channels = 1 if offsets is None else offsets.shape[0], [grid.shape[1] for grid in volumes]
    width = check_tensor("weight", weight, ("O", copies * sum(channels)), (dtype,), device).shape[0]
    if bias is not None:
        check_tensor("bias", bias, (width,), (dtype,), device)
    if coarse is None:
        coarse = _coarse_grids(volumes, points)
    if len(coarse) != len(volumes):
        raise ValueError(f"coarse: expected one entry for each of {len(volumes)} grids, got {len(coarse)}")

    # [O, K, C] of each grid
    columns = weight.reshape(width, -1, copies).transpose(1, 2) if offset_fastest else weight.reshape(width, copies, -1)
    own = torch.split(columns, channels, 2)
    fine = [index for index, chosen in enumerate(coarse) if not chosen]
    alone = len(fine) == len(volumes)  # nothing is added to the layer of the gather
    total: Tensor | None = None
    if fine:
        sampled = sample_grids(
            [volumes[index] for index in fine], points, offsets, align_corners=align_corners, padding_mode=padding_mode
        )
        total = linear(sampled, torch.cat([own[index] for index in fine], 2).flatten(1), bias, relu and alone)
    # A grid after the layer is one map for each displacement, all to be added up.
    moved = points.unsqueeze(1) if offsets is None else points.unsqueeze(1) + offsets.unsqueeze(1)  # [B, K, N, 3]
    for index, chosen_grid in enumerate(volumes):
        if not coarse[index]:
            continue
        nodes = linear(chosen_grid.movedim(1, -1), own[index].transpose(0, 1).flatten(0, 1))  # [B, D, H, W, K O]
        maps = nodes.view(*nodes.shape[:4], copies, width).permute(0, 4, 5, 1, 2, 3)  # [B, K, O, D, H, W]
        for start in range(0, copies, MOST_MAPS):
            some = slice(start, start + MOST_MAPS)
            part = sample_features(
                [maps[:, some]], moved[:, some].contiguous(), None, align_corners, padding, False, True
            )
            total = part if total is None else total.add_(part)
    assert total is not None
    if bias is not None and not fine:
        total = total.add_(bias)
    return total.relu_() if relu and not alone else total


def _coarse_grids(volumes: list[Tensor], points: Tensor) -> list[bool]:
    """The grids to whose nodes `sample_grids_linear` applies the layer, if nothing else is asked for."""
    if torch.compiler.is_compiling() or points.device.type not in ("cpu", "cuda"):
        return [False] * len(volumes)
    exact = volumes[0].dtype.itemsize >= 4 and not torch.is_autocast_enabled(points.device.type)
    return [exact and points.shape[1] * NODES_PER_POINT > grid[0, 0].numel() for grid in volumes]


def sample_planes(
    planes: Tensor,  # [B, K, C, H, W]
    points: Tensor,  # [B, K, N, 2] or [B, N, 2]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
) -> Tensor:
    """Bilinear interpolation of K feature planes, summed over the planes.

    Args:
        planes: [B, K, C, H, W] in any memory format, fastest with the channels last: float32, float64, or bfloat16 or
            float16 (summed in float32).
        points: Coordinates in [-1, 1] on each plane, [B, K, N, 2], or [B, N, 2] for the same on all: x runs along W
            (the last axis), y along H, as in `torch.nn.functional.grid_sample`. Of the planes' dtype, or float32 for
            halves. NaN gives NaN features; such a point adds nothing to the gradient of the planes.
        align_corners: Whether -1 and 1 are the first and last node, or the outer edges of the first and last cell.
        padding_mode: "border" clamps coordinates to the plane, "zeros" fades to zero outside.

    Returns:
        Features [B, N, C] of the planes' dtype. Differentiable twice in planes and points; along an axis where
        "border" clamps, the gradient is zero. On a GPU the order of summation is as for `sample_grids`.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device, an empty plane, an unknown padding.

    Source:
        Peng et al., "Convolutional Occupancy Networks", ECCV 2020, section 3.2.

    Example:
        >>> planes = torch.arange(4.0).reshape(1, 1, 1, 2, 2)
        >>> sample_planes(planes, torch.tensor([[[0.0, 0.0], [1.0, -1.0]]]))
        tensor([[[1.5000],
                 [1.0000]]])
    """
    check_tensor("planes", planes, ("B", "K", "C", "H", "W"), DTYPES)
    _check_not_empty("planes", planes)
    batch, count = planes.shape[:2]
    shared = isinstance(points, Tensor) and points.dim() == 3
    shape = (batch, "N", 2) if shared else (batch, count, "N", 2)
    points = _of_points(check_tensor("points", points, shape, _point_dtypes(planes), planes.device)).contiguous()
    padding = PADDINGS.index(check_choice("padding_mode", padding_mode, PADDINGS))
    parts = []
    for start in range(0, count, MOST_MAPS):
        some = slice(start, start + MOST_MAPS) if count > MOST_MAPS else slice(None)
        where = points if shared or count <= MOST_MAPS else points[:, some].contiguous()
        own = planes if count <= MOST_MAPS else planes[:, some]
        parts.append(sample_features([own], where, None, align_corners, padding, False, True))
    return _joined(parts, 1, False, True)


def _check_grids(grids: Any, points: Any, offsets: Any) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """The arguments of `sample_grids` as the kernels take them."""
    if not isinstance(grids, Tensor | Sequence):
        raise TypeError(f"grids: expected a torch tensor or a sequence of them, got {type(grids).__name__}")
    volumes = [grids] if isinstance(grids, Tensor) else list(grids)
    if not volumes:
        raise ValueError("grids: expected at least one feature grid, got none")
    first = check_tensor("grids", volumes[0], ("B", "C", "D", "H", "W"), DTYPES)
    for index, grid in enumerate(volumes):
        check_tensor(f"grids[{index}]", grid, (first.shape[0], "C", "D", "H", "W"), (first.dtype,), first.device)
        _check_not_empty(f"grids[{index}]", grid)
    allowed = _point_dtypes(first)
    check_tensor("points", points, (first.shape[0], "N", 3), allowed, first.device)
    if offsets is not None:
        check_tensor("offsets", offsets, ("K", 3), allowed, first.device)
        if offsets.shape[0] == 0:
            raise ValueError("offsets: expected at least one displacement, or None")
        offsets = _of_points(offsets.detach()).contiguous()
    return volumes, _of_points(points).contiguous(), offsets


def _point_dtypes(features: Tensor) -> tuple[torch.dtype, ...]:
    return (features.dtype,) if features.dtype.itemsize >= 4 else (torch.float32, features.dtype)


def _of_points(points: Tensor) -> Tensor:
    """Points in the dtype that the kernels compute in."""
    return points if points.dtype.itemsize >= 4 else points.float()


def _check_not_empty(name: str, features: Tensor) -> None:
    if min(features.shape[-4:]) == 0:
        raise ValueError(f"{name}: expected at least one channel and one node per axis, got {list(features.shape)}")
