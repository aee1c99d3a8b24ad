"""The shapes of a study: which source, which of its shapes, and the split that no base mesh straddles."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import numpy as np

from pyimplicit.data import (
    TEST_CARS,
    SampleSource,
    Shape,
    Source,
    open_source,
    prepare_shapes,
    split_shapes,
)
from pyimplicit.errors import ConfigError, DataError
from pyimplicit.study.config import DataConfig


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

    Of a source with more shapes than needed only as many are prepared as it takes, whole groups drawn by the seed.

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
    fixed = TEST_CARS if data.source == "debian-cars" else None
    wanted = len(source) if fixed else data.train + data.test
    while True:
        indices = _draw(source.groups(), wanted, data.seed)
        shapes = prepare_shapes(source, root, indices=indices, progress=progress, **options)
        try:
            return split_shapes(shapes, data.train, data.test, data.seed, test_groups=fixed)
        except DataError:
            if len(indices) == len(source):
                raise
        wanted *= 2  # some meshes were left out, or groups are large


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
