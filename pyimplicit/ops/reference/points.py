"""Twins of what is asked of point clouds by themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def voxelise(
    points: Tensor,  # [B, N, 3]
    resolution: int,
    *,
    low: float = -0.5,
    high: float = 0.5,
) -> Tensor:
    """Twin of `pyimplicit.ops.voxelise`, by the distances of each coordinate to all nodes of its axis."""
    nodes = torch.linspace(low, high, resolution, dtype=torch.float64, device=points.device).flip(0)
    x, y, z = (resolution - 1 - (points.double()[..., None] - nodes).abs().argmin(-1)).unbind(-1)  # the upper of two
    grid = points.new_zeros(points.shape[0], resolution, resolution, resolution)
    grid[torch.arange(points.shape[0], device=points.device)[:, None], x, y, z] = 1
    return grid


def farthest_points(
    points: Tensor,  # [B, N, 3]
    count: int,
    *,
    start: int = 0,
    skip_squared_length: float | None = None,
) -> Tensor:
    """Twin of `pyimplicit.ops.farthest_points`, step by step; unlike other twins in the points' own precision."""
    clouds = torch.arange(points.shape[0], device=points.device)
    distance = torch.full_like(points[..., 0], math.inf)
    if skip_squared_length is not None:
        distance[_squared(points) <= skip_squared_length] = -1
    chosen = [torch.full_like(clouds, start)]
    for _ in range(count - 1):
        distance = torch.minimum(distance, _squared(points - points[clouds, chosen[-1], None]))
        farthest = distance.amax(1, keepdim=True)
        first = (distance == farthest).to(torch.uint8).argmax(1)
        chosen.append(torch.where(farthest[:, 0] < 0, start, first))
    return torch.stack(chosen, 1)


def nearest_neighbours(
    queries: Tensor,  # [B, M, 3]
    cloud: Tensor,  # [B, N, 3]
    count: int,
) -> Tensor:
    """Twin of `pyimplicit.ops.nearest_neighbours`, by sorting; unlike other twins in the points' own precision."""
    return _squared(queries[:, :, None] - cloud[:, None]).sort(dim=2, stable=True).indices[:, :, :count]


def _squared(vectors: Tensor) -> Tensor:
    x, y, z = vectors.unbind(-1)
    return x * x + y * y + z * z
