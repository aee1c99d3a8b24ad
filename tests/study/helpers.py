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
from pyimplicit.geometry import Mesh
from pyimplicit.study.config import DataConfig, RunSpec, StudyConfig
from pyimplicit.study.files import write_json
from pyimplicit.study.records import Record, failure, success
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
