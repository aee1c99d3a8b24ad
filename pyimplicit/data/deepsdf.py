"""DeepSDF's preprocessed shapes: read, and written for its authors' code.

    SdfSamples/DATASET/CLASS/INSTANCE.npz                pos [n, 4], neg [m, 4] float32: x, y, z, signed distance
    NormalizationParameters/DATASET/CLASS/INSTANCE.npz   offset [3], scale: a point is (original + offset) * scale
    SPLIT.json                                           {DATASET: {CLASS: [INSTANCE, ...]}}

Their frame is the unit sphere around the shape, whose farthest vertex is at 1 / 1.03.

Source: Park et al., DeepSDF, the authors' PreprocessMesh.cpp and deep_sdf/data.py.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyimplicit.checks import check_choice
from pyimplicit.data.archives import read_npz
from pyimplicit.data.onet import choose_points, fitting, write_npz
from pyimplicit.data.samples import LabelledPoints, ShapeSamples
from pyimplicit.data.sources import ListedShapes, check_index
from pyimplicit.data.splits import SPLITS, check_part, read_text, safe_part
from pyimplicit.data.store import write_json
from pyimplicit.data.stored_set import StoredSet
from pyimplicit.errors import DataError

SAMPLES, NORMALIZATION = "SdfSamples", "NormalizationParameters"
POOL = "sdf"
"""Name of the pool that a file of samples becomes."""

SPHERE_SCALE = 0.5
"""Mesh units for a unit of their sphere: it then just fits into the cube [-0.5, 0.5]^3."""

SPHERE_MARGIN = 1.03
"""The sphere's radius in radii of the shape."""

FRAMES = ("sphere", "original")

log = logging.getLogger(__name__)


