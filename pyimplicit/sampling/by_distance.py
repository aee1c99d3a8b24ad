"""Query points whose density falls with their distance to the surface: the paper's eighth strategy, and a relative."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pyimplicit import ops
from pyimplicit.checks import check_positive
from pyimplicit.ops import DistanceWeight
from pyimplicit.sampling.rows import Drawn, DrawsOneRow, Rows


@dataclass(frozen=True)
class Linear(DrawsOneRow):
    """Density over the cube proportional to mu (tau - g) within tau of the surface, 0 beyond.

    Drawn exactly, with about one and a half distance queries a point, of which one is the point's label. As a
    probability the weight is min(1, mu (tau - g)): with the default mu = 1 / tau it never exceeds 1; a larger mu
    flattens the density near the surface.

    Args:
        tau: Distance at which the density reaches 0, mesh units, above 0.
        mu: Slope of the weight, per mesh unit, above 0; None means 1 / tau.

    Raises:
        ValueError: `tau` or `mu` not above 0.

    Source:
        Liu and Yang, section V-A, equation 2.
    """

    tau: float = 0.1
    mu: float | None = None

    def __post_init__(self) -> None:
        check_positive("tau", self.tau)
        if self.mu is not None:
            check_positive("mu", self.mu)

    @property
    def name(self) -> str:
        """The name, with the parameters that are not the default ones: "linear(tau=0.2,mu=5)"."""
        return "linear" + _parameters(self, Linear)

    @property
    def symbol(self) -> str:
        """The paper's symbol, with the parameters likewise."""
        return "Linear" + _parameters(self, Linear)

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3]; ValueError if a surface does not come within tau of the cube."""
        return _draw(DistanceWeight(1 / self.tau if self.mu is None else self.mu, self.tau), rows, count)


@dataclass(frozen=True)
class Exponential(DrawsOneRow):
    """Density over the cube proportional to exp(-beta g), g the distance to the surface; drawn exactly.

    Args:
        beta: Fall of the density, per mesh unit, above 0. The authors' code takes 20 to 50 for shapes in a sphere of
            radius 0.9, that is 36 to 90 for a longest side of 1; the default lies between.

    Raises:
        ValueError: `beta` not above 0.

    Source:
        Davies, Nowrouzezahrai, Jacobson, "On the Effectiveness of Weight-Encoded Neural Implicit 3D Shapes", 2020,
        section 3.
    """

    beta: float = 60.0

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    @property
    def name(self) -> str:
        """The name, with beta if it is not the default one: "exponential(beta=40)"."""
        return "exponential" + _parameters(self, Exponential)

    @property
    def symbol(self) -> str:
        """The symbol, with beta likewise."""
        return "Exp" + _parameters(self, Exponential)

    def draw_rows(self, rows: Rows, count: int) -> Drawn:
        """Draw points [B, count, 3]."""
        return _draw(DistanceWeight(self.beta), rows, count)


def _parameters(strategy: Linear | Exponential, kind: type) -> str:
    """Return the parameters that differ from the defaults, as `resolve_strategy` reads them; nothing if none does."""
    values = {field.name: (getattr(strategy, field.name), field.default) for field in dataclasses.fields(kind)}
    given = [f"{name}={float(value)!r}" for name, (value, default) in values.items() if value != default]
    return f"({','.join(given)})".replace(".0,", ",").replace(".0)", ")") if given else ""


def _draw(weight: DistanceWeight, rows: Rows, count: int) -> Drawn:
    surfaces, signed = rows.surfaces, rows.label == "signed"
    surfaces.note(2 * count * rows.shapes.shape[0])
    points, distance, _ = ops.sample_by_distance(
        surfaces.signed_table if signed else surfaces.table,
        surfaces.weight_cells(weight), rows.shapes, rows.streams, count, purpose=rows.purpose,
        signed=signed, labelled=rows.label is not None,
    )  # fmt: skip
    return Drawn(points, None if rows.label is None else distance)
