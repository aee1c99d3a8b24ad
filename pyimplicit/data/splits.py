"""Which shapes are for training, validation and testing, as the usual data sets write it down."""

from __future__ import annotations

import csv
from pathlib import Path

from pyimplicit.errors import DataError

SPLITS = ("train", "val", "test")
MAX_LIST_BYTES = 100 * 2**20
"""Largest list that is read."""


def read_lists(folder: Path) -> dict[str, str]:
    """Return the split of each name in a folder's train.lst, val.lst and test.lst, in the order of the lists.

    Raises:
        DataError: A list that cannot be read, or a name in two of them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "train.lst").write_text("a\\nb\\n"), (folder / "test.lst").write_text("c\\n")
        >>> read_lists(folder)
        {'a': 'train', 'b': 'train', 'c': 'test'}
    """
    found: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}.lst"
        if not path.is_file():
            continue
        for name in filter(None, (line.strip() for line in read_text(path).splitlines())):
            check_part(path, name)
            if found.setdefault(name, split) != split:
                raise DataError(f"{path}: {name!r} is also in {found[name]}.lst")
    return found


def read_all_csv(path: Path) -> dict[tuple[str, str], str]:
    """Return the split of each (class, model) in ShapeNet's all.csv: columns synsetId, modelId and split.

    Raises:
        DataError: The file cannot be read, or a column is missing.
    """
    rows = csv.DictReader(read_text(path).splitlines())
    try:
        return {(row["synsetId"].zfill(8), row["modelId"]): row["split"] for row in rows}
    except (KeyError, csv.Error, AttributeError) as error:
        raise DataError(f"{path}: expected the columns synsetId, modelId and split ({error})") from error


def read_text(path: Path) -> str:
    """Return a small text file's content.

    Raises:
        DataError: It is missing, too large or no text.
    """
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise DataError(f"{path}: too large: at most {MAX_LIST_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def check_part(path: Path, name: str) -> str:
    """Return a name that is one part of a path, or raise `DataError`: a list must not lead out of its folder."""
    if name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        raise DataError(f"{path}: {name!r} is not the name of a shape")
    return name


def safe_part(name: str) -> str:
    """Return a name fit to be one part of a path: letters, digits, dot, dash and underscore, others become dashes.

    Example:
        >>> safe_part("../a b")
        '-a-b'
    """
    kept = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name).lstrip(".")
    return kept[:100] or "shape"
