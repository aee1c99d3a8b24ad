"""Stand-ins of a study: records and runs without training."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pyimplicit.data import Shape
from pyimplicit.engines import Report
from pyimplicit.geometry import Mesh, Surface
from pyimplicit.geometry.files import save_mesh
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.files import reconstruction_path, write_json
from pyimplicit.study.records import Record, failure, success
from pyimplicit.study.run_spec import DataConfig, RunSpec
from pyimplicit.study.runs import RunTask

FACTS: dict[str, Any] = {"versions": {"pyimplicit": "0"}, "machine": {"cores": 1}}


def scores_of(spec: RunSpec, shape: int, **changes: float) -> dict[str, Any]:
    """Scores that look random and depend on the run and the shape alone."""
    digits = hashlib.sha256(f"{spec.hash} {shape}".encode()).digest()
    names = ("iou", "chamfer_l2", "f_score", "normal_consistency")
    values = {name: 0.5 + digit / 1024 for name, digit in zip(names, digits, strict=False)}
    return {"shape": f"shape {shape}", **values, **changes, "valid": True, "reason": None}


def done_record(spec: RunSpec, **changes: float) -> Record:
    """The record of a run that succeeded."""
    scores = [scores_of(spec, shape, **changes) for shape in range(2)]
    training = {"steps": 3, "first_loss": 0.7, "last_loss": 0.5, "parameters": 10}
    timings = {"train": time.perf_counter()}
    return success(spec, scores, training=training, timings=timings, memory={"process_peak": 1e8}, **FACTS)


def fake_run(task: RunTask, report: Report) -> Record:
    """Like a real run: takes a little while, reports, writes its record last."""
    for step in range(3):
        report(step / 3, f"step {step}")
        time.sleep(float(os.environ.get("FAKE_RUN_SECONDS", "0.02")) / 3)
    folder = Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if task.spec.strategy == "near_surface":
        record = failure(task.spec, "collapsed", "no surface in any of 2 test shapes", **FACTS)
    else:
        record = done_record(task.spec)
    write_json(folder / "record.json", dataclasses.asdict(record))
    return record


def broken_run(task: RunTask, report: Report) -> Record:
    """Raises for one strategy, is killed for another, succeeds for the rest."""
    if task.spec.strategy == "uniform":
        raise ValueError("the weights\nare on strike")
    if task.spec.strategy == "linear":
        os.kill(os.getpid(), signal.SIGKILL)
    return fake_run(task, report)


def small_config(**changes: Any) -> StudyConfig:
    """Four runs: two networks, two strategies; one of them collapses under `fake_run`."""
    values: dict[str, Any] = {
        "networks": ["onet", "deepsdf"],
        "strategies": ["balanced_surface", "near_surface"],
        "data": {"train": 2, "test": 1},
        "processes": 2,
        "device": "cpu",
    }
    return StudyConfig.from_dict({**values, **changes})


def box(side: float = 0.6) -> Mesh:
    """A cube around the origin, closed and oriented."""
    solid = trimesh.creation.box((side, side, side))
    return Mesh(np.asarray(solid.vertices), np.asarray(solid.faces))


def shifted(mesh: Mesh, x: float, y: float = 0.0, z: float = 0.0) -> Mesh:
    """A mesh moved."""
    return Mesh(mesh.vertices.numpy() + np.array([x, y, z], np.float32), mesh.faces)


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one."""
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces.numpy() + offset for mesh, offset in zip(meshes, offsets, strict=False)]
    return Mesh(np.concatenate([mesh.vertices.numpy() for mesh in meshes]), np.concatenate(faces))


# Figures that are quick to draw, or not drawn for want of shapes or reconstructions.
FEW_FIGURES = ("Figure 5", "Figure 7", "Figure 8", "Figure 10")
SHAPES = [Shape("small", "small", box(0.4), {}), Shape("tall <b>", "tall", box(0.6), {})]


def study_folder(folder: Path) -> tuple[StudyConfig, list[Record]]:
    """A finished study of `SHAPES` with reconstructions: under S_NS the second shape has a box far from it besides.

    DeepSDF has collapsed under S_NS; ConvONet on unsigned distances has clouds, that without a mask far off.
    """
    networks = {"networks": ["onet", "deepsdf"], "strategies": ["uniform", "balanced_surface", "near_surface"]}
    unsigned = {"networks": ["convonet"], "fields": ["udf"], "strategies": ["near_surface"], "masks": [None, 0.1]}
    config = small_config(parts=[networks, unsigned], data={"train": 2, "test": 2})
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "study.json", {"format": 1, "config": config.as_dict()})
    records = []
    for spec in config.runs():
        run = folder / "runs" / spec.name
        near = spec.strategy == "near_surface"
        if spec.network == "deepsdf" and near:
            record = failure(spec, "collapsed", "no surface in any of 2 test shapes", **FACTS)
        else:
            scores = [scores_of(spec, shape, accuracy_squared=0.02 * shape * near) for shape in range(2)]
            timings = {"train": 1.0}
            record = success(spec, scores, training={"steps": 3}, timings=timings, memory={}, **FACTS)
            for index, shape in enumerate(SHAPES):
                path = reconstruction_path(run, spec.field, index, shape.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if spec.field == "udf":
                    points = Surface(shape.mesh).sample_surface(3_000).points.numpy()
                    np.save(path, points if spec.mask else points + np.float32(0.3) * (np.arange(3_000) % 2)[:, None])
                else:
                    far = [shifted(box(0.1), 0.45, 0.4)] if near and index == 1 else []
                    save_mesh(joined(shape.mesh, *far), path)
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / "record.json", dataclasses.asdict(record))
        records.append(record)
    return config, records


def no_shapes(data: DataConfig, root: str, progress: Any = None) -> tuple[list[Shape], list[Shape]]:
    """Stand in for the preparation of a study's shapes."""
    if progress is not None:
        progress(1, 1)
    return [], [Shape("box", "box", box(), {})]


def main() -> None:
    """Run a small study with `fake_run` in a process that a test may kill."""
    from pyimplicit.study import matrix

    matrix.study_shapes = no_shapes
    matrix.write_outputs = lambda folder, *_: folder / "report.md"
    matrix.run_study(small_config(seeds=[0, 1]), sys.argv[1], progress=False, execute=fake_run)


if __name__ == "__main__":
    main()
