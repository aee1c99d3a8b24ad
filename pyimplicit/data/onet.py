"""ONet's preprocessed shapes, which ConvONet uses too: read, and written for their code.

    CLASS/train.lst, val.lst, test.lst    one model a line
    CLASS/MODEL/points.npz                points [n, 3] float16, occupancies [ceil(n / 8)] uint8 (bits), loc [3], scale
    CLASS/MODEL/points_iou.npz            the same, to measure with (ConvONet's rooms)
    CLASS/MODEL/pointcloud.npz            points [n, 3] and normals [n, 3] float16, loc, scale

Points lie in the box [-0.55, 0.55]^3 around a shape of longest side 1, this project's frame. Rounding to float16 moves
them by up to 2.5e-4 along each axis; their labels are those of the unrounded points. The authors' loader adds noise of
1e-4 to them.

Source: Mescheder et al., Occupancy Networks, the authors' scripts sample_mesh.py and im2mesh/data/fields.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyimplicit.atomic import replacing, write_atomically
from pyimplicit.data.archives import read_npz
from pyimplicit.data.samples import LabelledPoints, ShapeSamples
from pyimplicit.data.sources import ListedShapes, check_index
from pyimplicit.data.splits import read_lists, safe_part
from pyimplicit.data.stored_set import StoredSet
from pyimplicit.errors import DataError

POINTS, POINTS_IOU, CLOUD = "points.npz", "points_iou.npz", "pointcloud.npz"
POOL = "points"
"""Name of the pool that points.npz becomes."""


class OnetSamples(ListedShapes):
    """The samples in a folder of ONet's preprocessed shapes, named class/model.

    Args:
        path: The folder of the classes, or that of one class.

    Raises:
        DataError: No such folder, no model in it, or a damaged list.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        models = list_models(self.path, (POINTS, CLOUD))
        self._folders = [folder for folder, _ in models]
        names = [f"{folder.parent.resolve().name}/{folder.name}" for folder in self._folders]
        super().__init__("onet", names, [split for _, split in models])

    def load_samples(self, index: int) -> ShapeSamples:
        """Read one shape: its cloud, points.npz as the pool "points", points_iou.npz as evaluation points.

        Raises:
            DataError: A file that is missing, damaged or of another layout.
        """
        folder = self._folders[check_index(index, len(self))]
        if not (folder / POINTS).is_file() and not (folder / CLOUD).is_file():
            raise DataError(f"{folder}: listed, but holds neither {POINTS} nor {CLOUD}")
        cloud = normals = evaluation = None
        if (folder / CLOUD).is_file():
            arrays = read_npz(folder / CLOUD, ("points", "normals"))
            cloud = to_floats(folder / CLOUD, "points", arrays["points"], 3)
            normals = to_floats(folder / CLOUD, "normals", arrays["normals"], 3)
        if (folder / POINTS_IOU).is_file():
            evaluation = _read_points(folder / POINTS_IOU)
        pools = {POOL: _read_points(folder / POINTS)} if (folder / POINTS).is_file() else {}
        samples: ShapeSamples = fitting(folder, lambda: ShapeSamples(None, cloud, normals, evaluation, pools))
        return samples


