"""The grid that tells surface queries where to look first."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.ops.bvh import SurfaceBVH
from pyimplicit.ops.surface import closest_leaf, signed_distance

# The grid covers a cube this much wider than the mesh, where most query points are.
_REACH = 1.125

# Cells along an axis: the fewest that are worth a coarser grid to start their own queries from, and the most, whose
# leaves still fit a cache.
_COARSE, _FINEST = 16, 96


def build_start_grid(bvh: SurfaceBVH, sign: str | None = None) -> SurfaceBVH:
    """The same hierarchy with a grid around it that names, for each cell, the leaf nearest to the cell's center.

    A query then starts with a close guess. The grid is worth its time, about that of a query for each of its cells,
    once there are as many queries. Answers stay the same to the last bit.

    Args:
        bvh: The hierarchy; if it has a grid already, only signs are added.
        sign: A method of `signed_distance` by which the grid should also hold signs, which then holds for all signed
            queries. Only a closed surface's signs can be passed on to points nearby; otherwise none are added.

    Returns:
        The hierarchy with its grid, sharing everything else.

    Raises:
        ValueError: As `signed_distance`, for `sign`.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> build_start_grid(bvh).start_leaf.shape
        torch.Size([4, 4, 4])
    """
    resolution = start_resolution(bvh)
    if bvh.start_leaf is None:
        reach = _REACH * _native.largest_magnitude(bvh.triangles.cpu())
        bvh = _with_leaves(replace(bvh, start_half_side=reach), resolution)
    if sign is not None and bvh.is_closed:
        distance = signed_distance(_centers(bvh, resolution), replace(bvh, start_distance=None), sign)
        scaled = (distance.cpu().numpy() * bvh.scale).astype(np.float32).reshape((resolution,) * 3)
        bvh = replace(bvh, start_distance=torch.from_numpy(scaled).to(bvh.device))
    return bvh


def start_resolution(bvh: SurfaceBVH) -> int:
    """Cells of a start grid along an axis: about two cells for each leaf."""
    leaves = bvh.leaf_first.shape[0] - 1
    return min(max(round(math.pow(2 * leaves, 1 / 3)), 4), _FINEST)


def _with_leaves(bvh: SurfaceBVH, resolution: int) -> SurfaceBVH:
    start = bvh if resolution < _COARSE else _with_leaves(bvh, resolution // 3)
    leaf = closest_leaf(_centers(bvh, resolution), start)
    return replace(bvh, start_leaf=leaf.reshape((resolution,) * 3))


def _centers(bvh: SurfaceBVH, resolution: int) -> Tensor:
    """Centers of the cells [R^3, 3] float64, mesh units."""
    # By numpy, on one thread: torch's threads would go on spinning on the processors that the queries need.
    axis = ((2 * np.arange(resolution) + 1) / resolution - 1) * (bvh.start_half_side / bvh.scale)
    centers = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return torch.from_numpy(centers + bvh.center.cpu().numpy()).to(bvh.device)
