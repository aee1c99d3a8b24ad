"""Reading and writing mesh files: every format, every way to fail, and nothing opened beside the file."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit.errors import MeshFileError
from pyimplicit.geometry import files
from pyimplicit.geometry.files import READABLE, WRITABLE, load_mesh, save_mesh, write_atomically
from pyimplicit.geometry.mesh import Mesh, inspect_mesh
from tests.geometry.shapes import CORNERS, SIDES, ball, cube


@pytest.mark.parametrize("suffix", [suffix for suffix in WRITABLE if suffix != ".stl"])
def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, suffix):
    rng = np.random.default_rng(0)
    mesh = Mesh((rng.standard_normal((50, 3)) * 10.0 ** rng.integers(-8, 8, (50, 3))), rng.integers(0, 50, (80, 3)))
    path = tmp_path / f"mesh{suffix.upper()}"
    save_mesh(mesh, path)
    loaded = load_mesh(path, merge_vertices=False)
    assert torch.equal(loaded.vertices, mesh.vertices)
    assert torch.equal(loaded.faces, mesh.faces)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_closed_mesh_comes_back_closed(tmp_path, suffix):
    save_mesh(ball(), tmp_path / f"ball{suffix}")
    before, after = inspect_mesh(ball()), inspect_mesh(load_mesh(tmp_path / f"ball{suffix}"))
    assert after.is_solid
    assert (after.vertices, after.faces) == (before.vertices, before.faces)
    assert after.volume == pytest.approx(before.volume)


def test_texture_seams_are_welded(tmp_path):
    lines = [f"v {x} {y} {z}" for x, y, z in CORNERS] + [f"vt {k / 40} 0" for k in range(36)]
    lines += [
        "f " + " ".join(f"{v + 1}/{3 * k + corner + 1}" for corner, v in enumerate(face))
        for k, face in enumerate(SIDES)
    ]
    (tmp_path / "cube.obj").write_text("mtllib missing.mtl\nusemtl red\n" + "\n".join(lines) + "\n")
    assert inspect_mesh(load_mesh(tmp_path / "cube.obj")).is_solid
    assert len(load_mesh(tmp_path / "cube.obj", merge_vertices=False).vertices) > 8


def test_polygons_objects_and_groups_of_one_file_are_joined(tmp_path):
    (tmp_path / "two.obj").write_text(
        "o one\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\no two\nv 0 0 1\nv 1 0 1\nv 0 1 1\nf -3 -2 -1\n"
    )
    mesh = load_mesh(tmp_path / "two.obj")
    assert (len(mesh.vertices), len(mesh.faces)) == (7, 3)
    assert inspect_mesh(mesh).area == pytest.approx(1.5)


def test_scenes_are_placed_and_mirrored_parts_stay_outward(tmp_path):
    box = trimesh.Trimesh(CORNERS, SIDES, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(box, node_name="here")
    scene.graph.update(frame_to="there", geometry=next(iter(scene.geometry)), matrix=np.diag([-2.0, 1, 1, 1]))
    (tmp_path / "scene.glb").write_bytes(scene.export(file_type="glb"))
    report = inspect_mesh(load_mesh(tmp_path / "scene.glb", merge_vertices=False))
    assert report.bounds == ((-2, 0, 0), (1, 1, 1))
    assert report.volume == pytest.approx(3)
    assert report.components == 2


def test_ac3d_files_are_read(tmp_path):
    strip = "numsurf 1\nSURF 0x4\nmat 0\nrefs 4\n0 0 0\n1 0 0\n3 0 0\n2 0 0\nkids 0\n"
    text = 'AC3Db\nOBJECT poly\nname "caf\xe9"\nnumvert 4\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n' + strip
    (tmp_path / "square.acc").write_bytes(text.encode("latin-1"))
    assert inspect_mesh(load_mesh(str(tmp_path / "square.acc"))).area == pytest.approx(1)


def test_what_is_missing_in_an_ac3d_file_is_logged_and_what_is_not_wanted_left_out(tmp_path, caplog):
    square = "numvert 4\n0 0 0\n1 0 0\n1 1 0\n0 1 0\nnumsurf 1\nSURF 0x0\nrefs 4\n0 0 0\n1 0 0\n2 0 0\n3 0 0\nkids 0\n"
    text = (
        f'AC3Db\nOBJECT world\nkids 4\nOBJECT poly\nname "hull"\n{square}OBJECT poly\nname "wake"\nloc 5 0 0\n{square}'
    )
    path = tmp_path / "ship.ac"
    path.write_text(text)
    assert inspect_mesh(load_mesh(path)).area == pytest.approx(2)
    assert caplog.messages == [f"{path}: the file announces 2 more objects than it holds"]
    assert inspect_mesh(load_mesh(path, leave_out=["wake"])).bounds == ((0, 0, 0), (1, 1, 0))
    with pytest.raises(MeshFileError, match=r"ship\.ac: no object is named flag"):
        load_mesh(path, leave_out=["flag"])
    (tmp_path / "tile.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(MeshFileError, match=r"tile\.obj: leave_out: only an AC3D file"):
        load_mesh(tmp_path / "tile.obj", leave_out=["wake"])


def ply(vertices: list[list[float]], faces: list[list[int]]) -> bytes:
    head = (
        f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
    )
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    lines = [" ".join(map(str, row)) for row in vertices] + [f"{len(f)} " + " ".join(map(str, f)) for f in faces]
    return (head + "\n".join(lines) + "\n").encode()


SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
OUTSIDE_GLTF = {
    "asset": {"version": "2.0"},
    "buffers": [{"byteLength": 36, "uri": "secret.bin"}],
    "bufferViews": [{"buffer": 0, "byteLength": 36}],
    "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
    "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
    "nodes": [{"mesh": 0}],
    "scenes": [{"nodes": [0]}],
    "scene": 0,
}
BROKEN = {
    "empty.obj": (b"", "the file is empty"),
    "words.obj": (b"these are words\nand more\n", ""),
    "points.obj": (b"v 0 0 0\nv 1 0 0\n", ""),
    "points.ply": (ply(SQUARE, []), "no faces"),
    "range.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", ""),
    "below.ply": (ply(SQUARE, [[0, 1, -2]]), ""),
    "range.ply": (ply(SQUARE, [[0, 1, 9]]), ""),
    "range.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", ""),
    "nan.ply": (ply([[0, 0, 0], [float("nan"), 0, 0], [0, 1, 0]], [[0, 1, 2]]), "vertices: expected finite"),
    "short.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n", ""),
    "words.off": (b"no header here\n", ""),
    "short.stl": (b"\0" * 80 + struct.pack("<I", 1000) + b"\0" * 50, ""),
    "huge.stl": (b"\0" * 80 + struct.pack("<I", 2**32 - 1) + b"\0" * 50, ""),
    "words.stl": (b"solid nothing\nendsolid nothing\n", ""),
    "words.glb": (b"glTF but not really", ""),
    "short.glb": (struct.pack("<4sIIII", b"glTF", 2, 10**9, 10**9, 0x4E4F534A) + b"{}", ""),
    "version.glb": (struct.pack("<4sII", b"glTF", 1, 12), ""),
    "words.gltf": (b"{", ""),
    "outside.gltf": (json.dumps(OUTSIDE_GLTF).encode(), ""),
    "words.ply": (b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999\nproperty float x\nend_header\n", ""),
    "words.ac": (b"AC3D\nOBJECT\n", "line "),
    "empty.ac": (b"AC3Db\nOBJECT world\nkids 0\n", "empty mesh"),
    "nan.acc": (
        b"AC3Db\nOBJECT poly\nnumvert 3\nnan 0 0\n1 0 0\n0 1 0\n"
        b"numsurf 1\nSURF 0\nrefs 3\n0 0 0\n1 0 0\n2 0 0\nkids 0\n",
        "finite",
    ),
    "mesh.step": (b"ISO-10303-21;", "cannot read .step; known are .ac, "),
    "mesh.zip": (b"PK\x03\x04", "cannot read .zip"),
    "mesh": (b"v 0 0 0", "a file without suffix"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_with_path_and_reason(tmp_path, name):
    content, words = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "secret.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    with pytest.raises(MeshFileError, match=words or None) as caught:
        load_mesh(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_missing_files_folders_and_unreadable_paths(tmp_path):
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(MeshFileError, match="no such file"):
        load_mesh(tmp_path / "nothing.obj")
    with pytest.raises(MeshFileError, match="not a file"):
        load_mesh(tmp_path / "folder.obj")
    with pytest.raises(MeshFileError):
        load_mesh(tmp_path / ("x" * 5000 + ".obj"))


def test_too_large_files_are_not_opened(tmp_path, monkeypatch):
    with open(tmp_path / "large.ply", "wb") as stream:
        stream.truncate(files.MAX_FILE_BYTES + 1)  # sparse: takes no room
    with pytest.raises(MeshFileError, match="too large: 2,147,483,649 bytes"):
        load_mesh(tmp_path / "large.ply")


def test_a_scene_that_places_one_mesh_too_often_is_refused_before_it_is_copied(tmp_path, monkeypatch):
    scene = trimesh.Scene()
    for k in range(5):
        scene.add_geometry(trimesh.Trimesh(CORNERS, SIDES, process=False), node_name=str(k), geom_name="box")
    (tmp_path / "many.glb").write_bytes(scene.export(file_type="glb"))
    monkeypatch.setattr(files, "MAX_COUNT", 40)
    with pytest.raises(MeshFileError, match="too large: 60 vertices or faces"):
        load_mesh(tmp_path / "many.glb")


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([suffix for suffix in READABLE if suffix not in (".ac", ".acc", ".gltf")]), st.data())
def test_damaged_files_are_read_or_refused_never_crash(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("damaged") / f"mesh{suffix}"
    save_mesh(cube(), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        mesh = load_mesh(path)
    except MeshFileError:
        return
    assert mesh.vertices.isfinite().all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mesh.step", "cannot write .step"),
        ("mesh.ac", "cannot write .ac"),
        ("mesh", "a file without suffix"),
        ("missing/mesh.obj", "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, words):
    with pytest.raises(MeshFileError, match=words):
        save_mesh(cube(), tmp_path / name)
    assert not os.listdir(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "mesh.ply"
    save_mesh(cube(), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MeshFileError, match="No space left"):
        save_mesh(ball(), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["mesh.ply"]


def test_write_atomically_replaces(tmp_path):
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


def test_only_meshes_are_saved(tmp_path):
    with pytest.raises(TypeError, match="expected a Mesh"):
        save_mesh(CORNERS, tmp_path / "mesh.obj")
