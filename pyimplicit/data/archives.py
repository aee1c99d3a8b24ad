"""Archives from elsewhere: .npz files read without pickle, and zip and tar files unpacked, with limits on both.

An archive is refused whole, before anything of it is used, if it could fill the memory or the disk, or write outside
its folder.
"""

from __future__ import annotations

import math
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pyimplicit.errors import DataError

MAX_BYTES = 2 * 2**30
"""Largest .npz file, and largest array in one."""

MAX_UNPACKED_BYTES = 512 * 2**30
"""Largest content of an archive that is unpacked: ShapeNet is a quarter of it."""

MAX_RATIO = 100
"""Largest ratio of content to archive; real meshes shrink to a tenth."""

SMALL = 2**20
"""Members up to this many bytes may shrink by any ratio: they do no harm."""

MAX_MEMBERS = 5_000_000
COUNT_RATIO_FROM = 10 * 2**20  # bytes


def read_npz(path: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, NDArray[np.generic]]:
    """Read arrays of a .npz file.

    Args:
        path: The file, at most `MAX_BYTES` long.
        names: Which arrays; all by default. Others are not looked at.

    Returns:
        The arrays by name.

    Raises:
        DataError: No such file, damaged, too large, an array of Python objects, or one of `names` is missing. The
            message starts with the path.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, points=np.zeros((4, 3)))
        >>> read_npz(path)["points"].shape
        (4, 3)
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: too large: {path.stat().st_size:,} bytes, at most {MAX_BYTES:,}")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = list(members) if names is None else list(names)
            if missing := [name for name in wanted if name not in members]:
                raise DataError(f"{path}: holds no array {missing[0]!r}, only {', '.join(sorted(members)[:8])}")
            for name in wanted:
                _check_member(path, name, members[name].file_size, members[name].compress_size)
            return {name: _read_array(path, name, archive, members[name]) for name in wanted}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except DataError:
        raise
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{path}: not a readable .npz file: {' '.join(str(error).split())[:200]}") from error


def unpack_archive(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Unpack a zip or tar archive into a new folder, which appears when it is complete.

    Args:
        path: A .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file.
        out: The folder; must not exist.

    Returns:
        `out`.

    Raises:
        DataError: Not such an archive, damaged, or refused: absolute names, "..", links, devices, more than
            `MAX_UNPACKED_BYTES`, or a ratio above `MAX_RATIO`; or `out` exists or cannot be written.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        ...     archive.writestr("../a.obj", "v 0 0 0")
        >>> unpack_archive(folder / "a.zip", folder / "a")
        Traceback (most recent call last):
        pyimplicit.errors.DataError: ...a.zip: refused: '../a.obj' would be written outside its folder
    """
    path, out = Path(path), Path(out)
    if out.exists():
        raise DataError(f"{out}: exists already")
    try:
        size = path.stat().st_size
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            folder = Path(scratch) / "content"
            folder.mkdir()
            if zipfile.is_zipfile(path):
                _unzip(path, size, folder)
            else:
                _untar(path, size, folder)
            folder.rename(out)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except DataError:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: not a readable archive: {' '.join(str(error).split())[:200]}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be unpacked to {out}: {error.strerror or error}") from error
    return out


def _check_member(path: Path, name: str, size: int, packed: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"{path}: {name!r} is too large: {size:,} bytes, at most {MAX_BYTES:,}")
    if size > SMALL and size > MAX_RATIO * max(packed, 1):
        raise DataError(f"{path}: refused: {name!r} shrinks more than {MAX_RATIO} times")


def _read_array(path: Path, name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.generic]:
    """Read one array; what its header claims is compared with its length before memory is asked for."""
    with archive.open(info) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(stream)
        except Exception as error:  # a header is a piece of Python, and its readers let errors of any type through
            raise DataError(f"{path}: {name!r} has no readable header: {type(error).__name__}: {error}") from error
        if dtype.hasobject:
            raise DataError(f"{path}: {name!r} holds Python objects, which are never unpickled")
        if any(not isinstance(side, int) or side < 0 for side in shape):
            raise DataError(f"{path}: {name!r} has the impossible shape {shape}")
        expected = math.prod(shape) * dtype.itemsize
        if expected > info.file_size:
            raise DataError(f"{path}: {name!r} is truncated: {expected:,} bytes are claimed")
        content = stream.read(expected)
    if len(content) != expected:
        raise DataError(f"{path}: {name!r} is truncated: {len(content):,} of {expected:,} bytes")
    array = np.frombuffer(content, dtype) if dtype.itemsize else np.empty(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _check_names(path: Path, names: Iterable[str]) -> None:
    for count, name in enumerate(names):
        if count >= MAX_MEMBERS:
            raise DataError(f"{path}: refused: more than {MAX_MEMBERS:,} members")
        pure = PurePosixPath(name.replace("\\", "/"))
        drive = len(name) > 1 and name[1] == ":"
        if pure.is_absolute() or ".." in pure.parts or drive or "\0" in name:
            raise DataError(f"{path}: refused: {name!r} would be written outside its folder")


def _check_total(path: Path, total: int, packed: int) -> None:
    if total > MAX_UNPACKED_BYTES:
        raise DataError(f"{path}: refused: {total:,} bytes, at most {MAX_UNPACKED_BYTES:,}")
    if total > COUNT_RATIO_FROM and total > MAX_RATIO * max(packed, 1):
        raise DataError(f"{path}: refused: it would grow more than {MAX_RATIO} times")


def _unzip(path: Path, size: int, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _check_names(path, (info.filename for info in infos))
        _check_total(path, sum(info.file_size for info in infos), size)
        for info in infos:
            mode = info.external_attr >> 16
            if mode & 0o170000 == 0o120000:
                raise DataError(f"{path}: refused: {info.filename!r} is a link")
            target = folder / info.filename
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as stream:
                _copy(path, stream, target, info.file_size)


def _untar(path: Path, size: int, folder: Path) -> None:
    """Unpack in one pass: the list of a compressed tar costs as much as its content."""
    total = 0
    with tarfile.open(path) as archive:
        for count, member in enumerate(archive):
            _check_names(path, [member.name])
            total += member.size
            _check_total(path, total, size)
            if count >= MAX_MEMBERS:
                raise DataError(f"{path}: refused: more than {MAX_MEMBERS:,} members")
            target = folder / member.name
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                target.parent.mkdir(parents=True, exist_ok=True)
                stream = archive.extractfile(member)
                assert stream is not None  # it is a file
                _copy(path, stream, target, member.size)
            else:
                raise DataError(f"{path}: refused: {member.name!r} is a link or a device")


def _copy(path: Path, stream: IO[bytes], target: Path, size: int) -> None:
    """Write a member, never more than its announced size."""
    with open(target, "xb") as file:
        while block := stream.read(2**20):
            size -= len(block)
            if size < 0:
                raise DataError(f"{path}: refused: {target.name!r} is longer than announced")
            file.write(block)
