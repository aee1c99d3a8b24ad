"""Query points uniform in the cube and around the surface, and mixtures: seven of the paper's eight strategies."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property

from pyimplicit import ops
from pyimplicit.checks import check_count, check_positive
from pyimplicit.ops import PointSource
from pyimplicit.ops.query_points import MOST_SOURCES, PointSources
from pyimplicit.sampling.rows import CUBE, Drawn, DrawsOneRow, DrawsRows, Rows, Strategy, draw_rows

# Numbers of points that a mixture knows its parts of.
_MOST_KEPT = 64


@dataclass(frozen=True)
class Uniform(DrawsOneRow):
    """Uniform in the cube."""

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3]."""
        return _draw(PointSources([PointSource(count, None, rows.purpose)]), rows)


@dataclass(frozen=True)
class UniformBox(DrawsOneRow):
    """Uniform in a cube of another size than the query space: [-half_edge, half_edge]^3.

    Args:
        half_edge: Mesh units, above 0.
    """

    half_edge: float

    def __post_init__(self) -> None:
        check_positive("half_edge", self.half_edge)

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3]."""
        return _draw(PointSources([PointSource(count, None, rows.purpose)]), rows, self.half_edge)


@dataclass(frozen=True)
class SurfaceNoise(DrawsOneRow):
    """Area-uniform points of the surface plus isotropic Gaussian noise; they may leave the cube.

    Args:
        sigma: Standard deviation along each axis, mesh units, above 0.
    """

    sigma: float

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3]."""
        return _draw(PointSources([PointSource(count, self.sigma, rows.purpose)]), rows)


@dataclass(frozen=True)
class Component:
    """One part of a mixture."""

    share: float  # of the points, above 0; the shares of a mixture sum to 1
    source: Strategy | DrawsRows


@dataclass(frozen=True)
class Mixture(DrawsOneRow):
    """A fixed share of the points from each of several sources.

    The number of points stays exact: shares are rounded so that they sum to it.

    Args:
        name: What the strategy is called.
        symbol: The paper's symbol without its S, such as "BS".
        components: The sources with their shares, which must sum to 1: `Uniform`, `SurfaceNoise`, any strategy.

    Raises:
        ValueError: No components, a share not above 0, or shares that do not sum to 1.

    Example:
        >>> strategy = Mixture("mine", "M", (Component(0.9, SurfaceNoise(0.02)), Component(0.1, Uniform())))
        >>> strategy.counts(25)
        [23, 2]
    """

    name: str
    symbol: str
    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        if not self.components:
            raise ValueError("components: expected at least one, got none")
        for component in self.components:
            check_positive("share", component.share)
        total = math.fsum(component.share for component in self.components)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"components: expected shares that sum to 1, got {total}")

    def counts(self, count: int) -> list[int]:
        """How many of `count` points each component draws: largest remainders first, so that the sum is exact."""
        exact = [component.share * count for component in self.components]
        counts = [math.floor(value + 1e-9) for value in exact]
        by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
        for i in by_remainder[: count - sum(counts)]:
            counts[i] += 1
        return counts

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3], component after component."""
        key = (check_count("count", count), rows.purpose)
        passes = self._passes.get(key)
        if passes is None:
            if len(self._passes) >= _MOST_KEPT:
                self._passes.clear()
            passes = self._passes[key] = self._in_passes(count, rows.purpose)
        return Drawn.join(
            [_draw(each, rows) if isinstance(each, PointSources) else each.draw(rows) for each in passes], rows
        )

    def __getstate__(self) -> dict[str, object]:
        return {each.name: getattr(self, each.name) for each in fields(self)}  # nothing of what it has found

    @cached_property
    def _passes(self) -> dict[tuple[int, int], list[PointSources | _Part]]:
        """What `_in_passes` has found: the same numbers of points are drawn again and again."""
        return {}

    def _in_passes(self, count: int, purpose: int) -> list[PointSources | _Part]:
        """Several sources at once where one pass of the kernel serves them."""
        passes: list[PointSources | _Part] = []
        together: list[PointSource] = []

        def flush() -> None:
            if together:
                passes.append(PointSources(together))
                together.clear()

        for place, (component, part) in enumerate(zip(self.components, self.counts(count), strict=True)):
            source = component.source
            if part == 0:
                continue
            if isinstance(source, Uniform | SurfaceNoise):
                sigma = source.sigma if isinstance(source, SurfaceNoise) else None
                # Purposes two apart: noise uses its own and the next.
                together.append(PointSource(part, sigma, purpose + 2 * place))
                if len(together) == MOST_SOURCES:
                    flush()
            else:
                flush()
                passes.append(_Part(source, place, part))
        flush()
        return passes


@dataclass(frozen=True)
class _Part:
    """A component of a mixture that draws by itself."""

    source: Strategy | DrawsRows
    place: int  # in the mixture
    count: int

    def draw(self, rows: Rows) -> Drawn:
        return draw_rows(self.source, rows.branch(self.place), self.count)


def _draw(sources: PointSources, rows: Rows, half_edge: float = CUBE) -> Drawn:
    surfaces, signed = rows.surfaces, rows.label == "signed"
    if rows.label is None:
        points, _ = ops.query_points(
            surfaces.table, surfaces.areas, rows.shapes, rows.streams, sources, half_edge, faces=False
        )
        return Drawn(points)
    surfaces.note(sum(sources.counts) * rows.shapes.shape[0])
    table = surfaces.signed_table if signed else surfaces.table
    points, distance = ops.labelled_query_points(
        table, surfaces.areas, rows.shapes, rows.streams, sources, half_edge, signed=signed
    )
    return Drawn(points, distance)
