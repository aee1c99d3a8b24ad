"""Query points of several shapes in one pass: uniform in the cube, on a surface, around a surface."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_positive, check_tensor
from pyimplicit.ops._library import register
from pyimplicit.ops.bvh import check_coordinates
from pyimplicit.ops.random import RowStreams
from pyimplicit.ops.surface_batch import TABLE_SCHEMA, SurfaceTable, batch_distance, check_shapes, table_tensors

# As kMostSources in csrc/sampling/query_points.h: the sources travel with the kernel's arguments.
MOST_SOURCES = 16

# Noise, mesh units, that may take points beyond what float32 holds; and how many standard deviations it can be.
_FAR, _MOST_NOISE = 1e30, 7.0


@dataclass(frozen=True)
class PointSource:
    """A part of each shape's points that is drawn in one way.

    Args:
        count: Number of points, at least 1.
        sigma: Standard deviation of the noise around area-uniform points of the surface, along each axis, mesh units;
            0 for the surface itself, None for points uniform in the cube.
        purpose: Of the random numbers; points around a surface also use the one after it.
    """

    count: int
    sigma: float | None
    purpose: int

    def __post_init__(self) -> None:
        check_count("count", self.count)
        if self.sigma is not None and not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma: expected a finite number of at least 0, or None, got {self.sigma}")
        if not 0 <= check_count("purpose", self.purpose, minimum=0) < (1 << 16) - 1:
            raise ValueError(f"purpose: expected less than 2**16 - 1, got {self.purpose}")


@dataclass(frozen=True, eq=False)
class PointSources:
    """Several sources side by side, as the kernels take them: for who draws from the same ones again and again.

    Args:
        sources: At least one, at most `MOST_SOURCES`; what is made of them stays as it is.
    """

    sources: Sequence[PointSource]
    counts: tuple[int, ...] = field(init=False)
    purposes: tuple[int, ...] = field(init=False)
    sigmas: tuple[float, ...] = field(init=False)  # -1 for points uniform in the cube

    def __post_init__(self) -> None:
        sources = tuple(self.sources)
        if not 0 < len(sources) <= MOST_SOURCES:
            raise ValueError(f"sources: expected between 1 and {MOST_SOURCES}, got {len(sources)}")
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "counts", tuple(source.count for source in sources))
        object.__setattr__(self, "purposes", tuple(source.purpose for source in sources))
        sigmas = tuple(-1.0 if source.sigma is None else float(source.sigma) for source in sources)
        object.__setattr__(self, "sigmas", sigmas)


def query_points(
    table: SurfaceTable,
    areas: Tensor,  # [F, 2]
    shapes: Tensor,  # [B]
    streams: RowStreams,
    sources: Sequence[PointSource] | PointSources,
    half_side: float = 0.5,
    faces: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Points of each shape from each of several sources, one behind the other.

    Args:
        table: The surfaces.
        areas: [F, 2] int32, `build_area_table` of each one's `triangles`, one behind the other.
        shapes: [B] int64, which surface each row of points is for.
        streams: The random numbers of each row.
        sources: At least one, at most `MOST_SOURCES`.
        half_side: Of the cube around the origin in which points are uniform, mesh units, above 0.
        faces: Whether to say which face each point was drawn on.

    Returns:
        Points [B, N, 3] float32 in mesh units, N the sum of the sources' counts, and the face [B, N] int64 that each
        was drawn on, -1 for those that are uniform in the cube; None without `faces`.

    Raises:
        TypeError: A wrong dtype.
        ValueError: A wrong shape or device, a surface that the table does not have, no sources or too many.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section III-C;
        Osada et al., "Shape Distributions", TOG 2002, section 4.2.

    Example:
        >>> from pyimplicit.ops import build_area_table, build_bvh
        >>> bvh = build_bvh(torch.eye(3), torch.tensor([[0, 1, 2]]))
        >>> areas = build_area_table(bvh.triangles)
        >>> table, row = SurfaceTable.of([bvh], ["winding"]), RowStreams.of(0, torch.tensor([[0, 0]]))
        >>> points, _ = query_points(table, areas, torch.tensor([0]), row, [PointSource(5, 0.0, 0)])
        >>> torch.allclose(points.sum(2), torch.ones(1, 5))
        True
    """
    arguments = _checked(table, areas, shapes, streams, sources, half_side)
    points, face = _query_points_op(*arguments, faces, known=table.known)
    return points, face if faces else None


def labelled_query_points(
    table: SurfaceTable,
    areas: Tensor,  # [F, 2]
    shapes: Tensor,  # [B]
    streams: RowStreams,
    sources: Sequence[PointSource] | PointSources,
    half_side: float = 0.5,
    *,
    signed: bool,
) -> tuple[Tensor, Tensor]:
    """The points of `query_points` with the distances of `batch_distance`, to the last bit, in one pass.

    It is faster than one after the other: what was drawn on a face is mostly nearest to it or to one beside it.

    Args:
        table: As for `query_points`.
        areas: As there.
        shapes: As there.
        streams: As there.
        sources: As there.
        half_side: As there.
        signed: Whether distances are negative inside, by each surface's own way to find the sign.

    Returns:
        Points [B, N, 3] float32 and their distances [B, N] float32, mesh units.

    Raises:
        TypeError: A wrong dtype.
        ValueError: As `query_points`; points so far away that float32 cannot hold them.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section III-C.

    Example:
        >>> from pyimplicit.ops import build_area_table, build_bvh
        >>> bvh = build_bvh(torch.eye(3), torch.tensor([[0, 1, 2]]))
        >>> areas = build_area_table(bvh.triangles)
        >>> table, row = SurfaceTable.of([bvh], ["winding"]), RowStreams.of(0, torch.tensor([[0, 0]]))
        >>> points, distance = labelled_query_points(
        ...     table, areas, torch.tensor([0]), row, [PointSource(5, 0.0, 0)], signed=False
        ... )
        >>> bool((distance < 1e-6).all())
        True
    """
    arguments = _checked(table, areas, shapes, streams, sources, half_side)
    *_, sigmas, half_side = arguments
    noise = max(sigmas)
    if max(half_side, noise) > _FAR:  # nobody can measure what overflows
        points, _ = _query_points_op(*arguments, False)
        return points, batch_distance(points, table, shapes, signed=signed)
    points, distance = _labelled_points_op(*arguments, signed, known=table.known)
    if table.reach + _MOST_NOISE * noise < _FAR:
        return points, distance  # without a look at them
    return check_coordinates("points", points), distance


