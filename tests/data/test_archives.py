"""Archives from elsewhere: dangerous ones are refused whole, damaged ones with a typed error."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pyimplicit.data import archives, read_npz, unpack_archive
from pyimplicit.errors import DataError


def header(shape: str, kind: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": (1,)})
    return stream.getvalue().replace(b"(1,)", shape.encode()).ljust(128)


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "c": np.array(3.5, np.float16), "d": np.array(["x", "yz"]), "e": np.zeros((0, 3)), "f": np.array([True, False]),
    }  # fmt: skip
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert read_npz(tmp_path / "a.npz", ("c",)).keys() == {"c"}


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (header("(1000000000000,)") + b"\0" * 8, "truncated"),
        (header("(-1,)") + b"\0" * 8, "impossible shape"),
        (header("(4,)") + b"\0" * 8, "truncated"),
        (header("(1,)", "|O") + b"\0" * 8, "Python objects"),
        (header("(1,").replace(b"}", b" ") + b"\0" * 8, "no readable header"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 20, "no readable header"),
        (b"noise", "no readable header"),
        (b"", "no readable header"),
    ],
)
def test_damaged_arrays_are_refused(tmp_path: Path, member: bytes, message: str) -> None:
    path = zipped(tmp_path / "a.npz", {"a.npy": member})
    with pytest.raises(DataError, match=rf"a\.npz.*{message}"):
        read_npz(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    content = header("(500000,)") + b"\0" * 4_000_000
    path = zipped(tmp_path / "a.npz", {"a.npy": content}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="shrinks more than 100 times"):
        read_npz(path)
    with pytest.raises(DataError, match="grow more than 100 times"):
        unpack_archive(zipped(tmp_path / "b.zip", {"a": b"\0" * 20_000_000}, zipfile.ZIP_DEFLATED), tmp_path / "b")
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 20_000_000
        archive.addfile(info, io.BytesIO(b"\0" * info.size))
    with pytest.raises(DataError, match="grow more than 100 times"):
        unpack_archive(tmp_path / "c.tar.gz", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.zip", "c.tar.gz"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(1000))
    content = (tmp_path / "a.npz").read_bytes()
    for length in (0, 10, 500, len(content) - 30):
        (tmp_path / "b.npz").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"b\.npz: not a readable"):
            read_npz(tmp_path / "b.npz")
    with pytest.raises(DataError, match="no such file"):
        read_npz(tmp_path / "c.npz")


def test_a_file_above_the_limit_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(1000))
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="too large"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_unpacking(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(path, {"a/b.obj": b"v 0 0 0\n", "c.txt": b""})
    else:
        with tarfile.open(path, f"w:{kind.removeprefix('tar').removeprefix('.')}") as archive:
            for name, content in (("a/b.obj", b"v 0 0 0\n"), ("c.txt", b"")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    out = unpack_archive(path, tmp_path / "out")
    assert (out / "a/b.obj").read_text() == "v 0 0 0\n"
    assert (out / "c.txt").exists()
    with pytest.raises(DataError, match="exists already"):
        unpack_archive(path, out)


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "..\\a", "C:\\a", "C:a"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(path, {"good": b"x", name: b"y"})
    else:
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError, match="outside its folder"):
        unpack_archive(path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match="link or a device"):
        unpack_archive(tmp_path / "a.tar", tmp_path / "out")
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        unpack_archive(tmp_path / "a.zip", tmp_path / "out")


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"noise")
    with pytest.raises(DataError, match="not a readable archive"):
        unpack_archive(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(DataError, match="no such file"):
        unpack_archive(tmp_path / "b.zip", tmp_path / "out")
