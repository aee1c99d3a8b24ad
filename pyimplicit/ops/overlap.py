"""Where a surface crosses or nearly touches itself, and how often it goes around the middle of a face."""

from __future__ import annotations

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_tensor
from pyimplicit.ops.bvh import SurfaceBVH

# Triangles nearer to each other than this may be taken for one another by a query; in the hierarchy's own
# coordinates. Twice what float32 may take from a distance there.
_REACH = 4e-6

# Gaps smaller than this are not sure to be gaps: double precision, and room to spare.
_ROUNDING = 1e-12

# Moments from farther away than this many radii: off by less than 0.05.
_BETA = 2.0


def find_overlap(
    bvh: SurfaceBVH,
    vertex: Tensor,  # [F, 3]
    crossed: Tensor,  # [F]
    close: Tensor,  # [F]
) -> bool:
    """Find the faces that others cross or nearly touch. Faces with a common vertex are not compared.

    Two faces cross if no plane can be told to part them. They nearly touch if rounding could make a query take one
    for the other, and they face each other or lie back to back: then the sign would depend on which one it takes.

    Args:
        bvh: The surface.
        vertex: [F, 3] int32 by slot, vertices of the corners, as `weld_corners` numbers them.
        crossed: [F] uint8 by slot; becomes 1 for faces that another one touches or passes through.
        close: [F] uint8 by slot; becomes 1 for faces that another one nearly touches.

    Returns:
        Whether all were found. A surface that overlaps itself too much is given up.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape or device.

    Source:
        Gottschalk, Lin, Manocha, "OBBTree: A Hierarchical Structure for Rapid Interference Detection", SIGGRAPH 1996.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.2, -1], [0.2, 0.2, 1], [2, 2, 0]])
        >>> bvh = build_bvh(corners, torch.arange(6).reshape(2, 3))
        >>> crossed, close = torch.zeros(2, 2, dtype=torch.uint8)
        >>> find_overlap(bvh, torch.arange(6, dtype=torch.int32).reshape(2, 3), crossed, close), crossed.tolist()
        (True, [1, 1])
    """
    count, device = bvh.triangles.shape[0], bvh.device
    check_tensor("vertex", vertex, (count, 3), (torch.int32,), device)
    for name, flags in (("crossed", crossed), ("close", close)):
        if not check_tensor(name, flags, (count,), (torch.uint8,), device).is_contiguous():
            raise ValueError(f"{name}: expected a contiguous tensor, which is written to")
    gave_up = torch.zeros(1, dtype=torch.uint8, device=device)
    _native.call(
        "find_overlap", device, boxes=bvh.boxes, links=bvh.links, nodes=bvh.links.shape[0], leaf_first=bvh.leaf_first,
        triangles=bvh.triangles, vertex=vertex.contiguous(), reach=_REACH,
        rounding=_ROUNDING, crossed=crossed, close=close, gave_up=gave_up,
    )  # fmt: skip
    return not bool(gave_up)


def winding_at_faces(
    bvh: SurfaceBVH,
    slots: Tensor,  # [N]
) -> Tensor:
    """Winding number at the middle of some faces, halfway between those on their two sides, [N] float64.

    Args:
        bvh: The surface.
        slots: [N] int32, the faces' places in the hierarchy.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape or device.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.eye(3), torch.tensor([[0, 1, 2]]))
        >>> winding_at_faces(bvh, torch.zeros(1, dtype=torch.int32)).tolist()
        [0.0]
    """
    count = check_tensor("slots", slots, ("N",), (torch.int32,), bvh.device).shape[0]
    winding = torch.empty(count, dtype=torch.float64, device=bvh.device)
    _native.call(
        "winding_at_faces", bvh.device, slots=slots.contiguous(), count=count, links=bvh.links, moments=bvh.moments,
        leaf_first=bvh.leaf_first, triangles=bvh.triangles, beta=_BETA, winding_number=winding,
    )  # fmt: skip
    return winding
