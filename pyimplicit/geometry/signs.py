"""What decides the sign of a distance: where the nearest feature's normal can be relied on, and where it cannot."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit.ops import SurfaceBVH
from pyimplicit.ops.bvh import UNSURE
from pyimplicit.ops.overlap import find_overlap, winding_at_faces
from pyimplicit.ops.topology import label_bodies, match_edges, measure_bodies, pseudonormals, weld_corners

# Regions whose winding number is found out, the largest ones, beside one for so many faces. A surface with more is a
# heap of small bodies, in which the winding number decides near all but the largest.
_MOST_REGIONS = 1024
_FACES_OF_A_REGION = 64


@dataclass(frozen=True, eq=False)
class SurfaceSigns:
    """What is known of the inside of a surface."""

    is_closed: bool  # every edge belongs to an even number of faces
    is_oriented: bool  # no edge is inconsistent
    sure: Tensor | None  # [F] bool by slot: faces whose normals tell inside from outside; None if not closed, oriented
    pseudonormals: Tensor | None  # [F, 6] int32 by slot, packed; say "unsure" for the other faces
    gentle: Tensor | None  # [F] bool by slot: sure ones whose plane also tells for points beyond their edges

    @property
    def method(self) -> str:
        """What `sign="auto"` should mean: "pseudonormal" if most faces are sure, else "winding"."""
        return "pseudonormal" if self.sure is not None and 2 * int(self.sure.sum()) > len(self.sure) else "winding"


def find_signs(bvh: SurfaceBVH) -> SurfaceSigns:
    """Find out what may decide the sign of a distance to a surface.

    The nearest feature's normal tells inside from outside wherever the surface is alone: where no other part of it
    crosses it or comes nearer than rounding, and the winding number is 0 on its outer side. The second cannot change
    without the first, so it is looked up once for each region between crossings. All other faces, those inside another
    body, of bodies that are inside out, at crossings, folds, sharp edges, or on top of each other, are
    marked as unsure.

    Args:
        bvh: The surface.

    Returns:
        What was found, on the CPU.

    Source:
        Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> faces = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
        >>> find_signs(build_bvh(corners, faces)).sure
        tensor([True, True, True, True])
    """
    bvh = bvh.to("cpu")
    vertex, first = weld_corners(bvh.triangles.reshape(-1, 3))
    vertex = vertex.reshape(-1, 3)
    edges = match_edges(vertex, len(first))
    if not (edges.is_closed and edges.is_oriented):
        return SurfaceSigns(edges.is_closed, edges.is_oriented, None, None, None)
    normals = pseudonormals(bvh.triangles, vertex, edges.ring, len(first))
    if find_overlap(bvh, vertex, normals.crossed, normals.close):
        sure = _outermost(bvh, edges.ring, normals.crossed) & (normals.close == 0)
    else:
        sure = torch.zeros(len(vertex), dtype=torch.bool, device=vertex.device)
    normals.packed[~sure] = UNSURE
    # A face beside an unsure one may have, just beyond its edge, what that one is unsure for. No unsure one is gentle.
    doubtful = torch.zeros(len(first), dtype=torch.bool, device=vertex.device)
    doubtful[vertex[~sure].flatten().long()] = True
    gentle = (normals.gentle != 0) & ~doubtful[vertex.long()].any(dim=1)
    return SurfaceSigns(True, True, sure, normals.packed, gentle)


def _outermost(bvh: SurfaceBVH, ring: Tensor, crossed: Tensor) -> Tensor:
    """Whether each face is crossed by no other and has winding number 0 on its outer side, [F] bool."""
    region, regions = label_bodies(ring, blocked=crossed)
    largest, faces = measure_bodies(bvh.triangles, region, regions)
    most = _MOST_REGIONS + len(region) // _FACES_OF_A_REGION
    chosen = faces.argsort(descending=True, stable=True)[:most]
    # The last one is for crossed faces, whose region is -1.
    alone = torch.zeros(regions + 1, dtype=torch.bool, device=region.device)
    # Halfway between 1 inside and 0 outside.
    alone[chosen] = (winding_at_faces(bvh, largest[chosen]) - 0.5).abs() < 0.25
    return alone[region.long()]
