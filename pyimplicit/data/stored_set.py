"""Reading a stored set: memory-mapped, in the order of the source, safe in the workers of a data loader."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyimplicit.checks import check_choice, check_count
from pyimplicit.data.prepared import Shape
from pyimplicit.data.samples import SampledShape, ShapeSamples, hash_tensors
from pyimplicit.data.sources import ListedShapes, hash_file
from pyimplicit.data.store import FORMAT, MANIFEST, ShardReader, read_json, read_shard_list, shard_file
from pyimplicit.errors import DataError
from pyimplicit.geometry.mesh import Mesh

OPEN_SHARDS = 64
"""Shards kept open at a time: each costs a file handle and address space, no memory of its own."""


class StoredSet(ListedShapes):
    """The shapes of a set that `prepare_set` made, or a part of them.

    Tensors are views of the memory-mapped shards until they are moved to another device. Nothing is unpickled. A copy
    in another process opens the files anew, so a set can be given to the workers of a `torch.utils.data.DataLoader`.

    Args:
        path: Folder of the set.
        split: Only shapes of this split, such as "train".
        device: Where `samples` puts what it reads.
        cache_bytes: Samples are kept on `device` up to this many bytes, first come first kept. None: all of them on
            another device than the CPU while less than half of its free memory is taken, none on the CPU, where the
            operating system keeps the files.

    Raises:
        DataError: No complete set, damaged, or of another version; no shape of this split.
        ValueError: An unknown split, or a negative `cache_bytes`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str | None = None,
        device: torch.device | str = "cpu",
        cache_bytes: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.device = torch.device(device)
        manifest = read_json(self.path / MANIFEST)
        if manifest.get("format") != FORMAT:
            raise DataError(f"{self.path}: expected a set of format {FORMAT}, got {manifest.get('format')!r}")
        try:
            self._read_manifest(manifest, split)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.path / MANIFEST}: damaged: {type(error).__name__}: {error}") from error
        if not self._names:
            raise DataError(f"{self.path}: holds no shape of split {split!r}" if split else f"{self.path}: empty")
        self.cache_bytes = _default_cache(self.device) if cache_bytes is None else check_count(
            "cache_bytes", cache_bytes, minimum=0
        )  # fmt: skip
        self._cached: dict[int, ShapeSamples] = {}
        self._cached_bytes = 0
        self._readers: OrderedDict[int, ShardReader] = OrderedDict()

    def _read_manifest(self, manifest: dict[str, Any], split: str | None) -> None:
        if split is not None:
            found = sorted({name for shard in manifest["shards"] for name in shard["splits"]} - {""})
            check_choice("split", split, found or ("train", "val", "test"))
        self.source = str(manifest["source"])
        self.content = str(manifest["content"])
        self.config = dict(manifest["config"])
        self.left_out = {str(name): str(reason) for _, name, reason in manifest["left_out"]}
        super().__init__(self.source, names=[], splits=[])
        self._indices: list[int] = []
        self._contents: list[str] = []
        self._shards: list[tuple[int, str, int]] = []  # number, SHA-256, bytes
        counts = []
        for number, shard in enumerate(manifest["shards"]):
            if shard["file"] != shard_file(number):  # a file elsewhere is never opened
                raise DataError(f"{self.path / MANIFEST}: damaged: shard {number} in {shard['file']!r}")
            columns = (shard["indices"], shard["names"], shard["groups"], shard["splits"], shard["contents"])
            rows = [row for row in zip(*columns, strict=False) if split is None or row[3] == split]
            self._shards.append((number, str(shard["sha256"]), int(shard["bytes"])))
            counts.append(len(rows))
            for index, name, group, own_split, content in rows:
                self._indices.append(int(index))
                self._names.append(str(name))
                self._groups.append(str(group))
                self._splits.append(str(own_split))
                self._contents.append(str(content))
        self._ends = list(accumulate(counts))

    def __repr__(self) -> str:
        return f"StoredSet({self.path}, {len(self)} shapes of {self.source})"

    def __getitem__(self, position: int) -> ShapeSamples:
        """Return the samples of the shape at a position, on the set's device; errors as `samples`."""
        if position < 0 or position >= len(self):
            raise IndexError(f"position: expected 0 to {len(self) - 1}, got {position}")
        found = self._cached.get(position)
        if found is None:
            found = self._load(position).to(self.device)
            size = sum(tensor.numel() * tensor.element_size() for tensor in found.tensors().values())
            if self._cached_bytes + size <= self.cache_bytes:
                self._cached[position] = found
                self._cached_bytes += size
        return found

    def __iter__(self) -> Iterator[ShapeSamples]:
        return (self[position] for position in range(len(self)))

    def tensor(self, position: int, name: str) -> Tensor:
        """Return one tensor of a shape, such as "cloud.points", without reading the others.

        Raises:
            DataError: The shard is missing or damaged, or the shape has no such tensor.
            IndexError: No such shape.
        """
        if position < 0 or position >= len(self):
            raise IndexError(f"position: expected 0 to {len(self) - 1}, got {position}")
        return self._reader(position).tensor(self._indices[position], name)

    def load(self, position: int) -> Mesh:
        """Return the mesh of a shape: the set is itself a `Source` of closed meshes.

        Raises:
            DataError: The set holds no meshes.
        """
        try:
            return Mesh(self.tensor(position, "vertices"), self.tensor(position, "faces"))
        except DataError as error:
            raise DataError(f"{self.path}: {self._names[position]} was stored without its mesh") from error

    def fingerprint(self, position: int) -> str:
        """Return the hash of what is stored of a shape."""
        return f"stored/{self._contents[position]}"

    def shape(self, position: int) -> Shape:
        """Return a shape with its mesh, as training and evaluation take them; errors as `load`."""
        return Shape(self._names[position], self._groups[position], self.load(position), {})

    def shapes(self) -> list[Shape]:
        """Return all shapes with their meshes; errors as `shape`."""
        return [self.shape(position) for position in range(len(self))]

    def sampled_shapes(self) -> list[SampledShape]:
        """Return all shapes with their samples, for training on what is stored; errors as `__getitem__`."""
        return [SampledShape(self._names[k], self._groups[k], self[k]) for k in range(len(self))]

    def report(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name and the report of `make_watertight` of each shape that was stored, shard by shard."""
        wanted = set(self._indices)
        for number, _, _ in self._shards:
            shard = read_shard_list(self.path, number)
            if shard is None:
                raise DataError(f"{self.path}: shard {number} is missing or damaged")
            yield from ((entry.name, entry.report) for entry in shard.entries if entry.index in wanted)

    def verify(self) -> None:
        """Compare every byte with the hashes of the manifest.

        Raises:
            DataError: A file that is missing or differs.
        """
        for number, digest, size in self._shards:
            path = self.path / shard_file(number)
            try:
                if path.stat().st_size != size or hash_file(path) != digest:
                    raise DataError(f"{path}: its content is not what the manifest says")
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        for position, content in enumerate(self._contents):
            if hash_tensors(self._reader(position).tensors(self._indices[position])) != content:
                raise DataError(f"{self.path}: {self._names[position]} is not what the manifest says")

    def _load(self, position: int) -> ShapeSamples:
        return ShapeSamples.from_tensors(self._reader(position).tensors(self._indices[position]))

    def _reader(self, position: int) -> ShardReader:
        number = bisect_right(self._ends, position)
        reader = self._readers.get(number)
        if reader is None:
            reader = self._readers[number] = ShardReader(self.path / shard_file(number))
            if len(self._readers) > OPEN_SHARDS:
                self._readers.popitem(last=False)
        self._readers.move_to_end(number)
        return reader

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files and cached samples behind: another process opens and caches its own."""
        return {**self.__dict__, "_readers": OrderedDict(), "_cached": {}, "_cached_bytes": 0}


def _default_cache(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return free // 2
