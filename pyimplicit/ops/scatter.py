"""Features of points gathered in the cells of planes and grids: mean, maximum, and the maximum of each point's cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit.checks import check_count, check_tensor
from pyimplicit.ops._scatter_operators import group_cells_op, pool_local_op, scatter_max_op, scatter_mean_op

_MOST_CELLS = 2**31 - 2  # what an int32 can count


@dataclass(frozen=True, eq=False)
class CellGroups:
    """The points of a batch of clouds sorted by cell, under one or several partitions of space."""

    cells: Tensor  # [K, B, N] int32, the cell of each point
    order: Tensor  # [K, B, N] int32, the points cell after cell, those of a cell in the cloud's order
    start: Tensor  # [K, B, cell_count + 1] int32, where each cell's points start in `order`
    several: bool  # whether results have an axis K

    @property
    def cell_count(self) -> int:
        """Cells of one partition."""
        return self.start.shape[2] - 1

    def to(self, device: torch.device | str) -> CellGroups:
        """The same groups on another device."""
        return CellGroups(self.cells.to(device), self.order.to(device), self.start.to(device), self.several)


def build_cell_groups(
    cells: Tensor,  # [B, N] or [K, B, N]
    cell_count: int,
) -> CellGroups:
    """Sort the points of a batch of clouds by cell: done once a cloud, for any number of scatters.

    Args:
        cells: [B, N] int64 or int32, the cell of each point, in [0, cell_count); or [K, B, N] for K partitions of
            space with as many cells each, such as the three planes of ConvONet.
        cell_count: Cells of one partition, at least 1.

    Returns:
        The groups, on the device of `cells`.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape, a cell out of range, a count below 1 or above 2^31 - 2.

    Example:
        >>> build_cell_groups(torch.tensor([[2, 0, 2]]), 4).order
        tensor([[[1, 0, 2]]], dtype=torch.int32)
    """
    several = isinstance(cells, Tensor) and cells.dim() == 3
    check_tensor("cells", cells, ("K", "B", "N") if several else ("B", "N"), (torch.int64, torch.int32))
    if check_count("cell_count", cell_count) > _MOST_CELLS:
        raise ValueError(f"cell_count: expected at most {_MOST_CELLS}, got {cell_count}")
    _check_range(cells, cell_count)
    # the operator's results may not be its arguments, so the copy is made here
    cells = (cells if several else cells[None]).to(torch.int32).contiguous()
    order, start = group_cells_op(cells, cell_count)
    return CellGroups(cells, order, start, several)


def _check_range(cells: Tensor, cell_count: int) -> None:
    if cells.numel() == 0:
        return
    low, high = torch.aminmax(cells)
    if torch.compiler.is_compiling():
        inside = (low >= 0) & (high < cell_count)
        torch._assert_async(inside, f"cells: expected indices in 0..{cell_count - 1}")
    elif int(low) < 0 or int(high) >= cell_count:
        raise ValueError(f"cells: expected indices in 0..{cell_count - 1}, got {int(low)}..{int(high)}")


def scatter_mean(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
    *,
    channels_first: bool = False,
) -> Tensor:
    """Mean of the features of the points in each cell, 0 where a cell is empty.

    Args:
        features: [B, N, C] float32 or float64. NaN stays in its cell.
        groups: The cells of the points, from `build_cell_groups`, on the features' device.
        channels_first: Whether the channels come before the cells in the result.

    Returns:
        Means [B, cells, C] (or [B, C, cells]), with an axis K in front if the groups have several partitions.
        Differentiable once. Sums run in the order of the points, so they never depend on the threads.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device.

    Source:
        Peng et al., "Convolutional Occupancy Networks", ECCV 2020, section 3.1.

    Example:
        >>> groups = build_cell_groups(torch.tensor([[0, 2, 2]]), 4)
        >>> scatter_mean(torch.tensor([[[1.0], [5.0], [3.0]]]), groups).flatten()
        tensor([1., 0., 4., 0.])
    """
    features = _check(features, groups)
    means: Tensor = scatter_mean_op(features, groups.cells, groups.order, groups.start, bool(channels_first))
    return means if groups.several else means[0]


def scatter_max(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
) -> tuple[Tensor, Tensor]:
    """Maximum of the features of the points in each cell, 0 where a cell is empty, and which point has it.

    Args:
        features: [B, N, C] float32 or float64. NaN counts as larger than every number, as in `torch.max`.
        groups: The cells of the points, from `build_cell_groups`, on the features' device.

    Returns:
        Maxima [B, cells, C], and the points that have them [B, cells, C] int64, -1 where a cell is empty; both with an
        axis K in front if the groups have several partitions. Of equal points the first one counts, and it alone gets
        the gradient. Differentiable once.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device.

    Example:
        >>> groups = build_cell_groups(torch.tensor([[0, 2, 2]]), 4)
        >>> values, points = scatter_max(torch.tensor([[[1.0], [5.0], [5.0]]]), groups)
        >>> values.flatten(), points.flatten()
        (tensor([1., 0., 5., 0.]), tensor([ 0, -1,  1, -1]))
    """
    features = _check(features, groups)
    values, points = scatter_max_op(features, groups.cells, groups.order, groups.start)
    return (values, points) if groups.several else (values[0], points[0])


def pool_local(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
) -> Tensor:
    """For each point the maximum over the points of its own cell, summed over the partitions.

    The maxima of `scatter_max` gathered back to the points, without forming the map.

    Args:
        features: [B, N, C] float32 or float64. NaN counts as larger than every number, as in `torch.max`.
        groups: The cells of the points, from `build_cell_groups`, on the features' device.

    Returns:
        Pooled features [B, N, C]. Of equal points of a cell (clouds drawn with replacement hold duplicates) the first
        one alone gets the gradient. Differentiable once.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device.

    Source:
        Peng et al., "Convolutional Occupancy Networks", ECCV 2020, section 3.1 and supplementary section 1.

    Example:
        >>> groups = build_cell_groups(torch.tensor([[0, 2, 2]]), 4)
        >>> pool_local(torch.tensor([[[1.0], [5.0], [3.0]]]), groups).flatten()
        tensor([1., 5., 5.])
    """
    features = _check(features, groups)
    pooled: Tensor = pool_local_op(features, groups.cells, groups.order, groups.start)
    return pooled


def _check(features: Tensor, groups: CellGroups) -> Tensor:
    if not isinstance(groups, CellGroups):
        raise TypeError(f"groups: expected CellGroups, got {type(groups).__name__}")
    _, batch, points = groups.cells.shape
    return check_tensor("features", features, (batch, points, "C"), device=groups.cells.device).contiguous()
