"""Mesh files of one's own."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from pyimplicit.checks import check_choice
from pyimplicit.data.sources import check_index, hash_file
from pyimplicit.errors import DataError
from pyimplicit.geometry.files import READABLE, load_mesh
from pyimplicit.geometry.mesh import Mesh


class FolderSource:
    """All mesh files in a folder, in the order of their paths.

    Files are found when the source is made and read when they are loaded. Hidden files and folders are left out.

    Args:
        path: The folder.
        recursive: Look in its sub-folders too.
        group_by: "file": each file is a group of its own. "folder": the files of one folder are a group, for data sets
            that keep one folder per object.

    Raises:
        DataError: No such folder, or no mesh file in it.
        ValueError: An unknown `group_by`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "tile.off").write_text("OFF\\n3 1 0\\n0 0 0\\n1 0 0\\n0 1 0\\n3 0 1 2\\n")
        >>> FolderSource(folder).names()
        ['tile']
    """

    def __init__(self, path: str | os.PathLike[str], recursive: bool = True, group_by: str = "file") -> None:
        check_choice("group_by", group_by, ("file", "folder"))
        self.path = Path(path)
        self.group_by = group_by
        if not self.path.is_dir():
            raise DataError(f"{self.path}: no such folder")
        found = self.path.rglob("*") if recursive else self.path.iterdir()
        self._files = sorted(
            (file.relative_to(self.path) for file in found if file.suffix.lower() in READABLE and file.is_file()),
            key=Path.as_posix,
        )
        self._files = [file for file in self._files if not any(part.startswith(".") for part in file.parts)]
        if not self._files:
            raise DataError(f"{self.path}: no mesh file ({', '.join(READABLE)}) in this folder")
        stems = Counter(file.with_suffix("").as_posix() for file in self._files)
        # Two files that differ in their suffix alone keep it in their names.
        self._names = [
            file.as_posix() if stems[stem] > 1 else stem
            for file, stem in ((file, file.with_suffix("").as_posix()) for file in self._files)
        ]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name or "folder"

    def __len__(self) -> int:
        return len(self._files)

    def names(self) -> list[str]:
        """Return each file's path below the folder, without its suffix where that is enough."""
        return list(self._names)

    def groups(self) -> list[str]:
        """Return each file's name, or the folder it is in, as `group_by` says."""
        return self.names() if self.group_by == "file" else [file.parent.as_posix() for file in self._files]

    def load(self, index: int) -> Mesh:
        """Read one file; errors as `load_mesh`."""
        return load_mesh(self.path / self._files[check_index(index, len(self))])

    def fingerprint(self, index: int) -> str:
        """Return the SHA-256 of one file's bytes, and its suffix.

        Raises:
            DataError: The file cannot be read.
        """
        file = self.path / self._files[check_index(index, len(self))]
        try:
            return f"{file.suffix.lower()}/{hash_file(file)}"
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
