"""From a mesh to what is stored of it: closed mesh, cloud, evaluation points and pools."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyimplicit.checks import check_choice, check_count
from pyimplicit.data.samples import LabelledPoints, SampleSource, ShapeSamples, hash_tensors
from pyimplicit.data.sources import Source
from pyimplicit.data.store import Entry, encode_entry, plain
from pyimplicit.engines import Report
from pyimplicit.geometry.mesh import Mesh, normalize_mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.geometry.watertight import METHODS, check_closing, make_watertight
from pyimplicit.sampling import resolve_strategy, sample_queries
from pyimplicit.seeds import derive_seed


@dataclass(frozen=True)
class PrepareConfig:
    """How the shapes of a source are prepared.

    Args:
        method: How meshes are closed, as in `make_watertight`; "none" takes them as they are, only normalised.
        resolution: Cells along the longest side when a mesh must be rebuilt.
        detail: For "fusion": cells of the grid to each of them along an axis, as in `make_watertight`.
        faces: About the most faces that a closed mesh may have, as in `make_watertight`; None leaves them all.
        cloud: Points on the surface, with normals; 0 for none.
        evaluation: Evaluation points with their signed distances; 0 for none.
        evaluation_strategy: Where they lie; "padded_uniform" is the box of edge 1.1 of ONet's data.
        pools: Fixed query points to store, as (strategy, count); training can also draw anew at every step.
        mesh: Whether to store the closed mesh, which training needs to draw anew.
        seed: Seed of all random points; a shape's own depend on it and on the shape's name alone.
        shard_size: Shapes in one file.

    Raises:
        TypeError, ValueError: An argument out of range, or an unknown strategy.
    """

    method: str = "winding"
    resolution: int = 128
    detail: int = 1
    faces: int | None = None
    cloud: int = 100_000
    evaluation: int = 100_000
    evaluation_strategy: str = "uniform"
    pools: tuple[tuple[str, int], ...] = ()
    mesh: bool = True
    seed: int = 0
    shard_size: int = 32

    def __post_init__(self) -> None:
        check_count("resolution", self.resolution, minimum=8)
        check_count("shard_size", self.shard_size)
        if self.faces is not None:
            check_count("faces", self.faces, minimum=4)
        if check_choice("method", self.method, (*METHODS, "none")) != "none":
            check_closing(self.method, self.resolution, self.faces, self.detail)
        elif check_count("detail", self.detail) > 1:
            raise ValueError(f"detail: expected 1 for the method none, got {self.detail}")
        for name in ("cloud", "evaluation", "seed"):
            check_count(name, getattr(self, name), minimum=0)
        resolve_strategy(self.evaluation_strategy)
        for pool in self.pools:
            if not isinstance(pool, tuple) or len(pool) != 2:
                raise TypeError(f"pools: expected pairs of strategy and count, got {pool!r}")
            resolve_strategy(pool[0])
            check_count("pools", pool[1])

    def identity(self) -> dict[str, Any]:
        """Return what determines the content of the set."""
        found = {**asdict(self), "pools": [list(pool) for pool in self.pools]}
        # As in sets that were made before there was a choice.
        if self.faces is None:
            del found["faces"]
        if self.detail == 1:
            del found["detail"]
        return found


def pool_name(strategy: str, count: int) -> str:
    """Return the name that a pool is stored under.

    Example:
        >>> pool_name("S_Linear", 2000)
        'linear-2000'
    """
    return f"{resolve_strategy(strategy).name}-{count}"


@dataclass(frozen=True)
class Preparer:
    """What a worker does: one shape of a source, from mesh or samples to the content of its file."""

    source: Source | SampleSource
    config: PrepareConfig
    threads: int | None = None

    def __call__(self, entry: Entry, report: Report) -> bytes:
        """Prepare the shape of an entry; errors are the engine's to report."""
        start = time.perf_counter()
        if self.threads is not None and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        found: dict[str, Any] = {}
        if isinstance(self.source, SampleSource):
            samples = self.source.load_samples(entry.index)
        else:
            samples, found = prepare_mesh(self.source.load(entry.index), entry.name, self.config)
        tensors = _plain_tensors(samples.tensors())
        done = replace(entry, content=hash_tensors(tensors), report=plain(found))
        return encode_entry(replace(done, seconds=round(time.perf_counter() - start, 4)), tensors)


def prepare_mesh(mesh: Mesh, name: str, config: PrepareConfig) -> tuple[ShapeSamples, dict[str, Any]]:
    """Close and normalise one mesh and draw its points.

    Args:
        mesh: Any mesh.
        name: The shape's name, which its random points depend on.
        config: What to make.

    Returns:
        The samples, and the report of `make_watertight`.

    Raises:
        MeshError: A mesh that cannot be closed.
    """
    found: dict[str, Any] = {}
    if config.method != "none":
        mesh, report = make_watertight(
            mesh, method=config.method, resolution=config.resolution, faces=config.faces, detail=config.detail
        )
        found = report.as_dict()
    mesh = normalize_mesh(mesh)
    surface = Surface(mesh)
    cloud = normals = None
    if config.cloud:
        drawn = surface.sample_surface(config.cloud, seed=derive_seed(config.seed, "cloud", name))
        cloud, normals = drawn.points.float(), drawn.normals.float()

    def queries(strategy: str, count: int, purpose: str) -> LabelledPoints:
        drawn = sample_queries(surface, strategy, count, seed=derive_seed(config.seed, purpose, name))
        return LabelledPoints(drawn.points, drawn.signed_distance)

    evaluation = None
    if config.evaluation:
        evaluation = queries(config.evaluation_strategy, config.evaluation, "evaluation")
    pools = {
        pool_name(strategy, count): queries(strategy, count, f"pool {pool_name(strategy, count)}")
        for strategy, count in config.pools
    }
    return ShapeSamples(mesh if config.mesh else None, cloud, normals, evaluation, pools), found


def _plain_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
