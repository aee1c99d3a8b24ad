"""Linear interpolation of feature grids (trilinear) and feature planes (bilinear) at query points."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_choice, check_tensor
from pyimplicit.ops._library import no_derivative, register

PADDINGS = ("zeros", "border")  # in the order of `Padding` in csrc/interpolation.h
LAYOUTS = ("channel_fastest", "offset_fastest")


def sample_grids(
    grids: Tensor | Sequence[Tensor],  # [B, C, D, H, W] each
    points: Tensor,  # [B, N, 3]
    offsets: Tensor | None = None,  # [K, 3]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
    layout: str = "channel_fastest",
) -> Tensor:
    """Trilinear interpolation of one or several feature grids at points and at displaced copies of them.

    Args:
        grids: Feature volumes [B, C, D, H, W] float32 or float64, each with its own C, D, H, W, in any memory format.
        points: [B, N, 3] in [-1, 1], the dtype and device of the grids: x runs along W (the last axis), y along H,
            z along D, as in `torch.nn.functional.grid_sample`. A NaN coordinate gives NaN features.
        offsets: [K, 3] displacements added to every point, or None for the points alone (K = 1).
        align_corners: Whether -1 and 1 are the first and last node, or the outer faces of the first and last cell.
        padding_mode: "border" clamps coordinates to the grid, "zeros" fades to zero outside.
        layout: Order of the result's last axis. With S channels in all, counted over the grids in order:
            "channel_fastest" puts channel c at displacement k to k S + c, "offset_fastest" to c K + k (IF-Net).

    Returns:
        Features [B, N, K S]. Differentiable in grids and points; along an axis where "border" clamps, the gradient
        is zero.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device, an empty grid, an unknown padding or layout.

    Source:
        Chibane, Alldieck, Pons-Moll, "Implicit Functions in Feature Space for 3D Shape Reconstruction and
        Completion", CVPR 2020, section 3.2.

    Example:
        >>> grid = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
        >>> sample_grids(grid, torch.tensor([[[0.0, 0.0, 0.0], [1.0, -1.0, -1.0]]]))
        tensor([[[3.5000],
                 [1.0000]]])
    """
    if not isinstance(grids, Tensor | Sequence):
        raise TypeError(f"grids: expected a torch tensor or a sequence of them, got {type(grids).__name__}")
    volumes = [grids] if isinstance(grids, Tensor) else list(grids)
    if not volumes:
        raise ValueError("grids: expected at least one feature grid, got none")
    first = check_tensor("grids", volumes[0], ("B", "C", "D", "H", "W"))
    batch, dtypes = first.shape[0], (first.dtype,)
    for index, grid in enumerate(volumes):
        check_tensor(f"grids[{index}]", grid, (batch, "C", "D", "H", "W"), dtypes, first.device)
        _check_not_empty(f"grids[{index}]", grid)
    check_tensor("points", points, (batch, "N", 3), dtypes, first.device)
    if offsets is not None:
        check_tensor("offsets", offsets, ("K", 3), dtypes, first.device)
        if offsets.shape[0] == 0:
            raise ValueError("offsets: expected at least one displacement, or None")
        offsets = offsets.detach().contiguous()
    padding = PADDINGS.index(check_choice("padding_mode", padding_mode, PADDINGS))
    offset_fastest = check_choice("layout", layout, LAYOUTS) == "offset_fastest"
    features: Tensor = _sample_grids_op(volumes, points.contiguous(), offsets, align_corners, padding, offset_fastest)
    return features


def sample_planes(
    planes: Tensor,  # [B, K, C, H, W]
    points: Tensor,  # [B, K, N, 2] or [B, N, 2]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
) -> Tensor:
    """Bilinear interpolation of K feature planes, summed over the planes.

    Args:
        planes: [B, K, C, H, W] float32 or float64, in any memory format.
        points: Coordinates in [-1, 1] on each plane, [B, K, N, 2], or [B, N, 2] for the same on all: x runs along W
            (the last axis), y along H, as in `torch.nn.functional.grid_sample`. NaN gives NaN features.
        align_corners: Whether -1 and 1 are the first and last node, or the outer edges of the first and last cell.
        padding_mode: "border" clamps coordinates to the plane, "zeros" fades to zero outside.

    Returns:
        Features [B, N, C]. Differentiable in planes and points; along an axis where "border" clamps, the gradient is
        zero.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device, an empty plane, an unknown padding.

    Source:
        Peng et al., "Convolutional Occupancy Networks", ECCV 2020, section 3.2.

    Example:
        >>> planes = torch.arange(4.0).reshape(1, 1, 1, 2, 2)
        >>> sample_planes(planes, torch.tensor([[[0.0, 0.0], [1.0, -1.0]]]))
        tensor([[[1.5000],
                 [1.0000]]])
    """
    check_tensor("planes", planes, ("B", "K", "C", "H", "W"))
    _check_not_empty("planes", planes)
    batch, count = planes.shape[:2]
    if isinstance(points, Tensor) and points.dim() == 3:
        check_tensor("points", points, (batch, "N", 2), (planes.dtype,), planes.device)
        points = points.unsqueeze(1).expand(-1, count, -1, -1)
    check_tensor("points", points, (batch, count, "N", 2), (planes.dtype,), planes.device)
    padding = PADDINGS.index(check_choice("padding_mode", padding_mode, PADDINGS))
    features: Tensor = _sample_planes_op(planes, points.contiguous(), align_corners, padding)
    return features


def _check_not_empty(name: str, features: Tensor) -> None:
    if min(features.shape[-4:]) == 0:
        raise ValueError(f"{name}: expected at least one channel and one node per axis, got {list(features.shape)}")


def _layout(
    features: Tensor,  # [B, C, (D,) H, W]
    points: tuple[int, int],  # count, elements between batch items
    offsets: int,
    out: tuple[int, int, int, int],  # strides of batch, point, offset, channel
    options: tuple[bool, int, bool],  # align_corners, padding, accumulate
) -> array[int]:
    """Sizes and strides in the order in which `sample_features_kernel` of csrc/bindings.h reads them."""
    spatial = range(features.dim() - 1, 1, -1)
    return array(
        "q",
        (
            features.shape[1],
            features.stride(0),
            features.stride(1),
            *(features.shape[axis] for axis in spatial),
            *(features.stride(axis) for axis in spatial),
            *points,
            offsets,
            *out,
            *map(int, options),
        ),
    )


def _call(kernel: str, layout: array[int], points: Tensor, **arguments: Any) -> None:
    address, _ = layout.buffer_info()
    _native.call(kernel, points.device, points.dtype, layout=address, batch=points.shape[0], points=points, **arguments)


def _address(tensor: Tensor, elements: int) -> int:
    return tensor.data_ptr() + elements * tensor.element_size()


# ---- grids


def _grid_layouts(
    grids: Sequence[Tensor], points: Tensor, offsets: Tensor | None, options: tuple[bool, int], offset_fastest: bool
) -> tuple[int, list[tuple[array[int], int]]]:
    """Width of a result row, and each grid's layout with the place of its first channel in the row."""
    copies = 1 if offsets is None else offsets.shape[0]
    channels = sum(grid.shape[1] for grid in grids)
    width, count = copies * channels, points.shape[1]
    strides = (1, copies) if offset_fastest else (channels, 1)
    placed, before = [], 0
    for grid in grids:
        layout = _layout(grid, (count, 3 * count), copies, (count * width, width, *strides), (*options, False))
        placed.append((layout, before * strides[1]))
        before += grid.shape[1]
    return width, placed


