"""The files of a stored set: one per shape while a shard is being gathered, then shards, then the manifest.

    settings.json            the source and how it is prepared; a folder serves one set only
    pending/INDEX.safetensors   a shape whose shard is not complete yet, or the reason why it was left out
    shards/NUMBER.safetensors   the tensors of `shard_size` neighbouring shapes, named INDEX/TENSOR
    shards/NUMBER.json       their names, hashes, reports and times; a shard counts once this file is there
    manifest.json            written last: all names, hashes, seeds, units, versions

Every file is written under another name and renamed, and a shape is deleted from `pending` only after its shard counts:
whatever moment a process is killed at, each shape is there exactly once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import Tensor

from pyimplicit.atomic import remove_leftovers, replacing, write_atomically
from pyimplicit.data.mapped import MappedTensors
from pyimplicit.data.samples import as_arrays, hash_tensors
from pyimplicit.data.sources import hash_file
from pyimplicit.errors import DataError

FORMAT = "pyimplicit-set-1"
HEADER = "pyimplicit"
SETTINGS, MANIFEST, PENDING, SHARDS = "settings.json", "manifest.json", "pending", "shards"
MAX_JSON_BYTES = 2**30
"""Largest manifest or shard list that is read."""


@dataclass(frozen=True)
class Entry:
    """One shape of a set: stored, or left out for a reason."""

    index: int  # in the source
    name: str
    group: str
    split: str = ""
    content: str = ""  # SHA-256 of its tensors; empty if it was left out
    skipped: str = ""  # why it was left out
    report: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0  # of one worker

    @property
    def stored(self) -> bool:
        """Whether the shape is in the set."""
        return not self.skipped


@dataclass(frozen=True)
class Shard:
    """One shard: its file, and its shapes in the order of the source."""

    number: int
    bytes: int
    sha256: str
    entries: list[Entry]

    @property
    def file(self) -> str:
        """Its file, below the folder of the set."""
        return shard_file(self.number)


def shard_file(number: int) -> str:
    """Return the name of a shard's file below the folder of the set."""
    return f"{SHARDS}/{number:05d}.safetensors"


def encode_entry(entry: Entry, tensors: dict[str, Tensor]) -> bytes:
    """Return the content of a file of one shape."""
    return bytes(safetensors.numpy.save(as_arrays(tensors), {HEADER: json.dumps(asdict(entry), sort_keys=True)}))


def pending_path(folder: Path, index: int) -> Path:
    """Return the file of a shape whose shard is not complete yet."""
    return folder / PENDING / f"{index:08d}.safetensors"


def read_pending(path: Path) -> tuple[Entry, dict[str, Tensor]] | None:
    """Return what a file of one shape holds, or None if there is none or it is damaged.

    Raises:
        OSError: It cannot be read now, which does not mean that it is damaged.
    """
    try:
        file = MappedTensors(path)
        entry = Entry(**json.loads(file.metadata[HEADER]))
        tensors = {name: file.tensor(name) for name in file.names()}
        if entry.skipped or entry.content == hash_tensors(tensors):
            return entry, tensors
    except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError):
        pass
    return None


