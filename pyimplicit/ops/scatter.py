"""Features of points gathered in the cells of planes and grids: mean, maximum, and the maximum of each point's cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_tensor
from pyimplicit.ops._library import no_derivative, register

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
    order, start = _group_cells_op(cells, cell_count)
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
    means: Tensor = _scatter_mean_op(features, groups.cells, groups.order, groups.start, bool(channels_first))
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
    values, points = _scatter_max_op(features, groups.cells, groups.order, groups.start)
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
    pooled: Tensor = _pool_local_op(features, groups.cells, groups.order, groups.start)
    return pooled


def _check(features: Tensor, groups: CellGroups) -> Tensor:
    if not isinstance(groups, CellGroups):
        raise TypeError(f"groups: expected CellGroups, got {type(groups).__name__}")
    _, batch, points = groups.cells.shape
    return check_tensor("features", features, (batch, points, "C"), device=groups.cells.device).contiguous()


# ---- operators


def _call(kernel: str, device: Tensor, cells: Tensor, order: Tensor, start: Tensor, **arguments: Any) -> None:
    partitions, batch, points = cells.shape
    _native.call(
        kernel, device.device, device.dtype, cells=cells, order=order, start=start, partitions=partitions, batch=batch,
        points=points, cell_count=start.shape[2] - 1, **arguments,
    )  # fmt: skip


def _group_cells_kernel(cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
    if cells.is_cuda:
        return _group_by_sorting(cells, cell_count)
    order, start = _group_cells_fake(cells, cell_count)
    _native.call(
        "group_cells", cells.device, cells=cells, rows=cells.shape[0] * cells.shape[1], points=cells.shape[2],
        cell_count=cell_count, order=order, start=start,
    )  # fmt: skip
    return order, start


def _group_by_sorting(cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
    """The same groups by torch: on a GPU the kernel's rows would be too few threads."""
    in_order, order = cells.sort(dim=2, stable=True)
    bounds = torch.arange(cell_count + 1, dtype=torch.int32, device=cells.device)
    rows = bounds.expand(*cells.shape[:2], -1).contiguous()
    return order.to(torch.int32), torch.searchsorted(in_order, rows, out_int32=True)


