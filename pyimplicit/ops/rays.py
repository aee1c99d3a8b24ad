"""Ray casting against a surface: first hits, or whether there is any."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_finite, check_tensor
from pyimplicit.ops._library import register
from pyimplicit.ops.bvh import SurfaceBVH


@dataclass(frozen=True, eq=False)
class RayHits:
    """Answer of a ray query for N rays."""

    t: Tensor  # [N] the hit is at origin + t direction; infinite without one
    face: Tensor  # [N] int64, face that is hit; -1 without a hit
    barycentric: Tensor  # [N, 3] weights of the face's corners, sum 1; 0 without a hit

    @property
    def hit(self) -> Tensor:
        """[N] bool: whether the ray meets the surface."""
        return self.face >= 0


def cast_rays(
    origins: Tensor,  # [N, 3]
    directions: Tensor,  # [N, 3]
    bvh: SurfaceBVH,
    *,
    any_hit: bool = False,
) -> RayHits:
    """Where each ray first meets the surface, from either side.

    A ray never slips between two faces with a common edge or corner. A ray that runs within the plane of a face does
    not meet that face. Not differentiable.

    Args:
        origins: [N, 3] float32 or float64, finite, mesh units, on the device of `bvh`. N may be 0.
        directions: [N, 3], same dtype; any length but 0.
        bvh: The prepared surface.
        any_hit: Take any hit instead of the first; faster where only `hit` is of interest.

    Returns:
        For each ray the parameter t, at least 0, in lengths of its direction, the face and barycentric coordinates.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape or device, NaN or infinity, a direction of length 0.

    Source:
        Woop, Benthin, Wald, "Watertight Ray/Triangle Intersection", JCGT 2013.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> cast_rays(torch.tensor([[0.2, 0.2, 3.0]]), torch.tensor([[0.0, 0.0, -2.0]]), bvh).t
        tensor([1.5000])
    """
    check_finite("origins", check_tensor("origins", origins, ("N", 3), device=bvh.device))
    count = origins.shape[0]
    check_finite("directions", check_tensor("directions", directions, (count, 3), (origins.dtype,), bvh.device))
    if bool((directions == 0).all(1).any()):
        raise ValueError("directions: expected no direction of length 0")
    t, slot, barycentric = _cast_rays_op(
        origins.detach().contiguous(), directions.detach().contiguous(), bvh.boxes, bvh.links, bvh.leaf_first,
        bvh.triangles, bvh.center, bvh.scale, any_hit,
    )  # fmt: skip
    face = torch.where(slot >= 0, bvh.triangle_face[slot.clamp(min=0).long()].long(), -1)
    return RayHits(t, face, barycentric)


# ---- operator


def _cast_rays_kernel(
    origins: Tensor,
    directions: Tensor,
    boxes: Tensor,
    links: Tensor,
    leaf_first: Tensor,
    triangles: Tensor,
    center: Tensor,
    scale: float,
    any_hit: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    t, slot, barycentric = _cast_rays_fake(origins)
    _native.call(
        "cast_rays", origins.device, origins.dtype, origins=origins, directions=directions, count=origins.shape[0],
        boxes=boxes, links=links, leaf_first=leaf_first, triangles=triangles, center=center, scale=scale, any=any_hit,
        t=t, slot=slot, barycentric=barycentric,
    )  # fmt: skip
    return t, slot, barycentric


def _cast_rays_fake(origins: Tensor, *_rest: object) -> tuple[Tensor, Tensor, Tensor]:
    count = origins.shape[0]
    return origins.new_empty(count), origins.new_empty(count, dtype=torch.int32), origins.new_empty(count, 3)


_cast_rays_op = register(
    "cast_rays",
    "(Tensor origins, Tensor directions, Tensor boxes, Tensor links, Tensor leaf_first, Tensor triangles,"
    " Tensor center, float scale, bool any_hit) -> (Tensor t, Tensor slot, Tensor barycentric)",
    _cast_rays_kernel,
    _cast_rays_fake,
)
