"""The command `evaluate`: two files or two folders, a table, and below it what the numbers mean."""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from pyimplicit.cli.parser import UsageError
from pyimplicit.cli.terminal import bar, console, note
from pyimplicit.evaluation import FolderScores, Protocol, Reference, evaluate_folders, resolve_protocol
from pyimplicit.evaluation import evaluate as measure
from pyimplicit.evaluation.folders import load_prediction, load_reference

# Shapes up to which the table has a line for each; scores.csv has all of them.
_MOST_LINES = 50


def evaluate(arguments: Namespace) -> int:
    """Measure predictions against their references.

    Returns:
        0, or 1 where a prediction of a folder is missing or broken, or a reference cannot be measured against.
    """
    protocol = _protocol(arguments)
    predicted, reference = Path(arguments.predicted), Path(arguments.reference)
    if predicted.is_dir() and reference.is_dir():
        return _folders(arguments, protocol, predicted, reference)
    if predicted.is_dir() or reference.is_dir():
        raise UsageError(f"PRED, REF: expected two files or two folders, got {predicted} and {reference}")
    return _files(arguments, protocol, predicted, reference)


def _protocol(arguments: Namespace) -> Protocol:
    given: dict[str, Any] = {name: getattr(arguments, name) for name in ("samples", "iou_points", "nearest")}
    given["thresholds"] = None if arguments.thresholds is None else tuple(arguments.thresholds)
    protocol = resolve_protocol(arguments.preset)
    return dataclasses.replace(protocol, **{name: value for name, value in given.items() if value is not None})


def _files(arguments: Namespace, protocol: Protocol, predicted: Path, reference: Path) -> int:
    mesh, move = load_reference(reference, arguments.normalize)
    found = load_prediction(predicted, move, arguments.clouds)
    truth = Reference.from_mesh(mesh, seed=arguments.seed, preset=protocol)
    scores = measure(found, truth, closed_only=arguments.closed_only)
    authors = protocol.authors_scores(scores)
    floor = truth.floor().as_dict() if arguments.floor else {}
    values = scores.as_dict()
    if arguments.json:
        extra = {name: part for name, part in ((protocol.name, authors), ("floor", floor)) if part}
        print(json.dumps({**values, **extra}, indent=1))
        return 0
    definitions, theirs = scores.definitions(), protocol.authors_definitions(scores)
    for name, value in values.items():
        shown = f"{value:.6g}" if isinstance(value, float) else value
        perfect = f"   [a perfect mesh: {floor[name]:.6g}]" if name in definitions and name in floor else ""
        print(f"{name}: {shown}{perfect}" + (f"   ({definitions[name]})" if name in definitions else ""))
    for name, value in authors.items():
        print(f"{protocol.name}: {name}: {value:.6g}   ({theirs[name].partition(':')[0]})")
    return 0


def _folders(arguments: Namespace, protocol: Protocol, predicted: Path, reference: Path) -> int:
    out = Path(arguments.out) if arguments.out else predicted / "scores"
    out.mkdir(parents=True, exist_ok=True)
    with bar("measuring") as progress:
        scores = evaluate_folders(
            predicted,
            reference,
            preset=protocol,
            seed=arguments.seed,
            out=out,
            processes=arguments.processes,
            normalize=arguments.normalize,
            clouds=arguments.clouds,
            closed_only=arguments.closed_only,
            floor=arguments.floor,
            progress=progress,
        )
    if arguments.json:
        facts = dataclasses.asdict(scores) | {"unmatched": [str(path) for path in scores.unmatched]}
        print(json.dumps({**facts, "failed": scores.failed}, indent=1))
    else:
        _print(scores, protocol)
        print(f"\nevery score of every shape: {out / 'scores.csv'}; means and definitions: {out / 'scores.json'}")
    for name, reason in scores.failed.items():
        note(f"{name}: counts with the worst scores: {reason}")
    for name, reason in scores.skipped.items():
        note(f"{name}: in no mean, for its reference cannot be measured against: {reason}")
    for path in scores.unmatched:
        note(f"{path}: in no mean, for it has no reference")
    for row in scores.rows:
        if row["note"]:
            note(f"{row['shape']}: {row['note']}")
    return 1 if scores.failed or scores.skipped else 0


def _print(scores: FolderScores, protocol: Protocol) -> None:
    """Print the table of shapes and means, then every definition."""
    first = next(name for name in scores.definitions if name.startswith("f_score@"))
    names = [name for name in ("iou", "chamfer_l1", "chamfer_l2", first, "normal_consistency") if name in scores.means]
    table = Table(title=f"{scores.means['shapes']} shapes, {scores.means['valid']} of them measured, {protocol.name}")
    table.add_column("shape", overflow="fold")
    for name in names:
        table.add_column(name, justify="right")
    if len(scores.rows) <= _MOST_LINES:
        for row in scores.rows:
            table.add_row(escape(row["shape"]), *(_shown(row, name) for name in names))
        table.add_section()
    table.add_row("mean", *(_shown(scores.means, name) for name in names))
    if scores.floor:
        table.add_row("mean of perfect meshes", *(_shown(scores.floor, name) for name in names))
    console().print(table)
    print("\nMeans over all shapes, failed ones with the worst scores:")
    for name, definition in scores.definitions.items():
        print(f"{name}: {_shown(scores.means, name)}   ({definition})")
    for name, value in scores.authors.items():
        print(f"{protocol.name}: {name}: {value:.5g}   ({scores.authors_definitions[name].partition(':')[0]})")
    if protocol.source:
        print(f"{protocol.name}: {protocol.source}")


def _shown(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return f"{value:.5g}" if isinstance(value, int | float) else "/"
