"""Folders of mesh files as a source."""

from __future__ import annotations

import pytest
import torch

from pyimplicit.data import FolderSource, Source, data_root
from pyimplicit.data.sources import Fingerprinted
from pyimplicit.errors import DataError, MeshFileError
from pyimplicit.geometry.files import save_mesh
from tests.geometry.shapes import ball, cube


@pytest.fixture
def folder(tmp_path):
    for name in ("b.ply", "a.obj", "a.ply", "cars/one/model.obj", "cars/one/far.off", "cars/two/model.OBJ"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save_mesh(cube() if "model" in name else ball(subdivisions=1), tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a mesh")
    (tmp_path / ".hidden").mkdir()
    save_mesh(cube(), tmp_path / ".hidden" / "c.obj")
    (tmp_path / "folder.obj").mkdir()
    return tmp_path


def test_files_are_found_in_order_and_named_apart(folder):
    source = FolderSource(folder)
    assert isinstance(source, Source)
    assert isinstance(source, Fingerprinted)
    assert source.names() == ["a.obj", "a.ply", "b", "cars/one/far", "cars/one/model", "cars/two/model"]
    assert source.groups() == source.names()
    assert len(source) == 6
    assert source.name == folder.name
    model = source.load(5)
    assert torch.equal(model.vertices[model.faces.long()], cube().vertices[cube().faces.long()])


def test_folders_can_be_groups_and_left_out(folder):
    assert FolderSource(folder, group_by="folder").groups() == [".", ".", ".", "cars/one", "cars/one", "cars/two"]
    assert FolderSource(str(folder), recursive=False).names() == ["a.obj", "a.ply", "b"]


def test_the_fingerprint_follows_the_content(folder):
    source = FolderSource(folder)
    before = source.fingerprint(2)
    assert before == FolderSource(folder).fingerprint(2)
    save_mesh(cube(), folder / "b.ply")
    assert source.fingerprint(2) != before
    (folder / "b.ply").unlink()
    with pytest.raises(DataError, match=r"b\.ply: cannot be read"):
        source.fingerprint(2)
    with pytest.raises(MeshFileError, match="no such file"):
        source.load(2)


def test_folders_without_meshes_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        FolderSource(tmp_path / "nothing")
    with pytest.raises(DataError, match="no mesh file"):
        FolderSource(tmp_path)
    with pytest.raises(ValueError, match="group_by: expected one of file, folder, got 'kind'"):
        FolderSource(tmp_path, group_by="kind")
    save_mesh(cube(), tmp_path / "a.obj")
    with pytest.raises(IndexError, match="expected 0 to 0"):
        FolderSource(tmp_path).load(1)


def test_the_data_folder_is_the_argument_or_the_variable_or_here(monkeypatch):
    monkeypatch.delenv("PYIMPLICIT_DATA", raising=False)
    assert str(data_root()) == "data"
    monkeypatch.setenv("PYIMPLICIT_DATA", "/somewhere")
    assert str(data_root()) == "/somewhere"
    assert str(data_root("here")) == "here"
    monkeypatch.setenv("PYIMPLICIT_DATA", "")
    assert str(data_root()) == "data"
