"""Points of the cube whose density is a decreasing function of their distance to a surface, drawn exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_positive, check_tensor
from pyimplicit.ops._library import register
from pyimplicit.ops.bvh import SurfaceBVH
from pyimplicit.ops.random import RowStreams
from pyimplicit.ops.surface import unsigned_distance
from pyimplicit.ops.surface_batch import TABLE_SCHEMA, SurfaceTable, check_shapes, table_tensors

# Cells along an axis to begin with: coarse enough to cost little where nothing carries weight.
_COARSEST = 8

# A cell is split while its bound is this much above the weight at its center: what it may waste of each try.
_LOSS = 0.3

# No cells are split where that would make more than this many; small reaches then waste more tries instead.
_MOST_CELLS = 1 << 18
_MOST_LEVELS = 10

# If less of the bounds is weight, the surface is as good as absent from the cube.
_LEAST_SHARE = 0.02

# How far, relative to the size of mesh and cube, rounding can put two distances of the same point apart.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class DistanceWeight:
    """Weight of a point at distance g from a surface, between 0 and 1.

    Args:
        slope: mu of the linear weight min(1, mu (tau - g)), or beta of the exponential one, exp(-beta g); above 0, per
            mesh unit.
        reach: tau of the linear weight, beyond which it is 0, above 0, mesh units; None for the exponential weight.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-A, equation 2;
        Davies et al., "On the Effectiveness of Weight-Encoded Neural Implicit 3D Shapes", 2020, section 3.

    Example:
        >>> DistanceWeight(10.0, 0.1).at(np.array([0.0, 0.05, 0.2])).tolist()
        [1.0, 0.5, 0.0]
    """

    slope: float
    reach: float | None = None

    def __post_init__(self) -> None:
        check_positive("slope", self.slope)
        if self.reach is not None:
            check_positive("reach", self.reach)

    def at(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of distances, which must not be negative."""
        if self.reach is None:
            return np.exp(-self.slope * distance)
        return np.clip(self.slope * (self.reach - distance), 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class WeightCells:
    """The cells of the cube that can carry weight, of one or several surfaces one behind the other."""

    cells: Tensor  # [C, 8] int32, `WeightCell` of csrc/sampling/distance_sampling.h
    first: Tensor  # [S + 1] int64, first cell of each surface
    weight: DistanceWeight
    margin: float  # mesh units

    @staticmethod
    def of(parts: Sequence[WeightCells]) -> WeightCells:
        """The cells of several surfaces as one; they must have the same weight and device.

        Raises:
            ValueError: None, or weights or devices that differ.
        """
        if not parts or any(part.weight != parts[0].weight for part in parts):
            raise ValueError("parts: expected cells of one weight, at least of one surface")
        if len(parts) == 1:
            return parts[0]
        counts = [0, *(int(part.cells.shape[0]) for part in parts)]
        first = torch.tensor(np.cumsum(counts), dtype=torch.int64, device=parts[0].cells.device)
        return WeightCells(
            torch.cat([part.cells for part in parts]), first, parts[0].weight, max(part.margin for part in parts)
        )

    def to(self, device: torch.device | str) -> WeightCells:
        """The same cells on another device."""
        return replace(self, cells=self.cells.to(device), first=self.first.to(device))


def build_weight_cells(bvh: SurfaceBVH, weight: DistanceWeight, half_side: float = 0.5) -> WeightCells:
    """Cut the part of the cube that can carry weight into cells, fine where the weight changes fast.

    It takes the distances of the cells' centers, some thousands; the cells serve any number of draws.

    Args:
        bvh: The prepared surface.
        weight: Of the distance to it.
        half_side: Of the cube around the origin, mesh units, above 0.

    Returns:
        The cells, on the hierarchy's device; 32 bytes each.

    Raises:
        ValueError: No part of the cube carries weight, or next to none.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0, 0.4, 0]]), torch.tensor([[0, 1, 2]]))
        >>> build_weight_cells(bvh, DistanceWeight(10.0, 0.1)).cells.shape[1]
        8
    """
    half_side = check_positive("half_side", half_side)
    margin = _ROUNDING * (1 / bvh.scale + half_side)
    edge = half_side / _COARSEST  # half of a cell's side
    axis = (2 * np.arange(_COARSEST) + 1 - _COARSEST) * edge
    centers = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    kept: list[NDArray[np.float32]] = []
    weights: list[NDArray[np.float64]] = []
    carried = 0.0
    offsets = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij"), axis=-1).reshape(8, 3)
    for level in range(_MOST_LEVELS):
        at = centers.astype(np.float32)
        distance = unsigned_distance(torch.from_numpy(at).to(bvh.device), bvh).cpu().numpy()
        here = weight.at(distance.astype(np.float64))
        nearest = distance - math.sqrt(3) * edge * (1 + _ROUNDING) - margin
        bound = np.nextafter(weight.at(np.maximum(nearest, 0)).astype(np.float32), np.float32(2))
        carries = bound > 1e-30  # above what `nextafter` makes of 0
        split = carries & (bound - here > _LOSS)
        if level + 1 == _MOST_LEVELS or 8 * int(split.sum()) + sum(map(len, kept)) > _MOST_CELLS:
            split[:] = False
        stays = carries & ~split
        volume = edge**3
        kept.append(_pack(at[stays], edge, distance[stays], bound[stays]))
        weights.append(bound[stays].astype(np.float64) * volume)
        carried += float(here[stays].sum()) * volume
        if not split.any():
            break
        centers = (centers[split][:, None] + offsets * edge).reshape(-1, 3)
        edge /= 2
    cells, shares = np.concatenate(kept), torch.from_numpy(np.concatenate(weights))
    if not carried > _LEAST_SHARE * float(shares.sum()):
        reach = "" if weight.reach is None else f" that comes within tau = {weight.reach}"
        raise ValueError(f"surface: expected one{reach} of the cube [-{half_side}, {half_side}]^3")
    packed = torch.from_numpy(cells.view(np.int32))
    total = torch.empty(1, dtype=torch.float64, device=packed.device)
    _native.call(
        "build_alias_table", packed.device, weights=shares, count=len(cells), entries=packed.data_ptr() + 24,
        stride=packed.stride(0) * 4, total=total,
    )  # fmt: skip
    return WeightCells(packed.to(bvh.device), torch.tensor([0, len(cells)], device=bvh.device), weight, margin)


def sample_by_distance(
    table: SurfaceTable,
    cells: WeightCells,
    shapes: Tensor,  # [B]
    streams: RowStreams,
    count: int,
    *,
    purpose: int = 0,
    signed: bool = False,
    labelled: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Points of the cube with density proportional to a weight of their distance to the surface, exactly.

    Args:
        table: The surfaces.
        cells: Of the same surfaces in the same order, from `build_weight_cells`.
        shapes: [B] int64, which surface each row is for.
        streams: The random numbers of each row.
        count: Points of each row, 1 to 2**31 - 1.
        purpose: Of the random numbers, 0 to 2**16 - 1.
        signed: Whether distances are negative inside, by each surface's own way to find the sign.
        labelled: Whether the distances are wanted. Without, a point costs half a query, and what is returned in their
            place is meaningless.

    Returns:
        Points [B, count, 3] float32, their distances [B, count] float32, both in mesh units, and how many distance
        queries each took, [B, count] int32. The same on any number of threads. CPU and GPU agree but where their
        distances differ in the last bits just where a point is kept or refused: about one point in a million.

    Raises:
        TypeError: A wrong dtype.
        ValueError: A wrong shape or device, a surface that the table does not have, cells of other surfaces.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-A; rejection from
        upper bounds: Devroye, "Non-Uniform Random Variate Generation", 1986, section II.3.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0, 0.4, 0]]), torch.tensor([[0, 1, 2]]))
        >>> cells = build_weight_cells(bvh, DistanceWeight(10.0, 0.1))
        >>> row = RowStreams.of(0, torch.tensor([[0, 0]]))
        >>> points, distance, _ = sample_by_distance(
        ...     SurfaceTable.of([bvh], ["winding"]), cells, torch.tensor([0]), row, 100
        ... )
        >>> bool((distance < 0.1).all())
        True
    """
    shapes = check_shapes(shapes, table, None)
    keys = streams.check(shapes.shape[0], table.device)
    check_tensor("cells", cells.cells, ("C", 8), (torch.int32,), table.device)
    check_tensor("cells.first", cells.first, (table.entries.shape[0] + 1,), (torch.int64,), table.device)
    if check_count("count", count) >= 1 << 31:
        raise ValueError(f"count: expected less than 2**31, got {count}")
    if not 0 <= check_count("purpose", purpose, minimum=0) < 1 << 16:
        raise ValueError(f"purpose: expected less than 2**16, got {purpose}")
    weight = cells.weight
    points, distance, queries = _sample_by_distance_op(
        *table_tensors(table), cells.cells, cells.first, cells.margin, weight.slope, weight.reach, shapes, keys,
        streams.seed, purpose, count, signed, labelled,
    )  # fmt: skip
    return points, distance, queries


def _pack(
    centers: NDArray[np.float32], edge: float, distance: NDArray[np.float32], bound: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`WeightCell` of csrc/sampling/distance_sampling.h, its alias entry still empty."""
    cells = np.zeros((len(centers), 8), dtype=np.float32)
    cells[:, :3], cells[:, 3], cells[:, 4], cells[:, 5] = centers, edge, distance, bound
    return cells


