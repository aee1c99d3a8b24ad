"""Derivatives of a distance and of a closest point, which follow from the face, edge or corner it lies on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClosestFeature:
    """What the closest points lie on; leading axes as those of the points."""

    edge: Tensor  # [..., 3] unit vector along it, if it is an edge
    normal: Tensor  # [..., 3] unit normal of the face
    corners: Tensor  # [..., 1] how many corners span it: 1, 2 or 3

    @staticmethod
    def of(
        triangles: Tensor,  # [..., 9] corners of the closest faces
        barycentric: Tensor,  # [..., 3] of the closest points
    ) -> ClosestFeature:
        """The features that barycentric coordinates of exactly 0 leave."""
        a, b, c = triangles.reshape(*triangles.shape[:-1], 3, 3).unbind(-2)
        on_corner = barycentric > 0
        start = torch.where(on_corner[..., :1], a, b)
        end = torch.where(on_corner[..., 2:], c, b)
        normal = torch.linalg.cross(b - a, c - a, dim=-1)
        return ClosestFeature(_unit(end - start), _unit(normal), on_corner.sum(-1, keepdim=True))

    def away(
        self,
        points: Tensor,  # [..., 3]
        distance: Tensor,  # [...]
        closest: Tensor,  # [..., 3]
    ) -> Tensor:
        """Unit vectors away from the surface, 0 on it: the slope of the distance.

        Very near a face the direction of p - q is lost in rounding, where the normal is exact.
        """
        arm = points - closest
        side = torch.sign(_dot(arm, self.normal)).detach()
        scaled = arm / torch.where(distance > 0, distance, 1.0).unsqueeze(-1)
        return torch.where(self.corners == 3, self.normal * side, scaled)

    def along(self, gradient: Tensor) -> Tensor:
        """A gradient of the closest points, as a gradient of the points: its part along the face or edge."""
        along_edge = self.edge * _dot(self.edge, gradient)
        in_plane = gradient - self.normal * _dot(self.normal, gradient)
        return torch.where(self.corners == 3, in_plane, torch.where(self.corners == 2, along_edge, 0.0))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def _unit(vectors: Tensor) -> Tensor:
    lengths = vectors.norm(dim=-1, keepdim=True)
    return vectors / torch.where(lengths > 0, lengths, 1.0)
