"""IF-Net's preprocessed shapes, which NDF and AIR-Nets use too.

    CLASS/MODEL/boundary_SIGMA_samples.npz                points [n, 3], occupancies [n] bool (grid_coords are not read)
    CLASS/MODEL/voxelized_point_cloud_RESres_Npoints.npz  point_cloud [N, 3] and what it looks like on a grid
    CLASS/MODEL/isosurf_scaled.off                        the mesh
    split_*.npz                                           train, val, test: names of the form /CLASS/MODEL

Points lie around a shape of longest side 1, centred at the origin: this project's frame.

Source: Chibane et al., Implicit Functions in Feature Space, the authors' data_processing and models/data.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch

from pyimplicit.data.archives import read_npz
from pyimplicit.data.onet import fitting, to_floats
from pyimplicit.data.samples import LabelledPoints, ShapeSamples
from pyimplicit.data.sources import ListedShapes, check_index
from pyimplicit.data.splits import SPLITS, check_part
from pyimplicit.errors import DataError
from pyimplicit.geometry.files import load_mesh

MESH = "isosurf_scaled.off"
BOUNDARY = re.compile(r"boundary_(\d+(?:\.\d+)?)_samples\.npz")
CLOUD = re.compile(r"voxelized_point_cloud_(\d+)res_(\d+)points\.npz")


class IfNetSamples(ListedShapes):
    """The samples in a folder of IF-Net's preprocessed shapes, named class/model.

    Args:
        path: The folder of the classes.
        split: A file of splits; by default the folder's own split_*.npz, without one all models.

    Raises:
        DataError: No such folder, no model in it, several split files to choose from, or a damaged one.
    """

    def __init__(self, path: str | os.PathLike[str], split: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(f"{self.path}: no such folder")
        files = [Path(split)] if split is not None else sorted(self.path.glob("split_*.npz"))
        if len(files) > 1:
            raise DataError(f"{self.path}: several split files ({files[0].name}, {files[1].name}, ...); name one")
        models: dict[str, str] = {}
        for file in files:
            models |= _read_split(file)
        if not files:
            folders = sorted({file.parent for file in self.path.glob("*/*/*") if _is_ours(file)})
            models = {folder.relative_to(self.path).as_posix(): "" for folder in folders}
        if not models:
            raise DataError(f"{self.path}: no model of IF-Net (CLASS/MODEL/boundary_SIGMA_samples.npz)")
        super().__init__("ifnet", list(models), list(models.values()))

    def load_samples(self, index: int) -> ShapeSamples:
        """Read one shape: each boundary file as a pool "boundary_SIGMA", the largest cloud, the mesh if it is there.

        Raises:
            DataError: A file that is missing, damaged or of another layout.
            MeshFileError: A damaged mesh.
        """
        folder = self.path / self._names[check_index(index, len(self))]
        files = sorted(file for file in folder.iterdir() if _is_ours(file)) if folder.is_dir() else []
        if not files:
            raise DataError(f"{folder}: listed, but holds no samples of IF-Net")
        pools, clouds, mesh = {}, [], None
        for file in files:
            if found := BOUNDARY.fullmatch(file.name):
                pools[f"boundary_{found[1]}"] = _read_boundary(file)
            elif found := CLOUD.fullmatch(file.name):
                clouds.append((int(found[2]), int(found[1]), file))
            else:
                mesh = load_mesh(file)
        cloud = None
        if clouds:
            file = max(clouds)[2]
            cloud = to_floats(file, "point_cloud", read_npz(file, ("point_cloud",))["point_cloud"], 3)
        samples: ShapeSamples = fitting(folder, lambda: ShapeSamples(mesh, cloud, pools=pools))
        return samples


def _is_ours(file: Path) -> bool:
    return file.name == MESH or bool(BOUNDARY.fullmatch(file.name) or CLOUD.fullmatch(file.name))


def _read_split(file: Path) -> dict[str, str]:
    """Return the split of each class/model."""
    models: dict[str, str] = {}
    for split, names in read_npz(file).items():
        if split not in SPLITS:
            continue
        if names.dtype.kind != "U" or names.ndim != 1:
            raise DataError(f"{file}: {split}: expected a list of names, got {names.dtype} {list(names.shape)}")
        for name in names.tolist():
            parts = str(name).replace("\\", "/").strip("/").split("/")
            if len(parts) != 2:
                raise DataError(f"{file}: {split}: expected names of the form /CLASS/MODEL, got {name!r}")
            key = "/".join(check_part(file, part) for part in parts)
            if models.setdefault(key, split) != split:
                raise DataError(f"{file}: {key} is in the splits {models[key]} and {split}")
    return models


def _read_boundary(file: Path) -> LabelledPoints:
    arrays = read_npz(file, ("points", "occupancies"))
    points, labels = to_floats(file, "points", arrays["points"], 3), arrays["occupancies"]
    if labels.shape != (len(points),) or labels.dtype.kind not in "bfiu" or not np.isin(labels, (0, 1)).all():
        raise DataError(f"{file}: occupancies: expected 0 or 1 for each of {len(points)} points")
    inside = torch.from_numpy(labels.astype(np.bool_))
    found: LabelledPoints = fitting(file, lambda: LabelledPoints(points, occupancy=inside))
    return found
