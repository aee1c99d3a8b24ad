from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pyimplicit.data import Shape
from pyimplicit.errors import CollapseError
from pyimplicit.evaluation import mean_scores
from pyimplicit.geometry import Surface
from pyimplicit.study import runs
from pyimplicit.study.clouds import measure_cloud
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.run_spec import RunSpec
from pyimplicit.study.runs import RunTask, execute_run
from pyimplicit.training import Reconstruction
from tests.study.helpers import box


def spec(network: str = "convonet", field: str = "udf") -> RunSpec:
    evaluation = {"resolution": 16, "samples": 2_000, "threshold": 0.06, "cloud_points": 500}
    training = {"steps": 2, "batch_size": 1, "pool_size": 512, "cloud_pool": 512, "cloud_size": 200}
    values = {"networks": [network], "fields": [field], "strategies": ["near_surface"], "densities": [64]}
    config = StudyConfig.from_dict({**values, "evaluation": evaluation, "training": training, "device": "cpu"})
    return config.runs()[0]


SHAPE = Shape("box", "box", box(), {})


def test_a_cloud_on_the_surface_and_one_beside_it() -> None:
    points = Surface(SHAPE.mesh).sample_surface(4_000, seed=5).points
    on = measure_cloud(spec(), SHAPE, points)
    assert on["f_score"] > 0.95
    assert on["chamfer_l2"] < 1e-3
    beside = measure_cloud(spec(), SHAPE, points + torch.tensor([0.0, 0.0, 0.1]))
    # Half of the moved box's faces lie in planes of the other one, so the F-Score falls but not to 0.
    assert beside["f_score"] < 0.8
    assert beside["chamfer_l2"] == pytest.approx((beside["accuracy_squared"] + beside["completeness_squared"]) / 2)
    nothing = measure_cloud(spec(), SHAPE, "no points arrive")
    assert nothing["f_score"] == 0.0
    # A run may end with a cloud of one shape and none of another: the mean is taken over both.
    mean = mean_scores([on, nothing])
    assert mean["f_score"] == pytest.approx(on["f_score"] / 2)
    assert mean["valid"] == 1
    assert set(nothing) == set(on)


@pytest.mark.parametrize("network", ["convonet", "deepsdf"])
def test_a_run_on_unsigned_distances_ends_in_clouds(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "study_shapes", lambda *_: ([SHAPE], [SHAPE]))
    exact = Surface(SHAPE.mesh).sample_surface(500, seed=1).points
    monkeypatch.setattr("pyimplicit.study.clouds.extract_dense_cloud", lambda field, count, **_: exact[:count])
    run = dataclasses.replace(spec(network), search={**spec(network).search, "steps": 2})
    record = execute_run(RunTask(run, str(tmp_path), str(tmp_path / "data")), lambda *_: None)
    assert record.status == "done"
    assert record.means["f_score"] > 0.5
    assert "iou" not in record.means
    assert np.load(tmp_path / "clouds" / "000-box.npy").shape == (500, 3)
    assert record.timings["train_step"] > 0
    assert record.memory["process_peak"] > 0


def test_a_dead_network_has_collapsed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "study_shapes", lambda *_: ([SHAPE], [SHAPE]))

    def dead(*_: object, **__: object) -> None:
        raise CollapseError("the final ReLU is dead")

    monkeypatch.setattr(runs, "train", dead)
    record = execute_run(RunTask(spec(), str(tmp_path), str(tmp_path / "data")), lambda *_: None)
    assert (record.status, record.reason) == ("collapsed", "the final ReLU is dead")


def test_the_whole_cube_and_hardly_any_overlap_are_collapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "study_shapes", lambda *_: ([SHAPE], [SHAPE]))
    run = spec("onet", "occ")
    reasons = []
    for number, side in enumerate((1.0, 0.1, 0.5)):
        mesh = box(side)
        monkeypatch.setattr(runs, "_reconstruct", lambda *_, mesh=mesh: [Reconstruction("box", mesh)])
        record = execute_run(RunTask(run, str(tmp_path / str(number)), str(tmp_path)), lambda *_: None)
        reasons.append((record.status, record.reason))
    assert reasons[0] == ("collapsed", "no surface in any of 1 test shapes: inside everywhere")
    assert reasons[1][0] == "collapsed"
    assert str(reasons[1][1]).endswith("is below 0.05")
    assert reasons[2] == ("done", None)
    assert record.scores[0]["nearest"] == "samples"  # as the paper and all records measure
