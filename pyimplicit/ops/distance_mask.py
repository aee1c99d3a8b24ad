"""Which query points lie within a distance of a point cloud."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_finite, check_positive, check_tensor
from pyimplicit.ops._library import register

# Most cells along an axis: bounds the memory of the grid at 2 Mi cells, whatever the distance.
MOST_CELLS = 128


@dataclass(frozen=True, eq=False)
class CloudGrid:
    """A point cloud sorted into a uniform grid whose cells are at least `distance` wide."""

    cloud: Tensor  # [M, 3] float32, in cell order
    cell_start: Tensor  # [X Y Z + 1] int32, first cloud point of each cell, x fastest
    low: tuple[float, float, float]  # corner of the grid, mesh units
    size: tuple[int, int, int]  # cells along x, y, z
    cell_size: float  # mesh units
    distance: float  # mesh units

    def to(self, device: torch.device | str) -> CloudGrid:
        """The same grid on another device."""
        return CloudGrid(
            self.cloud.to(device), self.cell_start.to(device), self.low, self.size, self.cell_size, self.distance
        )


def build_cloud_grid(
    cloud: Tensor,  # [M, 3]
    distance: float,
) -> CloudGrid:
    """Sort a cloud into the grid that `distance_mask` searches.

    Args:
        cloud: [M, 3] float32, finite, at least one point, mesh units.
        distance: Radius of the mask, mesh units, above 0.

    Returns:
        The grid, on the cloud's device.

    Raises:
        ValueError: An empty cloud, NaN or infinity, a distance not above 0.

    Example:
        >>> build_cloud_grid(torch.rand(100, 3), 0.25).cloud.shape
        torch.Size([100, 3])
    """
    check_finite("cloud", check_tensor("cloud", cloud, ("M", 3), (torch.float32,)))
    distance = check_positive("distance", distance)
    if cloud.shape[0] == 0:
        raise ValueError("cloud: expected at least one point, got none")
    exact = cloud.detach().double()
    low, high = exact.amin(0), exact.amax(0)
    extent = float((high - low).max())
    # A hair wider than the distance, so that rounding never puts a near point two cells away.
    cell_size = max(distance, extent / MOST_CELLS) * (1 + 1e-9)
    cells = ((exact - low) / cell_size).floor().long()
    size = [int(n) + 1 for n in cells.amax(0)]
    index = (cells[:, 2] * size[1] + cells[:, 1]) * size[0] + cells[:, 0]
    order = index.argsort(stable=True)
    counts = torch.bincount(index, minlength=math.prod(size))
    start = torch.zeros(counts.shape[0] + 1, dtype=torch.int32, device=cloud.device)
    start[1:] = counts.cumsum(0)
    corner = low.tolist()
    return CloudGrid(
        cloud.detach()[order].contiguous(), start, (corner[0], corner[1], corner[2]), (size[0], size[1], size[2]),
        cell_size, distance,
    )  # fmt: skip


def distance_mask(
    points: Tensor,  # [..., 3]
    grid: CloudGrid,
) -> Tensor:
    """Whether each query point has a cloud point at most `grid.distance` away.

    Args:
        points: [..., 3] float32 or float64, finite, mesh units, on the grid's device.
        grid: The cloud, from `build_cloud_grid`.

    Returns:
        Mask [...] bool: True within the distance. Distances are compared in double precision.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape or device, NaN or infinity.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-B.

    Example:
        >>> grid = build_cloud_grid(torch.zeros(1, 3), 0.1)
        >>> distance_mask(torch.tensor([[0.05, 0.0, 0.0], [0.2, 0.0, 0.0]]), grid)
        tensor([ True, False])
    """
    check_finite("points", check_tensor("points", points, ("...", 3), device=grid.cloud.device))
    mask: Tensor = _distance_mask_op(
        points.detach().reshape(-1, 3).contiguous(), grid.cloud, grid.cell_start, list(grid.low), list(grid.size),
        grid.cell_size, grid.distance,
    )  # fmt: skip
    return mask.reshape(points.shape[:-1])


# ---- operators


def _distance_mask_kernel(
    points: Tensor,
    cloud: Tensor,
    cell_start: Tensor,
    low: list[float],
    size: list[int],
    cell_size: float,
    distance: float,
) -> Tensor:
    mask = points.new_empty(points.shape[0], dtype=torch.bool)
    _native.call(
        "distance_mask", points.device, points.dtype, points=points, count=points.shape[0], cloud=cloud,
        cell_start=cell_start, low_x=low[0], low_y=low[1], low_z=low[2], cell_size=cell_size, size_x=size[0],
        size_y=size[1], size_z=size[2], distance=distance, mask=mask,
    )  # fmt: skip
    return mask


_distance_mask_op = register(
    "distance_mask",
    "(Tensor points, Tensor cloud, Tensor cell_start, float[] low, int[] size, float cell_size, float distance)"
    " -> Tensor",
    _distance_mask_kernel,
    lambda points, *_: points.new_empty(points.shape[0], dtype=torch.bool),
)
