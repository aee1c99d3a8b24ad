"""The tensors of a safetensors file as views of its memory map."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


class MappedTensors:
    """A safetensors file whose tensors are read from the disk as they are used.

    They are those of `safe_open(path, "pt").get_tensor`, which keeps two Python integers with every call for ever
    (safetensors 0.8.0): little, but a training reads millions of tensors. Writing to one changes the copy in memory.

    Args:
        path: The file.

    Raises:
        OSError: No such file, or one that cannot be read.
        SafetensorError: Its header is damaged, or does not fit its length.
        ValueError: A type of number that is not read here.
    """

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="np") as file:  # this checks the header
            self.metadata: dict[str, str] = file.metadata() or {}
        self._bytes = np.asarray(np.memmap(path, dtype=np.uint8, mode="c"))
        (length,) = struct.unpack("<Q", self._bytes[:8].tobytes())
        self._start = 8 + int(length)
        self._specs = json.loads(self._bytes[8 : self._start].tobytes())
        self._specs.pop("__metadata__", None)
        unknown = {str(spec["dtype"]) for spec in self._specs.values()} - DTYPES.keys()
        if unknown:
            raise ValueError(f"holds numbers of type {sorted(unknown)[0]}, expected one of {', '.join(DTYPES)}")

    def names(self) -> list[str]:
        """Return the names of the tensors."""
        return list(self._specs)

    def tensor(self, name: str) -> Tensor:
        """Return one tensor.

        Raises:
            KeyError: There is none of this name.
        """
        spec = self._specs[name]
        begin, end = spec["data_offsets"]
        part = self._bytes[self._start + begin : self._start + end]
        return torch.from_numpy(part.view(DTYPES[spec["dtype"]]).reshape(spec["shape"]))
