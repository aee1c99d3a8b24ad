"""Real meshes of free games and simulators, from the Debian packages that carry them: which ones, and as a source.

Each set is a table in `tables/`: where every mesh is in which package, its SHA-256, its group and split, and how it is
placed. `docs/data.md` says how they were chosen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from pyimplicit.data.sources import ListedShapes, check_index, data_root
from pyimplicit.errors import DataError
from pyimplicit.geometry.files import load_mesh
from pyimplicit.geometry.mesh import Mesh

DEBIAN_SETS = ("debian-cars", "debian-vehicles", "debian-aircraft", "debian-ships")
"""Names of the sets."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class DebianMesh:
    """One mesh of a set: where it is, and what it is for."""

    name: str
    group: str  # meshes that were made from one another, or show the same thing, share a group
    split: str  # "train", "val" or "test"
    package: str
    file: str  # in the package
    member: str  # in that file, if it is a zip archive, else empty
    sha256: str
    licence: str
    turn: str  # what each axis becomes, such as "-x y -z"; afterwards y is up and the front is towards -x
    scale: float  # metres for a unit
    leave_out: tuple[str, ...]  # objects of an AC3D file that do not belong to the thing
    changes: str  # what sets the placing of this mesh apart from that of its package's others

    @property
    def path(self) -> str:
        """Where the mesh is kept in the set's folder."""
        return f"meshes/{self.name}{PurePosixPath(self.member or self.file).suffix}"


@dataclass(frozen=True)
class DebianSet:
    """A set of meshes, and the sets whose meshes it has too."""

    name: str
    about: str
    includes: tuple[str, ...]
    packages: tuple[str, ...]
    meshes: tuple[DebianMesh, ...]


@cache
def read_set(name: str) -> DebianSet:
    """Return the table of a set.

    Raises:
        ValueError: An unknown name.

    Example:
        >>> read_set("debian-aircraft").meshes[0].split
        'train'
    """
    if name not in DEBIAN_SETS:
        raise ValueError(f"name: expected one of {', '.join(DEBIAN_SETS)}, got {name!r}")
    table = resources.files("pyimplicit.data").joinpath(f"tables/{name}.json").read_text(encoding="utf-8")
    return parse_set(json.loads(table))


def parse_set(table: Mapping[str, Any]) -> DebianSet:
    """Return a table as a set; what all meshes of a package have in common is written once, with the package."""
    meshes = []
    for row in table["shapes"]:
        common = table["packages"][row["package"]]
        placing = {key: row[key] for key in ("turn", "scale", "leave_out") if key in row}
        meshes.append(
            DebianMesh(
                row["name"], row["group"], row["split"], row["package"], row["file"], row.get("member", ""),
                row["sha256"], row.get("licence", common["licence"]), row.get("turn", common.get("turn", "x y z")),
                row.get("scale", 1.0), tuple(row.get("leave_out", ())), json.dumps(placing) if placing else "",
            )
        )  # fmt: skip
    packages, includes = tuple(table["packages"]), tuple(table.get("includes", ()))
    return DebianSet(table["name"], table["about"], includes, packages, tuple(meshes))


class DebianMeshes(ListedShapes):
    """The meshes of a set, as `fetch` stored them.

    They are raw: open, of many parts. TORCS and Trigger Rally draw wheels apart, so their cars have none. All are
    turned so that y is up and the front is towards -x; lengths are metres where the authors kept to them.

    Args:
        name: One of `DEBIAN_SETS`.
        root: The data folder; default as `data_root`.

    Raises:
        ValueError: An unknown name.
        DataError: The meshes were not fetched, or a manifest is damaged.
    """

    def __init__(self, name: str, root: str | os.PathLike[str] | None = None) -> None:
        whole = read_set(name)
        self._meshes: list[tuple[DebianMesh, Path, str]] = []  # each with its file and its fingerprint
        for part in (*whole.includes, name):
            folder = data_root(root) / part
            files = read_manifest(folder)
            if files is None or any(mesh.name not in files for mesh in read_set(part).meshes):
                raise DataError(f"{folder}: not all of {name} is here; run `pyimplicit data fetch {name}` first")
            for mesh in read_set(part).meshes:
                file = files[mesh.name]
                self._meshes.append((mesh, folder / file["path"], f"{part}/{file['sha256']}{mesh.changes}"))
        meshes = [mesh for mesh, _, _ in self._meshes]
        super().__init__(
            name, [mesh.name for mesh in meshes], [mesh.split for mesh in meshes], [mesh.group for mesh in meshes]
        )

    def load(self, index: int) -> Mesh:
        """Read one mesh, turned and in metres; errors as `load_mesh`."""
        mesh, path, _ = self._meshes[check_index(index, len(self))]
        return place_mesh(load_mesh(path, leave_out=mesh.leave_out), mesh.turn, mesh.scale)

    def fingerprint(self, index: int) -> str:
        """Return the SHA-256 that the manifest holds for one mesh, and how it is placed."""
        return self._meshes[check_index(index, len(self))][2]


def place_mesh(mesh: Mesh, turn: str, scale: float = 1.0) -> Mesh:
    """Turn a mesh by quarters and scale it.

    Args:
        mesh: Any mesh.
        turn: What becomes x, y and z, such as "-y z -x"; a rotation, never a mirroring.
        scale: Factor of all lengths.

    Raises:
        ValueError: `turn` is not of this form, or would mirror the mesh.

    Example:
        >>> mesh = Mesh(torch.tensor([[1.0, 2, 3], [0, 0, 0], [0, 0, 1]]), torch.tensor([[0, 1, 2]]))
        >>> place_mesh(mesh, "-y z -x").vertices[0].tolist()
        [-2.0, 3.0, -1.0]
    """
    words = turn.split()
    axes = [word.removeprefix("-") for word in words]
    if sorted(axes) != ["x", "y", "z"]:
        raise ValueError(f"turn: expected x, y and z in some order, each perhaps with a minus, got {turn!r}")
    order = ["xyz".index(axis) for axis in axes]
    signs = [-1.0 if word.startswith("-") else 1.0 for word in words]
    matrix = torch.zeros(3, 3)
    matrix[range(3), order] = torch.tensor(signs)
    if torch.linalg.det(matrix) < 0:
        raise ValueError(f"turn: {turn!r} is a mirroring")
    return Mesh(mesh.vertices[:, order] * (mesh.vertices.new_tensor(signs) * scale), mesh.faces)


def read_manifest(folder: Path) -> dict[str, dict[str, Any]] | None:
    """Return what the manifest of a fetched set says of each mesh, by its name, or None where there is no manifest.

    Raises:
        DataError: The manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        if all(isinstance(file[key], str) for file in files for key in ("name", "path", "sha256")):
            return {file["name"]: file for file in files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a readable manifest: {error}") from error
    raise DataError(f"{path}: not a readable manifest")
