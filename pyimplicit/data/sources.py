"""What a source of meshes is, and where downloaded data lives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from pyimplicit.checks import check_count
from pyimplicit.geometry.mesh import Mesh

DATA_VARIABLE = "PYIMPLICIT_DATA"
"""Environment variable that names the data folder."""


@runtime_checkable
class Source(Protocol):
    """Meshes that can be counted, named and loaded one at a time.

    Implement these five to bring your own data. Loaded meshes are raw: any size, open or closed.
    """

    @property
    def name(self) -> str:
        """Name of the source, for folders and tables."""

    def __len__(self) -> int:
        """Return how many meshes there are."""

    def names(self) -> list[str]:
        """Return the name of each mesh; no two are alike."""

    def groups(self) -> list[str]:
        """Return the group of each mesh: what derives from one base mesh shares a group, and no split parts it."""

    def load(self, index: int) -> Mesh:
        """Return one mesh."""


class ListedShapes:
    """What sources of a fixed list of shapes have in common; a subclass adds how a shape is read.

    Args:
        name: Name of the source.
        names: Name of each shape.
        splits: "train", "val" or "test" for each shape, "" where nothing says.
        groups: Group of each shape; by default each is a group of its own.

    Example:
        >>> ListedShapes("shapes", ["a", "b"], ["train", ""]).groups()
        ['a', 'b']
    """

    def __init__(
        self, name: str, names: Sequence[str], splits: Sequence[str], groups: Sequence[str] | None = None
    ) -> None:
        self.name = name
        self._names = list(names)
        self._splits = list(splits)
        self._groups = list(names if groups is None else groups)

    def __len__(self) -> int:
        return len(self._names)

    def names(self) -> list[str]:
        """Return the name of each shape."""
        return list(self._names)

    def groups(self) -> list[str]:
        """Return the group of each shape."""
        return list(self._groups)

    def splits(self) -> list[str]:
        """Return "train", "val" or "test" for each shape, "" where nothing says."""
        return list(self._splits)


@runtime_checkable
class Fingerprinted(Protocol):
    """A source that can say what determines a mesh faster than it can load it."""

    def fingerprint(self, index: int) -> str:
        """Return a text that differs whenever the mesh of this index does."""


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of downloaded data: `root`, else the variable PYIMPLICIT_DATA, else `data` here.

    Example:
        >>> data_root("shapes").as_posix()
        'shapes'
    """
    return Path(root if root is not None else os.environ.get(DATA_VARIABLE) or "data")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def check_index(index: int, count: int) -> int:
    """Return `index` if it is a whole number in [0, count), else raise `TypeError`, `ValueError` or `IndexError`."""
    index = check_count("index", index, minimum=0)
    if index >= count:
        raise IndexError(f"index: expected 0 to {count - 1}, got {index}")
    return index
