"""Query points of which a fixed share lies inside the surface, drawn from any other strategy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.checks import check_positive
from pyimplicit.ops import RandomStream
from pyimplicit.sampling.rows import Drawn, DrawsOneRow, DrawsRows, Rows, Strategy, draw_rows

# Points of the pool for each one wanted, at first and at most: a pool grows until it holds enough of both sides.
_FIRST, _MOST = 4, 4096


@dataclass(frozen=True)
class Balanced(DrawsOneRow):
    """Points of another strategy, chosen so that a fixed share of them lies inside the surface.

    A pool of the other strategy's points is labelled; from those inside and those outside as many as are wanted are
    chosen evenly. ONet's sampling of equal numbers inside and outside is that of uniform points, DeepSDF's loader that
    of points near the surface.

    Args:
        name: What the strategy is called.
        symbol: Its symbol.
        source: The strategy to draw from.
        inside: Share of the points inside, above 0 and below 1.

    Raises:
        ValueError: A share out of range.

    Source:
        Mescheder et al., "Occupancy Networks", CVPR 2019, section 4.6; Park et al., "DeepSDF", CVPR 2019, section 5.

    Example:
        >>> from pyimplicit.sampling import Uniform
        >>> Balanced("equal", "EQ", Uniform()).inside
        0.5
    """

    name: str
    symbol: str
    source: Strategy | DrawsRows
    inside: float = 0.5

    def __post_init__(self) -> None:
        if check_positive("inside", self.inside) >= 1:
            raise ValueError(f"inside: expected above 0 and below 1, got {self.inside}")

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3], those inside first; ValueError for a surface with next to nothing inside."""
        signed = replace(rows, label="signed")
        parts = [self._draw_row(_row(signed, index), count) for index in range(rows.shapes.shape[0])]
        points, distance = (torch.stack(held) for held in zip(*parts, strict=True))
        wanted = {"signed": distance, "unsigned": distance.abs(), None: None}[rows.label]
        return Drawn(points, wanted)

    def _draw_row(self, row: Rows, count: int) -> tuple[Tensor, Tensor]:
        """Points [count, 3] of one row and their signed distances [count]."""
        wanted = (round(self.inside * count), count - round(self.inside * count))
        each = _FIRST
        while True:
            pool = draw_rows(self.source, row.branch(each), each * count)
            distance = row.distances(pool.points) if pool.distance is None else pool.distance
            assert distance is not None
            sides = (distance[0] < 0, distance[0] >= 0)
            if all(int(side.sum()) >= need for side, need in zip(sides, wanted, strict=True)):
                break
            if each >= _MOST:
                raise ValueError(
                    f"surface: expected one with {self.inside:g} of {count} points inside, "
                    f"got {int(sides[0].sum())} inside and {int(sides[1].sum())} outside of {each * count}"
                )
            each *= 8
        key, step = row.streams.keys[0].tolist()
        chosen = [
            ops.weighted_choice(side.float(), need, RandomStream(row.streams.seed, key, step, row.purpose + place))
            for place, (side, need) in enumerate(zip(sides, wanted, strict=True))
            if need
        ]
        index = torch.cat(chosen)
        return pool.points[0, index], distance[0, index]


def _row(rows: Rows, index: int) -> Rows:
    some = slice(index, index + 1)
    return replace(rows, shapes=rows.shapes[some], streams=replace(rows.streams, keys=rows.streams.keys[some]))
