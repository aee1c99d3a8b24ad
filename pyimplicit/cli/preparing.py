"""From the arguments of `prepare` to a stored set."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from pyimplicit.cli.parser import UsageError
from pyimplicit.data import PrepareConfig, StoredSet, open_source, prepare_set
from pyimplicit.engines import Engine, LocalEngine, RayEngine
from pyimplicit.info import available_cores


def prepare_set_from(arguments: Namespace, progress: Callable[[int, int], None]) -> tuple[StoredSet, int]:
    """Return the set, and how many shapes its source has."""
    source = open_source(arguments.source, count=arguments.count, seed=arguments.seed)
    config = PrepareConfig(
        method=arguments.method,
        resolution=arguments.resolution,
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


def _pool(text: str) -> tuple[str, int]:
    name, _, count = text.rpartition(":")
    if not name or not count.isdigit():
        raise UsageError(f"argument --pools: expected STRATEGY:COUNT, got {text!r}")
    return name, int(count)