def _sample_grids_kernel(
    grids: list[Tensor], points: Tensor, offsets: Tensor | None, align_corners: bool, padding: int, offset_fastest: bool
) -> Tensor:
    width, placed = _grid_layouts(grids, points, offsets, (align_corners, padding), offset_fastest)
    out = points.new_empty(*points.shape[:2], width)
    for grid, (layout, start) in zip(grids, placed, strict=True):
        _call("sample_grids", layout, points, features=grid, offsets=offsets, out=_address(out, start))
    return out


def _sample_grids_fake(
    grids: list[Tensor], points: Tensor, offsets: Tensor | None, align_corners: bool, padding: int, offset_fastest: bool
) -> Tensor:
    copies = 1 if offsets is None else offsets.shape[0]
    return points.new_empty(*points.shape[:2], copies * sum(grid.shape[1] for grid in grids))


def _sample_grids_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grids, points, offsets, *ctx.options = inputs
    ctx.save_for_backward(points, offsets, *grids)
    # needs_input_grad says nothing useful for a list: ask the tensors.
    ctx.any_grid = any(grid.requires_grad for grid in grids)


def _sample_grids_autograd(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    points, offsets, *grids = ctx.saved_tensors
    grad_grids, grad_points = _sample_grids_backward_op(
        gradient.contiguous(), grids, points, offsets, *ctx.options, ctx.any_grid, ctx.needs_input_grad[1]
    )
    return (
        grad_grids if ctx.any_grid else [None] * len(grids),
        grad_points if ctx.needs_input_grad[1] else None,
        None,
        None,
        None,
        None,
    )


def _sample_grids_backward_kernel(
    gradient: Tensor,
    grids: list[Tensor],
    points: Tensor,
    offsets: Tensor | None,
    align_corners: bool,
    padding: int,
    offset_fastest: bool,
    for_grids: bool,
    for_points: bool,
) -> tuple[list[Tensor], Tensor]:
    _, placed = _grid_layouts(grids, points, offsets, (align_corners, padding), offset_fastest)
    grad_grids = [torch.zeros_like(grid) if for_grids else grid.new_empty(0) for grid in grids]
    grad_points = torch.zeros_like(points) if for_points else points.new_empty(0)
    for grid, grad_grid, (layout, start) in zip(grids, grad_grids, placed, strict=True):
        shared = {"offsets": offsets, "grad_out": _address(gradient, start)}
        if for_grids:
            # The gradient is written with the grid's own strides, which zeros_like keeps for dense tensors only.
            own = layout if grad_grid.stride() == grid.stride() else _restrided(layout, grad_grid)
            _call("sample_grids_backward", own, points, grad_features=grad_grid, **shared)
        if for_points:
            _call("sample_grids_point_backward", layout, points, features=grid, grad_points=grad_points, **shared)
    return grad_grids, grad_points


def _restrided(layout: array[int], features: Tensor) -> array[int]:
    axes = features.dim() - 2
    changed = array("q", layout)
    changed[1], changed[2] = features.stride(0), features.stride(1)
    for place, axis in enumerate(range(features.dim() - 1, 1, -1)):
        changed[3 + axes + place] = features.stride(axis)
    return changed


def _sample_grids_backward_fake(
    gradient: Tensor,
    grids: list[Tensor],
    points: Tensor,
    offsets: Tensor | None,
    align_corners: bool,
    padding: int,
    offset_fastest: bool,
    for_grids: bool,
    for_points: bool,
) -> tuple[list[Tensor], Tensor]:
    return (
        [torch.empty_like(grid) if for_grids else grid.new_empty(0) for grid in grids],
        torch.empty_like(points) if for_points else points.new_empty(0),
    )


_sample_grids_op = register(
    "sample_grids",
    "(Tensor[] grids, Tensor points, Tensor? offsets, bool align_corners, int padding, bool offset_fastest) -> Tensor",
    _sample_grids_kernel,
    _sample_grids_fake,
    _sample_grids_autograd,
    _sample_grids_context,
)
_sample_grids_backward_op = register(
    "sample_grids_backward",
    "(Tensor gradient, Tensor[] grids, Tensor points, Tensor? offsets, bool align_corners, int padding,"
    " bool offset_fastest, bool for_grids, bool for_points) -> (Tensor[], Tensor)",
    _sample_grids_backward_kernel,
    _sample_grids_backward_fake,
    no_derivative("sample_grids", "cannot be differentiated a second time"),
    lambda ctx, inputs, output: None,
)


# ---- planes


def _plane_layout(planes: Tensor, points: Tensor, plane: int, options: tuple[bool, int]) -> array[int]:
    batch_stride, count, channels = points.stride(0), points.shape[2], planes.shape[2]
    return _layout(
        planes[:, plane], (count, batch_stride), 1, (count * channels, channels, 0, 1), (*options, plane > 0)
    )


def _sample_planes_kernel(planes: Tensor, points: Tensor, align_corners: bool, padding: int) -> Tensor:
    out = _sample_planes_fake(planes, points, align_corners, padding)
    if planes.shape[1] == 0:
        return out.zero_()
    for plane in range(planes.shape[1]):
        _call(
            "sample_planes", _plane_layout(planes, points, plane, (align_corners, padding)), points[:, plane],
            features=planes[:, plane], offsets=None, out=out,
        )  # fmt: skip
    return out


def _sample_planes_fake(planes: Tensor, points: Tensor, align_corners: bool, padding: int) -> Tensor:
    return points.new_empty(points.shape[0], points.shape[2], planes.shape[2])


def _sample_planes_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    planes, points, *ctx.options = inputs
    ctx.save_for_backward(planes, points)


def _sample_planes_autograd(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    planes, points = ctx.saved_tensors
    grad_planes, grad_points = _sample_planes_backward_op(
        gradient.contiguous(), planes, points, *ctx.options, *ctx.needs_input_grad[:2]
    )
    return (
        grad_planes if ctx.needs_input_grad[0] else None,
        grad_points if ctx.needs_input_grad[1] else None,
        None,
        None,
    )


def _sample_planes_backward_kernel(
    gradient: Tensor,
    planes: Tensor,
    points: Tensor,
    align_corners: bool,
    padding: int,
    for_planes: bool,
    for_points: bool,
) -> tuple[Tensor, Tensor]:
    grad_planes = torch.zeros_like(planes) if for_planes else planes.new_empty(0)
    grad_points = torch.zeros_like(points) if for_points else points.new_empty(0)
    for plane in range(planes.shape[1]):
        layout = _plane_layout(planes, points, plane, (align_corners, padding))
        shared = {"offsets": None, "grad_out": gradient}
        if for_planes:
            target = grad_planes[:, plane]
            _call(
                "sample_planes_backward", _restrided(layout, target), points[:, plane], grad_features=target, **shared
            )
        if for_points:
            _call(
                "sample_planes_point_backward", layout, points[:, plane], features=planes[:, plane],
                grad_points=grad_points[:, plane], **shared,
            )  # fmt: skip
    return grad_planes, grad_points


def _sample_planes_backward_fake(
    gradient: Tensor,
    planes: Tensor,
    points: Tensor,
    align_corners: bool,
    padding: int,
    for_planes: bool,
    for_points: bool,
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(planes) if for_planes else planes.new_empty(0),
        torch.empty_like(points) if for_points else points.new_empty(0),
    )


_sample_planes_op = register(
    "sample_planes",
    "(Tensor planes, Tensor points, bool align_corners, int padding) -> Tensor",
    _sample_planes_kernel,
    _sample_planes_fake,
    _sample_planes_autograd,
    _sample_planes_context,
)
_sample_planes_backward_op = register(
    "sample_planes_backward",
    "(Tensor gradient, Tensor planes, Tensor points, bool align_corners, int padding, bool for_planes,"
    " bool for_points) -> (Tensor, Tensor)",
    _sample_planes_backward_kernel,
    _sample_planes_backward_fake,
    no_derivative("sample_planes", "cannot be differentiated a second time"),
    lambda ctx, inputs, output: None,
)
