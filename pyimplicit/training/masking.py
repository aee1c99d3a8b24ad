"""The distance mask in training: points far from the input cloud skip the network and take a set value."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyimplicit.fields import ImplicitFunction, far_values
from pyimplicit.sampling import DistanceMask


def predict_near(
    network: Callable[[Tensor, Tensor], Tensor],
    points: Tensor,
    clouds: Tensor,
    signed_distance: Tensor,
    kind: ImplicitFunction,
    distance: float,
) -> Tensor:
    """Predictions of the network for points within the mask of their cloud, and set values for the others.

    The near points of each shape are moved to the front, and the network sees as many of each as the shape with most
    has; a shape with fewer repeats its own in turn, so that a layer that normalises over points meets no foreign ones.
    What it answers for repeats is left out. Set values are constants: far points add to the loss but not to its
    gradient.

    Args:
        network: Takes points [B, N, 3] and clouds [B, M, 3] and returns predictions [B, N].
        points: [B, T, 3] float32, mesh units.
        clouds: Input clouds [B, M, 3] float32, from which the masks come.
        signed_distance: [B, T], negative inside. Only its sign is used, and only of points beyond the mask: generation
            finds that sign by regions instead.
        kind: The implicit function.
        distance: Radius of the mask, mesh units, above 0.

    Returns:
        Predictions [B, T].

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-B; the set values of
        fields with an inside are this package's.

    Example:
        >>> from pyimplicit.fields import UDF
        >>> cloud = torch.zeros(1, 1, 3)
        >>> points = torch.tensor([[[0.0, 0.0, 0.3], [0.0, 0.0, 0.05]]])
        >>> distance = points.norm(dim=2)
        >>> predict_near(lambda at, cloud: at.norm(dim=2), points, cloud, distance, UDF(), distance=0.1)
        tensor([[0.1000, 0.0500]])
    """
    near = DistanceMask.from_cloud(clouds, distance)(points)  # [B, T]
    counts = near.sum(dim=1)
    # At least one, so that a step in which no point is near has a prediction to leave out.
    width = max(1, int(counts.max()))
    order = (~near).to(torch.uint8).argsort(dim=1, stable=True)  # near ones first, as they came
    place = torch.arange(width, device=points.device) % counts.clamp(min=1)[:, None]  # [B, width]
    chosen = order.gather(1, place)
    seen = network(points.gather(1, chosen[..., None].expand(-1, -1, 3)), clouds)  # [B, width]
    outside, inside = far_values(kind, distance)
    filled = torch.where(signed_distance < 0, inside, outside).to(seen.dtype)
    # A near point's place among the near ones of its shape; of repeats the first answer counts.
    rank = (near.cumsum(dim=1) - 1).clamp(min=0)
    return torch.where(near, seen.gather(1, rank), filled)
