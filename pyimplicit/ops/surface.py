"""Surface queries over a bounding volume hierarchy: closest point, distance, sign, winding number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_tensor
from pyimplicit.ops._closest_feature import ClosestFeature
from pyimplicit.ops._library import no_derivative, register
from pyimplicit.ops.bvh import SIGN_METHODS, SurfaceBVH, check_coordinates, leaf_of_triangles

# Points from which sorting them first pays on a GPU, where neighbouring threads share what they fetch.
_SORT_FROM = 32_768

# A node is replaced by its moments beyond this many radii. At 2 the winding number of closed meshes is off by less
# than 0.02, far from the 0.5 that decides a sign (Barill et al. 2018, section 4.1, use the same value).
WINDING_BETA = 2.0


@dataclass(frozen=True, eq=False)
class ClosestPoint:
    """Answer of a closest-point query for N points."""

    distance: Tensor  # [N] mesh units, not negative
    point: Tensor  # [N, 3] closest point of the surface
    face: Tensor  # [N] int64, face that holds it
    barycentric: Tensor  # [N, 3] weights of the face's corners, sum 1


def closest_point(
    points: Tensor,  # [N, 3]
    bvh: SurfaceBVH,
) -> ClosestPoint:
    """Closest point of the surface to each query point, exact, differentiable in the points.

    Args:
        points: [N, 3] float32 or float64, finite, mesh units, on the device of `bvh`. N may be 0.
        bvh: The prepared surface.

    Returns:
        Distance, point, face and barycentric coordinates. Where two faces are equally near, either may be named. The
        gradient of the distance is the unit vector away from the surface (0 on it), that of the point the projection
        on the face, edge or vertex it lies on.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape or device, NaN or infinity.

    Source:
        Ericson, "Real-Time Collision Detection", section 5.1.5.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> closest_point(torch.tensor([[0.25, 0.25, 2.0]]), bvh).distance
        tensor([2.])
    """
    points = check_points(points, bvh)
    distance, point, face, barycentric, _ = _closest_point_op(points, *_geometry(bvh))
    return ClosestPoint(distance, point, face, barycentric)


def closest_leaf(
    points: Tensor,  # [N, 3]
    bvh: SurfaceBVH,
) -> Tensor:
    """The leaf [N] int32 that holds the closest point; arguments and errors as `closest_point`."""
    slot = _closest_point_op(check_points(points, bvh), *_geometry(bvh))[4]
    return leaf_of_triangles(bvh)[slot.long()]


def unsigned_distance(
    points: Tensor,  # [N, 3]
    bvh: SurfaceBVH,
) -> Tensor:
    """Distance to the surface [N], not negative, in mesh units; arguments and errors as `closest_point`.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> unsigned_distance(torch.tensor([[-3.0, -4.0, 0.0]]), bvh)
        tensor([5.])
    """
    points = check_points(points, bvh)
    distance: Tensor = _distance_op(points, *_geometry(bvh), None, None, None, None, False, 0)
    return distance


def signed_distance(
    points: Tensor,  # [N, 3]
    bvh: SurfaceBVH,
    sign: str,
) -> Tensor:
    """Distance to the surface [N], negative inside, in mesh units.

    Args:
        points: As for `closest_point`.
        bvh: The prepared surface.
        sign: "pseudonormal" (the nearest feature's normal, and the winding number where that is not sure; for closed,
            consistently oriented meshes) or "winding" (inside where the winding number is above 0.5; for any mesh).

    Returns:
        Signed distance [N]. Its gradient is the unit vector of steepest ascent.

    Raises:
        ValueError: `sign` unknown, or "pseudonormal" for a hierarchy that was built without.

    Source:
        Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005;
        Jacobson, Kavan, Sorkine-Hornung, "Robust Inside-Outside Segmentation using Generalized Winding Numbers", 2013.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> signed_distance(torch.tensor([[0.2, 0.2, 3.0]]), bvh, sign="winding")
        tensor([3.])
    """
    points = check_points(points, bvh)
    bvh.check_sign(sign)
    sides = (bvh.pseudonormals, bvh.leaf_sides) if sign == "pseudonormal" else (None, None)
    distance: Tensor = _distance_op(
        points, *_geometry(bvh), bvh.start_distance, *sides, bvh.moments, bvh.is_closed, SIGN_METHODS[sign]
    )  # fmt: skip
    return distance


def winding_number(
    points: Tensor,  # [N, 3]
    bvh: SurfaceBVH,
    beta: float = WINDING_BETA,
) -> Tensor:
    """Generalised winding number of the surface around each point: 1 inside a closed mesh, 0 outside.

    Args:
        points: As for `closest_point`. Not differentiable.
        bvh: The prepared surface.
        beta: How many radii away a node may be summed up by its moments; infinity sums every triangle.

    Returns:
        Winding number [N]; between the whole numbers where the mesh is open, above 1 where bodies overlap.

    Raises:
        ValueError: As `closest_point`; `beta` below 1 or NaN.

    Source:
        Barill et al., "Fast Winding Numbers for Soups and Clouds", SIGGRAPH 2018.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> bool(winding_number(torch.tensor([[0.2, 0.2, 1e-6]]), bvh).abs() > 0.49)
        True
    """
    points = check_points(points, bvh)
    if not beta >= 1:
        raise ValueError(f"beta: expected at least 1, got {beta}")
    result: Tensor = _winding_number_op(points, *(getattr(bvh, name) for name in _WINDING), float(beta))
    return result


def contains(
    points: Tensor,  # [N, 3]
    bvh: SurfaceBVH,
) -> Tensor:
    """Whether the winding number around each point is above 0.5: inside, for any mesh.

    Args:
        points: As for `closest_point`.
        bvh: The prepared surface.

    Returns:
        [N] bool. A point on the surface, as far as float32 can tell, may be called either.

    Raises:
        TypeError: As `closest_point`.
        ValueError: As `closest_point`.

    Source:
        Jacobson, Kavan, Sorkine-Hornung, "Robust Inside-Outside Segmentation using Generalized Winding Numbers", 2013.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> bvh = build_bvh(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
        >>> contains(torch.tensor([[0.1, 0.2, 0.2], [-0.5, 0.1, 0.1]]), bvh)
        tensor([ True, False])
    """
    inside: Tensor = _contains_op(check_points(points, bvh).detach(), *(getattr(bvh, name) for name in _WINDING))
    return inside


def check_points(points: Tensor, bvh: SurfaceBVH) -> Tensor:
    """Return points [N, 3] contiguous, or refuse what no query can answer: wrong shape, dtype, device or values."""
    check_tensor("points", points, ("N", 3), device=bvh.device)
    return check_coordinates("points", points, bvh.center)


def morton_order(
    points: Tensor,  # [N, 3]
) -> Tensor:
    """Indices [N] int64 of points along a Morton curve over their bounding box; N at least 1.

    Source:
        Morton, "A Computer Oriented Geodetic Data Base and a New Technique in File Sequencing", 1966.

    Example:
        >>> morton_order(torch.tensor([[1.0, 1, 1], [0, 0, 0], [0, 0, 1]])).tolist()
        [1, 2, 0]
    """
    keys = torch.empty(points.shape[0], dtype=torch.int32, device=points.device)
    box = torch.stack(points.aminmax(dim=0))
    _native.call(
        "morton_keys",
        points.device,
        points.dtype,
        points=points.contiguous(),
        count=points.shape[0],
        box=box,
        keys=keys,
    )
    return keys.sort(stable=True).indices


def _geometry(bvh: SurfaceBVH) -> tuple[Any, ...]:
    return tuple(getattr(bvh, name) for name in _GEOMETRY)


# ---- operators


def _query(
    points: Tensor,
    geometry: Sequence[Any],
    start_distance: Tensor | None = None,
    pseudonormals: Tensor | None = None,
    leaf_sides: Tensor | None = None,
    moments: Tensor | None = None,
    inherit: bool = False,
    sign_method: int = 0,
    **outputs: Tensor | None,
) -> None:
    keywords = dict(zip(_GEOMETRY, geometry, strict=True))
    start_leaf = keywords["start_leaf"]
    order = morton_order(points) if points.is_cuda and points.shape[0] >= _SORT_FROM else None  # the CPU's sorts itself
    _native.call(
        "surface_query", points.device, points.dtype, points=points, count=points.shape[0], order=order, **keywords,
        start_distance=start_distance, start_resolution=0 if start_leaf is None else start_leaf.shape[0],
        moments=moments, pseudonormals=pseudonormals, leaf_sides=leaf_sides, sign_method=sign_method,
        inherit=inherit, plain=False, **outputs,
    )  # fmt: skip


def _closest_point_kernel(points: Tensor, *geometry: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    outputs = _closest_point_fake(points)
    distance, closest, face, barycentric, slot = outputs
    _query(points, geometry, distance=distance, closest=closest, slot=slot, face=face, barycentric=barycentric)
    return outputs


def _closest_point_fake(points: Tensor, *_geometry: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    count = points.shape[0]
    return (
        points.new_empty(count),
        points.new_empty(count, 3),
        points.new_empty(count, dtype=torch.int64),
        points.new_empty(count, 3),
        points.new_empty(count, dtype=torch.int32),
    )


def _closest_point_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    points, triangles = inputs[0], inputs[5]
    distance, closest, face, barycentric, slot = output
    ctx.mark_non_differentiable(face, barycentric, slot)
    ctx.save_for_backward(points, distance, closest, slot, barycentric, triangles)


def _closest_point_backward(
    ctx: Any, grad_distance: Tensor, grad_closest: Tensor, *_unused: Tensor
) -> tuple[Tensor | None, ...]:
    points, distance, closest, slot, barycentric, triangles = ctx.saved_tensors
    feature = ClosestFeature.of(triangles[slot.long()].to(points.dtype), barycentric)
    slope = feature.away(points, distance, closest) * grad_distance.unsqueeze(-1)
    return (slope + feature.along(grad_closest), *[None] * 10)


_GEOMETRY = (
    "boxes", "links", "leaf_first", "frames", "triangles", "triangle_face", "center", "scale", "start_leaf",
    "start_half_side",
)  # fmt: skip
_GEOMETRY_SCHEMA = (
    "Tensor points, Tensor boxes, Tensor links, Tensor leaf_first, Tensor frames, Tensor triangles,"
    " Tensor triangle_face, Tensor center, float scale, Tensor? start_leaf, float start_half_side"
)

_closest_point_op = register(
    "closest_point",
    f"({_GEOMETRY_SCHEMA}) -> (Tensor distance, Tensor closest, Tensor face, Tensor barycentric, Tensor slot)",
    _closest_point_kernel,
    _closest_point_fake,
    _closest_point_backward,
    _closest_point_context,
)


def _distance_kernel(points: Tensor, *rest: Any) -> Tensor:
    geometry, sign = rest[: len(_GEOMETRY)], rest[len(_GEOMETRY) :]
    distance = points.new_empty(points.shape[0])
    _query(points, geometry, *sign, distance=distance, closest=None, slot=None, face=None, barycentric=None)
    return distance


def _distance_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:8], inputs[9], output)
    ctx.scale, ctx.start_half_side = inputs[8], inputs[10]


def _distance_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    # The forward pass keeps distances alone; the closest points are found again for those who want gradients.
    points, *geometry, start_leaf, signed = ctx.saved_tensors
    distance, closest, _, barycentric, slot = _closest_point_op(
        points, *geometry, ctx.scale, start_leaf, ctx.start_half_side
    )
    feature = ClosestFeature.of(geometry[4][slot.long()].to(points.dtype), barycentric)
    slope = feature.away(points, distance, closest) * (gradient * torch.where(signed < 0, -1.0, 1.0)).unsqueeze(-1)
    return (slope, *[None] * 16)


_distance_op = register(
    "surface_distance",
    f"({_GEOMETRY_SCHEMA}, Tensor? start_distance, Tensor? pseudonormals, Tensor? leaf_sides, Tensor? moments,"
    " bool inherit, int sign_method) -> Tensor",
    _distance_kernel,
    lambda points, *_: points.new_empty(points.shape[0]),
    _distance_backward,
    _distance_context,
)


_WINDING = ("links", "moments", "leaf_first", "frames", "triangles", "center", "scale")
_WINDING_SCHEMA = (
    "Tensor points, Tensor links, Tensor moments, Tensor leaf_first, Tensor frames, Tensor triangles, Tensor center,"
    " float scale"
)


def _winding_number_kernel(points: Tensor, *rest: Any) -> Tensor:
    *hierarchy, beta = rest
    out = points.new_empty(points.shape[0])
    _native.call(
        "winding_number", points.device, points.dtype, points=points, count=points.shape[0],
        **dict(zip(_WINDING, hierarchy, strict=True)), beta=beta, plain=False, out=out,
    )  # fmt: skip
    return out


_winding_number_op = register(
    "winding_number",
    f"({_WINDING_SCHEMA}, float beta) -> Tensor",
    _winding_number_kernel,
    lambda points, *_: points.new_empty(points.shape[0]),
    no_derivative("winding_number", "cannot be differentiated"),
    lambda ctx, inputs, output: None,
)


def _contains_kernel(points: Tensor, *hierarchy: Any) -> Tensor:
    inside = points.new_empty(points.shape[0], dtype=torch.bool)
    _native.call(
        "contains", points.device, points.dtype, points=points, count=points.shape[0],
        **dict(zip(_WINDING, hierarchy, strict=True)), plain=False, inside=inside,
    )  # fmt: skip
    return inside


_contains_op = register(
    "contains",
    f"({_WINDING_SCHEMA}) -> Tensor",
    _contains_kernel,
    lambda points, *_: points.new_empty(points.shape[0], dtype=torch.bool),
)
