"""From arguments to shapes: the stored set of `prepare`, the training shapes of `train`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from pyimplicit.cli.parser import UsageError
from pyimplicit.data import (
    PrepareConfig,
    SampledShape,
    SampleSource,
    Shape,
    StoredSet,
    open_source,
    prepare_set,
    prepare_shapes,
)
from pyimplicit.data.samples import Split
from pyimplicit.engines import Engine, LocalEngine, RayEngine
from pyimplicit.info import available_cores


def prepare_set_from(arguments: Namespace, progress: Callable[[int, int], None]) -> tuple[StoredSet, int]:
    """Return the set, and how many shapes its source has."""
    source = open_source(arguments.source, count=arguments.count, seed=arguments.seed)
    config = PrepareConfig(
        method=arguments.method,
        resolution=arguments.resolution,
        detail=arguments.detail,
        faces=arguments.faces,
        cloud=arguments.cloud,
        evaluation=arguments.evaluation,
        evaluation_strategy="padded_uniform" if arguments.box == "padded" else "uniform",
        pools=tuple(_pool(text) for text in arguments.pools),
        mesh=arguments.mesh,
        seed=arguments.seed,
        shard_size=arguments.shard_size,
    )
    cores = available_cores()
    processes = cores if arguments.processes is None else arguments.processes
    engine: Engine
    if arguments.engine == "ray":
        engine, threads = RayEngine(arguments.address, cpus=arguments.cpus), max(1, int(arguments.cpus))
    else:
        engine, threads = LocalEngine(processes), max(1, cores // max(1, processes))
    stored = prepare_set(
        source,
        arguments.out,
        config,
        engine=engine,
        seconds=arguments.seconds,
        threads=threads,
        retry=arguments.retry,
        progress=progress,
    )
    return stored, len(source)


def training_shapes(arguments: Namespace, progress: Callable[[int, int], None]) -> Sequence[Shape | SampledShape]:
    """Return the shapes that `train` asks for: the first of the source that are not kept for another purpose.

    Shapes of a stored set are taken as they are, with their meshes if these were stored, else by their samples; those
    of a source of samples by their samples; meshes of other sources are closed first.
    """
    source = open_source(arguments.data, count=max(1, arguments.shapes), seed=arguments.data_seed)
    splits = source.splits() if isinstance(source, Split) else [""] * len(source)
    chosen = [index for index, split in enumerate(splits) if split in ("", "train")]
    if arguments.shapes < 1 or arguments.shapes > len(chosen):
        raise UsageError(f"argument --shapes: expected 1 to {len(chosen)} shapes of {arguments.data}")
    chosen = chosen[: arguments.shapes]
    if isinstance(source, StoredSet):
        if source.config.get("mesh") and source[chosen[0]].mesh is not None:
            return [source.shape(index) for index in chosen]
        return [SampledShape(source.names()[index], source.groups()[index], source[index]) for index in chosen]
    if isinstance(source, SampleSource):
        names, groups = source.names(), source.groups()
        return [SampledShape(names[index], groups[index], source.load_samples(index)) for index in chosen]
    root = Path(arguments.data_root) if arguments.data_root else Path(arguments.out) / "data"
    return prepare_shapes(source, root, indices=chosen, progress=progress)


def _pool(text: str) -> tuple[str, int]:
    name, _, count = text.rpartition(":")
    if not name or not count.isdigit():
        raise UsageError(f"argument --pools: expected STRATEGY:COUNT, got {text!r}")
    return name, int(count)
