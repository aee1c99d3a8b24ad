"""Several surfaces that answer together: one call for a batch of shapes, as training makes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import ClosestPoint, SurfaceTable
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
        self._asked = 0  # points so far
        self._prepared = False

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
        return self if torch.device(device) == self.device else SurfaceBatch([s.to(device) for s in self.surfaces])

    def closest_point(self, points: Tensor, shapes: Tensor | None = None) -> ClosestPoint:
        """Closest point of each row's surface to each of its points, with distance, face and barycentric coordinates.

        Args:
            points: [B, N, 3] float32 or float64, finite, mesh units, on the surfaces' device.
            shapes: [B] int64, which surface each row is for; by default row b is for surface b.

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
        self._note(points)
        return ops.batch_closest_point(points, self._any_table, self._rows(shapes))

    def unsigned_distance(self, points: Tensor, shapes: Tensor | None = None) -> Tensor:
        """Distance [B, N] to each row's surface, not negative; arguments and errors as `closest_point`."""
        self._note(points)
        return ops.batch_distance(points, self._any_table, self._rows(shapes), signed=False)

    def signed_distance(self, points: Tensor, shapes: Tensor | None = None) -> Tensor:
        """Distance [B, N] to each row's surface, negative inside; arguments and errors as `closest_point`.

        Example:
            >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
            >>> surface = Surface(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
            >>> SurfaceBatch([surface]).signed_distance(torch.tensor([[[0.1, 0.2, 0.2], [-0.5, 0.1, 0.1]]]))
            tensor([[-0.1000,  0.5000]])
        """
        self._note(points)
        return ops.batch_distance(points, self._signed_table, self._rows(shapes), signed=True)

    def contains(self, points: Tensor, shapes: Tensor | None = None) -> Tensor:
        """Whether each point lies inside its row's surface, [B, N] bool; arguments and errors as `closest_point`."""
        return self.signed_distance(points.detach() if isinstance(points, Tensor) else points, shapes) < 0

    def prepare(self) -> SurfaceBatch:
        """Make each surface's start grid now (see `Surface.prepare`); returns the batch.

        It happens by itself once as many points have been asked for as all grids have cells, or at once for a call of
        four times as many.
        """
        if not self._prepared:
            for surface in self.surfaces:
                surface.prepare()
            self._prepared = True
            self.__dict__.pop("_table", None)
            self.__dict__.pop("_signed_table", None)
        return self

    def _note(self, points: Tensor) -> None:
        if not self._prepared:
            count = points.shape[0] * points.shape[1] if isinstance(points, Tensor) and points.ndim == 3 else 0
            if max(self._asked, count / 4) > sum(start_resolution(surface.hierarchy) ** 3 for surface in self.surfaces):
                self.prepare()
            self._asked += count

    def _rows(self, shapes: Tensor | None) -> Tensor:
        return torch.arange(len(self), device=self.device) if shapes is None else shapes

    @property
    def _any_table(self) -> SurfaceTable:
        return self._signed_table if "_signed_table" in self.__dict__ else self._table

    @cached_property
    def _table(self) -> SurfaceTable:
        return SurfaceTable.of([surface.hierarchy for surface in self.surfaces], ["winding"] * len(self))

    @cached_property
    def _signed_table(self) -> SurfaceTable:
        self.__dict__.pop("_table", None)  # the signed table serves unsigned queries, too
        methods = [surface.sign_method for surface in self.surfaces]
        return SurfaceTable.of([surface.signed_hierarchy for surface in self.surfaces], methods)
