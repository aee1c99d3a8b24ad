"""Point clouds from and to files."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from torch import Tensor

from pyimplicit.atomic import write_atomically
from pyimplicit.checks import check_finite, check_tensor
from pyimplicit.errors import DataError

CLOUD_SUFFIXES = (".npy", ".npz", ".ply", ".xyz")
"""Suffixes that `load_cloud` reads and `save_cloud` writes."""


def load_cloud(path: str | os.PathLike[str]) -> Tensor:
    """Read a point cloud.

    Args:
        path: .ply, the vertices of a file without faces; .xyz, one point a line, further columns are left out; .npy,
            an array [N, 3 or more]; .npz with such an array called "points", as ONet keeps its input clouds. Arrays of
            Python objects are refused.

    Returns:
        Points [N, 3] float32, N at least 1.

    Raises:
        DataError: No such file, another suffix, not a cloud, a mesh, or points that are not finite. The message starts
            with the path.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "cloud.xyz"
        >>> _ = path.write_text("0 0 0.5\\n1 2 3\\n")
        >>> load_cloud(path).tolist()
        [[0.0, 0.0, 0.5], [1.0, 2.0, 3.0]]
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in CLOUD_SUFFIXES:
        known = ", ".join(CLOUD_SUFFIXES)
        raise DataError(f"{path}: cannot read {suffix or 'a file without suffix'}; known are {known}")
    try:
        with np.errstate(all="ignore"):
            points = np.asarray(_read(path, suffix), dtype=np.float32)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a point cloud: {error}") from error
    if points.ndim != 2 or points.shape[1] < 3 or not len(points) or not np.isfinite(points[:, :3]).all():
        raise DataError(f"{path}: expected finite points [N, 3], got an array {list(points.shape)}")
    return torch.from_numpy(np.ascontiguousarray(points[:, :3]))


def save_cloud(points: Tensor, path: str | os.PathLike[str]) -> None:
    """Write a point cloud, whole or not at all; `load_cloud` reads the same float32 values.

    Args:
        points: [N, 3] float, finite, any device; rounded to float32.
        path: A file with a suffix in `CLOUD_SUFFIXES`, in a folder that exists. An existing file is replaced.

    Raises:
        TypeError, ValueError: Points of another type, shape or value.
        DataError: Another suffix, or a file that cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "cloud.ply"
        >>> save_cloud(torch.eye(3), path)
        >>> torch.equal(load_cloud(path), torch.eye(3))
        True
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_finite("points", check_tensor("points", points, ("N", 3)))
    values = np.ascontiguousarray(points.detach().cpu().numpy(), dtype="<f4")
    if suffix == ".ply":
        head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(values)}"]
        head += [f"property float {axis}" for axis in "xyz"]
        content = ("\n".join([*head, "end_header"]) + "\n").encode("ascii") + values.tobytes()
    elif suffix == ".xyz":
        content = "".join(f"{x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in values.tolist()).encode("ascii")
    elif suffix in (".npy", ".npz"):
        stream = io.BytesIO()
        if suffix == ".npy":
            np.save(stream, values, allow_pickle=False)
        else:
            np.savez(stream, points=values, allow_pickle=False)
        content = stream.getvalue()
    else:
        known = ", ".join(CLOUD_SUFFIXES)
        raise DataError(f"{path}: cannot write {suffix or 'a file without suffix'}; known are {known}")
    try:
        write_atomically(path, content)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def _read(path: Path, suffix: str) -> NDArray[Any]:
    if suffix == ".npy":
        array: NDArray[Any] = np.load(path, allow_pickle=False)
        return array
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            if "points" not in arrays:
                raise DataError(f'expected an array "points", got {", ".join(arrays) or "none"}')
            return np.asarray(arrays["points"])
    if suffix == ".xyz":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which is refused below
            return np.loadtxt(path, ndmin=2)
    content = path.read_bytes()
    try:
        found = trimesh.load(io.BytesIO(content), file_type="ply", process=False)
    except Exception as error:  # trimesh lets errors of any type through
        raise DataError(f"not a readable PLY file: {type(error).__name__}: {str(error)[:200]}") from error
    if isinstance(found, trimesh.Trimesh) and len(found.faces):
        raise DataError("expected points without faces, got a mesh")
    return np.asarray(getattr(found, "vertices", np.empty((0, 3))))
