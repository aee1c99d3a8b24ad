"""The shapes of a study: which source, which of its shapes, and the split that no base mesh straddles."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pyimplicit.data import (
    SampleSource,
    Shape,
    Source,
    Split,
    open_source,
    prepare_shapes,
    split_shapes,
)
from pyimplicit.errors import ConfigError, DataError
from pyimplicit.study.run_spec import DataConfig


def create_source(name: str, count: int = 3_000, seed: int = 0) -> Source:
    """Open a source of meshes by name; arguments and errors as `pyimplicit.data.open_source`.

    Raises:
        ConfigError: An unknown name, or a source of samples, which has no meshes to reconstruct.

    Example:
        >>> len(create_source("procedural", count=7))
        7
    """
    source = open_source(name, count=count, seed=seed)
    if isinstance(source, SampleSource):
        raise ConfigError(f"source: expected one of meshes, got {name!r}, which holds samples without meshes")
    return source


def study_shapes(
    data: DataConfig, root: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None
) -> tuple[list[Shape], list[Shape]]:
    """Prepare the shapes of a study, or read them where that was done before, and split them.

    Only as many are prepared as it takes. Of a source with splits, groups are drawn from its own training and test
    shapes by the seed; of others, whole groups are drawn first and then split.

    Args:
        data: Which shapes.
        root: Folder of the prepared shapes.
        progress: Called as `progress(done, total)`.

    Returns:
        Training shapes and test shapes.

    Raises:
        DataError: The source has too few shapes, or cannot be read.
    """
    source = create_source(data.source, count=data.train + data.test, seed=data.seed)
    options = {} if data.resolution is None else {"resolution": data.resolution}
    if isinstance(source, Split):

        def prepare(indices: list[int]) -> list[Shape]:
            return prepare_shapes(source, root, indices=indices, progress=progress, **options)

        return _from_splits(source, source.splits(), data, prepare)
    wanted = data.train + data.test
    while True:
        indices = _draw(source.groups(), wanted, data.seed)
        shapes = prepare_shapes(source, root, indices=indices, progress=progress, **options)
        try:
            return split_shapes(shapes, data.train, data.test, data.seed)
        except DataError:
            if len(indices) == len(source):
                raise
        wanted *= 2  # some meshes were left out, or groups are large


class _Stub(NamedTuple):
    """A shape that is not prepared yet."""

    name: str
    group: str


def _from_splits(
    source: Source, splits: list[str], data: DataConfig, prepare: Callable[[list[int]], list[Shape]]
) -> tuple[list[Shape], list[Shape]]:
    """Draw from the source's own training and test shapes, and prepare those that are drawn."""
    names, groups = source.names(), source.groups()
    candidates = [index for index, split in enumerate(splits) if split in ("train", "test")]
    while True:
        tests = {groups[index] for index in candidates if splits[index] == "test"}
        stubs = [_Stub(names[index], groups[index]) for index in candidates]
        train, test = split_shapes(stubs, data.train, data.test, data.seed, test_groups=tests)
        chosen = {stub.name for stub in (*train, *test)}
        shapes = {shape.name: shape for shape in prepare([index for index in candidates if names[index] in chosen])}
        if chosen == shapes.keys():
            return [shapes[stub.name] for stub in train], [shapes[stub.name] for stub in test]
        # Some could not be prepared: the draw is repeated without them.
        candidates = [index for index in candidates if names[index] not in chosen - shapes.keys()]


def _draw(groups: list[str], wanted: int, seed: int) -> list[int]:
    """Return at least `wanted` indices if there are so many: those of whole groups, in the order of the source."""
    names = list(dict.fromkeys(groups))
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(names)), kind="stable")
    sizes = Counter(groups)
    drawn: set[str] = set()
    for place in order:
        if wanted <= 0:
            break
        drawn.add(names[place])
        wanted -= sizes[names[place]]
    return [index for index, group in enumerate(groups) if group in drawn]
