from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyimplicit.geometry import Mesh
from pyimplicit.study.files import reconstruction_path
from pyimplicit.study.reconstructions import Case, Reconstructions
from pyimplicit.study.records import Record
from tests.study.helpers import SHAPES, study_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def records(folder: Path) -> list[Record]:
    return study_folder(folder)[1]


def find(records: list[Record], network: str, strategy: str, mask: float | None = None) -> Record:
    return next(r for r in records if (r.network, r.strategy, r.mask) == (network, strategy, mask))


def test_meshes_and_clouds_are_found_by_run_and_shape(folder: Path, records: list[Record]) -> None:
    shapes = Reconstructions.of_study(folder, SHAPES)
    mesh = shapes.found(Case(find(records, "onet", "near_surface"), 1))
    assert isinstance(mesh, Mesh)
    assert len(mesh.faces) == 24  # two boxes
    cloud = shapes.found(Case(find(records, "convonet", "near_surface"), 0))
    assert isinstance(cloud, np.ndarray)
    assert cloud.shape == (3_000, 3)
    assert shapes.found(Case(find(records, "deepsdf", "near_surface"), 0)) is None
    assert shapes.found(Case(find(records, "onet", "uniform"), 2)) is None
    assert Reconstructions((), "gone", shapes.folders).found(Case(records[0], 0)) is None


def test_a_damaged_file_counts_as_missing(tmp_path: Path) -> None:
    _, records = study_folder(tmp_path)
    shapes = Reconstructions.of_study(tmp_path, SHAPES)
    for case in (Case(records[0], 0), Case(find(records, "convonet", "near_surface"), 0)):
        folder = shapes.folders[case.record.run]
        reconstruction_path(folder, case.record.field, 0, SHAPES[0].name).write_bytes(b"ply or not")
        assert shapes.found(case) is None


def test_the_share_of_area_that_is_far(folder: Path, records: list[Record]) -> None:
    shapes = Reconstructions.of_study(folder, SHAPES)
    case = Case(find(records, "onet", "near_surface"), 1)
    mesh = shapes.found(case)
    assert isinstance(mesh, Mesh)
    # Six faces of 0.6 on the true surface, six of 0.1 all farther than 0.1 from it but for some at the near corner.
    assert shapes.far_share(case, mesh) == pytest.approx(0.01 / (0.36 + 0.01), rel=0.25)
    assert shapes.far_share(Case(case.record, 1), SHAPES[1].mesh) == 0


def test_the_worst_case_and_the_failures(folder: Path, records: list[Record]) -> None:
    shapes = Reconstructions.of_study(folder, SHAPES)
    near = find(records, "onet", "near_surface")
    assert shapes.worst([near]) == Case(near, 1)
    assert shapes.worst([find(records, "deepsdf", "near_surface")]) is None
    assert shapes.failures(records, 8) == [Case(near, 1)]
    assert shapes.failures([record for record in records if record.strategy == "uniform"], 8) == []


def test_what_networks_saw(folder: Path, records: list[Record]) -> None:
    shapes = Reconstructions.of_study(folder, SHAPES)
    encoder = find(records, "onet", "uniform")
    points, distance = shapes.observed(Case(encoder, 0))
    assert points.shape == (encoder.config["training"]["cloud_size"], 3)
    assert distance is None
    assert np.abs(np.abs(points).max(axis=1) - 0.2).max() < 1e-6  # on the box
    points, distance = shapes.observed(Case(find(records, "deepsdf", "uniform"), 1))
    assert distance is not None
    assert ((distance < 0) == (np.abs(points).max(axis=1) < 0.3)).all()


def test_without_shapes_an_example_is_built_in(folder: Path) -> None:
    surface, name = Reconstructions().example()
    assert "built in" in name
    assert float(surface.mesh.vertices.abs().max()) <= 0.5 + 1e-6
    assert Reconstructions.of_study(folder, SHAPES).example()[1] == "small"
