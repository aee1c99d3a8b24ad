"""Training on stored samples: the pools of a training set from what is kept of each shape, with nothing drawn anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyimplicit.data import LabelledPoints, SampledShape
from pyimplicit.errors import ConfigError, DataError
from pyimplicit.sampling import RELATED_STRATEGIES, STRATEGIES
from pyimplicit.training.config import TrainConfig
from pyimplicit.training.seeds import generator

UNIFORM = ("uniform", "padded_uniform")


def sampled_pools(
    config: TrainConfig, shapes: Sequence[SampledShape], clouds: bool
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return points [P, 3], labels [P] and clouds [C, 3] of each shape, in the order of the shapes.

    Points are those stored for the run's strategy; other people's pools, which no strategy of this project drew, in
    equal shares; or, for uniform strategies, the evaluation points. P is `config.pool_size`, or the smallest pool if
    that is smaller; C likewise. Which of the stored ones are taken depends on `config.seed` and the shape's name.
    Labels that only tell inside from outside become -1 and 1, and serve occupancy alone.

    Raises:
        ConfigError: `pool_size` is 0, for which meshes are needed, or the field needs distances that are not there.
        DataError: A shape without such points, or without the cloud that is needed.
    """
    if not config.pool_size:
        raise ConfigError("pool_size: expected at least 1 for stored samples; 0 draws anew, which needs meshes")
    chosen = [_points(config, shape) for shape in shapes]
    size = min(config.pool_size, *(min(map(len, labels)) * len(labels) for _, labels in chosen))
    points, distances, drawn = [], [], []
    for shape, (pools, labels) in zip(shapes, chosen, strict=True):
        shares = [size * (k + 1) // len(pools) - size * k // len(pools) for k in range(len(pools))]
        rows = [
            _some(len(pool), share, config.seed, f"pool {k}", shape.name)
            for k, (pool, share) in enumerate(zip(pools, shares, strict=True))
        ]
        points.append(torch.cat([pool[row] for pool, row in zip(pools, rows, strict=True)]))
        distances.append(torch.cat([label[row] for label, row in zip(labels, rows, strict=True)]))
    if clouds:
        stored = [shape.samples.cloud for shape in shapes]
        for shape, cloud in zip(shapes, stored, strict=True):
            if cloud is None or not len(cloud):
                raise DataError(f"shape {shape.name}: stored without the cloud that {config.network} encodes")
        count = min(config.cloud_pool, *(len(cloud) for cloud in stored if cloud is not None))
        for shape, cloud in zip(shapes, stored, strict=True):
            assert cloud is not None  # checked above
            drawn.append(cloud[_some(len(cloud), count, config.seed, "cloud", shape.name)].cpu())
    return points, distances, drawn


def _points(config: TrainConfig, shape: SampledShape) -> tuple[list[Tensor], list[Tensor]]:
    """Return the pools that serve the run, and their labels."""
    pools = shape.samples.pools
    found: list[LabelledPoints] = []
    ours = [name for name in pools if name.rpartition("-")[0] in (*STRATEGIES, *RELATED_STRATEGIES)]
    fitting = [name for name in ours if name.rpartition("-")[0] == config.strategy]
    if fitting:
        found = [max((pools[name] for name in fitting), key=lambda pool: len(pool.points))]
    elif foreign := [name for name in pools if name not in ours]:
        found = [pools[name] for name in sorted(foreign)]
    elif shape.samples.evaluation is not None and config.strategy in UNIFORM:
        found = [shape.samples.evaluation]
    if not found or not all(len(pool.points) for pool in found):
        known = ", ".join(pools) or "no pool"
        raise DataError(f"shape {shape.name}: no points of {config.strategy} are stored, only {known}")
    if config.field != "occ" and any(pool.signed_distance is None for pool in found):
        raise ConfigError(
            f"field: expected occ for {shape.name}, whose points only tell inside from outside, got {config.field!r}"
        )
    labels = [
        1.0 - 2.0 * pool.inside.float() if pool.signed_distance is None else pool.signed_distance for pool in found
    ]
    return [pool.points.cpu() for pool in found], [label.cpu() for label in labels]


def _some(total: int, count: int, seed: int, purpose: str, name: str) -> Tensor:
    """Return `count` of `total` rows, in random order."""
    return torch.randperm(total, generator=generator(seed, "stored", purpose, name))[:count]
