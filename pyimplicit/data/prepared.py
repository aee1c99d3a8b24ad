"""Shapes ready for training: closed, normalised, and kept on disk so that the work is done once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from pyimplicit.atomic import write_atomically
from pyimplicit.checks import check_count
from pyimplicit.data.samples import as_arrays
from pyimplicit.data.sources import Fingerprinted, Source, check_index
from pyimplicit.errors import DataError, MeshError, PyImplicitError
from pyimplicit.geometry.mesh import LONGEST_SIDE, Mesh, normalize_mesh
from pyimplicit.geometry.watertight import make_watertight

FORMAT = "pyimplicit-shape-1"
"""Raise the number when the file's layout, or what `make_watertight` makes, changes: old files are then not used."""

HEADER = "pyimplicit"
REPORT = "report.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shape:
    """One shape to learn from."""

    name: str
    group: str  # what derives from one base mesh shares a group
    mesh: Mesh  # closed, oriented, normalised
    report: dict[str, Any]  # `WatertightReport.as_dict` of its preparation; lengths there are those of the raw mesh


def prepare_shapes(
    source: Source,
    root: str | os.PathLike[str],
    *,
    indices: Iterable[int] | None = None,
    resolution: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> list[Shape]:
    """Load, close and normalise the meshes of a source, or read them where that was done before.

    Every shape is one file, `root/<source>/<name>-<key>.safetensors`, written whole or not at all, so this can be ended
    at any moment and goes on where it was. The key is a hash of all that determines the content: change the mesh or the
    resolution and a new file is made. A damaged file is made anew.

    A mesh that cannot be read or closed is left out. Its name and the reason go to the log and to
    `root/<source>/report.json`.

    Args:
        source: Where the meshes come from.
        root: Folder of the prepared shapes; made if it is not there.
        indices: Which meshes of the source; all by default.
        resolution: Cells along the longest side when a mesh must be rebuilt; see `make_watertight`.
        progress: Called as `progress(done, total)`, in shapes.

    Returns:
        The shapes, in the order of `indices`.

    Raises:
        DataError: Not one mesh could be prepared, two of the source's names are alike, or the folder cannot be written.
        IndexError: An index that the source does not have.

    Example:
        >>> import tempfile
        >>> from pyimplicit.data import ProceduralCars
        >>> shapes = prepare_shapes(ProceduralCars(2, resolution=24), tempfile.mkdtemp())
        >>> [shape.name for shape in shapes]
        ['car-0-00000-sedan', 'car-0-00001-hatchback']
    """
    check_count("resolution", resolution, minimum=8)
    names, groups = source.names(), source.groups()
    if len(set(names)) < len(names):
        raise DataError(f"{source.name}: two of its {len(names)} meshes have the same name")
    chosen = list(range(len(source))) if indices is None else [check_index(index, len(source)) for index in indices]
    folder = Path(root) / _file_name(source.name)
    shapes: list[Shape] = []
    skipped: dict[str, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for done, index in enumerate(chosen):
            if progress is not None:
                progress(done, len(chosen))
            try:
                shapes.append(_prepare(source, index, names[index], groups[index], folder, resolution))
            except PyImplicitError as error:
                skipped[names[index]] = str(error)
                log.warning("%s: %s left out: %s", source.name, names[index], error)
        report = {"source": source.name, "prepared": len(shapes), "skipped": skipped}
        write_atomically(folder / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    if progress is not None:
        progress(len(chosen), len(chosen))
    if not shapes:
        first = next(iter(skipped.items()), None)
        reason = f"the first, {first[0]}: {first[1]}" if first else "no mesh was asked for"
        raise DataError(f"{source.name}: no mesh could be prepared; {reason}")
    return shapes


class Grouped(Protocol):
    """What can be split without parting groups."""

    @property
    def group(self) -> str:
        """Name of the group."""


Item = TypeVar("Item", bound=Grouped)


def split_shapes(
    shapes: Sequence[Item],
    train: int,
    test: int,
    seed: int = 0,
    test_groups: Collection[str] | None = None,
) -> tuple[list[Item], list[Item]]:
    """Split shapes into those to train on and those to test on, never parting a group.

    Groups are drawn in random order: for the test set until it has its shapes, then for the training set. Shapes of the
    last group of either beyond the count asked for are left out, not given to the other.

    Args:
        shapes: What to split: shapes, or anything else with a group.
        train: Number of training shapes, at least 0.
        test: Number of test shapes, at least 0.
        seed: The same shapes and seed give the same split, on any machine.
        test_groups: If given, the test shapes are of these groups and the training shapes of the others: a split that
            does not depend on the seed.

    Returns:
        Training shapes and test shapes, each in the order of `shapes`.

    Raises:
        DataError: Too few shapes or groups, or a name in `test_groups` that no shape has.

    Example:
        >>> shapes = [Shape(name, name[0], None, {}) for name in ("a1", "a2", "b1", "c1")]
        >>> train, test = split_shapes(shapes, 2, 1, seed=1)
        >>> len(train), len(test), {shape.group for shape in train} & {shape.group for shape in test}
        (2, 1, set())
    """
    check_count("train", train, minimum=0)
    check_count("test", test, minimum=0)
    groups = list(dict.fromkeys(shape.group for shape in shapes))
    if test_groups is not None and (unknown := sorted(set(test_groups) - set(groups))):
        raise DataError(f"test_groups: no shape is of {', '.join(unknown)}")
    words = np.random.Philox(key=check_count("seed", seed, minimum=0)).random_raw(len(groups))
    order = [groups[k] for k in np.argsort(words, kind="stable")]
    counts = {group: sum(shape.group == group for shape in shapes) for group in groups}
    drawn: dict[str, str] = {}
    for side, wanted in (("test", test), ("train", train)):
        for group in order:
            allowed = test_groups is None or (group in test_groups) == (side == "test")
            if wanted > 0 and allowed and group not in drawn:
                drawn[group] = side
                wanted -= counts[group]
        if wanted > 0:
            raise DataError(
                f"too few shapes: {len(shapes)} in {len(groups)} groups do not give {train} to train on and {test} to "
                f"test on without parting a group; {wanted} are missing to {side}"
            )
    return (
        [shape for shape in shapes if drawn.get(shape.group) == "train"][:train],
        [shape for shape in shapes if drawn.get(shape.group) == "test"][:test],
    )


def _prepare(source: Source, index: int, name: str, group: str, folder: Path, resolution: int) -> Shape:
    """Return one shape, from its file if there is a good one."""
    mesh = None
    if isinstance(source, Fingerprinted):
        origin = source.fingerprint(index)
    else:
        mesh = source.load(index)
        origin = _hash(mesh)
    key = hashlib.sha256(json.dumps([FORMAT, origin, resolution, LONGEST_SIDE]).encode()).hexdigest()
    path = folder / f"{_file_name(name)}-{key[:16]}.safetensors"
    stored = _read(path, key)
    if stored is not None:
        return Shape(name, group, *stored)
    closed, report = make_watertight(source.load(index) if mesh is None else mesh, resolution=resolution)
    shape = Shape(name, group, normalize_mesh(closed), report.as_dict())
    header = {"format": FORMAT, "key": key, "name": name, "content": _hash(shape.mesh), "report": shape.report}
    tensors = {"vertices": shape.mesh.vertices, "faces": shape.mesh.faces}
    write_atomically(path, safetensors.numpy.save(as_arrays(tensors), {HEADER: json.dumps(header)}))
    return shape


def _read(path: Path, key: str) -> tuple[Mesh, dict[str, Any]] | None:
    """Return a prepared mesh and its report, or None if the file is missing or not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            mesh = Mesh(file.get_tensor("vertices"), file.get_tensor("faces"))
        if header["key"] == key and header["content"] == _hash(mesh):
            return mesh, dict(header["report"])
        reason = "its content is not what its header says"
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, MeshError, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    log.warning("%s: damaged and made anew: %s", path, reason)
    return None


def _hash(mesh: Mesh) -> str:
    digest = hashlib.sha256(f"{len(mesh.vertices)} {len(mesh.faces)} ".encode())
    digest.update(mesh.vertices.numpy().tobytes())
    digest.update(mesh.faces.numpy().tobytes())
    return digest.hexdigest()


def _file_name(name: str) -> str:
    """Return a name that is safe for a file: other than letters, digits, dot, dash and underscore become dashes."""
    return re.sub(r"[^\w.-]+", "-", name).lstrip(".")[:100] or "shape"
