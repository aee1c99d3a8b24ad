"""The sampling strategies of the study by name, and those of related work.

Source: Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", sections III-C and V-A.
"""

from __future__ import annotations

from pyimplicit.sampling.balanced import Balanced
from pyimplicit.sampling.by_distance import Exponential, Linear
from pyimplicit.sampling.rows import Strategy
from pyimplicit.sampling.sources import Component, Mixture, SurfaceNoise, Uniform


def _noise(share: float, sigma: float) -> Component:
    return Component(share, SurfaceNoise(sigma))


_NEAR = (_noise(0.495, 0.01), _noise(0.495, 0.001))  # S_NS making room for the 1% of S_FUNS and S_FSNS
_FUNS = Mixture("few_uniform_near_surface", "FUNS", (*_NEAR, Component(0.01, Uniform())))

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Mixture("uniform", "UNI", (Component(1.0, Uniform()),)),
        Mixture("hybrid_far_surface", "HFS", (Component(0.5, Uniform()), _noise(0.5, 0.1))),
        Mixture("hybrid_near_surface", "HNS", (Component(0.5, Uniform()), _noise(0.5, 0.01))),
        Mixture("balanced_surface", "BS", (_noise(0.5, 0.1), _noise(0.5, 0.01))),
        _FUNS,
        Mixture("few_surface_near_surface", "FSNS", (*_NEAR, _noise(0.01, 0.1))),
        Mixture("near_surface", "NS", (_noise(0.5, 0.01), _noise(0.5, 0.001))),
        Linear(),
    )
}
"""The eight strategies of the paper by name, from uniform towards the surface, and the linear one."""

RELATED_STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Balanced("equal_inside_outside", "EQ", Uniform()),
        Balanced("sign_balanced_near_surface", "SBNS", _FUNS),
        Exponential(),
    )
}
"""Strategies of related work: ONet's equal sampling, DeepSDF's balance of signs, the weights of Davies et al."""


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
    known = (*STRATEGIES.values(), *RELATED_STRATEGIES.values())
    for candidate in known:
        if key in (candidate.name, candidate.symbol.lower()):
            return candidate
    names = ", ".join(f"{candidate.name} (S_{candidate.symbol})" for candidate in known)
    raise ValueError(f"strategy: expected one of {names}, got {strategy!r}")
