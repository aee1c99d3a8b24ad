"""Query points: the strategies that draw them, the sets they come in, and the distance mask."""

from pyimplicit.sampling.mask import DistanceMask
from pyimplicit.sampling.queries import QuerySet, sample_queries
from pyimplicit.sampling.strategies import (
    STRATEGIES,
    Component,
    Linear,
    Mixture,
    Strategy,
    SurfaceNoise,
    Uniform,
    resolve_strategy,
)

__all__ = [
    "STRATEGIES",
    "Component",
    "DistanceMask",
    "Linear",
    "Mixture",
    "QuerySet",
    "Strategy",
    "SurfaceNoise",
    "Uniform",
    "resolve_strategy",
    "sample_queries",
]
