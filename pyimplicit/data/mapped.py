"""The tensors of a safetensors file as views of its memory map."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class MappedTensors:
    """A safetensors file whose tensors are read from the disk as they are used.

    They are those of `safe_open(path, "pt").get_tensor`, which keeps two Python integers with every call for ever
    (safetensors 0.8.0): little, but a training reads millions of tensors. Writing to one changes the copy in memory.
    The file is not kept open, only mapped, so there may be any number of them.

    Args:
        path: The file.

    Raises:
        OSError: No such file, or one that cannot be read.
        SafetensorError: Its header is damaged, or does not fit its length.
        ValueError: A header that safetensors takes and this does not, or a type of number that is not read here.
    """

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="np") as file:  # this checks the header
            self.metadata: dict[str, str] = file.metadata() or {}
        try:  # not by numpy: Python's maps keep a descriptor each, and a process may have a thousand or so
            self._bytes = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8).numpy()
        except RuntimeError as error:
            raise OSError(str(error)) from error
        self._start = 8 + int.from_bytes(self._bytes[:8].tobytes(), "little")
        specs = json.loads(self._bytes[8 : self._start].tobytes())
        specs.pop("__metadata__", None)
        self._specs = {name: _Spec.of(name, values) for name, values in specs.items()}

    def names(self) -> list[str]:
        """Return the names of the tensors."""
        return list(self._specs)

    def tensor(self, name: str) -> Tensor:
        """Return one tensor.

        Raises:
            KeyError: There is none of this name.
        """
        spec = self._specs[name]
        part = self._bytes[self._start + spec.begin : self._start + spec.end]
        return torch.from_numpy(part.view(spec.dtype).reshape(spec.shape))


class _Spec(NamedTuple):
    """Where a tensor lies in the file, and what it is."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int

    @classmethod
    def of(cls, name: str, values: object) -> _Spec:
        if not isinstance(values, Mapping):
            raise ValueError(f"{name}: expected a description by name, got {type(values).__name__}")
        if values["dtype"] not in DTYPES:
            raise ValueError(f"{name}: holds numbers of type {values['dtype']}, expected one of {', '.join(DTYPES)}")
        dtype = torch.empty(0, dtype=DTYPES[values["dtype"]]).numpy().dtype
        shape, (begin, end) = tuple(values["shape"]), values["data_offsets"]
        # safetensors multiplies the sizes, so one of 0 hides those that no array can have
        if max(shape, default=0) >= 1 << 62 or math.prod(size or 1 for size in shape) >= 1 << 62:
            raise ValueError(f"{name}: expected sizes that an array can have, got {list(shape)}")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name}: expected {math.prod(shape) * dtype.itemsize} bytes, got {end - begin}")
        return cls(dtype, shape, int(begin), int(end))
