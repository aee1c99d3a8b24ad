"""Occupancy grids of point clouds, the input of IF-Net and NDF."""

from __future__ import annotations

from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_between, check_count, check_finite, check_tensor
from pyimplicit.ops._library import register

_LARGEST = 1e100  # of the bounds: their difference must not overflow


def voxelise(
    points: Tensor,  # [B, N, 3]
    resolution: int,
    *,
    low: float = -0.5,
    high: float = 0.5,
) -> Tensor:
    """Grid whose node nearest to each point is 1, every other node 0.

    The nodes of an axis are `resolution` numbers evenly spaced from `low` to `high`, both included. Points outside the
    cube go to its border. Halfway between two nodes (which the authors' KD-tree leaves open) the upper one is taken.

    Args:
        points: [B, N, 3] float32 or float64, finite, mesh units. N may be 0.
        resolution: Nodes along each axis, at least 2.
        low: First node of each axis, mesh units.
        high: Last node of each axis, above `low`.

    Returns:
        Occupancy [B, resolution, resolution, resolution] of the points' dtype, axes in the order x, y, z: z runs
        fastest. Networks that sample it with `sample_grids`, where the last axis comes first, so swap x and z of their
        query points. Not differentiable.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape, NaN or infinity, a resolution below 2, bounds beyond 1e100 or out of order.

    Source:
        Chibane, Alldieck, Pons-Moll, "Implicit Functions in Feature Space for 3D Shape Reconstruction and
        Completion", CVPR 2020, section 4 (voxelised point clouds).

    Example:
        >>> import torch
        >>> voxelise(torch.tensor([[[-0.5, 0.1, 0.5], [-0.4, 0.2, 9.0]]]), 3).nonzero()
        tensor([[0, 0, 1, 2]])
    """
    check_finite("points", check_tensor("points", points, ("B", "N", 3)))
    if check_count("resolution", resolution) < 2:
        raise ValueError(f"resolution: expected at least 2, got {resolution}")
    first, last = (check_between(name, bound, -_LARGEST, _LARGEST) for name, bound in (("low", low), ("high", high)))
    if not first < last:
        raise ValueError(f"high: expected more than low = {first}, got {last}")
    grid: Tensor = _voxelise_op(points.detach().contiguous(), int(resolution), first, last)
    return grid


# ---- operators


def _voxelise_kernel(points: Tensor, resolution: int, low: float, high: float) -> Tensor:
    grid = _voxelise_fake(points, resolution, low, high)
    _native.call(
        "voxelise", points.device, points.dtype, points=points, batch=points.shape[0], each=points.shape[1],
        resolution=resolution, low=low, scale=(resolution - 1) / (high - low), grid=grid,
    )  # fmt: skip
    return grid


def _voxelise_fake(points: Tensor, resolution: int, low: float, high: float) -> Tensor:
    return points.new_empty(points.shape[0], resolution, resolution, resolution)


_voxelise_op = register(
    "voxelise",
    "(Tensor points, int resolution, float low, float high) -> Tensor",
    _voxelise_kernel,
    _voxelise_fake,
)
