"""The commands: each turns parsed arguments into one call and prints what comes back; returns the exit code."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyimplicit.cli.parser import UsageError
from pyimplicit.cli.terminal import bar as _bar
from pyimplicit.cli.terminal import console as _console
from pyimplicit.cli.terminal import note as _note


def info(arguments: Namespace) -> int:
    """Print what was built and found."""
    from pyimplicit.info import collect

    found = collect()
    print(json.dumps(found.as_dict(), indent=1) if arguments.json else "\n".join(found.lines()))
    return 1 if "error" in found.build else 0


def data_list(arguments: Namespace) -> int:
    """Print the data sources."""
    print("procedural    cars made by rule, any number, nothing to download")
    print("debian-cars   real car meshes of free games; `pyimplicit data fetch debian-cars` once")
    print("folder:PATH   mesh files of your own")
    return 0


def data_fetch(arguments: Namespace) -> int:
    """Download a data set."""
    from pyimplicit.data import fetch

    with _bar(f"fetching {arguments.name}") as progress:
        where = fetch(arguments.name, root=arguments.root, progress=progress)
    print(where)
    return 0


def data_prepare(arguments: Namespace) -> int:
    """Prepare all shapes of a source."""
    from pyimplicit.data import prepare_shapes
    from pyimplicit.study import create_source

    source = create_source(arguments.source, count=arguments.count, seed=arguments.seed)
    options = {} if arguments.resolution is None else {"resolution": arguments.resolution}
    with _bar("preparing shapes") as progress:
        shapes = prepare_shapes(source, Path(arguments.out), progress=progress, **options)
    print(f"{len(shapes)} of {len(source)} shapes prepared in {arguments.out}")
    return 0 if len(shapes) == len(source) else 1


def sample(arguments: Namespace) -> int:
    """Draw query points from a mesh file."""
    from pyimplicit.cli.queries import check_suffix, save_queries
    from pyimplicit.geometry import Surface, inspect_mesh, normalize_mesh
    from pyimplicit.geometry.files import load_mesh
    from pyimplicit.geometry.watertight import make_watertight
    from pyimplicit.sampling import resolve_strategy, sample_queries

    check_suffix(arguments.out)
    strategy = resolve_strategy(arguments.strategy)
    mesh = load_mesh(arguments.mesh)
    if arguments.watertight:
        mesh, _ = make_watertight(mesh)
    if arguments.normalize:
        mesh = normalize_mesh(mesh)
    _note(inspect_mesh(mesh).summary())
    surface = Surface(mesh)
    queries = sample_queries(surface, strategy, arguments.count, seed=arguments.seed)
    save_queries(queries, arguments.out)
    inside = float((queries.signed_distance < 0).double().mean())
    print(f"{arguments.out}: {arguments.count} points by {strategy.name}, {100 * inside:.1f}% inside")
    if arguments.plot:
        from pyimplicit.study.figures import strategy_picture

        title = f"S_{strategy.symbol}: query points of {Path(arguments.mesh).name}"
        strategy_picture(surface, strategy, arguments.plot, title, count=max(arguments.count, 20_000))
        print(arguments.plot)
    return 0


def train(arguments: Namespace) -> int:
    """Train a network."""
    from pyimplicit.data import prepare_shapes
    from pyimplicit.study import create_source
    from pyimplicit.training import train as train_network

    config = _train_config(arguments)
    out = Path(arguments.out)
    source = create_source(arguments.data, count=max(1, arguments.shapes), seed=arguments.data_seed)
    if arguments.shapes < 1 or arguments.shapes > len(source):
        raise UsageError(f"argument --shapes: expected 1 to {len(source)} shapes of {arguments.data}")
    with _bar("preparing shapes") as progress:
        root = Path(arguments.data_root) if arguments.data_root else out / "data"
        shapes = prepare_shapes(source, root, indices=range(arguments.shapes), progress=progress)
    with _bar("training") as progress:
        result = train_network(config, shapes, out, progress=lambda step, steps, loss: progress(step, steps))
    print(f"{out}: {result.steps} steps in {result.seconds:.0f} s, last loss {result.losses[-1]:.4g}")
    return 0


def reconstruct(arguments: Namespace) -> int:
    """Reconstruct surfaces with a trained network."""
    from pyimplicit.cli.surfaces import reconstruct as run

    return run(arguments)


def evaluate(arguments: Namespace) -> int:
    """Compare meshes with their references."""
    from pyimplicit.cli.scores import evaluate as run

    return run(arguments)


def study_run(arguments: Namespace) -> int:
    """Run a study and print its table."""
    from pyimplicit.study import rich_tables, run_study

    result = run_study(_study_config(arguments), arguments.out, progress=not arguments.quiet, retry=arguments.retry)
    console = _console()
    for table in rich_tables(result.table):
        console.print(table)
    for record in result.broken:
        _note(f"{record.network} {record.field} {record.strategy} seed {record.seed}: {record.status}: {record.reason}")
    if result.broken:
        _note("the same command with --retry carries these runs out again")
    print(f"report: {result.report}")
    return 1 if result.broken else 0


def study_status(arguments: Namespace) -> int:
    """Print how far a study has got."""
    from pyimplicit.study import study_status as look

    status = look(arguments.folder)
    failed = sum(record.failed for record in status.records)
    state = "running" if status.running else "finished" if len(status.records) == status.total else "not running"
    print(
        f"{arguments.folder}: {len(status.records)} of {status.total} runs finished, {failed} of them failed; {state}"
    )
    return 0


def study_table(arguments: Namespace) -> int:
    """Print the table of the runs finished so far."""
    from pyimplicit.study import build_table, csv_table, markdown_table, rich_tables
    from pyimplicit.study import study_status as look

    table = build_table(look(arguments.folder).records)
    if arguments.format == "text":
        console = _console()
        for part in rich_tables(table):
            console.print(part)
    else:
        print({"markdown": markdown_table, "csv": csv_table}[arguments.format](table), end="")
    return 0


def study_report(arguments: Namespace) -> int:
    """Write tables, figures and report again."""
    from pyimplicit.study import write_report

    print(f"report: {write_report(arguments.folder)}")
    return 0


def _study_config(arguments: Namespace) -> Any:
    """Build the configuration of a study from a file and the arguments, which win."""
    from pyimplicit.study import StudyConfig
    from pyimplicit.study.settings import read_settings

    values: dict[str, Any] = read_settings(arguments.config) if arguments.config else {}
    for key in ("scale", "networks", "strategies", "seeds", "densities", "device", "processes", "threads"):
        if getattr(arguments, key) is not None:
            values[key] = getattr(arguments, key)
    if arguments.fields is not None:
        values["fields"] = _fields(arguments.fields)
    data = {"source": arguments.data, "train": arguments.train, "test": arguments.test, "root": arguments.data_root}
    for key, part in (("data", data), ("evaluation", {"resolution": arguments.resolution})):
        given = {name: value for name, value in part.items() if value is not None}
        if given:
            values[key] = {**values.get(key, {}), **given}
    if arguments.set:
        training = dict(values.get("training", {}))
        for key, value in _settings(arguments.set).items():
            network, dot, name = key.rpartition(".")
            if dot:
                training[network] = {**training.get(network, {}), name: value}
            else:
                training[name] = value
        values["training"] = training
    return StudyConfig.from_dict(values)


def _train_config(arguments: Namespace) -> Any:
    """Training settings: the preset, the file over it, the arguments over both."""
    from pyimplicit.study.settings import read_settings
    from pyimplicit.training import PAPER_DEFAULTS, TrainConfig, preset

    values = read_settings(arguments.config) if arguments.config else {}
    network = arguments.network or values.get("network")
    if network is None:
        raise UsageError(
            f"argument --network: expected one of {', '.join(PAPER_DEFAULTS)}; see pyimplicit train --help"
        )
    base = preset(network, arguments.scale).to_dict()
    keys = ("network", "variant", "field", "strategy", "steps", "seed", "device")
    given = {key: getattr(arguments, key) for key in keys if getattr(arguments, key) is not None}
    return TrainConfig.from_dict({**base, **values, **given, **_settings(arguments.set)})


def _fields(entries: Sequence[str]) -> Any:
    """["occ", "sdf"] for all networks, or ["onet=occ,sdf", "deepsdf=sdf"] for each."""
    if not any("=" in entry for entry in entries):
        return list(entries)
    pairs = [entry.partition("=") for entry in entries]
    if not all(equals for _, equals, _ in pairs):
        raise UsageError("argument --fields: expected either FIELD ... or NETWORK=FIELD,FIELD ..., not a mixture")
    return {network: names.split(",") for network, _, names in pairs}


def _settings(entries: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE pairs with values read as YAML."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    values = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        if not equals or not key:
            raise UsageError(f"argument --set: expected KEY=VALUE, got {entry!r}")
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"argument --set: {key}: not a value: {text!r}") from error
        # YAML 1.1 reads 1e-4 as text for want of a dot.
        if isinstance(values[key], str):
            with suppress(ValueError):
                values[key] = float(values[key])
    return values
