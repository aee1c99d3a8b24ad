"""Samples of a surface, and their distances to another one: what every metric but the IoU is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit import ops
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream, SurfaceBVH


@dataclass(frozen=True, eq=False)
class Distances:
    """From each sample of one surface to the other."""

    length: Tensor  # [n] float64, mesh units
    cosine: Tensor | None  # [n] float64, |cosine| between the normals; None where one of them has none


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of one surface, with their normals where it has any; all on the CPU."""

    points: Tensor  # [n, 3] float64, mesh units
    normals: Tensor | None  # [n, 3] float64, unit length, or 0 where a face has no area

    @classmethod
    def of_cloud(cls, points: Tensor, normals: Tensor | None = None) -> Samples:
        """Take the points of a cloud [n, 3]; normals [n, 3] are brought to unit length."""
        points = points.detach().to("cpu", torch.float64)
        if normals is None:
            return cls(points, None)
        return cls(points, F.normalize(normals.detach().to("cpu", torch.float64), dim=1, eps=1e-300))

    @classmethod
    def of_surface(cls, surface: Surface, count: int, stream: RandomStream) -> Samples:
        """Draw area-uniform points."""
        drawn = surface.sample_surface(count, stream)
        return cls.of_cloud(drawn.points, drawn.normals)

    @cached_property
    def hierarchy(self) -> SurfaceBVH:
        """The points as triangles without extent.

        The hierarchy of surfaces finds the nearest of them faster than scipy's KD-tree does, sixteen queries at a time;
        `python -m benchmarks.bench_evaluation` prints how much.
        """
        each = torch.arange(len(self.points), dtype=torch.int32)
        return ops.build_bvh(self.points, each[:, None].expand(-1, 3))

    def to_samples(self, other: Samples) -> Distances:
        """Return the distances to the nearest samples of the other surface.

        Which one is nearest is found among float32 points: of two whose distances differ by less than 1e-7 of the
        cloud's size either may be taken. The distance to it is in double.
        """
        index = ops.closest_point(self.points, other.hierarchy).face
        length = (self.points - other.points[index]).norm(dim=1)
        return Distances(length, self._cosine(None if other.normals is None else other.normals[index]))

    def to_surface(self, surface: Surface) -> Distances:
        """Return the distances to the nearest points of the other surface itself."""
        nearest = surface.closest_point(self.points.to(surface.device))
        normals = surface.face_normals(nearest.face).to("cpu", torch.float64)
        return Distances(nearest.distance.to("cpu", torch.float64), self._cosine(normals))

    def _cosine(self, normals: Tensor | None) -> Tensor | None:
        if self.normals is None or normals is None:
            return None
        # Normals of faces come in float32: their product may exceed 1 by rounding.
        return (self.normals * normals).sum(dim=1).abs().clamp(max=1)
