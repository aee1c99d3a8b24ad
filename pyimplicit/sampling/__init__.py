"""Query points: the strategies that draw them, the sets they come in, and the distance mask."""

from pyimplicit.sampling.balanced import Balanced
from pyimplicit.sampling.by_distance import Exponential, Linear
from pyimplicit.sampling.mask import DistanceMask
from pyimplicit.sampling.queries import QuerySet, sample_queries, sample_query_batch
from pyimplicit.sampling.rows import Strategy
from pyimplicit.sampling.sources import Component, Mixture, SurfaceNoise, Uniform, UniformBox
from pyimplicit.sampling.strategies import RELATED_STRATEGIES, STRATEGIES, resolve_strategy

__all__ = [
    "RELATED_STRATEGIES",
    "STRATEGIES",
    "Balanced",
    "Component",
    "DistanceMask",
    "Exponential",
    "Linear",
    "Mixture",
    "QuerySet",
    "Strategy",
    "SurfaceNoise",
    "Uniform",
    "UniformBox",
    "resolve_strategy",
    "sample_queries",
    "sample_query_batch",
]
