"""The distance mask: which points of space are near enough to the input shape to be worth the network's time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.ops import CloudGrid


@dataclass(frozen=True, eq=False)
class DistanceMask:
    """True for points at most `distance` away from a point cloud.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-B.

    Example:
        >>> mask = DistanceMask.from_cloud(torch.zeros(1, 3), distance=0.1)
        >>> mask(torch.tensor([[0.0, 0.09, 0.0], [0.0, 0.11, 0.0]]))
        tensor([ True, False])
    """

    grid: CloudGrid

    @classmethod
    def from_cloud(cls, cloud: Tensor, distance: float = 0.1) -> DistanceMask:
        """Prepare the mask of a cloud [M, 3] float32; errors as `pyimplicit.ops.build_cloud_grid`."""
        return cls(ops.build_cloud_grid(cloud, distance))

    @property
    def distance(self) -> float:
        """Radius of the mask, mesh units."""
        return self.grid.distance

    def to(self, device: torch.device | str) -> DistanceMask:
        """The same mask on another device."""
        return DistanceMask(self.grid.to(device))

    def __call__(self, points: Tensor) -> Tensor:
        """Mask [...] bool of `points` [..., 3]; errors as `pyimplicit.ops.distance_mask`."""
        return ops.distance_mask(points, self.grid)
