"""Text and JSON files of a study, whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyimplicit.atomic import write_atomically
from pyimplicit.errors import StudyError


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 so that a reader finds the old file or the whole new one."""
    write_atomically(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys; a NaN is refused with `ValueError`."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StudyError: The file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read: {error}") from error


def reconstruction_path(folder: Path, field: str, index: int, shape: str) -> Path:
    """Return where a run keeps what it reconstructed of a test shape.

    Args:
        folder: The run's folder.
        field: The implicit function; an unsigned distance ends in a cloud, every other in a mesh.
        index: Number of the test shape.
        shape: Its name.
    """
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in shape)
    kind, suffix = ("clouds", ".npy") if field == "udf" else ("meshes", ".ply")
    return folder / kind / f"{index:03d}-{safe}{suffix}"