def export_onet(
    stored: StoredSet,
    out: str | os.PathLike[str],
    *,
    pool: str | None = None,
    half: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a stored set in ONet's layout, for code that reads it.

    Args:
        stored: The set. Names of the form class/model keep it; others come under the name of the source.
        out: Folder to write to; files of the same names are replaced.
        pool: The pool that becomes points.npz; the evaluation points by default, or the only pool.
        half: float16, as theirs; float32 otherwise, which their loader reads too.
        progress: Called as `progress(done, total)`, in shapes.

    Returns:
        `out`.

    Raises:
        DataError: A shape without such points or without a cloud, or the folder cannot be written.
    """
    kind = np.float16 if half else np.float32
    lists: dict[Path, dict[str, list[str]]] = {}
    for position, (name, split) in enumerate(zip(stored.names(), stored.splits(), strict=True)):
        folder = model_folder(Path(out), stored.source, name)
        samples = stored[position]
        points = choose_points(samples, pool, name)
        if samples.cloud is None or samples.normals is None:
            raise DataError(f"{name}: stored without a cloud and its normals")
        bits = np.packbits(points.inside.cpu().numpy())
        frame = {"loc": np.zeros(3, kind), "scale": np.asarray(1.0, kind)}
        write_npz(folder / POINTS, points=_numbers(points.points, kind), occupancies=bits, **frame)
        write_npz(
            folder / CLOUD, points=_numbers(samples.cloud, kind), normals=_numbers(samples.normals, kind), **frame
        )
        lists.setdefault(folder.parent, {}).setdefault(split or "train", []).append(folder.name)
        if progress is not None:
            progress(position + 1, len(stored))
    for folder, by_split in lists.items():
        for split in ("train", "val", "test"):  # their loader wants all three
            write_list(folder / f"{split}.lst", by_split.get(split, []))
    return Path(out)


def list_models(path: Path, files: tuple[str, ...]) -> list[tuple[Path, str]]:
    """Return the folder and the split of each model below a folder of classes, or below one class.

    Raises:
        DataError: No such folder, no model in it, or a damaged list.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")

    def models(folder: Path) -> list[tuple[Path, str]]:
        lists = read_lists(folder)
        if lists:
            return [(folder / name, lists[name]) for name in sorted(lists)]
        inner = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        return [(child, "") for child in inner if any((child / file).is_file() for file in files)]

    found = models(path)
    if not found:
        classes = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
        found = [model for folder in classes for model in models(folder)]
    if not found:
        raise DataError(f"{path}: no model here (CLASS/MODEL/{' or CLASS/MODEL/'.join(files)})")
    return found


def to_floats(path: Path, name: str, array: NDArray[Any], columns: int | None = None) -> Tensor:
    """Return an array of numbers as float32, or raise `DataError` if it is of another kind or shape."""
    wanted = 1 if columns is None else 2
    if array.dtype.kind not in "fiu" or array.ndim != wanted or (columns is not None and array.shape[1] != columns):
        shape = "[n]" if columns is None else f"[n, {columns}]"
        raise DataError(f"{path}: {name}: expected numbers {shape}, got {array.dtype} {list(array.shape)}")
    with np.errstate(over="ignore"):
        return torch.from_numpy(array.astype(np.float32))


def fitting(path: Path, build: Callable[[], Any]) -> Any:
    """Call `build`; what does not fit becomes a `DataError` that names the file."""
    try:
        return build()
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error


def choose_points(samples: ShapeSamples, pool: str | None, name: str) -> LabelledPoints:
    """Return the pool of a name, else the evaluation points, else the only pool.

    Raises:
        DataError: There are none.
    """
    if pool is not None:
        if pool not in samples.pools:
            known = ", ".join(samples.pools) or "none"
            raise DataError(f"{name}: stored without the pool {pool!r}; it has {known}")
        return samples.pools[pool]
    if samples.evaluation is not None:
        return samples.evaluation
    if len(samples.pools) != 1:
        raise DataError(f"{name}: expected evaluation points or one pool, got {len(samples.pools)} pools")
    return next(iter(samples.pools.values()))


def model_folder(out: Path, source: str, name: str) -> Path:
    """Return, made, the folder of a shape: class and model are parts of its name, or the class is the source.

    Raises:
        DataError: It cannot be made.
    """
    kind, _, model = name.rpartition("/")
    folder = out / safe_part(kind or source) / safe_part(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def write_npz(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays as .npz, whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        with replacing(path) as temporary, open(temporary, "xb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_list(path: Path, names: list[str]) -> None:
    """Write one name a line; errors as `write_npz`."""
    try:
        write_atomically(path, "".join(f"{name}\n" for name in names).encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def _read_points(path: Path) -> LabelledPoints:
    arrays = read_npz(path, ("points", "occupancies"))
    points, labels = to_floats(path, "points", arrays["points"], 3), arrays["occupancies"]
    if labels.dtype == np.bool_ and labels.shape == (len(points),):
        inside = labels
    elif labels.dtype == np.uint8 and labels.shape == (-(-len(points) // 8),):
        inside = np.unpackbits(labels.view(np.uint8))[: len(points)].astype(np.bool_)
    else:
        raise DataError(
            f"{path}: occupancies: expected bits or booleans of {len(points)} points, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    found: LabelledPoints = fitting(path, lambda: LabelledPoints(points, occupancy=torch.from_numpy(inside.copy())))
    return found


def _numbers(tensor: Tensor, kind: Any) -> NDArray[Any]:
    return tensor.cpu().numpy().astype(kind)
