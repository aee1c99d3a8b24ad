"""The sampling strategies of the study: where in the cube query points are drawn.

Source: Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", sections III-C and V-A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.checks import check_positive
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream

CUBE = 0.5
"""Query space is the cube [-CUBE, CUBE]^3, mesh units."""


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


@dataclass(frozen=True)
class Uniform:
    """Uniform in the cube."""

    def draw(self, surface: Surface, count: int, stream: RandomStream) -> Tensor:
        """Draw points [count, 3]."""
        return ops.uniform(count, stream, -CUBE, CUBE, device=surface.device)


@dataclass(frozen=True)
class SurfaceNoise:
    """Area-uniform points of the surface plus isotropic Gaussian noise; they may leave the cube.

    Args:
        sigma: Standard deviation along each axis, mesh units, above 0.
    """

    sigma: float

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def draw(self, surface: Surface, count: int, stream: RandomStream) -> Tensor:
        """Draw points [count, 3]."""
        points = surface.sample_surface(count, stream).points
        noise = ops.normal(count, stream.for_purpose(stream.purpose + 1), device=surface.device)
        return points.add_(noise, alpha=self.sigma)


@dataclass(frozen=True)
class Component:
    """One part of a mixture."""

    share: float  # of the points, above 0; the shares of a mixture sum to 1
    source: Uniform | SurfaceNoise


@dataclass(frozen=True)
class Mixture:
    """A fixed share of the points from each of several sources.

    The number of points stays exact: shares are rounded so that they sum to it.

    Args:
        name: What the strategy is called.
        symbol: The paper's symbol without its S, such as "BS".
        components: The sources with their shares, which must sum to 1.

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

    def draw(self, surface: Surface, count: int, stream: RandomStream) -> Tensor:
        """Draw points [count, 3], component after component."""
        parts = []
        for place, (component, part) in enumerate(zip(self.components, self.counts(count), strict=True)):
            if part:  # purposes two apart: SurfaceNoise uses its own and the next
                parts.append(component.source.draw(surface, part, stream.for_purpose(stream.purpose + 2 * place)))
        return torch.cat(parts)


@dataclass(frozen=True)
class Linear:
    """Density over the cube proportional to mu (tau - g) within tau of the surface, 0 beyond.

    Drawn exactly, by rejection: a uniform point of the cube is kept with probability min(1, mu (tau - g)). With the
    default mu = 1 / tau the probability never exceeds 1; a larger mu flattens the density near the surface.

    Args:
        tau: Distance at which the density reaches 0, mesh units, above 0.
        mu: Slope of the acceptance probability, per mesh unit, above 0; None means 1 / tau.

    Raises:
        ValueError: `tau` or `mu` not above 0.

    Source:
        Liu and Yang, section V-A, equation 2.
    """

    tau: float = 0.1
    mu: float | None = None
    name: ClassVar[str] = "linear"
    symbol: ClassVar[str] = "Linear"

    # A cube holds at least this share of acceptable points, or the surface is as good as absent from it.
    _LEAST_SHARE: ClassVar[float] = 1e-5

    def __post_init__(self) -> None:
        check_positive("tau", self.tau)
        if self.mu is not None:
            check_positive("mu", self.mu)

    def draw(self, surface: Surface, count: int, stream: RandomStream) -> Tensor:
        """Draw points [count, 3]; ValueError if the surface does not come within tau of the cube."""
        kept: list[Tensor] = []
        have, tried, batch = 0, 0, max(4 * count, 1024)
        while have < count:
            if tried * self._LEAST_SHARE > max(have, 10):
                raise ValueError(
                    f"surface: expected one that comes within tau = {self.tau} of the cube [-{CUBE}, {CUBE}]^3; "
                    f"kept {have} of {tried} points"
                )
            # Each round has a purpose of its own; the order of candidates is fixed, so the first `count` are too.
            round_stream = stream.for_purpose(stream.purpose + 2 * len(kept))
            candidates = ops.uniform(batch, round_stream, -CUBE, CUBE, device=surface.device)
            weights = ops.linear_weights(surface.unsigned_distance(candidates), self.tau, self.mu)
            coins = ops.uniform(batch, round_stream.for_purpose(round_stream.purpose + 1), device=surface.device)[:, 0]
            kept.append(candidates[coins < weights])
            have, tried = have + len(kept[-1]), tried + batch
        return torch.cat(kept)[:count]


def _noise(share: float, sigma: float) -> Component:
    return Component(share, SurfaceNoise(sigma))


_NEAR = (_noise(0.495, 0.01), _noise(0.495, 0.001))  # S_NS making room for the 1% of S_FUNS and S_FSNS

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Mixture("uniform", "UNI", (Component(1.0, Uniform()),)),
        Mixture("hybrid_far_surface", "HFS", (Component(0.5, Uniform()), _noise(0.5, 0.1))),
        Mixture("hybrid_near_surface", "HNS", (Component(0.5, Uniform()), _noise(0.5, 0.01))),
        Mixture("balanced_surface", "BS", (_noise(0.5, 0.1), _noise(0.5, 0.01))),
        Mixture("few_uniform_near_surface", "FUNS", (*_NEAR, Component(0.01, Uniform()))),
        Mixture("few_surface_near_surface", "FSNS", (*_NEAR, _noise(0.01, 0.1))),
        Mixture("near_surface", "NS", (_noise(0.5, 0.01), _noise(0.5, 0.001))),
        Linear(),
    )
}
"""The eight strategies of the paper by name, from uniform towards the surface, and the linear one."""


def resolve_strategy(strategy: str | Strategy) -> Strategy:
    """The strategy of a name ("balanced_surface"), a symbol ("BS", "S_BS"), or the object itself.

    Raises:
        ValueError: An unknown name; the message lists what there is.
        TypeError: Neither a string nor something that draws.

    Example:
        >>> resolve_strategy("S_FUNS").name
        'few_uniform_near_surface'
    """
    if not isinstance(strategy, str):
        if not all(hasattr(strategy, needed) for needed in ("draw", "name", "symbol")):
            raise TypeError(f"strategy: expected a name or a Strategy, got {type(strategy).__name__}")
        return strategy
    key = strategy.lower().removeprefix("s_")
    for known in STRATEGIES.values():
        if key in (known.name, known.symbol.lower()):
            return known
    known_names = ", ".join(f"{known.name} (S_{known.symbol})" for known in STRATEGIES.values())
    raise ValueError(f"strategy: expected one of {known_names}, got {strategy!r}")
