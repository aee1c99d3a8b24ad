"""What a trained network is shown of a file: points of a mesh, or a point cloud as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyimplicit.cli.parser import UsageError
from pyimplicit.data import Shape
from pyimplicit.errors import DataError, ExtractionError
from pyimplicit.geometry import normalize_mesh
from pyimplicit.geometry.files import load_mesh
from pyimplicit.training import Reconstruction, TrainResult, reconstruct_shapes
from pyimplicit.training import reconstruct as reconstruct_cloud

CLOUD_SUFFIXES = (".npy", ".xyz")


def reconstruct_file(trained: TrainResult, path: Path, *, resolution: int, seed: int = 0) -> Reconstruction:
    """Reconstruct what a file shows.

    Args:
        trained: The trained network.
        path: A mesh, which is normalised and then observed as the protocol has it; or, for encoder networks, a cloud
            in the cube [-0.5, 0.5]^3: .npy [N, 3] or .xyz, one point a line.
        resolution: Cells per axis of marching cubes.
        seed: Seed of the observed points.

    Raises:
        UsageError: A cloud for a network that is no encoder.
        DataError: A cloud that cannot be read.
        MeshFileError: A mesh that cannot be read.
    """
    if path.suffix.lower() not in CLOUD_SUFFIXES:
        shape = Shape(path.stem, path.stem, normalize_mesh(load_mesh(path)), {})
        return reconstruct_shapes(trained, [shape], resolution=resolution, seed=seed)[0]
    if trained.network.kind != "encoder":
        raise UsageError(f"{path}: {trained.config.network} sees no clouds; expected a closed mesh")
    cloud = load_cloud(path).to(trained.network.device)
    try:
        mesh = reconstruct_cloud(trained.network, trained.kind, cloud=cloud, resolution=resolution)
    except ExtractionError as error:
        return Reconstruction(path.stem, None, str(error))
    return Reconstruction(path.stem, mesh)


def load_cloud(path: Path) -> Tensor:
    """Read a point cloud: [N, 3] float32.

    Raises:
        DataError: The file is missing, not a cloud, empty or not finite.
    """
    try:
        values = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else np.loadtxt(path, ndmin=2)
        points = np.asarray(values, dtype=np.float32)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a point cloud: {error}") from error
    if points.ndim != 2 or points.shape[1] < 3 or not len(points) or not np.isfinite(points[:, :3]).all():
        raise DataError(f"{path}: expected finite points [N, 3], got an array {list(points.shape)}")
    return torch.from_numpy(np.ascontiguousarray(points[:, :3]))
