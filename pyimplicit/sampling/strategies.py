"""The sampling strategies of the study by name, and those of related work.

Source: Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", sections III-C and V-A.
"""

from __future__ import annotations

import dataclasses

from pyimplicit.sampling.balanced import Balanced
from pyimplicit.sampling.by_distance import Exponential, Linear
from pyimplicit.sampling.rows import Strategy
from pyimplicit.sampling.sources import Component, Mixture, SurfaceNoise, Uniform, UniformBox


def _noise(share: float, sigma: float) -> Component:
    return Component(share, SurfaceNoise(sigma))


_NEAR = (_noise(0.495, 0.01), _noise(0.495, 0.001))  # S_NS making room for the 1% of S_FUNS and S_FSNS
# DeepSDF's authors: 47% with a variance of 0.005 along each axis, 47% with a tenth of it, 6% anywhere. They work in the
# unit sphere; here the figures are mesh units and the 6% lie in the cube.
_DEEPSDF = (_noise(0.47, 0.005**0.5), _noise(0.47, 0.0005**0.5), Component(0.06, Uniform()))
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
        Mixture("padded_uniform", "PUNI", (Component(1.0, UniformBox(0.55)),)),
        Mixture("ndf_surface", "NDF", (_noise(0.01, 0.08), _noise(0.49, 0.02), _noise(0.5, 0.003))),
        Balanced("deepsdf_surface", "DSDF", Mixture("deepsdf_unbalanced", "DSDFU", _DEEPSDF)),
    )
}
"""Strategies of related work: ONet's equal sampling, DeepSDF's balance of signs, the weights of Davies et al.; and what
the networks' authors trained with where it is none of the paper's: ONet's and ConvONet's box of edge 1.1, NDF's and
DeepSDF's mixtures."""


def resolve_strategy(strategy: str | Strategy) -> Strategy:
    """The strategy of a name ("balanced_surface"), a symbol ("BS", "S_BS"), or the object itself.

    A strategy with parameters takes them in brackets: "linear(tau=0.2,mu=5)", "exponential(beta=40)".

    Raises:
        ValueError: An unknown name, the message lists what there is; or parameters that the strategy does not take.
        TypeError: Neither a string nor something that draws.

    Example:
        >>> resolve_strategy("S_FUNS").name
        'few_uniform_near_surface'
        >>> resolve_strategy("S_Linear(tau=0.2)")
        Linear(tau=0.2, mu=None)
    """
    if not isinstance(strategy, str):
        if not all(hasattr(strategy, needed) for needed in ("draw", "name", "symbol")):
            raise TypeError(f"strategy: expected a name or a Strategy, got {type(strategy).__name__}")
        return strategy
    key, bracket, text = strategy.lower().removeprefix("s_").partition("(")
    found = STRATEGIES.get(key)  # most are asked for by their names
    if found is None:
        known = (*STRATEGIES.values(), *RELATED_STRATEGIES.values())
        found = next((each for each in known if key in (each.name, each.symbol.lower())), None)
        if found is None:
            names = ", ".join(f"{each.name} (S_{each.symbol})" for each in known)
            raise ValueError(f"strategy: expected one of {names}, got {strategy!r}")
    return _with_parameters(found, strategy, text) if bracket else found


def _with_parameters(strategy: Strategy, given: str, text: str) -> Strategy:
    """Return `strategy` with the parameters of `text`, "tau=0.2,mu=5)"."""
    names = [f.name for f in dataclasses.fields(strategy)] if isinstance(strategy, (Linear, Exponential)) else []
    takes = ", ".join(names) or "none"
    values: dict[str, float] = {}
    for part in text.strip().removesuffix(")").split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or name not in names or not text.strip().endswith(")"):
            raise ValueError(
                f"strategy: expected {strategy.name} with parameters like (name=number), of {takes}, got {given!r}"
            )
    return dataclasses.replace(strategy, **values)  # type: ignore[type-var]