def write_shard(folder: Path, number: int, indices: Sequence[int]) -> Shard | list[int]:
    """Make a shard of pending shapes; they are deleted when it is on the disk.

    Returns:
        The shard, or the indices of shapes whose files are damaged, and now gone: they must be made again.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    found = {index: read_pending(pending_path(folder, index)) for index in indices}
    if damaged := [index for index, content in found.items() if content is None]:
        for index in damaged:
            pending_path(folder, index).unlink(missing_ok=True)
        return damaged
    entries: list[Entry] = []
    tensors: dict[str, Tensor] = {}
    for index, content in found.items():
        assert content is not None  # returned above
        entries.append(content[0])
        tensors |= {f"{index}/{name}": tensor for name, tensor in content[1].items()}
    header = {"format": FORMAT, "shapes": [[entry.index, entry.name, entry.content] for entry in entries]}
    path = folder / shard_file(number)
    with replacing(path) as temporary:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        try:
            safetensors.numpy.save_file(as_arrays(tensors), temporary, {HEADER: json.dumps(header, sort_keys=True)})
        except SafetensorError as error:  # how a full disk is reported
            raise OSError(str(error)) from error
        temporary.chmod(mode)  # safetensors puts a file in its place that nobody else may read
        digest, size = hash_file(temporary), temporary.stat().st_size
    shard = Shard(number, size, digest, entries)
    write_json(path.with_suffix(".json"), asdict(shard))
    for index in indices:
        pending_path(folder, index).unlink()
    return shard


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left in the folder of a set that nobody else is writing to."""
    for part in (folder, folder / PENDING, folder / SHARDS):
        remove_leftovers(part)
    for path in (folder / SHARDS).glob(".tmp*"):  # safetensors writes under such a name of its own and renames it
        path.unlink(missing_ok=True)


def read_shard_list(folder: Path, number: int) -> Shard | None:
    """Return a shard whose file is there in full length, or None."""
    path = folder / shard_file(number)
    try:
        values = read_json(path.with_suffix(".json"))
        shard = Shard(**{**values, "entries": [Entry(**entry) for entry in values["entries"]]})
        return shard if path.stat().st_size == shard.bytes and shard.number == number else None
    except (DataError, OSError, KeyError, TypeError):
        return None


def reopen_shard(folder: Path, shard: Shard) -> None:
    """Turn a shard back into pending shapes, those that were left out excepted: they will be tried again."""
    with ShardReader(folder / shard.file) as reader:
        for entry in shard.entries:
            if entry.stored:
                tensors = reader.tensors(entry.index)
                write_atomically(pending_path(folder, entry.index), encode_entry(entry, tensors), flush=False)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / shard.file).with_suffix(".json").unlink()


class ShardReader:
    """A shard file, memory-mapped: tensors are views of it, read from disk as they are used.

    Args:
        path: The file.

    Raises:
        DataError: No such file, damaged, or no shard of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = MappedTensors(path)
            self._file: MappedTensors | None = file
            header = json.loads(file.metadata[HEADER])
            if header["format"] != FORMAT:
                raise DataError(f"{path}: expected a shard of format {FORMAT}, got {header['format']!r}")
            self._names: dict[int, list[str]] = {}
            for name in file.names():
                index, _, tensor = name.partition("/")
                self._names.setdefault(int(index), []).append(tensor)
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file") from error
        except DataError:
            raise
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not a readable shard: {' '.join(str(error).split())}") from error

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file = None

    def tensors(self, index: int) -> dict[str, Tensor]:
        """Return all tensors of one shape.

        Raises:
            DataError: The shard has no such shape, or cannot be read.
        """
        if index not in self._names:
            raise DataError(f"{self.path}: holds no shape {index}")
        return {name: self.tensor(index, name) for name in self._names[index]}

    def tensor(self, index: int, name: str) -> Tensor:
        """Return one tensor of one shape; errors as `tensors`."""
        if self._file is None or name not in self._names.get(index, ()):
            raise DataError(f"{self.path}: no {name} of shape {index}")
        return self._file.tensor(f"{index}/{name}")


def content_hash(entries: Iterator[Entry]) -> str:
    """Return the SHA-256 of what a set holds: every shape's place, name and content, and which were left out."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.index}\x1f{entry.name}\x1f{entry.content or 'left out'}\n".encode())
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; a NaN is refused."""
    write_atomically(path, (json.dumps(value, indent=None, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON object.

    Raises:
        DataError: Missing, too large, or not a JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DataError(f"{path}: too large: at most {MAX_JSON_BYTES:,} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object")
    return value


def plain(value: Any) -> Any:
    """Return a report with everything that JSON does not know, or must not hold, as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if torch.isfinite(torch.tensor(value)) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