def _group_cells_fake(cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(cells), cells.new_empty(*cells.shape[:2], cell_count + 1)


_group_cells_op = register(
    "group_cells", "(Tensor cells, int cell_count) -> (Tensor, Tensor)", _group_cells_kernel, _group_cells_fake
)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """What every derivative needs: the groups."""
    ctx.save_for_backward(*inputs[1:4])


def _refuse(operator: str) -> dict[str, Any]:
    refusal = no_derivative(operator, "cannot be differentiated a second time")
    return {"backward": refusal, "setup_context": lambda ctx, inputs, output: None}


# ---- mean


def _map_strides(shaped: Tensor, channels_first: bool) -> dict[str, int]:
    partition, batch, *inner = shaped.stride()
    channel, cell = inner if channels_first else inner[::-1]
    return {"partition_stride": partition, "batch_stride": batch, "cell_stride": cell, "channel_stride": channel}


def _scatter_mean_kernel(features: Tensor, cells: Tensor, order: Tensor, start: Tensor, channels_first: bool) -> Tensor:
    means = _scatter_mean_fake(features, cells, order, start, channels_first)
    _call(
        "scatter_mean", features, cells, order, start, features=features, channels=features.shape[2], map=means,
        **_map_strides(means, channels_first),
    )  # fmt: skip
    return means


def _scatter_mean_fake(features: Tensor, cells: Tensor, order: Tensor, start: Tensor, channels_first: bool) -> Tensor:
    inner = (start.shape[2] - 1, features.shape[2])
    return features.new_empty(*cells.shape[:2], *(inner[::-1] if channels_first else inner))


def _scatter_mean_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _save(ctx, inputs, output)
    ctx.channels_first = inputs[4]


def _scatter_mean_autograd(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    return _scatter_mean_backward_op(gradient, *ctx.saved_tensors, ctx.channels_first), None, None, None, None


def _scatter_mean_backward_kernel(
    gradient: Tensor, cells: Tensor, order: Tensor, start: Tensor, channels_first: bool
) -> Tensor:
    grad_features = _scatter_mean_backward_fake(gradient, cells, order, start, channels_first)
    if cells.shape[0] == 0:
        return grad_features.zero_()
    _call(
        "scatter_mean_backward", gradient, cells, order, start, grad_map=gradient, channels=grad_features.shape[2],
        grad_features=grad_features, **_map_strides(gradient, channels_first),
    )  # fmt: skip
    return grad_features


def _scatter_mean_backward_fake(
    gradient: Tensor, cells: Tensor, order: Tensor, start: Tensor, channels_first: bool
) -> Tensor:
    return gradient.new_empty(*cells.shape[1:], gradient.shape[2 if channels_first else 3])


_scatter_mean_op = register(
    "scatter_mean",
    "(Tensor features, Tensor cells, Tensor order, Tensor start, bool channels_first) -> Tensor",
    _scatter_mean_kernel,
    _scatter_mean_fake,
    _scatter_mean_autograd,
    _scatter_mean_context,
)
_scatter_mean_backward_op = register(
    "scatter_mean_backward",
    "(Tensor gradient, Tensor cells, Tensor order, Tensor start, bool channels_first) -> Tensor",
    _scatter_mean_backward_kernel,
    _scatter_mean_backward_fake,
    **_refuse("scatter_mean"),
)


# ---- maximum


def _scatter_max_kernel(features: Tensor, cells: Tensor, order: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    values, points = _scatter_max_fake(features, cells, order, start)
    _call(
        "scatter_max", features, cells, order, start, features=features, channels=features.shape[2], map=values,
        best=points,
    )  # fmt: skip
    return values, points


def _scatter_max_fake(features: Tensor, cells: Tensor, order: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    values = features.new_empty(*cells.shape[:2], start.shape[2] - 1, features.shape[2])
    return values, torch.empty_like(values, dtype=torch.int64)


def _scatter_max_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], *inputs[1:4])


def _scatter_max_autograd(ctx: Any, gradient: Tensor, _: Any) -> tuple[Any, ...]:
    return _scatter_max_backward_op(gradient.contiguous(), *ctx.saved_tensors), None, None, None


def _scatter_max_backward_kernel(
    gradient: Tensor, points: Tensor, cells: Tensor, order: Tensor, start: Tensor
) -> Tensor:
    grad_features = _scatter_max_backward_fake(gradient, points, cells, order, start)
    if cells.shape[0] == 0:
        return grad_features.zero_()
    _call(
        "scatter_max_backward", gradient, cells, order, start, grad_map=gradient, best=points,
        channels=gradient.shape[3], grad_features=grad_features,
    )  # fmt: skip
    return grad_features


def _scatter_max_backward_fake(gradient: Tensor, points: Tensor, cells: Tensor, order: Tensor, start: Tensor) -> Tensor:
    return gradient.new_empty(*cells.shape[1:], gradient.shape[3])


_scatter_max_op = register(
    "scatter_max",
    "(Tensor features, Tensor cells, Tensor order, Tensor start) -> (Tensor, Tensor)",
    _scatter_max_kernel,
    _scatter_max_fake,
    _scatter_max_autograd,
    _scatter_max_context,
)
_scatter_max_backward_op = register(
    "scatter_max_backward",
    "(Tensor gradient, Tensor points, Tensor cells, Tensor order, Tensor start) -> Tensor",
    _scatter_max_backward_kernel,
    _scatter_max_backward_fake,
    **_refuse("scatter_max"),
)


# ---- maximum of the own cell


def _pool_local_kernel(features: Tensor, cells: Tensor, order: Tensor, start: Tensor) -> Tensor:
    pooled = torch.empty_like(features)
    if cells.shape[0] == 0:
        return pooled.zero_()
    _call("pool_local", features, cells, order, start, features=features, channels=features.shape[2], pooled=pooled)
    return pooled


def _pool_local_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _pool_local_autograd(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    return _pool_local_backward_op(gradient, *ctx.saved_tensors), None, None, None


def _pool_local_backward_kernel(
    gradient: Tensor, features: Tensor, cells: Tensor, order: Tensor, start: Tensor
) -> Tensor:
    grad_features = torch.empty_like(features)
    if cells.shape[0] == 0:
        return grad_features.zero_()
    # The gradient of a concatenation is a part of a wider tensor: taken as it is.
    gradient = gradient if gradient.stride(2) == 1 else gradient.contiguous()
    _call(
        "pool_local_backward", features, cells, order, start, gradient=gradient,
        gradient_batch_stride=gradient.stride(0), gradient_point_stride=gradient.stride(1), features=features,
        channels=features.shape[2], grad_features=grad_features,
    )  # fmt: skip
    return grad_features


_pool_local_op = register(
    "pool_local",
    "(Tensor features, Tensor cells, Tensor order, Tensor start) -> Tensor",
    _pool_local_kernel,
    lambda features, *_: torch.empty_like(features),
    _pool_local_autograd,
    _pool_local_context,
)
_pool_local_backward_op = register(
    "pool_local_backward",
    "(Tensor gradient, Tensor features, Tensor cells, Tensor order, Tensor start) -> Tensor",
    _pool_local_backward_kernel,
    lambda gradient, features, *_: torch.empty_like(features),
    **_refuse("pool_local"),
)
