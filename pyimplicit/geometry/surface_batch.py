"""Several surfaces that answer together: one call for a batch of shapes, as training makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import ClosestPoint, DistanceWeight, SurfaceBVH, SurfaceTable, WeightCells
from pyimplicit.ops.start_grid import start_resolution


class SurfaceBatch:
    """Surfaces on one device, asked together: points [B, N, 3], each row of them for one of the surfaces.

    The surfaces' hierarchies are copied into arrays that one kernel can read; signs are found as each surface's
    `sign_method` says.

    Args:
        surfaces: At least one; all on the same device.

    Raises:
        TypeError: Something that is not a `Surface`.
        ValueError: No surfaces, or surfaces on different devices.

    Example:
        >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
        >>> low = Surface(corners, torch.tensor([[0, 1, 2]]))
        >>> high = Surface(corners + torch.tensor([0.0, 0, 1]), torch.tensor([[0, 1, 2]]))
        >>> SurfaceBatch([low, high]).unsigned_distance(torch.full((2, 1, 3), 0.25))
        tensor([[0.2500],
                [0.7500]])
    """

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        self.surfaces = tuple(surfaces)
        if not self.surfaces:
            raise ValueError("surfaces: expected at least one, got none")
        for surface in self.surfaces:
            if not isinstance(surface, Surface):
                raise TypeError(f"surfaces: expected Surface objects, got {type(surface).__name__}")
            if surface.device != self.surfaces[0].device:
                raise ValueError(
                    f"surfaces: expected all on {self.surfaces[0].device}, got one on {surface.device}; use .to(device)"
                )
        self.all_shapes = torch.arange(len(self.surfaces), device=self.device)  # [B] int64; nobody may write to it
        self._asked = 0  # points so far
        self._prepared = False
        self._unsigned: _HeldTable | None = None
        self._signed: _HeldTable | None = None
        self._cells: WeightCells | None = None

    @staticmethod
    def single(surface: Surface) -> SurfaceBatch:
        """The batch of one surface, which shares its memory; made once."""
        if not isinstance(surface.own_batch, SurfaceBatch):
            surface.own_batch = SurfaceBatch([surface])
        return surface.own_batch

    def __len__(self) -> int:
        return len(self.surfaces)

    def __getitem__(self, index: int) -> Surface:
        return self.surfaces[index]

    def __repr__(self) -> str:
        return f"SurfaceBatch({len(self)} surfaces, device={str(self.device)!r})"

    @property
    def device(self) -> torch.device:
        """Where queries run and their points must be."""
        return self.surfaces[0].device

    def to(self, device: torch.device | str) -> SurfaceBatch:
        """The same surfaces on another device; itself if they are there already."""
        moved = [surface.to(device) for surface in self.surfaces]
        return self if moved[0] is self.surfaces[0] else SurfaceBatch(moved)

    def closest_point(self, points: Tensor, shapes: Tensor | None = None, *, signed: bool = False) -> ClosestPoint:
        """Closest point of each row's surface to each of its points, with distance, face and barycentric coordinates.

        Args:
            points: [B, N, 3] float32 or float64, finite, mesh units, on the surfaces' device.
            shapes: [B] int64, which surface each row is for; by default row b is for surface b.
            signed: Whether distances are negative inside.

        Returns:
            `ClosestPoint` with axes [B, N]; differentiable in the points.

        Raises:
            TypeError: Not a tensor, or a wrong dtype.
            ValueError: A wrong shape or device, NaN or infinity, a surface that is not there.

        Example:
            >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
            >>> batch = SurfaceBatch([surface])
            >>> batch.closest_point(torch.full((2, 1, 3), 0.25), torch.tensor([0, 0])).face
            tensor([[0],
                    [0]])
        """
        self._note_points(points)
        return ops.batch_closest_point(
            points, self.signed_table if signed else self.table, self._rows(shapes), signed=signed
        )

    def unsigned_distance(self, points: Tensor, shapes: Tensor | None = None) -> Tensor:
        """Distance [B, N] to each row's surface, not negative; arguments and errors as `closest_point`."""
        self._note_points(points)
        return ops.batch_distance(points, self.table, self._rows(shapes), signed=False)

    def signed_distance(self, points: Tensor, shapes: Tensor | None = None) -> Tensor:
        """Distance [B, N] to each row's surface, negative inside; arguments and errors as `closest_point`.

        Example:
            >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
            >>> surface = Surface(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
            >>> SurfaceBatch([surface]).signed_distance(torch.tensor([[[0.1, 0.2, 0.2], [-0.5, 0.1, 0.1]]]))
            tensor([[-0.1000,  0.5000]])
        """
        self._note_points(points)
        return ops.batch_distance(points, self.signed_table, self._rows(shapes), signed=True)

    def contains(self, points: Tensor, shapes: Tensor | None = None) -> Tensor:
        """Whether each point lies inside its row's surface, [B, N] bool; arguments and errors as `closest_point`."""
        return self.signed_distance(points.detach() if isinstance(points, Tensor) else points, shapes) < 0

    def face_normals(self, face: Tensor, shapes: Tensor | None = None) -> Tensor:
        """Unit normals [B, N, 3] float32 of faces [B, N] of each row's surface."""
        rows = zip(self._rows(shapes).tolist(), face, strict=True)
        return torch.stack([self.surfaces[shape].face_normals(of_row) for shape, of_row in rows])

    def weight_cells(self, weight: DistanceWeight) -> WeightCells:
        """The cells that points are drawn from by a weight of their distance; kept for the last weight asked for."""
        if self._cells is None or self._cells.weight != weight:
            self._cells = WeightCells.of([surface.weight_cells(weight) for surface in self.surfaces])
        return self._cells

    @cached_property
    def areas(self) -> Tensor:
        """[F, 2] int32, what triangles are chosen by, of all surfaces; see `pyimplicit.ops.build_area_table`."""
        tables = [surface.area_table for surface in self.surfaces]
        return tables[0] if len(tables) == 1 else torch.cat(tables)

    @property
    def table(self) -> SurfaceTable:
        """The surfaces' hierarchies as one, for queries without a sign."""
        if self._signed is not None and self._signed.is_of([surface.signed_hierarchy for surface in self.surfaces]):
            return self._signed.table  # it serves all queries
        held = [surface.hierarchy for surface in self.surfaces]
        if self._unsigned is None or not self._unsigned.is_of(held):
            self._unsigned = _HeldTable(held, SurfaceTable.of(held, ["winding"] * len(held)))
        return self._unsigned.table

    @property
    def signed_table(self) -> SurfaceTable:
        """The surfaces' hierarchies as one, for queries with a sign, found as each surface's `sign_method` says."""
        held = [surface.signed_hierarchy for surface in self.surfaces]
        if self._signed is None or not self._signed.is_of(held):
            self._unsigned = None
            self._signed = _HeldTable(held, SurfaceTable.of(held, [surface.sign_method for surface in self.surfaces]))
        return self._signed.table

    def prepare(self) -> SurfaceBatch:
        """Make each surface's start grid now (see `Surface.prepare`); returns the batch.

        It happens by itself once as many points have been asked for as all grids have cells, or at once for a call of
        four times as many.
        """
        if not self._prepared:
            for surface in self.surfaces:
                surface.prepare()
            self._prepared = True
        return self

    def note(self, count: int) -> None:
        """Count points that are about to be asked for, and prepare for more once that pays."""
        if not self._prepared:
            if max(self._asked, count / 4) > sum(start_resolution(surface.hierarchy) ** 3 for surface in self.surfaces):
                self.prepare()
            self._asked += count

    def _note_points(self, points: Tensor) -> None:
        if not self._prepared:  # whatever they are: they are checked later
            self.note(points.shape[0] * points.shape[1] if isinstance(points, Tensor) and points.ndim == 3 else 0)

    def _rows(self, shapes: Tensor | None) -> Tensor:
        return self.all_shapes if shapes is None else shapes


@dataclass(frozen=True, eq=False)
class _HeldTable:
    """A table, and the hierarchies that it was made of: surfaces get better ones as they are used."""

    hierarchies: list[SurfaceBVH]
    table: SurfaceTable

    def is_of(self, hierarchies: list[SurfaceBVH]) -> bool:
        return all(held is now for held, now in zip(self.hierarchies, hierarchies, strict=True))
