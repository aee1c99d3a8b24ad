"""One run of a study: train, reconstruct the test shapes, measure them, write the record as the last act."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyimplicit.atomic import remove_leftovers, write_atomically
from pyimplicit.data import Shape
from pyimplicit.engines import Report
from pyimplicit.errors import CollapseError, TrainingError
from pyimplicit.evaluation import Protocol, Reference, evaluate
from pyimplicit.geometry import inspect_mesh
from pyimplicit.geometry.files import save_mesh
from pyimplicit.info import machine, versions
from pyimplicit.lock import FileLock
from pyimplicit.study.clouds import dense_clouds, measure_cloud
from pyimplicit.study.costs import Clock, MemoryWatch
from pyimplicit.study.files import reconstruction_path, write_json
from pyimplicit.study.records import COLLAPSED, DIVERGED, Record, failure, read_record, success
from pyimplicit.study.run_spec import DataConfig, EvaluationConfig, RunSpec
from pyimplicit.study.shapes import study_shapes
from pyimplicit.training import CodeSearch, Reconstruction, TrainResult, reconstruct_shapes, train

RECORD_FILE = "record.json"

# Share of a run's time that training takes, for the progress bar alone.
_TRAINING_SHARE = 0.8

# Volume above which a mesh is the border of the cube: a network that answers "inside" everywhere.
_FULL_CUBE = 0.98

# Distances and normals as the paper and all authors have them, so that figures can be set beside theirs. Both meshes
# are drawn with one seed: what two strategies differ by is not the draw.
PROTOCOL = Protocol(name="study", nearest="samples", sampling="paired")

# Seconds to wait for another process that still works in the run's folder: the worker of a study that was killed
# needs a moment to notice.
_LOCK_PATIENCE = 30.0


@dataclass(frozen=True)
class RunTask:
    """What a worker needs for one run."""

    spec: RunSpec
    folder: str
    data_root: str


def execute_run(task: RunTask, report: Report) -> Record:
    """Carry out a run, or what is left of it, and write its record.

    A loss that is not finite and a network that is dead or without any surface are results: they give a record of a
    failed run. Every other error is raised.

    Args:
        task: The run and its folder.
        report: Called with the fraction done and what is being done.

    Returns:
        The record, which `record.json` in the run's folder then also holds.
    """
    folder = Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "run.lock", patience=_LOCK_PATIENCE):
        if (folder / RECORD_FILE).exists():  # finished by the worker of a killed study while this one waited
            return read_record(folder / RECORD_FILE)
        remove_leftovers(folder)
        remove_leftovers(folder / "meshes")
        remove_leftovers(folder / "clouds")
        threads = torch.get_num_threads()
        torch.set_num_threads(task.spec.training["threads"])
        try:
            record = _carry_out(task.spec, folder, task.data_root, report)
        finally:
            torch.set_num_threads(threads)
        write_json(folder / RECORD_FILE, dataclasses.asdict(record))
    return record


def run_machine(device: str) -> dict[str, Any]:
    """Return the machine as records tell it, with the name of the CUDA device if one is used."""
    used = torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
    return {**machine(), "device": used}


def _carry_out(spec: RunSpec, folder: Path, data_root: str, report: Report) -> Record:
    clock = Clock()
    shapes, references = _data(spec.data, spec.evaluation, data_root)
    facts: dict[str, Any] = {"versions": versions(), "machine": run_machine(spec.training["device"])}
    memory = MemoryWatch(spec.training["device"].startswith("cuda"))
    peaks: dict[str, float] = {}

    def progress(step: int, steps: int, loss: float) -> None:
        clock.step(step)
        report(_TRAINING_SHARE * step / steps, f"training {step}/{steps}, loss {loss:.4f}")

    try:
        with clock.phase("train"):
            trained = train(spec.train_config(), shapes, folder, progress=progress)
        clock.seconds["train"] = trained.seconds  # interrupted calls included
        peaks |= memory.train_peak()
        report(_TRAINING_SHARE, "reconstructing")
        scores, reason = _score(spec, trained, references, folder, clock, report)
    except TrainingError as error:
        status = COLLAPSED if isinstance(error, CollapseError) else DIVERGED
        return failure(spec, status, str(error), timings=clock.seconds, memory=peaks | memory.run_peak(), **facts)
    facts |= {"training": _training_facts(trained), "timings": clock.seconds, "memory": peaks | memory.run_peak()}
    if reason is not None:
        return failure(spec, COLLAPSED, reason, scores=scores, **facts)
    return success(spec, scores, **facts)


def _score(
    spec: RunSpec,
    trained: TrainResult,
    references: tuple[tuple[Shape, Reference], ...],
    folder: Path,
    clock: Clock,
    report: Report,
) -> tuple[list[dict[str, Any]], str | None]:
    """Reconstruct and measure the test shapes; returns their scores, and why the run has collapsed if it has."""

    def progress(done: float, total: float, text: str) -> None:
        report(_TRAINING_SHARE + (1 - _TRAINING_SHARE) * done / total, f"{text} {done:g}/{total:g}")

    shapes = [shape for shape, _ in references]
    if spec.field == "udf":
        with clock.phase("reconstruct"):
            clouds = dense_clouds(spec, trained, shapes, lambda done, total: progress(done, total, "dense clouds"))
        with clock.phase("evaluate"):
            scores = [measure_cloud(spec, shape, cloud) for shape, cloud in zip(shapes, clouds, strict=True)]
        for index, (shape, cloud) in enumerate(zip(shapes, clouds, strict=True)):
            if not isinstance(cloud, str):
                _save_cloud(cloud, reconstruction_path(folder, spec.field, index, shape.name))
        reasons = [cloud for cloud in clouds if isinstance(cloud, str)]
    else:
        with clock.phase("reconstruct"):
            found = _reconstruct(spec, trained, shapes)
        scores = []
        with clock.phase("evaluate"):
            for index, ((_, reference), one) in enumerate(zip(references, found, strict=True)):
                progress(len(found) + index, 2 * len(found), "measuring")
                scores.append(_measure(one, reference, spec.evaluation.threshold))
                if one.mesh is not None:
                    (folder / "meshes").mkdir(exist_ok=True)
                    save_mesh(one.mesh, reconstruction_path(folder, spec.field, index, one.name))
        reasons = [reason for one in found if (reason := _no_surface(one)) is not None]
    if len(reasons) == len(shapes):
        return scores, f"no surface in any of {len(shapes)} test shapes: {reasons[0]}"
    if spec.field != "udf":
        iou = sum(score["iou"] for score in scores) / len(scores)
        if iou < spec.evaluation.collapse_iou:
            return scores, f"mean IoU {iou:.3f} is below {spec.evaluation.collapse_iou:g}"
    return scores, None


def _no_surface(found: Reconstruction) -> str | None:
    """Return why a reconstruction is no surface, or None: a field inside everywhere gives the whole cube."""
    if found.mesh is None:
        return found.reason or "no surface"
    if inspect_mesh(found.mesh).volume > _FULL_CUBE:
        return "inside everywhere"
    return None


@lru_cache(maxsize=2)
def _data(
    data: DataConfig, evaluation: EvaluationConfig, root: str
) -> tuple[tuple[Shape, ...], tuple[tuple[Shape, Reference], ...]]:
    """Read training shapes, and test shapes with what they are measured by; a worker does so once for all its runs."""
    train_shapes, test_shapes = study_shapes(data, root)
    counts = (evaluation.samples, evaluation.iou_points, data.seed)
    references = [Reference.from_mesh(shape.mesh, *counts, preset=PROTOCOL) for shape in test_shapes]
    return tuple(train_shapes), tuple(zip(test_shapes, references, strict=True))


def _reconstruct(spec: RunSpec, trained: TrainResult, shapes: list[Shape]) -> list[Reconstruction]:
    # Inputs are keyed by the seed of the data, so all runs of a study see the same clouds.
    return reconstruct_shapes(
        trained,
        shapes,
        resolution=spec.evaluation.resolution,
        search=CodeSearch(**spec.search),
        seed=spec.data.seed,
    )


def _measure(found: Reconstruction, reference: Reference, threshold: float) -> dict[str, Any]:
    scores = evaluate(found.mesh, reference, thresholds=(threshold,))
    return {"shape": found.name, **scores.as_dict(), "reason": found.reason or scores.reason}


def _training_facts(trained: TrainResult) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in trained.network.parameters())
    last = trained.losses[-max(1, len(trained.losses) // 20) :]
    return {
        "steps": trained.steps,
        "first_loss": trained.losses[0],
        "last_loss": sum(last) / len(last),  # mean of the last twentieth: single losses are noisy
        "parameters": parameters,
    }


def _save_cloud(cloud: torch.Tensor, path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, cloud.numpy(), allow_pickle=False)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, stream.getvalue())
