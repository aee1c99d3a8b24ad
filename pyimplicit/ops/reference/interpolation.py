"""Twins of the interpolation of features, by torch's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


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
    """Twin of `pyimplicit.ops.sample_grids`, by `torch.nn.functional.grid_sample`."""
    volumes = [grids] if isinstance(grids, Tensor) else list(grids)
    copies = points.unsqueeze(2) if offsets is None else points.unsqueeze(2) + offsets  # [B, N, K, 3]
    sampled = [
        _grid_sample(volume, copies.unsqueeze(2), "bilinear", padding_mode, align_corners).squeeze(3)
        for volume in volumes
    ]
    features = torch.stack(sampled).sum(0) if sum_grids else torch.cat(sampled, 1)  # [B, S, N, K]
    order = (0, 2, 3, 1) if layout == "channel_fastest" else (0, 2, 1, 3)
    return features.permute(order).flatten(2)


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
) -> Tensor:
    """Twin of `pyimplicit.ops.sample_grids_linear`: the layer after the gather."""
    options = {"align_corners": align_corners, "padding_mode": padding_mode, "layout": layout}
    features = sample_grids(grids, points, offsets, **options)  # type: ignore[arg-type]
    result = features @ weight.T if bias is None else features @ weight.T + bias
    return result.relu() if relu else result


def sample_planes(
    planes: Tensor,  # [B, K, C, H, W]
    points: Tensor,  # [B, K, N, 2] or [B, N, 2]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
) -> Tensor:
    """Twin of `pyimplicit.ops.sample_planes`, by `torch.nn.functional.grid_sample`."""
    batch, count = planes.shape[:2]
    if points.dim() == 3:
        points = points.unsqueeze(1).expand(-1, count, -1, -1)
    sampled = _grid_sample(
        planes.flatten(0, 1), points.flatten(0, 1).unsqueeze(2), "bilinear", padding_mode, align_corners
    )  # [B K, C, N, 1]
    return sampled.reshape(batch, count, *sampled.shape[1:3]).sum(1).transpose(1, 2)


def _grid_sample(maps: Tensor, places: Tensor, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
    """`torch.nn.functional.grid_sample` by one kernel for all options; on a GPU cuDNN has one of its own for some."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        return functional.grid_sample(maps, places, mode, padding_mode, align_corners)
    finally:
        torch.backends.cudnn.enabled = before
