"""The kernels of interpolation as functions of tensors: how their arguments are laid out for csrc/interpolation/.

`lanes` is for the tests: numbers in a vector of the CPU, 1 for the plain body, 0 for what is fastest.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.ops import memory


class Options(NamedTuple):
    """How the points are read and the rows laid out, as the operators take it."""

    align_corners: bool
    padding: int
    offset_fastest: bool
    sum: bool


def _stack(
    features: Tensor,  # [B, C, *sizes] or [B, K, C, *sizes]
    axes: int,
) -> int:
    """Number of maps in one tensor."""
    return 1 if features.dim() == axes + 2 else features.shape[1]


def _width(features: Sequence[Tensor], axes: int, summed: bool) -> int:
    """Channels of one displaced copy of one point."""
    channels = [_stack(some, axes) * some.shape[-axes - 1] for some in features]
    return features[0].shape[-axes - 1] if summed else sum(channels)


def row_shape(features: Sequence[Tensor], points: Tensor, offsets: Tensor | None, summed: bool) -> tuple[int, ...]:
    """The shape of what `gather` returns."""
    copies = 1 if offsets is None else offsets.shape[0]
    return points.shape[0], points.shape[-2], copies * _width(features, points.shape[-1], summed)


def _layout(
    features: Sequence[Tensor],  # [B, C, *sizes] or [B, K, C, *sizes] each
    points: Tensor,  # [B, N, axes] or [B, maps, N, axes], contiguous
    offsets: Tensor | None,  # [K, axes]
    options: Options,
) -> array[int]:
    """Sizes, strides and addresses as `sampling_of` of csrc/bindings/interpolation_bindings.h reads them."""
    axes = points.shape[-1]
    copies = 1 if offsets is None else offsets.shape[0]
    width = _width(features, axes, options.sum)
    maps: list[int] = []
    start = 0
    for some in features:
        channels, count = some.shape[-axes - 1], _stack(some, axes)
        strides, sizes, address = some.stride(), some.shape, some.data_ptr()
        step = strides[1] * some.element_size()
        rest = (*sizes[: -axes - 1 : -1], *strides[: -axes - 1 : -1])
        for index in range(count):
            maps += (address + index * step, channels, start, strides[0], strides[-axes - 1], *rest)
            start += 0 if options.sum else channels
    count = points.shape[-2]
    return array(
        "q",
        (
            len(maps) // (5 + 2 * axes),
            count,
            points.stride(0),
            points.stride(1) if points.dim() == 4 else 0,
            copies,
            options.align_corners,
            options.padding,
            options.sum,
            count * copies * width,
            copies * width,
            *((1, copies) if options.offset_fastest else (width, 1)),
            *maps,
        ),
    )


def _call(kernel: str, dtype: torch.dtype, layout: array[int], points: Tensor, **arguments: Any) -> None:
    address, _ = layout.buffer_info()
    kernel += "_planes" if points.shape[-1] == 2 else "_grids"
    _native.call(kernel, points.device, dtype, layout=address, points=points, batch=points.shape[0], **arguments)


def gather(
    features: Sequence[Tensor],
    points: Tensor,
    tangent: Tensor | None,
    offsets: Tensor | None,
    options: Options,
    lanes: int = 0,
) -> Tensor:
    """Features at points; with a tangent (laid out as the points), their derivative along it."""
    shape = row_shape(features, points, offsets, options.sum)
    rows = memory.empty(shape, (shape[1] * shape[2], shape[2], 1), features[0].dtype, points.device)
    layout = _layout(features, points, offsets, options)
    _call("gather", rows.dtype, layout, points, tangent=tangent, offsets=offsets, rows=rows, lanes=lanes)
    return rows


def scatter(
    rows: Tensor,
    like: Sequence[Tensor],
    points: Tensor,
    tangent: Tensor | None,
    offsets: Tensor | None,
    options: Options,
    lanes: int = 0,
    segments: bool = False,
) -> list[Tensor]:
    """What `gather` does to rows, transposed: gradients in the memory layout of the features.

    `segments` is for the tests: what a GPU does for the sake of determinism.
    """
    # Halves are summed in float32. The points' dtype is that of all sums.
    sums = [memory.zeros(some.shape, _dense_strides(some), points.dtype, points.device) for some in like]
    layout = _layout(sums, points, offsets, options)
    arguments = {"tangent": tangent, "offsets": offsets, "rows": rows}
    if segments or (points.is_cuda and torch.are_deterministic_algorithms_enabled()):
        for index in range(layout[0]):
            keys = torch.empty(points.shape[0] * points.shape[-2] * layout[4], dtype=torch.int64, device=points.device)
            _call("cell_keys", rows.dtype, layout, points, offsets=offsets, map=index, keys=keys)
            keys, order = keys.sort(stable=True)
            _call("scatter_segments", rows.dtype, layout, points, map=index, keys=keys, order=order, **arguments)
    else:
        _call("scatter", rows.dtype, layout, points, lanes=lanes, **arguments)
    return [one if one.dtype == some.dtype else one.to(some.dtype) for one, some in zip(sums, like, strict=True)]


def slope(
    rows: Tensor,
    features: Sequence[Tensor],
    points: Tensor,
    tangent: Tensor | None,
    offsets: Tensor | None,
    options: Options,
    lanes: int = 0,
) -> Tensor:
    """Derivative along the points of rows times `gather`."""
    gradient = torch.empty_like(points)
    _call(
        "slope", rows.dtype, _layout(features, points, offsets, options), points, tangent=tangent, offsets=offsets,
        rows=rows, lanes=lanes, gradient=gradient,
    )  # fmt: skip
    return gradient


def _dense_strides(like: Tensor) -> tuple[int, ...]:
    """The strides that `torch.empty_like` gives."""
    return like.stride() if like.is_contiguous() else torch.empty_like(like, device="meta").stride()


def flatten_layouts(features: Sequence[Tensor]) -> tuple[list[int], list[int], list[int]]:
    """Sizes and strides of some tensors one behind the other, and how many belong to each."""
    sizes = [size for some in features for size in some.shape]
    strides = [stride for some in features for stride in some.stride()]
    return sizes, strides, [some.dim() for some in features]


def unflatten_layouts(
    sizes: Sequence[int], strides: Sequence[int], axes: Sequence[int], dtype: torch.dtype
) -> list[Tensor]:
    """Tensors without memory, laid out as those that `flatten_layouts` was given."""
    found, start = [], 0
    for count in axes:
        end = start + count
        found.append(torch.empty_strided(sizes[start:end], strides[start:end], dtype=dtype, device="meta"))
        start = end
    return found