def _checked(
    table: SurfaceTable,
    areas: Tensor,
    shapes: Tensor,
    streams: RowStreams,
    sources: Sequence[PointSource] | PointSources,
    half_side: float,
) -> tuple[Any, ...]:
    """The operators' arguments; what cannot be drawn is refused."""
    if not isinstance(sources, PointSources):
        sources = PointSources(sources)
    shapes = check_shapes(shapes, table, None)
    areas = check_tensor("areas", areas, (table.triangles.shape[0], 2), (torch.int32,), table.device).contiguous()
    keys = streams.check(shapes.shape[0], table.device)
    half_side = check_positive("half_side", half_side)
    return (
        *table_tensors(table), areas, shapes, keys, streams.seed, sources.counts, sources.purposes, sources.sigmas,
        half_side,
    )  # fmt: skip


# ---- operators


def _query_points_kernel(*arguments: Any, plain: bool = False) -> tuple[Tensor, Tensor]:
    """`plain` runs the plain body instead of the CPU's twin, for the tests."""
    *table, areas, shapes, keys, seed, counts, purposes, sigmas, half_side, faces = arguments
    points, face = _query_points_fake(*arguments)
    sources = _packed(tuple(counts), tuple(purposes), tuple(sigmas))  # alive until the call ends
    _native.call(
        "draw_query_points", shapes.device, table=tuple(table), areas=areas, shapes=shapes, keys=keys, seed=seed,
        batch=shapes.shape[0], each=sum(counts), sources=sources.buffer_info()[0],
        half_side=half_side, plain=plain, points=points, face=face if faces else None,
    )  # fmt: skip
    return points, face


def _labelled_points_kernel(*arguments: Any, plain: bool = False) -> tuple[Tensor, Tensor]:
    """`plain` as above."""
    *table, areas, shapes, keys, seed, counts, purposes, sigmas, half_side, signed = arguments
    points, distance = _labelled_points_fake(*arguments)
    sources = _packed(tuple(counts), tuple(purposes), tuple(sigmas))  # alive until the call ends
    _native.call(
        "draw_labelled_points", shapes.device, table=tuple(table), areas=areas, shapes=shapes, keys=keys, seed=seed,
        batch=shapes.shape[0], each=sum(counts), sources=sources.buffer_info()[0], half_side=half_side,
        with_sign=signed, plain=plain, points=points, distance=distance,
    )  # fmt: skip
    return points, distance


def _labelled_points_fake(*arguments: Any) -> tuple[Tensor, Tensor]:
    *_table, _areas, shapes, _keys, _seed, counts, _purposes, _sigmas, _half_side, _signed = arguments
    size = (shapes.shape[0], sum(counts))
    return (
        torch.empty(*size, 3, dtype=torch.float32, device=shapes.device),
        torch.empty(size, dtype=torch.float32, device=shapes.device),
    )


@lru_cache
def _packed(counts: tuple[int, ...], purposes: tuple[int, ...], sigmas: tuple[float, ...]) -> array[int]:
    """`PointSources` of csrc/sampling/query_points.h; nobody may write to it."""
    held = array("q", [len(counts)])
    first = 0
    for count, purpose, sigma in zip(counts, purposes, sigmas, strict=True):
        held.extend((first, purpose, *array("q", array("d", [sigma]).tobytes())))
        first += count
    held.extend([0] * 3 * (MOST_SOURCES - len(counts)))
    return held


def _query_points_fake(*arguments: Any) -> tuple[Tensor, Tensor]:
    *_table, _areas, shapes, _keys, _seed, counts, _purposes, _sigmas, _half_side, faces = arguments
    size = (shapes.shape[0], sum(counts))
    return (
        torch.empty(*size, 3, dtype=torch.float32, device=shapes.device),
        torch.empty(size if faces else 0, dtype=torch.int64, device=shapes.device),
    )


_SCHEMA = (
    f"{TABLE_SCHEMA}, Tensor areas, Tensor shapes, Tensor keys,"
    " int seed, int[] counts, int[] purposes, float[] sigmas, float half_side"
)

_query_points_op = register(
    "query_points", f"({_SCHEMA}, bool faces) -> (Tensor, Tensor)", _query_points_kernel, _query_points_fake
)

_labelled_points_op = register(
    "labelled_query_points",
    f"({_SCHEMA}, bool signed) -> (Tensor, Tensor)",
    _labelled_points_kernel,
    _labelled_points_fake,
)
