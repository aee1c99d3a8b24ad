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
    from pyimplicit.data import SOURCES

    for name, text in SOURCES.items():
        print(f"{name:17}{text}")
    return 0


def data_fetch(arguments: Namespace) -> int:
    """Download a data set."""
    from pyimplicit.data import fetch

    with _bar(f"fetching {arguments.name}") as progress:
        where = fetch(arguments.name, root=arguments.root, progress=progress, packages=arguments.packages)
    print(where)
    return 0


def data_export(arguments: Namespace) -> int:
    """Write a stored set in another project's layout."""
    from pyimplicit.data import StoredSet, export_deepsdf, export_onet

    export = {"onet": export_onet, "deepsdf": export_deepsdf}[arguments.format]
    stored = StoredSet(arguments.stored)
    with _bar("exporting shapes") as progress:
        export(stored, arguments.out, pool=arguments.pool, progress=progress)
    print(f"{arguments.out}: {len(stored)} shapes in the layout of {arguments.format}")
    return 0


def data_verify(arguments: Namespace) -> int:
    """Compare a stored set with its hashes."""
    from pyimplicit.data import StoredSet

    stored = StoredSet(arguments.stored)
    stored.verify()
    print(f"{arguments.stored}: {len(stored)} shapes, content {stored.content}")
    return 0


def data_unpack(arguments: Namespace) -> int:
    """Unpack an archive."""
    from pyimplicit.data import unpack_archive

    print(unpack_archive(arguments.archive, arguments.out))
    return 0


def prepare(arguments: Namespace) -> int:
    """Prepare all shapes of a source."""
    from pyimplicit.cli.preparing import prepare_set_from

    with _bar("preparing shapes") as progress:
        stored, total = prepare_set_from(arguments, progress)
    print(f"{len(stored)} of {total} shapes in {arguments.out}, content {stored.content}")
    for name, reason in list(stored.left_out.items())[:10]:
        _note(f"left out: {name}: {reason}")
    if len(stored.left_out) > 10:
        _note(f"{len(stored.left_out)} in all: see {Path(arguments.out) / 'report.csv'}")
    return 0 if len(stored) == total else 1


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
        from pyimplicit.study.strategy_figures import strategy_picture

        title = f"S_{strategy.symbol}: query points of {Path(arguments.mesh).name}"
        strategy_picture(surface, strategy, arguments.plot, title, count=max(arguments.count, 20_000))
        print(arguments.plot)
    return 0


def train(arguments: Namespace) -> int:
    """Train a network."""
    from pyimplicit.cli.preparing import training_shapes
    from pyimplicit.training import train as train_network

    config = _train_config(arguments)
    out = Path(arguments.out)
    with _bar("preparing shapes") as progress:
        shapes = training_shapes(arguments, progress)
    with _bar("training") as progress:
        result = train_network(
            config, shapes, out, progress=lambda step, steps, loss: progress(step, steps), log_dir=arguments.log_dir
        )
    print(f"{out}: {result.steps} steps in {result.seconds:.0f} s, last loss {result.losses[-1]:.4g}")
    return 0


def profile(arguments: Namespace) -> int:
    """Measure what dense query points cost."""
    from pyimplicit.cli.preparing import training_shapes
    from pyimplicit.study.profile import profile_training

    config = _train_config(arguments)
    out = Path(arguments.out)
    with _bar("preparing shapes") as progress:
        shapes = training_shapes(arguments, progress)
    with _bar("measuring") as progress:
        profile_training(
            config, shapes, arguments.densities, out, steps=arguments.measured, warm_up=arguments.warm_up,
            progress=progress,
        )  # fmt: skip
    print((out / "table.md").read_text(encoding="utf-8"))
    print(f"{out}: profile.json, table.md, cost.png and a trace of each density")
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
    if result.report.suffix != ".html":
        _note("there is no report.html: it needs more libraries; install pyimplicit[report]")
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
    """Print the tables of the runs finished so far."""
    from pyimplicit.study import build_table, csv_table, markdown_table, rich_tables, study_records
    from pyimplicit.study.numbered_tables import paper_tables

    records = study_records(arguments.folder)
    console = _console()
    if arguments.which in ("main", "all"):
        if arguments.format == "latex":
            raise UsageError("argument --format: expected text, markdown or csv for the main table, got latex")
        table = build_table(records)
        if arguments.format == "text":
            for part in rich_tables(table):
                console.print(part)
        else:
            print({"markdown": markdown_table, "csv": csv_table}[arguments.format](table), end="")
    if arguments.which != "main":
        wanted = None if arguments.which == "all" else f"Table {arguments.which}"
        found = [one for one in paper_tables(records) if wanted is None or one.title.startswith(f"{wanted}.")]
        for one in found:
            console.print(one.rich()) if arguments.format == "text" else print(getattr(one, arguments.format)())
        if not found:
            _note(f"{arguments.folder}: no run for {wanted or 'the tables of the paper'} is finished yet")
            return 1
    return 0


def study_claims(arguments: Namespace) -> int:
    """Print the paper's claims with their verdicts, the figures that led to them in the longer forms."""
    from pyimplicit.study import study_records
    from pyimplicit.study.claims import claims_json, claims_markdown, claims_table, judge_claims

    claims = judge_claims(study_records(arguments.folder))
    if arguments.format == "text":
        _console().print(claims_table(claims).rich())
    else:
        print({"markdown": claims_markdown, "json": claims_json}[arguments.format](claims), end="")
    return 0


def study_recommend(arguments: Namespace) -> int:
    """Print a strategy and a density with the evidence."""
    from pyimplicit.study import study_records
    from pyimplicit.study.recommendation import recommend

    records = [] if arguments.folder is None else study_records(arguments.folder)
    print("\n".join(recommend(arguments.network, arguments.field, budget=arguments.budget, records=records).lines()))
    return 0


def study_report(arguments: Namespace) -> int:
    """Write tables, figures and report again."""
    from pyimplicit.study import write_report

    print(f"report: {write_report(arguments.folder)}")
    return 0


def study_figures(arguments: Namespace) -> int:
    """Draw the paper's figures, and name those that cannot be drawn."""
    from pyimplicit.study import write_figures

    for figure in write_figures(arguments.folder):
        if figure.path is None:
            _note(f"{figure.name} is not drawn: {figure.missing}")
        else:
            print(figure.path)
    return 0


def _study_config(arguments: Namespace) -> Any:
    """Build the configuration of a study from a file and the arguments, which win."""
    from pyimplicit.study import StudyConfig
    from pyimplicit.study.settings import read_settings

    values: dict[str, Any] = read_settings(arguments.config) if arguments.config else {}
    for key in (
        "scale",
        "recipe",
        "networks",
        "strategies",
        "seeds",
        "densities",
        "masks",
        "device",
        "processes",
        "engine",
        "threads",
    ):
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
