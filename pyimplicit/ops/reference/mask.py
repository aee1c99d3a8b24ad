"""Twins of the distance mask, over all cloud points."""

from __future__ import annotations

import torch
from torch import Tensor

from pyimplicit.ops.reference.brute_force import chunks


def distance_mask(
    points: Tensor,  # [..., 3]
    cloud: Tensor,  # [M, 3], or [B, M, 3] for points [B, ..., 3]
    distance: float,
) -> Tensor:
    """Twin of `pyimplicit.ops.distance_mask`, over all cloud points."""
    if cloud.dim() == 3:
        return torch.stack([distance_mask(rows, own, distance) for rows, own in zip(points, cloud, strict=True)])
    exact = cloud.double()
    near = [
        torch.cdist(some, exact, compute_mode="donot_use_mm_for_euclid_dist").amin(1) <= distance
        for some in chunks(points.double().reshape(-1, 3), exact)
    ]
    return torch.cat(near).reshape(points.shape[:-1])


def distance_mask_grid(
    x: Tensor,  # [X]
    y: Tensor,  # [Y]
    z: Tensor,  # [Z]
    cloud: Tensor,  # [M, 3] or [B, M, 3]
    distance: float,
) -> Tensor:
    """Twin of `pyimplicit.ops.distance_mask_grid`, over all cloud points."""
    nodes = torch.stack(torch.meshgrid(x.double(), y.double(), z.double(), indexing="ij"), -1)
    if cloud.dim() == 3:
        nodes = nodes.expand(cloud.shape[0], -1, -1, -1, -1)
    return distance_mask(nodes, cloud, distance)
