"""What a strategy draws for: rows of points, each of one surface and with random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from pyimplicit.geometry.surface import Surface
from pyimplicit.geometry.surface_batch import SurfaceBatch
from pyimplicit.ops import RandomStream, RowStreams

CUBE = 0.5
"""Query space is the cube [-CUBE, CUBE]^3, mesh units."""

Label = Literal["signed", "unsigned"]


class Strategy(Protocol):
    """Anything that draws query points near a surface."""

    @property
    def name(self) -> str:
        """What the strategy is called."""

    @property
    def symbol(self) -> str:
        """The paper's symbol without its S, such as "BS"."""

    def draw(self, surface: Surface, count: int, stream: RandomStream) -> Tensor:
        """Draw points [count, 3] float32 on the surface's device, the same for the same stream."""


class DrawsRows(Protocol):
    """What draws for many surfaces in one pass, as this package's own strategies do."""

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3], each row for its surface and from its random numbers."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a batch, and what is wanted for them."""

    surfaces: SurfaceBatch
    shapes: Tensor  # [B] int64, which surface each row is for
    streams: RowStreams
    purpose: int = 0
    label: Label | None = None  # the distances that are wanted with the points

    @staticmethod
    def single(surface: Surface, stream: RandomStream, label: Label | None = None) -> Rows:
        """One row, for one surface."""
        batch = SurfaceBatch.single(surface)
        return Rows(batch, batch.all_shapes, RowStreams.of(stream.seed, stream, surface.device), stream.purpose, label)

    def branch(self, number: int) -> Rows:
        """The same rows with random numbers that nothing else uses."""
        return replace(self, streams=self.streams.branch(number))

    def distances(self, points: Tensor) -> Tensor | None:
        """The wanted distances [B, N] of points [B, N, 3]."""
        if self.label is None:
            return None
        if len(self.surfaces) == len(self.shapes) == 1:  # the shorter way for one
            alone = self.surfaces[0]
            of_row = alone.signed_distance if self.label == "signed" else alone.unsigned_distance
            return of_row(points[0])[None]
        distance = self.surfaces.signed_distance if self.label == "signed" else self.surfaces.unsigned_distance
        return distance(points, self.shapes)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Points [B, N, 3] float32, and their distances [B, N] if drawing them gave those that the rows want."""

    points: Tensor
    distance: Tensor | None = None

    @staticmethod
    def join(parts: Sequence[Drawn], rows: Rows) -> Drawn:
        """The points of all parts, one behind the other; distances that only some parts have are completed."""
        if len(parts) == 1:
            return parts[0]
        points = torch.cat([part.points for part in parts], dim=1)
        if all(part.distance is None for part in parts):
            return Drawn(points)
        distances = [rows.distances(part.points) if part.distance is None else part.distance for part in parts]
        return Drawn(points, torch.cat([distance for distance in distances if distance is not None], dim=1))


def draw_rows(strategy: Strategy | DrawsRows, rows: Rows, count: int) -> Drawn:
    """Draw rows by any strategy: in one pass if it can, else one row after the other."""
    in_one_pass: Callable[[Rows, int], Drawn] | None = getattr(strategy, "draw_rows", None)
    if in_one_pass is not None:
        return in_one_pass(rows, count)
    one_by_one = cast(Strategy, strategy)
    points = []
    for shape, (key, step) in zip(rows.shapes.tolist(), rows.streams.keys.tolist(), strict=True):
        stream = RandomStream(rows.streams.seed, key, step, rows.purpose)
        points.append(one_by_one.draw(rows.surfaces[shape], count, stream))
    return Drawn(torch.stack(points))


class DrawsOneRow:
    """`Strategy.draw` for what draws rows: a batch of one."""

    def draw(self, surface: Surface, count: int, stream: RandomStream) -> Tensor:
        """Draw points [count, 3] float32 on the surface's device, the same for the same stream."""
        return self.draw_rows(Rows.single(surface, stream), count).points[0]

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3], each row for its surface and from its random numbers."""
        raise NotImplementedError