# ---- operators


def _sample_by_distance_kernel(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *table, cells, first, margin, slope, reach, shapes, keys, seed, purpose, count, signed, labelled = arguments
    points, distance, queries = outputs = _sample_by_distance_fake(*arguments)
    _native.call(
        "sample_by_distance", shapes.device, table=tuple(table), cells=cells, first_cell=first, margin=margin,
        exponential=reach is None, slope=slope, reach=0.0 if reach is None else reach, shapes=shapes, keys=keys,
        seed=seed, purpose=purpose, batch=shapes.shape[0], each=count, labelled=labelled, with_sign=signed,
        plain=False, points=points, distance=distance, queries=queries,
    )  # fmt: skip
    return outputs


def _sample_by_distance_fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *_, shapes, _keys, _seed, _purpose, count, _signed, _labelled = arguments
    size, device = (shapes.shape[0], count), shapes.device
    return (
        torch.empty(*size, 3, dtype=torch.float32, device=device),
        torch.empty(*size, dtype=torch.float32, device=device),
        torch.empty(*size, dtype=torch.int32, device=device),
    )


_sample_by_distance_op = register(
    "sample_by_distance",
    f"({TABLE_SCHEMA}, Tensor cells, Tensor first,"
    " float margin, float slope, float? reach, Tensor shapes, Tensor keys, int seed, int purpose, SymInt count,"
    " bool signed, bool labelled) -> (Tensor, Tensor, Tensor)",
    _sample_by_distance_kernel,
    _sample_by_distance_fake,
)
