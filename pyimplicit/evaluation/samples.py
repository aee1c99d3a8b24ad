"""Samples of a surface, and their distances to another one: what every metric but the IoU is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream

# Points are kept in the order of a grid of so many cells along the longest side: neighbours in space are asked about
# one after the other, and find the tree's nodes in the cache.
_CELLS = 32


@dataclass(frozen=True, eq=False)
class Distances:
    """From each sample of one surface to the other."""

    length: NDArray[np.float64]  # [n], mesh units
    cosine: NDArray[np.float64] | None  # [n], |cosine| between the normals; None where one of them has none


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of one surface, with their normals where it has any."""

    points: NDArray[np.float64]  # [n, 3], mesh units
    normals: NDArray[np.float64] | None  # [n, 3], unit length, or 0 where a face has no area

    @classmethod
    def of_cloud(cls, points: NDArray[Any], normals: NDArray[Any] | None = None) -> Samples:
        """Take the points of a cloud; normals are brought to unit length."""
        points = np.asarray(points, dtype=np.float64)
        low, high = points.min(axis=0), points.max(axis=0)
        cells = ((points - low) * (_CELLS / max(float((high - low).max()), np.finfo(np.float64).tiny))).astype(np.int64)
        order = np.lexsort(cells.T)
        if normals is not None:
            normals = np.asarray(normals, dtype=np.float64)[order]
            length = np.linalg.norm(normals, axis=1, keepdims=True)
            normals = normals / np.where(length > 0, length, 1.0)
        return cls(points[order], normals)

    @classmethod
    def of_surface(cls, surface: Surface, count: int, stream: RandomStream) -> Samples:
        """Draw area-uniform points."""
        drawn = surface.sample_surface(count, stream)
        points, normals = (part.to("cpu", torch.float64).numpy() for part in (drawn.points, drawn.normals))
        return cls.of_cloud(points, normals)

    @cached_property
    def tree(self) -> Any:
        """A KD-tree of the points."""
        return cKDTree(self.points, balanced_tree=False, compact_nodes=False)

    def to_samples(self, other: Samples) -> Distances:
        """Return the distances to the nearest samples of the other surface."""
        length, index = other.tree.query(self.points, workers=torch.get_num_threads())
        normals = None if other.normals is None else other.normals[index]
        return Distances(length, self._cosine(normals))

    def to_surface(self, surface: Surface) -> Distances:
        """Return the distances to the nearest points of the other surface itself."""
        nearest = surface.closest_point(torch.from_numpy(self.points).to(surface.device))
        normals = surface.face_normals(nearest.face).to("cpu", torch.float64).numpy()
        return Distances(nearest.distance.to("cpu", torch.float64).numpy(), self._cosine(normals))

    def _cosine(self, normals: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        if self.normals is None or normals is None:
            return None
        cosine: NDArray[np.float64] = np.abs(np.einsum("ij,ij->i", self.normals, normals))
        return cosine
