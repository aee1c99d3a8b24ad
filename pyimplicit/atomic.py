"""Writing files that are whole or absent."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str], flush: bool = True) -> Iterator[Path]:
    """Give a temporary name to write a file under, and rename it to `path` when the block ends without an error.

    For files that another library writes; see `write_atomically` for what is promised.

    Args:
        path: The file; its folder exists.
        flush: Wait until it is on the disk. Without, it survives the end of the process, however that comes, but a
            power cut may leave an empty or partial file: only for what is checked when it is read.

    Raises:
        OSError: The file cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a.txt") as temporary:
        ...         _ = temporary.write_bytes(b"whole")
        ...     [file.name for file in Path(folder).iterdir()]
        ['a.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        if flush:
            with open(temporary, "rb+") as stream:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if flush and os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(path: str | os.PathLike[str], content: bytes, flush: bool = True) -> None:
    """Write a file so that its name holds either what was there before or all of `content`, even after a crash.

    The content goes to another name in the same folder, is flushed to the disk, and is then renamed; the folder is
    flushed too, so the new name survives a power cut.

    Args:
        path: The file; its folder exists.
        content: What it is to hold.
        flush: As `replacing`.

    Raises:
        OSError: The file cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "a.txt", b"whole")
        ...     [file.name for file in Path(folder).iterdir()]
        ['a.txt']
    """
    with replacing(path, flush) as temporary, open(temporary, "xb") as stream:
        stream.write(content)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Delete what killed processes left of `write_atomically` in a folder that nobody else is writing to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / ".a.txt.0123.tmp").write_bytes(b"hal")
        ...     remove_leftovers(folder)
        ...     list(Path(folder).iterdir())
        []
    """
    for leftover in Path(folder).glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
