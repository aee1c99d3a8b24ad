"""Whole folders of predictions against folders of references: per-shape rows, means, and what failed."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyimplicit.atomic import write_atomically
from pyimplicit.checks import check_count
from pyimplicit.errors import DataError, MeshError, MeshFileError
from pyimplicit.evaluation.metrics import Reference, evaluate
from pyimplicit.evaluation.protocols import Protocol, resolve_protocol
from pyimplicit.evaluation.scores import Scores
from pyimplicit.evaluation.writers import mean_scores, write_scores_csv
from pyimplicit.geometry.clouds import CLOUD_SUFFIXES, load_cloud
from pyimplicit.geometry.files import READABLE, load_mesh
from pyimplicit.geometry.mesh import LONGEST_SIDE, Mesh

Move = Callable[[Tensor], Tensor]

#: What measuring one shape can fail with because of the shape's own files.
_BAD_SHAPE = (DataError, MeshError, MeshFileError, ValueError)


@dataclass(frozen=True)
class Pair:
    """One shape: the file of its reference, and that of its prediction where there is one."""

    name: str
    reference: Path
    predicted: Path | None


@dataclass(frozen=True)
class FolderScores:
    """Scores of many shapes.

    Attributes:
        rows: One for each measured shape: "shape", then `Scores.as_dict`. A missing or broken prediction has the worst
            scores and a "reason".
        means: As `mean_scores`.
        definitions: As `Scores.definitions`.
        floor: Means of what perfect predictions would get, as `Reference.floor`; empty where that was not asked for.
        authors: Means under the authors' names, where the protocol has any.
        authors_definitions: What these are.
        skipped: shape -> reason, where the reference itself cannot be measured against; in no mean.
        unmatched: Predictions without a reference; in no mean.
    """

    rows: list[dict[str, Any]]
    means: dict[str, float | int]
    definitions: dict[str, str]
    floor: dict[str, float | int]
    authors: dict[str, float]
    authors_definitions: dict[str, str]
    skipped: dict[str, str]
    unmatched: list[Path]

    @property
    def failed(self) -> dict[str, str]:
        """Shape -> reason, for predictions that count with the worst scores."""
        return {row["shape"]: row["reason"] for row in self.rows if not row["valid"]}


@dataclass(frozen=True)
class _Task:
    pair: Pair
    protocol: Protocol
    seed: int
    normalize: bool
    clouds: bool
    closed_only: bool
    floor: bool
    kept: Path | None

    @property
    def key(self) -> str:
        """What a kept result must have been made from to be used again."""
        protocol = {name: value for name, value in vars(self.protocol).items() if name not in ("columns", "source")}
        files = [
            None if path is None else [path.stat().st_size, path.stat().st_mtime_ns, str(path)]
            for path in (self.pair.reference, self.pair.predicted)
        ]
        options = [self.seed, self.normalize, self.clouds, self.closed_only, self.floor]
        return json.dumps([protocol, files, options], sort_keys=True)


def match_files(predicted: Path, reference: Path, *, clouds: bool = False) -> tuple[list[Pair], list[Path]]:
    """Match two folders by the files' paths below them, without suffix.

    Args:
        predicted: Folder of the predictions; files of other suffixes are left out.
        reference: Folder of the reference meshes.
        clouds: Whether predictions are point clouds.

    Returns:
        A pair for each reference, sorted by name, and the predictions that have none.

    Raises:
        DataError: No such folder, no references, or two files of one name.
    """
    references = _by_name(reference, READABLE)
    predictions = _by_name(predicted, CLOUD_SUFFIXES if clouds else READABLE)
    if not references:
        raise DataError(f"{reference}: expected mesh files ({', '.join(READABLE)}), got none")
    pairs = [Pair(name, path, predictions.get(name)) for name, path in sorted(references.items())]
    return pairs, [path for name, path in sorted(predictions.items()) if name not in references]


def evaluate_folders(
    predicted: str | Path,
    reference: str | Path,
    *,
    preset: str | Protocol | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    processes: int = 1,
    normalize: bool = False,
    clouds: bool = False,
    closed_only: bool = False,
    floor: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FolderScores:
    """Measure every prediction of a folder against the reference of the same name.

    A reference without a prediction and a prediction that cannot be read or measured count with the worst scores. With
    `out` every shape's result is kept in `out/shapes` as it comes, and a second call measures only what is new or has
    changed; at the end `out/scores.csv` has a row for each shape and `out/scores.json` the means, the definitions and
    what failed.

    Args:
        predicted: Folder of predictions.
        reference: Folder of closed reference meshes.
        preset: Name of a protocol or a `Protocol`, as for `evaluate`.
        seed: Seed of all samples.
        out: Folder to write to; made if it is missing.
        processes: How many processes measure; with more than one each uses one thread. A script needs the usual
            `if __name__ == "__main__":` then.
        normalize: Whether each reference is brought into the unit cube first, and its prediction moved along.
        clouds: Whether predictions are point clouds.
        closed_only: Whether open predictions get the IoU 0.
        floor: Whether to measure as well what perfect predictions would get.
        progress: Called with the number of shapes done and their total.

    Raises:
        TypeError, ValueError: A wrong argument.
        DataError: Folders that do not match, or no reference that can be measured against.
    """
    protocol, processes = resolve_protocol(preset), check_count("processes", processes)
    pairs, unmatched = match_files(Path(predicted), Path(reference), clouds=clouds)
    out = None if out is None else Path(out)
    tasks = [
        _Task(
            pair,
            protocol,
            check_count("seed", seed, minimum=0),
            *(normalize, clouds, closed_only, floor),
            None if out is None else out / "shapes" / f"{pair.name}.json",
        )
        for pair in pairs
    ]
    results: dict[str, dict[str, Any]] = {}
    for done, (name, result) in enumerate(_carry_out(tasks, processes), 1):
        results[name] = result
        if progress is not None:
            progress(done, len(tasks))
    found = [(pair.name, results[pair.name]) for pair in pairs]
    skipped = {name: result["skipped"] for name, result in found if "skipped" in result}
    measured = [(name, result) for name, result in found if "skipped" not in result]
    if not measured:
        first = next(iter(skipped))
        raise DataError(f"{reference}: no mesh in it can be measured against; {first}: {skipped[first]}")
    # Their names can be ours for something else: "onet:normals" cannot.
    rows = [
        {"shape": name, **result["scores"]}
        | {f"{protocol.name}:{column}": value for column, value in result["authors"].items()}
        for name, result in measured
    ]
    if out is not None:
        write_scores_csv(out / "scores.csv", rows)
    means = mean_scores([result["scores"] for _, result in measured])
    definitions = [result["definitions"] for _, result in measured if result["scores"]["valid"]]
    authors = [result["authors"] for _, result in measured]
    scores = FolderScores(
        rows=rows,
        means=means,
        definitions=(definitions or [measured[0][1]["definitions"]])[0],
        floor=mean_scores([result["floor"] for _, result in measured]) if floor else {},
        authors={
            name: sum(one[name] for one in authors) / len(authors)
            for name in authors[0]
            if all(name in one for one in authors)
        },
        authors_definitions=measured[0][1]["authors_definitions"],
        skipped=skipped,
        unmatched=unmatched,
    )
    if out is not None:
        facts = {**dataclasses.asdict(scores), "failed": scores.failed, "preset": protocol.name, "seed": seed}
        facts |= {"source": protocol.source, "unmatched": [str(path) for path in unmatched]}
        del facts["rows"]
        _write_json(out / "scores.json", facts)
    return scores


def _by_name(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file():
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise DataError(f"{folder}: expected one file for each shape, got {found[name].name} and {path.name}")
            found[name] = path
    return found


def _carry_out(tasks: Sequence[_Task], processes: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and result of each task, kept ones first."""
    left = []
    for task in tasks:
        kept = _read_kept(task)
        if kept is None:
            left.append(task)
        else:
            yield task.pair.name, kept
    if processes == 1 or len(left) < 2:
        for task in left:
            yield task.pair.name, _measure(task)
        return
    context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
    workers = min(processes, len(left))
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        running = {pool.submit(_measure, task): task.pair.name for task in left}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _measure(task: _Task) -> dict[str, Any]:
    """Measure one shape and keep the result."""
    result = _result(task)
    if task.kept is not None:
        task.kept.parent.mkdir(parents=True, exist_ok=True)
        _write_json(task.kept, {"key": task.key, **result})
    return result


