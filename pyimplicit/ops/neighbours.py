"""The k nearest points of small clouds."""

from __future__ import annotations

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_finite, check_tensor
from pyimplicit.ops._library import register


def nearest_neighbours(
    queries: Tensor,  # [B, M, 3]
    cloud: Tensor,  # [B, N, 3]
    count: int,
) -> Tensor:
    """Indices of the points of a cloud nearest to each query, nearest first; of equally near ones the lowest first.

    Made for clouds of up to some ten thousand points. Squared distances are summed in the points' dtype, x then y then
    z, each step rounded, on the CPU and on CUDA: the same indices everywhere. A query that is a point of the cloud
    finds itself, or the first duplicate of itself.

    Args:
        queries: [B, M, 3] float32 or float64, finite.
        cloud: [B, N, 3], the dtype and device of the queries, finite.
        count: Neighbours of each query, 1 to N.

    Returns:
        Indices [B, M, count] int64. Not differentiable.

    Raises:
        TypeError: A wrong type or dtype.
        ValueError: A wrong shape or device, NaN or infinity, a count below 1 or above N.

    Example:
        >>> cloud = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 0, 0]]])
        >>> nearest_neighbours(torch.tensor([[[4.0, 0, 0]]]), cloud, 2)
        tensor([[[3, 2]]])
    """
    check_finite("queries", check_tensor("queries", queries, ("B", "M", 3)))
    check_finite("cloud", check_tensor("cloud", cloud, (queries.shape[0], "N", 3), (queries.dtype,), queries.device))
    if check_count("count", count) > cloud.shape[1]:
        raise ValueError(f"count: expected at most {cloud.shape[1]}, the points of the cloud, got {count}")
    index: Tensor = _nearest_neighbours_op(queries.detach().contiguous(), cloud.detach().contiguous(), int(count))
    return index


# ---- operators


def _nearest_neighbours_kernel(queries: Tensor, cloud: Tensor, count: int, plain: bool = False) -> Tensor:
    index = _nearest_neighbours_fake(queries, cloud, count)
    _native.call(
        "nearest_neighbours", queries.device, queries.dtype, queries=queries, cloud=cloud, batch=queries.shape[0],
        query_count=queries.shape[1], each=cloud.shape[1], count=count, plain=plain,
        squared=torch.empty_like(index, dtype=queries.dtype), index=index,
    )  # fmt: skip
    return index


def _nearest_neighbours_fake(queries: Tensor, cloud: Tensor, count: int) -> Tensor:
    return queries.new_empty(*queries.shape[:2], count, dtype=torch.int64)


_nearest_neighbours_op = register(
    "nearest_neighbours",
    "(Tensor queries, Tensor cloud, int count) -> Tensor",
    _nearest_neighbours_kernel,
    _nearest_neighbours_fake,
)
