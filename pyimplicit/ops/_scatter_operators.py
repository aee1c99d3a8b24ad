"""The torch operators behind `scatter`: points grouped by cell, mean, maximum, and the maximum of each point's cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.ops._library import no_derivative, register


def _call(kernel: str, device: Tensor, cells: Tensor, order: Tensor, start: Tensor, **arguments: Any) -> None:
    partitions, batch, points = cells.shape
    _native.call(
        kernel, device.device, device.dtype, cells=cells, order=order, start=start, partitions=partitions, batch=batch,
        points=points, cell_count=start.shape[2] - 1, **arguments,
    )  # fmt: skip


def _group_cells_kernel(cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
    if cells.is_cuda:
        return group_by_sorting(cells, cell_count)
    order, start = _group_cells_fake(cells, cell_count)
    _native.call(
        "group_cells", cells.device, cells=cells, rows=cells.shape[0] * cells.shape[1], points=cells.shape[2],
        cell_count=cell_count, order=order, start=start,
    )  # fmt: skip
    return order, start


def group_by_sorting(cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
    """The same groups by torch: on a GPU the kernel's rows would be too few threads."""
    in_order, order = cells.sort(dim=2, stable=True)
    bounds = torch.arange(cell_count + 1, dtype=torch.int32, device=cells.device)
    rows = bounds.expand(*cells.shape[:2], -1).contiguous()
    return order.to(torch.int32), torch.searchsorted(in_order, rows, out_int32=True)


def _group_cells_fake(cells: Tensor, cell_count: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(cells), cells.new_empty(*cells.shape[:2], cell_count + 1)


group_cells_op = register(
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


scatter_mean_op = register(
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


scatter_max_op = register(
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


pool_local_op = register(
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
