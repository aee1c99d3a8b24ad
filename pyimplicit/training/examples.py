"""What training sees: pools of labelled points and clouds per shape, and the batch of each step drawn from them.

A batch is a function of the seed and the step alone. No generator is carried from step to step, so a run that is
continued from a checkpoint sees exactly the batches it would have seen without the interruption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit.data import Shape
from pyimplicit.errors import ConfigError, DataError
from pyimplicit.geometry import Surface, SurfaceBatch
from pyimplicit.sampling import sample_queries, sample_query_batch
from pyimplicit.training.config import TrainConfig
from pyimplicit.training.seeds import derive_seed, generator


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The pools of all shapes, stacked, on the CPU; or their surfaces, where the training runs."""

    names: tuple[str, ...]
    points: Tensor  # [S, P, 3] float32; P is 0 if points are drawn anew at every step
    signed_distance: Tensor  # [S, P] float32, negative inside
    clouds: Tensor  # [S, C, 3] float32; C is 0 for auto-decoders
    surfaces: SurfaceBatch | None  # on the training device, if points are drawn anew at every step

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step trains on."""

    shapes: Tensor  # [B] int64, indices of the shapes
    points: Tensor  # [B, T, 3] float32
    signed_distance: Tensor  # [B, T] float32, negative inside
    clouds: Tensor  # [B, N, 3] float32; N is 0 for auto-decoders

    def to(self, device: str | torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(*(part.to(device) for part in (self.shapes, self.points, self.signed_distance, self.clouds)))

    def split(self, parts: int) -> list[Batch]:
        """Return the batch cut into `parts`, whose numbers of shapes differ by one at most."""
        columns = (self.shapes, self.points, self.signed_distance, self.clouds)
        return [Batch(*part) for part in zip(*(column.tensor_split(parts) for column in columns), strict=True)]


def build_training_set(config: TrainConfig, shapes: Sequence[Shape], clouds: bool = True) -> TrainingSet:
    """Draw the pools of every shape.

    The pools of a shape depend on `config.seed` and on the shape's name, not on its place or on the other shapes.

    Args:
        config: The run.
        shapes: The training shapes, with distinct names.
        clouds: Whether input clouds are needed (encoder networks).

    Raises:
        DataError: No shape, two shapes of one name, or a pool that is not finite.
    """
    check_shapes(shapes)
    points, distances, cloud_pools, surfaces = [], [], [], []
    for shape in shapes:
        surface = Surface(shape.mesh)
        if config.pool_size:
            seed = derive_seed(config.seed, "queries", shape.name)
            queries = sample_queries(surface, config.strategy, config.pool_size, seed=seed)
            if not bool(torch.isfinite(queries.signed_distance).all()):
                raise DataError(f"shape {shape.name}: its query points have distances that are not finite")
            points.append(queries.points)
            distances.append(queries.signed_distance)
        else:
            surfaces.append(surface.to(config.device))
        if clouds:
            seed = derive_seed(config.seed, "cloud", shape.name)
            cloud_pools.append(surface.sample_surface(config.cloud_pool, seed=seed).points.float())
    count = len(shapes)
    return TrainingSet(
        names=tuple(shape.name for shape in shapes),
        points=torch.stack(points) if points else torch.empty(count, 0, 3),
        signed_distance=torch.stack(distances) if distances else torch.empty(count, 0),
        clouds=torch.stack(cloud_pools) if cloud_pools else torch.empty(count, 0, 3),
        surfaces=SurfaceBatch(surfaces) if surfaces else None,
    )


def draw_batch(data: TrainingSet, config: TrainConfig, step: int, share: slice = slice(None)) -> Batch:
    """Return the batch of `step`, or a share of it: a function of `config.seed`, `step` and the training set alone.

    Shapes come in epochs, each a permutation of all shapes; a batch may straddle two of them, so batches are always
    full. Query points and cloud points are drawn from the pools uniformly with replacement. The shares of several
    processes, put together, are the batch of one.
    """
    whole = batch_shapes(len(data), config.batch_size, step, config.seed)
    shapes = whole[share]
    random = generator(config.seed, "batch", step)
    if data.surfaces is not None:
        points, signed_distance = _draw_anew(data.surfaces, config, whole, step, share)
    else:
        chosen = _choose(whole, data.points.shape[1], config.points_per_step, random)[share]
        points = data.points.reshape(-1, 3)[chosen]
        signed_distance = data.signed_distance.reshape(-1)[chosen]
    pool = data.clouds.shape[1]
    if pool:
        if config.fresh_clouds:
            clouds = data.clouds.reshape(-1, 3)[_choose(whole, pool, config.cloud_size, random)[share]]
        else:
            clouds = data.clouds[shapes, : config.cloud_size]
        if config.cloud_noise:
            noise = torch.randn(len(whole), *clouds.shape[1:], generator=random)
            clouds = clouds + config.cloud_noise * noise[share]
    else:
        clouds = torch.empty(len(shapes), 0, 3)
    return Batch(shapes, points, signed_distance, clouds)


def batch_shapes(count: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Return the indices of the shapes of the batch of `step`: [batch_size] int64.

    Epoch e is a permutation of range(`count`) keyed by (`seed`, e); the batches cut the sequence of all epochs into
    equal pieces.

    Example:
        >>> epoch = torch.cat([batch_shapes(6, 2, step, seed=0) for step in range(3)])
        >>> epoch.sort().values.tolist()
        [0, 1, 2, 3, 4, 5]
    """
    first, end = step * batch_size, (step + 1) * batch_size
    epochs = range(first // count, (end - 1) // count + 1)
    order = torch.cat([torch.randperm(count, generator=generator(seed, "epoch", epoch)) for epoch in epochs])
    start = first - epochs[0] * count
    return order[start : start + batch_size]


def check_shapes(shapes: Sequence[Shape]) -> None:
    """Raise `DataError` unless there is a shape and all names are distinct."""
    if not shapes:
        raise DataError("shapes: expected at least one shape to train on, got none")
    seen: set[str] = set()
    for shape in shapes:
        if shape.name in seen:
            raise DataError(f"shapes: expected distinct names, got {shape.name!r} twice")
        seen.add(shape.name)


def digest_shapes(shapes: Sequence[Shape]) -> str:
    """Return 16 hexadecimal digits of a hash of the shapes' names and meshes, in their order."""
    hasher = hashlib.sha256()
    for shape in shapes:
        hasher.update(f"{shape.name}\x1f{len(shape.mesh.vertices)}\x1f{len(shape.mesh.faces)}\x1f".encode())
        hasher.update(shape.mesh.vertices.contiguous().numpy().tobytes())
        hasher.update(shape.mesh.faces.contiguous().numpy().tobytes())
    return hasher.hexdigest()[:16]


def check_device(config: TrainConfig) -> torch.device:
    """Return the device of `config`, or raise `ConfigError` if this machine has no such device."""
    device = torch.device(config.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: expected a device of this machine, got {config.device!r}")
    return device


def _choose(shapes: Tensor, pool: int, count: int, random: torch.Generator) -> Tensor:
    """Return `count` random positions in the pool of each shape, as indices into the stacked pools: [B, count]."""
    return torch.randint(pool, (len(shapes), count), generator=random) + shapes[:, None] * pool


def _draw_anew(
    surfaces: SurfaceBatch, config: TrainConfig, shapes: Tensor, step: int, share: slice
) -> tuple[Tensor, Tensor]:
    """Draw the query points of a share of a batch from the surfaces: points [B, T, 3], signed distances [B, T].

    They are keyed by the shape and by how often it has been seen before, which its epoch counts: no shape meets the
    same points twice, whatever the batch size.
    """
    epochs = (step * len(shapes) + torch.arange(len(shapes))) // len(surfaces)
    queries = sample_query_batch(
        surfaces, config.strategy, config.points_per_step, derive_seed(config.seed, "queries"),
        shapes=shapes[share].to(surfaces.device), keys=torch.stack((shapes, epochs), dim=1)[share],
    )  # fmt: skip
    return queries.points, queries.signed_distance
