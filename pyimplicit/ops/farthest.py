"""Farthest point sampling, which chooses the anchors of AIR-Nets."""

from __future__ import annotations

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_between, check_count, check_finite, check_tensor
from pyimplicit.ops._library import register

# Squared length up to which AIR-Nets' authors never choose a point; they inherited it from PointNet++, whose clouds
# mark absent points by the origin.
AUTHORS_SKIP = 1e-3


def farthest_points(
    points: Tensor,  # [B, N, 3]
    count: int,
    *,
    start: int = 0,
    skip_squared_length: float | None = None,
) -> Tensor:
    """Indices of points that lie far apart: each next one is the farthest from all chosen before it.

    Of equally far points the one with the lowest index is chosen. Distances are squared and summed in the points'
    dtype, x then y then z, each step rounded, on the CPU and on CUDA: the same indices everywhere.

    Args:
        points: [B, N, 3] float32 or float64, finite, N at least 1.
        count: Points to choose of each cloud, M. Once all points coincide with chosen ones (M above N, or duplicates)
            the lowest index that may be chosen is repeated.
        start: Index of the first point chosen, in [0, N).
        skip_squared_length: Points with a squared distance to the origin up to this are never chosen, but for `start`;
            None skips none. 1e-3 (`farthest.AUTHORS_SKIP`) is what the authors of AIR-Nets do, which leaves a hole of
            radius 0.03 in a cloud around the origin. If nothing else may be chosen, `start` is repeated.

    Returns:
        Indices [B, M] int64 in the order in which they are chosen. Not differentiable.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape, an empty cloud, NaN or infinity, a count below 1, a start that is no point, a
            negative skip.

    Source:
        Eldar, Lindenbaum, Porat, Zeevi, "The Farthest Point Strategy for Progressive Image Sampling", 1997, as used
        in Qi et al., "PointNet++", 2017, section 3.2.

    Example:
        >>> line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 0, 0]]])
        >>> farthest_points(line, 3)
        tensor([[0, 3, 2]])
    """
    check_finite("points", check_tensor("points", points, ("B", "N", 3)))
    each = points.shape[1]
    if each == 0:
        raise ValueError("points: expected at least one point, got none")
    check_count("count", count)
    if check_count("start", start, 0) >= each:
        raise ValueError(f"start: expected an index in 0..{each - 1}, got {start}")
    skip = -1.0
    if skip_squared_length is not None:
        skip = check_between("skip_squared_length", skip_squared_length, 0, float("inf"))
    chosen: Tensor = _farthest_points_op(points.detach().contiguous(), int(count), int(start), skip)
    return chosen


# ---- operators


def _farthest_points_kernel(points: Tensor, count: int, start: int, skip: float, plain: bool = False) -> Tensor:
    chosen = _farthest_points_fake(points, count, start, skip)
    _native.call(
        "farthest_points", points.device, points.dtype, points=points, batch=points.shape[0], each=points.shape[1],
        count=count, start=start, skip=skip, plain=plain, distance=points.new_empty(points.shape[:2]), chosen=chosen,
    )  # fmt: skip
    return chosen


def _farthest_points_fake(points: Tensor, count: int, start: int, skip: float) -> Tensor:
    return points.new_empty(points.shape[0], count, dtype=torch.int64)


_farthest_points_op = register(
    "farthest_points",
    "(Tensor points, int count, int start, float skip) -> Tensor",
    _farthest_points_kernel,
    _farthest_points_fake,
)
