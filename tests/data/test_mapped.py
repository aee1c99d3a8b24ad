"""Tensors of a mapped file against those that safetensors itself reads."""

from __future__ import annotations

import pickle
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
    with pytest.raises(ValueError, match="holds numbers of type BF16, expected one of F64"):
        MappedTensors(path)
    whole = safetensors.torch.save({"a": torch.zeros(3)})
    for content in (b"", whole[:-1], whole + b"0", whole[:20]):
        path.write_bytes(content)
        with pytest.raises(SafetensorError):
            MappedTensors(path)


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
