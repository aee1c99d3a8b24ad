"""Cars made from numbers: as many shapes as a study wants, with no download and no licence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyimplicit.checks import check_count
from pyimplicit.data.car_field import car_field
from pyimplicit.data.cars import STYLES, draw_car
from pyimplicit.data.sources import check_index
from pyimplicit.geometry.marching import marching_cubes
from pyimplicit.geometry.mesh import Mesh, body_volumes, face_components, normalize_mesh, take_faces


@dataclass(frozen=True)
class ProceduralCars:
    """A family of closed cars of eleven styles, the same for the same seed on every machine.

    Each car is one closed body, oriented outward and normalised: front towards -x, y up, z across. About 9,000
    vertices and 0.1 s a car at the default resolution.

    Args:
        count: How many cars, at least 1. Car `i` of a seed does not depend on it.
        seed: Which family, 0 to 2**64 - 1.
        resolution: Cells along a car's length, at least 16. From 64 on wheel arches show.

    Raises:
        TypeError: An argument that is not a whole number.
        ValueError: An argument out of range.

    Example:
        >>> cars = ProceduralCars(count=3, resolution=24)
        >>> cars.names()
        ['car-0-00000-sedan', 'car-0-00001-hatchback', 'car-0-00002-city']
        >>> cars.load(0).bounds[:, 0].tolist()
        [-0.5, 0.5]
    """

    count: int = 3000
    seed: int = 0
    resolution: int = 72

    def __post_init__(self) -> None:
        check_count("count", self.count)
        if check_count("seed", self.seed, minimum=0) >= 2**64:
            raise ValueError(f"seed: expected 0 to 2**64 - 1, got {self.seed}")
        check_count("resolution", self.resolution, minimum=16)

    @property
    def name(self) -> str:
        """The source's name."""
        return "procedural-cars"

    def __len__(self) -> int:
        return self.count

    def names(self) -> list[str]:
        """One name per car: seed, number and style."""
        return [f"car-{self.seed}-{index:05d}-{STYLES[index % len(STYLES)]}" for index in range(self.count)]

    def groups(self) -> list[str]:
        """One group per car, for no two share a base mesh."""
        return self.names()

    def load(self, index: int) -> Mesh:
        """Build one car.

        Args:
            index: Which car, in [0, count).

        Returns:
            Its mesh.

        Raises:
            IndexError, ValueError, TypeError: No such car.
        """
        car = draw_car(self.seed, check_index(index, self.count))
        values, origin, spacing = car_field(car, self.resolution)
        mesh = marching_cubes(-values, origin, (spacing, spacing, spacing))
        body = face_components(mesh)
        return normalize_mesh(take_faces(mesh, body == int(np.argmax(body_volumes(mesh, body)))))

    def fingerprint(self, index: int) -> str:
        """Return what determines the mesh of one car, for a cache key. The last number rises when the model changes."""
        return f"{self.name}/{self.seed}/{index}/{self.resolution}/model-2"