def _result(task: _Task) -> dict[str, Any]:
    try:
        mesh, move = load_reference(task.pair.reference, task.normalize)
        reference = Reference.from_mesh(mesh, seed=task.seed, preset=task.protocol)
    except _BAD_SHAPE as error:
        return {"skipped": str(error)}
    scores = _scores(task, reference, move)
    return {
        "scores": scores.as_dict(),
        "definitions": scores.definitions(),
        "authors": task.protocol.authors_scores(scores),
        "authors_definitions": task.protocol.authors_definitions(scores),
        "floor": reference.floor().as_dict() if task.floor else None,
    }


def _scores(task: _Task, reference: Reference, move: Move) -> Scores:
    if task.pair.predicted is None:
        return dataclasses.replace(evaluate(None, reference), reason="no file of this name")
    try:
        predicted = load_prediction(task.pair.predicted, move, task.clouds)
        return evaluate(predicted, reference, closed_only=task.closed_only)
    except _BAD_SHAPE as error:
        return dataclasses.replace(evaluate(None, reference), reason=str(error))


def load_reference(path: Path, normalize: bool) -> tuple[Mesh, Move]:
    """Read a reference; with `normalize` brought into the unit cube, and what brings other points along."""
    mesh = load_mesh(path)
    if not normalize:
        return mesh, lambda points: points
    low, high = mesh.bounds.double()
    extent = float((high - low).max())
    if extent == 0:
        raise MeshError(f"{path}: cannot normalise a mesh without extent: all vertices lie at {low.tolist()}")

    def move(points: Tensor) -> Tensor:
        moved: Tensor = (points.double() - (low + high) / 2) * (LONGEST_SIDE / extent)
        return moved

    return Mesh(move(mesh.vertices), mesh.faces), move


def load_prediction(path: Path, move: Move, clouds: bool) -> Mesh | Tensor:
    """Read a prediction, and move it as its reference was."""
    if clouds:
        return move(load_cloud(path))
    mesh = load_mesh(path)
    return Mesh(move(mesh.vertices), mesh.faces)


def _read_kept(task: _Task) -> dict[str, Any] | None:
    if task.kept is None or not task.kept.is_file():
        return None
    try:
        result: dict[str, Any] = json.loads(task.kept.read_bytes())
        return result if result.pop("key") == task.key else None
    except (ValueError, KeyError, AttributeError):  # not ours: measured again and replaced
        return None


def _write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False).encode())
