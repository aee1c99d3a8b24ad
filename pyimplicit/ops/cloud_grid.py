"""Point clouds sorted into the cells of a uniform grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_finite, check_positive, check_tensor

# Cells to a distance, for clouds of few and of many points. With fewer, a ball's cells hold many points outside it;
# with more, there are more of them to visit.
CELLS_A_DISTANCE, CELLS_A_DISTANCE_DENSE, DENSE = 4, 6, 20_000
# Most cells along an axis: bounds the memory of the grid at 2 Mi cells, whatever the distance; all clouds of a batch
# share them.
MOST_CELLS = 128


@dataclass(frozen=True, eq=False)
class CloudGrid:
    """A point cloud, or a batch of them, sorted into the cells of a uniform grid."""

    cloud: Tensor  # [M, 3] or [B, M, 3] float32, each cloud in cell order
    cell_start: Tensor  # [B X Y Z + 1] int32, first cloud point of each cell, z fastest
    low: tuple[float, float, float]  # corner of the grid, mesh units
    size: tuple[int, int, int]  # cells along x, y, z
    cell_size: float  # mesh units
    distance: float  # mesh units

    @property
    def batch(self) -> int | None:
        """Number of clouds; None for a single one that came without a batch axis."""
        return self.cloud.shape[0] if self.cloud.dim() == 3 else None

    def to(self, device: torch.device | str) -> CloudGrid:
        """The same grid on another device."""
        return replace(self, cloud=self.cloud.to(device), cell_start=self.cell_start.to(device))


def build_cloud_grid(
    cloud: Tensor,  # [M, 3] or [B, M, 3]
    distance: float,
) -> CloudGrid:
    """Sort a cloud, or a batch of clouds, into the grid that `distance_mask` searches.

    Args:
        cloud: [M, 3] or [B, M, 3] float32, finite, at least one point, mesh units.
        distance: Radius of the mask, mesh units, above 0.

    Returns:
        The grid, on the cloud's device.

    Raises:
        ValueError: An empty cloud, NaN or infinity, a distance not above 0, 2**31 points or more.

    Example:
        >>> build_cloud_grid(torch.rand(100, 3), 0.25).cloud.shape
        torch.Size([100, 3])
    """
    batched = isinstance(cloud, Tensor) and cloud.dim() == 3
    check_tensor("cloud", cloud, ("B", "M", 3) if batched else ("M", 3), (torch.float32,))
    distance = check_positive("distance", distance)
    if cloud.numel() == 0:
        raise ValueError("cloud: expected at least one point, got none")
    if cloud.numel() // 3 >= 2**31:
        raise ValueError(f"cloud: expected less than 2**31 points, got {cloud.numel() // 3}")
    plain = cloud.detach().contiguous()
    low, high = _corners(plain)
    items = plain.shape[0] if batched else 1
    most = max(1, math.floor(MOST_CELLS / items ** (1 / 3)))
    extents = [b - a for a, b in zip(low, high, strict=True)]
    cells = CELLS_A_DISTANCE if plain.shape[-2] < DENSE else CELLS_A_DISTANCE_DENSE
    cell_size = max(distance / cells, max(extents) / most * (1 + 1e-9))
    x, y, z = (math.floor(extent / cell_size) + 1 for extent in extents)
    ordered, start = _sort(plain, items, low, cell_size, (x, y, z))
    return CloudGrid(ordered, start, (low[0], low[1], low[2]), (x, y, z), cell_size, distance)


def _corners(cloud: Tensor) -> tuple[list[float], list[float]]:
    """Lowest and highest coordinates of all points."""
    if cloud.is_cpu:
        box = torch.empty(6, dtype=torch.float64, device=cloud.device)
        _native.call("cloud_box", cloud.device, cloud=cloud, count=cloud.numel() // 3, box=box)
        corners = box.tolist()
        if math.isnan(corners[0]):
            check_finite("cloud", cloud)
    else:
        exact = check_finite("cloud", cloud).double().reshape(-1, 3)
        corners = torch.cat([exact.amin(0), exact.amax(0)]).tolist()
    return corners[:3], corners[3:]


def _sort(
    cloud: Tensor, items: int, low: list[float], cell_size: float, size: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """The points in the order of their cells, and the first of each cell."""
    if not cloud.is_cpu:
        return sort_by_torch(cloud, items, low, cell_size, size)
    start, ordered = cloud.new_empty(items * math.prod(size) + 1, dtype=torch.int32), torch.empty_like(cloud)
    _native.call(
        "sort_cloud", cloud.device, clouds=cloud, items=items, each=cloud.numel() // 3 // items,
        box=box_of(low, cell_size), size=sizes_of(size), sorted=ordered, cell_start=start,
    )  # fmt: skip
    return ordered, start


def sort_by_torch(
    cloud: Tensor, items: int, low: list[float], cell_size: float, size: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """The same by torch, for a GPU."""
    cells = math.prod(size)
    start = torch.empty(items * cells + 1, dtype=torch.int32, device=cloud.device)
    exact = cloud.double().reshape(items, -1, 3)
    place = ((exact - torch.tensor(low, dtype=torch.float64, device=cloud.device)) / cell_size).floor().long()
    # A GPU divides by multiplying with the inverse, which may carry the farthest point across the last cell's side.
    place = place.minimum(torch.tensor(size, device=cloud.device) - 1)
    item = torch.arange(items, device=cloud.device).unsqueeze(1)
    index = ((item * size[0] + place[..., 0]) * size[1] + place[..., 1]) * size[2] + place[..., 2]
    order = index.reshape(-1).argsort(stable=True)
    start[0] = 0
    start[1:] = torch.bincount(index.reshape(-1), minlength=items * cells).cumsum(0)
    return cloud.reshape(-1, 3)[order].reshape(cloud.shape), start


def box_of(low: tuple[float, ...] | list[float], cell_size: float) -> Tensor:
    """The box of a grid of cubes as the kernels take it, on the CPU: its lowest corner and a cell's edge, [4]."""
    return torch.tensor([*low, cell_size], dtype=torch.float64, device="cpu")


def sizes_of(shape: Sequence[int]) -> Tensor:
    """Numbers of cells as the kernels take them, on the CPU."""
    return torch.tensor(list(shape), dtype=torch.int64, device="cpu")
