"""Prepared shapes: closed and normalised, kept on disk, mended when damaged; and splits that part no group."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit.data import ProceduralCars, Shape, prepare_shapes, prepared, split_shapes
from pyimplicit.errors import DataError, MeshError
from pyimplicit.geometry.mesh import Mesh, inspect_mesh, take_faces
from tests.geometry.shapes import ball, cube


class Listed:
    """A source of meshes given in a list; an exception in the list is raised."""

    name = "listed shapes/1"

    def __init__(self, *meshes: Mesh | BaseException) -> None:
        self.meshes = meshes
        self.loads = 0

    def __len__(self) -> int:
        return len(self.meshes)

    def names(self) -> list[str]:
        return [f"shape {index}" for index in range(len(self))]

    def groups(self) -> list[str]:
        return [f"group {index // 2}" for index in range(len(self))]

    def load(self, index: int) -> Mesh:
        self.loads += 1
        mesh = self.meshes[index]
        if isinstance(mesh, BaseException):
            raise mesh
        return mesh


class Printed(Listed):
    """The same, with a fingerprint."""

    def fingerprint(self, index: int) -> str:
        return f"mesh {index}"


HOLED = take_faces(Mesh(ball().vertices * 6 + 20, ball().faces), np.arange(3, 1280))


def files(root) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_open_meshes_are_closed_and_all_are_normalised(tmp_path):
    shapes = prepare_shapes(Listed(HOLED, cube()), tmp_path, resolution=24)
    for shape in shapes:
        report = inspect_mesh(shape.mesh)
        assert report.is_solid
        extent = np.subtract(report.bounds[1], report.bounds[0])
        assert extent.max() == pytest.approx(1, abs=1e-6)
        assert np.add(*report.bounds) == pytest.approx(0, abs=1e-6)
    assert [(shape.name, shape.group) for shape in shapes] == [("shape 0", "group 0"), ("shape 1", "group 0")]
    assert [shape.report["method"] for shape in shapes] == ["winding", "none"]
    assert shapes[0].report["before"]["boundary_edges"] > 0
    assert len(files(tmp_path)) == 3
    assert all(name.startswith("listed-shapes-1/") for name in files(tmp_path))


@pytest.mark.parametrize("kind", [Listed, Printed])
def test_the_second_time_shapes_are_read(tmp_path, kind, monkeypatch):
    first = prepare_shapes(kind(HOLED, cube()), tmp_path, resolution=24)
    monkeypatch.setattr(prepared, "make_watertight", None)
    source = kind(HOLED, cube())
    second = prepare_shapes(source, tmp_path, resolution=24)
    assert source.loads == (0 if kind is Printed else 2)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.mesh.vertices, other.mesh.vertices)
        assert torch.equal(one.mesh.faces, other.mesh.faces)
        assert json.loads(json.dumps(one.report)) == json.loads(json.dumps(other.report))


def test_another_resolution_or_mesh_is_another_file(tmp_path):
    prepare_shapes(Listed(HOLED), tmp_path, resolution=24)
    prepare_shapes(Listed(HOLED), tmp_path, resolution=16)
    prepare_shapes(Listed(ball()), tmp_path, resolution=16)
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "foreign"])
def test_damaged_files_are_made_anew(tmp_path, damage, caplog):
    first = prepare_shapes(Printed(cube(), ball()), tmp_path)
    path = sorted(tmp_path.rglob("*.safetensors"))[1]
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-7] ^= 1
    whole = {"cut": content[:-5], "empty": b"", "flip": content}.get(damage)
    path.write_bytes(sorted(tmp_path.rglob("*.safetensors"))[0].read_bytes() if whole is None else whole)
    with caplog.at_level(logging.WARNING):
        second = prepare_shapes(Printed(cube(), ball()), tmp_path)
    assert "damaged and made anew" in caplog.text
    assert torch.equal(first[1].mesh.vertices, second[1].mesh.vertices)
    caplog.clear()
    prepare_shapes(Printed(cube(), ball()), tmp_path)
    assert not caplog.text


def test_bad_meshes_are_left_out_and_reported(tmp_path, caplog):
    sheet = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    source = Listed(cube(), MeshError("a bad mesh"), sheet, ball())
    calls: list[tuple[int, int]] = []
    shapes = prepare_shapes(source, tmp_path, resolution=16, progress=lambda done, total: calls.append((done, total)))
    assert [shape.name for shape in shapes] == ["shape 0", "shape 3"]
    report = json.loads((tmp_path / "listed-shapes-1" / "report.json").read_text())
    assert report["prepared"] == 2
    assert report["skipped"]["shape 1"] == "a bad mesh"
    assert "nothing is enclosed" in report["skipped"]["shape 2"]
    assert "shape 1 left out: a bad mesh" in caplog.text
    assert calls == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_when_all_fail_that_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no mesh could be prepared; the first, shape 0: broken"):
        prepare_shapes(Listed(MeshError("broken"), MeshError("too")), tmp_path)
    with pytest.raises(DataError, match="no mesh was asked for"):
        prepare_shapes(Listed(cube()), tmp_path, indices=[])


def test_errors_of_the_program_are_not_swallowed(tmp_path):
    with pytest.raises(ZeroDivisionError):
        prepare_shapes(Listed(cube(), ZeroDivisionError()), tmp_path)


def test_being_ended_midway_loses_nothing_that_was_done(tmp_path):
    source = Printed(cube(), ball(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        prepare_shapes(source, tmp_path)
    again = Printed(cube(), ball(), cube(2, 3))
    assert len(prepare_shapes(again, tmp_path)) == 3
    assert again.loads == 1


def test_arguments(tmp_path):
    shapes = prepare_shapes(ProceduralCars(50, resolution=16), tmp_path, indices=[7, 3])
    assert [shape.name[:11] for shape in shapes] == ["car-0-00007", "car-0-00003"]
    with pytest.raises(IndexError, match="expected 0 to 49, got 50"):
        prepare_shapes(ProceduralCars(50), tmp_path, indices=[50])
    with pytest.raises(ValueError, match="resolution"):
        prepare_shapes(ProceduralCars(50), tmp_path, resolution=2)
    twins = Listed(cube(), cube())
    twins.names = lambda: ["same", "same"]
    with pytest.raises(DataError, match="same name"):
        prepare_shapes(twins, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        prepare_shapes(Listed(cube()), tmp_path / "file")


def test_names_never_lead_out_of_the_folder(tmp_path):
    source = Listed(cube())
    source.name, source.names = "../..", lambda: ["../../../etc/passwd" + "x" * 300]
    prepare_shapes(source, tmp_path / "root")
    assert os.listdir(tmp_path) == ["root"]


def shapes_of(groups: list[int]) -> list[Shape]:
    return [Shape(f"shape {k}", f"group {group}", cube(), {}) for k, group in enumerate(groups)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=25), st.integers(0, 12), st.integers(0, 12), st.integers(0, 99))
def test_splits_are_exact_and_part_no_group(groups, train, test, seed):
    shapes = shapes_of(groups)
    try:
        one, other = split_shapes(shapes, train, test, seed)
    except DataError:
        assert train + test > len(shapes) or len(set(groups)) < len(groups)
        return
    assert (len(one), len(other)) == (train, test)
    assert not {shape.group for shape in one} & {shape.group for shape in other}
    again = split_shapes(shapes, train, test, seed)
    assert [[shape.name for shape in side] for side in again] == [[s.name for s in one], [s.name for s in other]]


def test_seeds_give_different_splits_and_the_test_set_does_not_depend_on_the_training_size():
    shapes = shapes_of(list(range(100)))
    chosen = [tuple(shape.name for shape in split_shapes(shapes, 10, 10, seed)[1]) for seed in range(20)]
    assert len(set(chosen)) == 20
    assert chosen[3] == tuple(shape.name for shape in split_shapes(shapes, 90, 10, 3)[1])


def test_a_fixed_test_set():
    shapes = shapes_of([0, 0, 1, 2, 3])
    train, test = split_shapes(shapes, 3, 1, test_groups=["group 2"])
    assert [shape.name for shape in test] == ["shape 3"]
    assert [shape.name for shape in train] == ["shape 0", "shape 1", "shape 2"] or len(train) == 3
    with pytest.raises(DataError, match="no shape is of group 9"):
        split_shapes(shapes, 1, 1, test_groups=["group 9"])
    with pytest.raises(DataError, match="1 are missing to test"):
        split_shapes(shapes, 1, 2, test_groups=["group 2"])


def test_too_few_shapes():
    with pytest.raises(DataError, match=r"too few shapes: 4 in 2 groups.*missing to train"):
        split_shapes(shapes_of([0, 0, 0, 1]), 2, 2, seed=0)
    with pytest.raises(ValueError, match="train"):
        split_shapes([], -1, 0)
