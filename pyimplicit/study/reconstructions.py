"""What a study's folder holds besides its records: the test shapes, and what every run reconstructed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyimplicit.data import ProceduralCars, Shape
from pyimplicit.errors import MeshFileError
from pyimplicit.geometry import Mesh, Surface, normalize_mesh
from pyimplicit.geometry.files import load_mesh
from pyimplicit.networks import NETWORKS
from pyimplicit.study.files import read_json, reconstruction_path
from pyimplicit.study.records import DONE, Record
from pyimplicit.training import observe_cloud, observe_points

#: Distance from the true surface beyond which a reconstructed one is far, mesh units: the tau of the paper.
FAR = 0.1
# Share of a reconstruction's area that must be far to call it a failure far from the surface.
_FAILURE = 0.01
_AREA_SAMPLES = 4_000
# Points of an auto-decoder's input that are shown.
_INPUT_POINTS = 2_000


@dataclass(frozen=True)
class Case:
    """One test shape as one run reconstructed it.

    Args:
        record: The run.
        index: Number of the test shape.
    """

    record: Record
    index: int

    @property
    def score(self) -> Mapping[str, object]:
        """The scores of this shape; empty where the run has none."""
        return self.record.scores[self.index] if self.index < len(self.record.scores) else {}

    @property
    def off(self) -> float:
        """Mean squared distance from the reconstruction to the true surface; 0 where there is none."""
        value = self.score.get("accuracy_squared", 0.0)
        return float(value) if self.score.get("valid") and isinstance(value, (int, float)) else 0.0

    @property
    def label(self) -> str:
        """Network and field: "IF-Net OCC"."""
        return f"{self.record.row[0]} {self.record.field.upper()}"


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """The test shapes of a study and the folders of its runs.

    Args:
        shapes: The test shapes; empty where they cannot be had.
        missing: Why they cannot be had; empty where they can.
        folders: The folder of each run that has one, by the run's hash.
    """

    shapes: Sequence[Shape] = ()
    missing: str = "the folder holds no shapes"
    folders: Mapping[str, Path] = field(default_factory=dict)
    _surfaces: dict[int, Surface] = field(default_factory=dict)

    @classmethod
    def of_study(cls, folder: Path, shapes: Sequence[Shape], missing: str = "") -> Reconstructions:
        """Find the folders of the runs of a study.

        Args:
            folder: The study's folder.
            shapes: Its test shapes; empty where they cannot be had.
            missing: Why they cannot.
        """
        folders = {}
        for path in sorted((folder / "runs").glob("*/record.json")):
            values = read_json(path)
            if isinstance(values, dict) and isinstance(values.get("run"), str):
                folders[values["run"]] = path.parent
        return cls(shapes, missing, folders)

    def surface(self, index: int) -> Surface:
        """Return the true surface of a test shape."""
        if index not in self._surfaces:
            self._surfaces[index] = Surface(self.shapes[index].mesh)
        return self._surfaces[index]

    def example(self) -> tuple[Surface, str]:
        """Return a shape to draw query points on and its name: a test shape, else a built-in one."""
        if self.shapes:
            return self.surface(0), self.shapes[0].name
        cars = ProceduralCars(1)
        return Surface(normalize_mesh(cars.load(0))), f"{cars.names()[0]} (built in)"

    def found(self, case: Case) -> Mesh | NDArray[np.float32] | None:
        """Return the mesh of a case, or the cloud [N, 3] of an unsigned distance; None where none was stored."""
        folder = self.folders.get(case.record.run)
        if folder is None or case.index >= len(self.shapes):
            return None
        path = reconstruction_path(folder, case.record.field, case.index, self.shapes[case.index].name)
        try:
            if path.suffix == ".npy":
                return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32).reshape(-1, 3)
            return load_mesh(path)
        except (OSError, ValueError, MeshFileError):
            return None

    def observed(self, case: Case) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return what the network saw of a case: points [N, 3], and their signed distances [N] for an auto-decoder."""
        training, seed = case.record.config["training"], case.record.config["data"]["seed"]
        shape = self.shapes[case.index]
        if NETWORKS[case.record.network].kind == "encoder":
            return observe_cloud(shape, training["cloud_size"], seed=seed).numpy(), None
        points, distance = observe_points(shape, case.record.strategy, _INPUT_POINTS, seed=seed)
        return points.numpy(), distance.numpy()

    def far_share(self, case: Case, mesh: Mesh) -> float:
        """Return the share of a reconstruction's area that lies farther than `FAR` from the true surface."""
        points = Surface(mesh).sample_surface(_AREA_SAMPLES).points
        return float((self.surface(case.index).unsigned_distance(points) > FAR).double().mean())

    def worst(self, records: Sequence[Record]) -> Case | None:
        """Return, of the cases of some runs whose mesh is stored, the one that is farthest off; None without any."""
        cases = [Case(record, index) for record in records for index in range(len(self.shapes))]
        known = (case for case in sorted(cases, key=lambda case: -case.off) if isinstance(self.found(case), Mesh))
        return next(known, None)

    def failures(self, records: Sequence[Record], most: int) -> list[Case]:
        """Return cases of surfaces far from the true one, worst first, one of each network, field and strategy.

        Only runs with a result count: one that collapsed has nothing near the true surface either.

        Args:
            records: The runs.
            most: How many at most.
        """
        cases = [
            Case(record, index)
            for record in records
            if record.status == DONE and record.field != "udf"
            for index in range(len(self.shapes))
        ]
        chosen: dict[tuple[object, ...], Case] = {}
        for case in sorted(cases, key=lambda case: -case.off):
            key = (case.record.row, case.record.strategy)
            # A share of `_FAILURE` beyond `FAR` alone is that much off: what is less off is no failure.
            if len(chosen) == most or case.off < _FAILURE * FAR**2:
                break
            if key in chosen:
                continue
            mesh = self.found(case)
            if isinstance(mesh, Mesh) and self.far_share(case, mesh) >= _FAILURE:
                chosen[key] = case
        return list(chosen.values())
