"""Tensors of a mapped file against those that safetensors itself reads."""

from __future__ import annotations

import json
import pickle
import struct
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from pyimplicit.data.mapped import DTYPES, MappedTensors
from tests.helpers import rand

TYPES = (
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool,
)  # fmt: skip


def test_the_tensors_are_those_that_were_written(tmp_path: Path) -> None:
    written = {str(dtype): (rand(7, 3, seed=k) * 100).to(dtype) for k, dtype in enumerate(TYPES)}
    written |= {"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5), "odd": torch.arange(5) > 2}
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(written, path, {"key": "value"})
    mapped = MappedTensors(path)
    assert len(DTYPES) == len(TYPES)
    assert mapped.metadata == {"key": "value"}
    assert sorted(mapped.names()) == sorted(written)
    for name, expected in written.items():
        found = mapped.tensor(name)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert torch.equal(found, expected)
        assert found.untyped_storage().nbytes() == expected.untyped_storage().nbytes()  # a copy takes this one alone
        assert torch.equal(pickle.loads(pickle.dumps(found)), expected)
    content = path.read_bytes()
    mapped.tensor("torch.float32").zero_()
    assert path.read_bytes() == content
    with pytest.raises(KeyError, match="none"):
        mapped.tensor("none")


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError):
        MappedTensors(path)
    safetensors.torch.save_file({"a": torch.zeros(3, dtype=torch.bfloat16)}, path)
    with pytest.raises(ValueError, match="a: holds numbers of type BF16, expected one of F64"):
        MappedTensors(path)
    whole = safetensors.torch.save({"a": torch.zeros(3)})
    for content in (b"", whole[:-1], whole + b"0", whole[:20]):
        path.write_bytes(content)
        with pytest.raises(SafetensorError):
            MappedTensors(path)


@pytest.mark.parametrize(
    "spec",
    [
        ["F32", [2], [0, 8]],  # safetensors takes a list for a struct
        {"dtype": "F32", "shape": [0, (1 << 63) - 1, 4], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [(1 << 64) - 1, 0], "data_offsets": [0, 0]},
    ],
)
def test_headers_that_safetensors_takes(tmp_path: Path, spec: object) -> None:
    path = tmp_path / "a.safetensors"
    header = json.dumps({"a": spec}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8 if isinstance(spec, list) else 0))
    with pytest.raises(ValueError, match="a: expected"):
        MappedTensors(path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files on this system")
def test_no_file_stays_open(tmp_path: Path) -> None:
    """A shard's tensors may be held by the thousand, and a process may have a thousand open files or so."""
    held = []
    before = len(list(Path("/proc/self/fd").iterdir()))
    for k in range(20):
        path = tmp_path / f"{k}.safetensors"
        safetensors.torch.save_file({"a": torch.full((3,), float(k))}, path)
        held.append(MappedTensors(path).tensor("a"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert [float(tensor[0]) for tensor in held] == list(range(20))


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({str(k): torch.zeros(1000) for k in range(5)}, path)
    mapped = MappedTensors(path)

    def read(times: int) -> int:
        for _ in range(times):
            for name in mapped.names():
                mapped.tensor(name)
        return sys.getallocatedblocks()

    before = read(20)
    assert read(400) - before < 1000  # `safe_open` leaves two for each of two thousand tensors
