"""Folders of predictions against folders of references."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from pyimplicit.errors import DataError
from pyimplicit.evaluation import Protocol, evaluate, evaluate_folders, folders
from pyimplicit.geometry.clouds import save_cloud
from pyimplicit.geometry.files import save_mesh
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface
from tests.evaluation.test_metrics import ball, box, torus

SMALL = Protocol(samples=300, iou_points=1_000)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """References a, b, c and cars/d; predictions of a, b and cars/d, b broken, and one too many."""
    for folder in ("truth/cars", "found/cars"):
        (tmp_path / folder).mkdir(parents=True)
    for name, mesh in (("a", ball(0.4, 2)), ("b", box(0.6, 0.6, 0.6)), ("c", torus()), ("cars/d", ball(0.3, 2))):
        save_mesh(mesh, tmp_path / "truth" / f"{name}.off")
    save_mesh(ball(0.38, 2), tmp_path / "found/a.ply")
    (tmp_path / "found/b.obj").write_text("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    save_mesh(ball(0.3, 2), tmp_path / "found/cars/d.obj")
    save_mesh(torus(), tmp_path / "found/e.ply")
    (tmp_path / "found/readme.txt").write_text("not a mesh")
    return tmp_path


def run(place: Path, **options):
    return evaluate_folders(place / "found", place / "truth", **{"preset": SMALL, "seed": 3} | options)


def test_missing_and_broken_predictions_count(place: Path) -> None:
    steps: list[tuple[int, int]] = []
    scores = run(place, out=place / "out", progress=lambda done, total: steps.append((done, total)))
    assert [row["shape"] for row in scores.rows] == ["a", "b", "c", "cars/d"]
    assert list(scores.failed) == ["b", "c"]
    assert "b.obj" in scores.failed["b"]
    assert scores.failed["c"] == "no file of this name"
    a = evaluate(ball(0.38, 2), ball(0.4, 2), preset=SMALL, seed=3)
    assert scores.rows[0] == {"shape": "a", **a.as_dict()}
    assert scores.means["iou"] == pytest.approx((a.iou + 0 + 0 + 1) / 4)
    assert (scores.means["shapes"], scores.means["valid"]) == (4, 2)
    assert [path.name for path in scores.unmatched] == ["e.ply"]
    assert steps == [(done, 4) for done in (1, 2, 3, 4)]
    with open(place / "out/scores.csv", newline="") as stream:
        assert [row["iou"] for row in csv.DictReader(stream)] == [repr(row["iou"]) for row in scores.rows]
    facts = json.loads((place / "out/scores.json").read_text())
    assert facts["means"] == scores.means
    assert facts["failed"] == scores.failed
    assert facts["definitions"]["iou"].endswith("seed 3")


def test_a_second_call_measures_what_is_new(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(place, out=place / "out")
    measured: list[str] = []
    original = folders._result
    monkeypatch.setattr(folders, "_result", lambda task: (measured.append(task.pair.name), original(task))[1])
    again = run(place, out=place / "out")
    assert measured == []
    assert again == first
    save_mesh(torus(), place / "found/c.ply")
    (place / "out/shapes/a.json").write_text("junk")
    assert list(run(place, out=place / "out").failed) == ["b"]
    assert measured == ["a", "c"]
    measured.clear()
    run(place, out=place / "out", seed=4)
    assert measured == ["a", "b", "c", "cars/d"]


def test_processes_change_nothing(place: Path) -> None:
    assert run(place, processes=2) == run(place)


def test_authors_means_and_the_floor(place: Path) -> None:
    preset = Protocol(
        **{**vars(folders.resolve_protocol("onet")), "samples": 300, "iou_points": 1_000},
    )
    scores = run(place, preset=preset, floor=True)
    normals = [row["onet:normals"] for row in scores.rows]
    assert normals[1:3] == [-1, -1]
    assert scores.authors["normals"] == pytest.approx(sum(normals) / 4)
    assert scores.authors_definitions["normals"].startswith("normal_consistency: half the sum")
    assert scores.floor["iou"] == 1
    assert 0 < scores.floor["chamfer_l1"] < 0.1
    assert scores.floor["valid"] == 4


def test_a_reference_that_is_none_is_skipped_and_said(place: Path) -> None:
    (place / "truth/b.off").write_text("")
    scores = run(place)
    assert list(scores.skipped) == ["b"]
    assert scores.means["shapes"] == 3
    for path in (place / "truth").rglob("*.off"):
        path.write_text("")
    with pytest.raises(DataError, match="no mesh in it can be measured against; a: "):
        run(place)


def test_clouds(place: Path) -> None:
    (place / "found/a.ply").unlink()
    for name, mesh in (("a", ball(0.4, 2)), ("cars/d", ball(0.3, 2))):
        save_cloud(Surface(mesh).sample_surface(500, seed=8).points, place / "found" / f"{name}.xyz")
    scores = run(place, clouds=True)
    assert list(scores.failed) == ["b", "c"]
    assert "iou" not in scores.means
    assert scores.means["shapes"] == 4
    assert scores.rows[0]["chamfer_l1"] < 0.1
    assert "300 points of the cloud" in scores.definitions["chamfer_l1"]


def test_normalize_moves_both(tmp_path: Path) -> None:
    for folder, shift in (("truth", 7.0), ("found", 7.0)):
        (tmp_path / folder).mkdir()
        mesh = box(2.0, 1.0, 1.0)
        mesh = Mesh(mesh.vertices * (0.5 if folder == "found" else 1) + torch.tensor([shift, 0, 0]), mesh.faces)
        save_mesh(mesh, tmp_path / folder / "car.ply")
    preset = Protocol(samples=300, iou_points=50_000)
    scores = evaluate_folders(tmp_path / "found", tmp_path / "truth", preset=preset, normalize=True)
    assert scores.means["iou"] == pytest.approx(1 / 8, abs=0.01)
    assert scores.rows[0]["note"] is None
    assert scores.rows[0]["iou_box"] == "the unit cube"


def test_refusals(place: Path) -> None:
    for options, error, words in (
        ({"processes": 0}, ValueError, "processes: expected at least 1"),
        ({"preset": "onnet"}, ValueError, "preset: expected one of"),
    ):
        with pytest.raises(error, match=words):
            run(place, **options)
    with pytest.raises(DataError, match="nowhere: expected a folder"):
        evaluate_folders(place / "nowhere", place / "truth")
    (place / "empty").mkdir()
    with pytest.raises(DataError, match="expected mesh files"):
        evaluate_folders(place / "found", place / "empty")
    save_mesh(torus(), place / "found/a.stl")
    with pytest.raises(DataError, match=r"one file for each shape, got a\.ply and a\.stl"):
        run(place)
