"""ShapeNet as its archives unpack: one folder per class (a synset's number), in it one folder per model."""

from __future__ import annotations

import os
from pathlib import Path

from pyimplicit.data.sources import ListedShapes, check_index, hash_file
from pyimplicit.data.splits import read_all_csv, read_lists
from pyimplicit.errors import DataError
from pyimplicit.geometry.files import load_mesh
from pyimplicit.geometry.mesh import Mesh

MESHES = ("models/model_normalized.obj", "model.obj")
"""Where a model's mesh is in version 2 and in version 1, below the model's folder."""


class ShapeNet(ListedShapes):
    """The meshes of ShapeNet, version 1 or 2, named class/model, with the usual splits.

    Splits come from all.csv, beside the classes or above them, or from train.lst, val.lst and test.lst in a class's
    folder, which win. Where there are lists, only their models count; a listed model whose folder is missing is
    reported when it is loaded.

    Args:
        path: The folder of the classes, or that of one class.

    Raises:
        DataError: No such folder, no model in it, or a damaged list.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(f"{self.path}: no such folder")
        classes = [self.path] if _is_class(self.path) else _folders(self.path)
        table = next(
            (read_all_csv(file) for folder in (self.path, self.path.parent) if (file := folder / "all.csv").is_file()),
            {},
        )
        found: list[tuple[Path, str, str]] = []  # folder, name, split
        for folder in classes:
            lists = read_lists(folder)
            models = sorted(lists) if lists else [model.name for model in _folders(folder) if _mesh_file(model)]
            for model in models:
                split = lists.get(model) or table.get((folder.resolve().name, model), "")
                found.append((folder / model, f"{folder.resolve().name}/{model}", split))
        if not found:
            raise DataError(f"{self.path}: no model of ShapeNet (CLASS/MODEL/{' or CLASS/MODEL/'.join(MESHES)})")
        self._model_folders = [folder for folder, _, _ in found]
        super().__init__("shapenet", [name for _, name, _ in found], [split for _, _, split in found])

    def load(self, index: int) -> Mesh:
        """Read one mesh; errors as `load_mesh`.

        Raises:
            DataError: The model's folder is missing or holds no mesh.
        """
        return load_mesh(self._file(index))

    def fingerprint(self, index: int) -> str:
        """Return the SHA-256 of one mesh file.

        Raises:
            DataError: The file cannot be read.
        """
        file = self._file(index)
        try:
            return f"obj/{hash_file(file)}"
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error

    def _file(self, index: int) -> Path:
        folder = self._model_folders[check_index(index, len(self))]
        file = _mesh_file(folder)
        if file is None:
            raise DataError(f"{folder}: listed, but holds neither {' nor '.join(MESHES)}")
        return file


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _mesh_file(model: Path) -> Path | None:
    return next((model / mesh for mesh in MESHES if (model / mesh).is_file()), None)


def _is_class(path: Path) -> bool:
    if any((path / f"{split}.lst").is_file() for split in ("train", "val", "test")):
        return True
    return any(_mesh_file(folder) is not None for folder in _folders(path)[:100])