class DeepSdfSamples(ListedShapes):
    """The samples in a data folder of DeepSDF, named dataset/class/instance.

    Args:
        path: The data folder, which holds SdfSamples and perhaps split files.
        split: Split files by the name of their split, such as {"train": "sv2_planes_train.json"}. By default the
            folder's own *.json whose names end in train, val or test; without any, all files of samples.
        frame: "sphere": their unit sphere, halved to fit into the cube; the shape's longest side is then less than 1,
            by how much is not known. "original": the mesh's own frame by NormalizationParameters, for sets of this
            project's making, whose meshes were normalised already.

    Raises:
        DataError: No such folder, no samples, or a damaged split.
        ValueError: An unknown frame or split.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: dict[str, str | os.PathLike[str]] | None = None,
        frame: str = "sphere",
    ) -> None:
        self.path = Path(path)
        self.frame = check_choice("frame", frame, FRAMES)
        if not (self.path / SAMPLES).is_dir():
            raise DataError(f"{self.path}: no folder {SAMPLES} here")
        files = _find_splits(self.path) if split is None else {key: Path(file) for key, file in split.items()}
        instances: dict[tuple[str, ...], str] = {}
        for name, file in files.items():
            check_choice("split", name, SPLITS)
            for instance in _read_split(file):
                if instances.setdefault(instance, name) != name:
                    raise DataError(f"{file}: {'/'.join(instance)} is also in the split {instances[instance]}")
        if not files:
            found = sorted((self.path / SAMPLES).glob("*/*/*.npz"))
            instances = {(*file.relative_to(self.path / SAMPLES).parts[:2], file.stem): "" for file in found}
        if not instances:
            raise DataError(f"{self.path / SAMPLES}: no samples (DATASET/CLASS/INSTANCE.npz)")
        self._instances = list(instances)
        super().__init__("deepsdf", ["/".join(instance) for instance in instances], list(instances.values()))

    def load_samples(self, index: int) -> ShapeSamples:
        """Read one shape as the pool "sdf": first the points outside, then those inside, in mesh units.

        Samples that are not finite, which their preparation leaves now and then, are left out as in their loader, and
        counted in the log.

        Raises:
            DataError: A file that is missing, damaged or of another layout.
        """
        instance = self._instances[check_index(index, len(self))]
        path = self.path / SAMPLES / Path(*instance).with_name(f"{instance[-1]}.npz")
        arrays = read_npz(path, ("pos", "neg"))
        rows = np.concatenate([_rows(path, name, arrays[name]) for name in ("pos", "neg")])
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            log.warning("%s: %d samples are not finite and are left out", path, int((~finite).sum()))
            rows = rows[finite]
        if self.frame == "sphere":
            rows = rows * SPHERE_SCALE
        else:
            offset, scale = self._normalization(instance)
            rows = np.concatenate([rows[:, :3] / scale - offset, rows[:, 3:] / scale], axis=1)
        found = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
        pool = fitting(path, lambda: LabelledPoints(found[:, :3].contiguous(), found[:, 3].contiguous()))
        return ShapeSamples(pools={POOL: pool})

    def _normalization(self, instance: tuple[str, ...]) -> tuple[NDArray[np.float64], float]:
        path = self.path / NORMALIZATION / Path(*instance).with_name(f"{instance[-1]}.npz")
        arrays = read_npz(path, ("offset", "scale"))
        offset, scale = arrays["offset"], arrays["scale"]
        good = offset.dtype.kind == scale.dtype.kind == "f" and offset.size == 3 and scale.size == 1
        if not good or not np.isfinite(offset).all() or not np.isfinite(scale).all() or not scale.reshape(-1)[0] > 0:
            raise DataError(f"{path}: expected three finite numbers as offset and one above 0 as scale")
        return offset.reshape(3).astype(np.float64), float(scale.reshape(-1)[0])


def export_deepsdf(
    stored: StoredSet,
    out: str | os.PathLike[str],
    *,
    pool: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a stored set as DeepSDF's data folder, with one split file for each split.

    Args:
        stored: The set, with meshes: their farthest vertex is the measure of the sphere.
        out: Folder to write to; files of the same names are replaced.
        pool: The pool to write; the evaluation points by default, or the only pool.
        progress: Called as `progress(done, total)`, in shapes.

    Returns:
        `out`.

    Raises:
        DataError: A shape without its mesh or without signed distances, or the folder cannot be written.
    """
    out = Path(out)
    dataset = safe_part(stored.source)
    splits: dict[str, dict[str, list[str]]] = {}
    for position, (name, split) in enumerate(zip(stored.names(), stored.splits(), strict=True)):
        samples = stored[position]
        points = choose_points(samples, pool, name)
        if points.signed_distance is None or samples.mesh is None:
            raise DataError(f"{name}: DeepSDF needs signed distances and the mesh; it was stored without one of them")
        radius = float(samples.mesh.vertices.double().norm(dim=1).max())
        scale = 1.0 / (SPHERE_MARGIN * radius)
        rows = np.concatenate(
            [points.points.cpu().numpy(), points.signed_distance.cpu().numpy()[:, None]], axis=1, dtype=np.float64
        )
        rows = (rows * scale).astype(np.float32)
        inside = rows[:, 3] <= 0  # their "neg" has the surface
        kind, instance = _place(name)
        for top in (SAMPLES, NORMALIZATION):
            _make(out / top / dataset / kind)
        write_npz(out / SAMPLES / dataset / kind / f"{instance}.npz", pos=rows[~inside], neg=rows[inside])
        frame = {"offset": np.zeros(3, np.float32), "scale": np.asarray(scale, np.float32)}
        write_npz(out / NORMALIZATION / dataset / kind / f"{instance}.npz", **frame)
        splits.setdefault(split or "train", {}).setdefault(kind, []).append(instance)
        if progress is not None:
            progress(position + 1, len(stored))
    try:
        for split, classes in splits.items():
            write_json(out / f"{dataset}_{split}.json", {dataset: classes})
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    return out


def _place(name: str) -> tuple[str, str]:
    """Return the class and the instance that a shape's name becomes."""
    kind, _, instance = name.rpartition("/")
    return safe_part(kind or "shapes"), safe_part(instance)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _find_splits(path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(path.glob("*.json")):
        split = next((split for split in SPLITS if file.stem.endswith(split)), None)
        if split is not None and found.setdefault(split, file) != file:
            raise DataError(f"{path}: two files of the split {split}: {found[split].name} and {file.name}; name one")
    return found


def _read_split(file: Path) -> list[tuple[str, ...]]:
    """Return (dataset, class, instance) of each shape in a split file."""
    try:
        value: Any = json.loads(read_text(file))
        return [
            (check_part(file, dataset), check_part(file, kind), check_part(file, instance))
            for dataset, classes in value.items()
            for kind, instances in classes.items()
            for instance in instances
        ]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: expected a split {{dataset: {{class: [instance, ...]}}}}: {error}") from error


def _rows(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] != 4:
        raise DataError(f"{path}: {name}: expected float numbers [n, 4], got {array.dtype} {list(array.shape)}")
    return array.astype(np.float64)
