"""Meshes from and to files. Only the geometry is read: materials and textures are never opened."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from pyimplicit.atomic import write_atomically
from pyimplicit.errors import MeshError, MeshFileError
from pyimplicit.geometry.ac3d import parse_ac3d
from pyimplicit.geometry.mesh import MAX_COUNT, Mesh, check_mesh
from pyimplicit.geometry.mesh import merge_vertices as weld

READABLE = (".ac", ".acc", ".glb", ".gltf", ".obj", ".off", ".ply", ".stl")
"""Suffixes that `load_mesh` reads."""

WRITABLE = (".glb", ".obj", ".off", ".ply", ".stl")
"""Suffixes that `save_mesh` writes."""

MAX_FILE_BYTES = 2 * 2**30
"""Largest file that is opened."""

log = logging.getLogger(__name__)


def load_mesh(path: str | os.PathLike[str], merge_vertices: bool = True, leave_out: Collection[str] = ()) -> Mesh:
    """Read a mesh file.

    All objects of a scene become one mesh, in the scene's coordinates. Polygons become triangles. Files repeat a vertex
    along texture seams, and STL for every face; vertices at exactly the same position are merged by default, so that
    neighbouring faces share their edges. Nothing else is changed: no face is dropped, moved or turned. An AC3D file
    that announces more objects than it holds, as old editors leave them, is read with a warning in the log.

    Args:
        path: A file with a suffix in `READABLE`, at most `MAX_FILE_BYTES` long. A .gltf must hold its own data.
        merge_vertices: Merge vertices at the same float32 position, and drop those that no face uses.
        leave_out: Names of an AC3D file's objects that are not wanted; see `parse_ac3d`.

    Returns:
        The mesh.

    Raises:
        MeshFileError: No such file, an unknown suffix, too large, corrupt, a point cloud, no faces, or no object of a
            name in `leave_out`. The message starts with the path.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "triangle.obj"
        >>> _ = path.write_text("v 0 0 0\\nv 1 0 0\\nv 0 1 0\\nf 1 2 3\\n")
        >>> load_mesh(path)
        Mesh(3 vertices, 1 faces)
    """
    path = Path(path)
    try:
        content = _read(path)
        if path.suffix.lower() in (".ac", ".acc"):
            vertices, faces, missing = parse_ac3d(content.decode("utf-8", errors="replace"), leave_out)
            if missing:
                log.warning("%s: the file announces %d more objects than it holds", path, missing)
        elif leave_out:
            raise MeshFileError("leave_out: only an AC3D file has objects to leave out")
        else:
            vertices, faces = _parse_other(content, path.suffix.lower().removeprefix("."))
        mesh = Mesh(vertices, faces)
        return weld(mesh) if merge_vertices else mesh
    except (MeshError, MeshFileError) as error:
        raise MeshFileError(f"{path}: {error}") from error


def save_mesh(mesh: Mesh, path: str | os.PathLike[str]) -> None:
    """Write a mesh file, whole or not at all.

    The file is written under a temporary name beside its place and then renamed. Vertices, faces and their order are
    kept, and every float32 value comes back as it was; STL alone stores faces without shared vertices.

    Args:
        mesh: The mesh.
        path: A file with a suffix in `WRITABLE`, in a folder that exists. An existing file is replaced.

    Raises:
        MeshFileError: An unknown suffix, or a file that cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "triangle.ply"
        >>> save_mesh(Mesh(np.eye(3), np.array([[0, 1, 2]])), path)
        >>> load_mesh(path).vertices.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise MeshFileError(
            f"{path}: cannot write {suffix or 'a file without suffix'}; known are {', '.join(WRITABLE)}"
        )
    vertices, faces = check_mesh(mesh).vertices.numpy(), mesh.faces.numpy()
    if suffix == ".obj":
        content = _text_lines(vertices, "v %.9g %.9g %.9g\n") + _text_lines(faces + 1, "f %d %d %d\n")
    elif suffix == ".off":
        head = f"OFF\n{len(vertices)} {len(faces)} 0\n".encode()
        content = head + _text_lines(vertices, "%.9g %.9g %.9g\n") + _text_lines(faces, "3 %d %d %d\n")
    else:
        whole = trimesh.Trimesh(vertices, faces, process=False)
        exported = whole.export(file_type=suffix.removeprefix("."))
        content = exported if isinstance(exported, bytes) else str(exported).encode()
    try:
        write_atomically(path, content)
    except OSError as error:
        raise MeshFileError(f"{path}: cannot be written: {error.strerror or error}") from error


def _read(path: Path) -> bytes:
    """Return the bytes of a file that may be a mesh."""
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise MeshFileError(f"cannot read {suffix or 'a file without suffix'}; known are {', '.join(READABLE)}")
    try:
        if not path.is_file():
            raise MeshFileError("not a file" if path.exists() else "no such file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise MeshFileError(f"too large: {size:,} bytes, at most {MAX_FILE_BYTES:,}")
        if not size:
            raise MeshFileError("the file is empty")
        return path.read_bytes()
    except OSError as error:
        raise MeshFileError(f"cannot be read: {error.strerror or error}") from error


def _parse_other(content: bytes, kind: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read all triangles of a file in one of trimesh's formats.

    A stream is passed, not a path: with no folder to look in, trimesh cannot open a file that this one refers to.
    """
    try:
        with np.errstate(all="ignore"):
            scene = trimesh.load_scene(io.BytesIO(content), file_type=kind, process=False, skip_materials=True)
            return _concatenate(scene)
    except MeshFileError:
        raise
    except Exception as error:  # trimesh lets errors of any type through
        reason = str(error) or "no reason given"
        raise MeshFileError(f"not a readable {kind.upper()} file: {type(error).__name__}: {reason[:200]}") from error


def _concatenate(scene: trimesh.Scene) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Put all meshes of a scene into one, where the scene places them."""
    placed: list[tuple[NDArray[np.float64], Any]] = [
        (matrix, scene.geometry[name])
        for matrix, name in (scene.graph[node] for node in scene.graph.nodes_geometry)
        if isinstance(scene.geometry[name], trimesh.Trimesh)
    ]
    if not placed:
        found = sorted({type(geometry).__name__ for geometry in scene.geometry.values()})
        raise MeshFileError(f"the file has no faces, only {', '.join(found)}" if found else "the file has no faces")
    # A scene may place one mesh many times: count before anything is copied.
    total = sum(max(len(geometry.vertices), len(geometry.faces)) for _, geometry in placed)
    if total > MAX_COUNT:
        raise MeshFileError(f"too large: {total:,} vertices or faces, at most {MAX_COUNT:,}")
    vertices, faces, start = [], [], 0
    for matrix, geometry in placed:
        points = np.asarray(geometry.vertices, dtype=np.float64)
        vertices.append(points @ matrix[:3, :3].T + matrix[:3, 3])
        corners = np.asarray(geometry.faces, dtype=np.int64)
        if corners.size and not 0 <= corners.min() <= corners.max() < len(points):
            raise MeshFileError(f"a face names a vertex outside 0 to {len(points) - 1}")
        # A mirroring placement turns faces inside out; turn them back.
        faces.append((corners[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else corners) + start)
        start += len(points)
    return np.concatenate(vertices), np.concatenate(faces)


def _text_lines(rows: NDArray[Any], form: str) -> bytes:
    """Return one line of text per row."""
    return (form * len(rows) % tuple(rows.reshape(-1).tolist())).encode()
