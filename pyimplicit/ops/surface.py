"""Surface queries over a bounding volume hierarchy: closest point, distance, sign, winding number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_finite, check_tensor
from pyimplicit.ops._closest_feature import ClosestFeature
from pyimplicit.ops._library import no_derivative, register

SIGN_METHODS = {"pseudonormal": 1, "winding": 2}  # numbered as SignMethod in csrc/surface.h

# Points from which sorting them first pays on a GPU, where neighbouring threads share what they fetch.
_SORT_FROM = 32_768

# Points below this, and so what lies between two of them, are in float32's range.
_SAFE_COORDINATE = 1e37

# Half the side of the cube that a start grid covers, in the hierarchy's coordinates; as in csrc/start_grid.h.
_START_HALF_SIDE = 1.125

# A node is replaced by its moments beyond this many radii. At 2 the winding number of closed meshes is off by less
# than 0.02, far from the 0.5 that decides a sign (Barill et al. 2018, section 4.1, use the same value).
WINDING_BETA = 2.0


@dataclass(frozen=True, eq=False)
class SurfaceBVH:
    """A triangle mesh prepared for queries: tensors only, so it can be moved, saved and shared.

    Coordinates are the hierarchy's own: relative to `center`, and times `scale`, which brings the largest of a mesh of
    any size between a half and one.
    """

    boxes: Tensor  # [M, 8, 8] float32, the boxes of each node's eight children and the axes they lie along
    links: Tensor  # [M, 8] int32, the child's node, or ~leaf
    moments: Tensor  # [M, 13, 8] float32 of each child, for the winding number far away
    leaf_first: Tensor  # [L + 1] int32, first triangle of each leaf
    frames: Tensor  # [L, 14, 8] float32, a leaf's triangles in frames of their own
    triangles: Tensor  # [F, 9] float32, corners in leaf order
    triangle_face: Tensor  # [F] int32, face of the mesh at each leaf slot
    center: Tensor  # [3] float64, mesh units
    scale: float  # a power of two, 1 / mesh units
    is_closed: bool = False  # closed and consistently oriented: the sign changes across the surface only
    pseudonormals: Tensor | None = None  # [F, 7, 3] float32 by slot: face, edges ab bc ca, corners a b c
    start_leaf: Tensor | None = None  # [R, R, R] int32, leaf nearest to the center of each cell of a grid
    start_distance: Tensor | None = None  # [R, R, R] float32, signed distance of those centers, of a closed surface

    def to(self, device: torch.device | str) -> SurfaceBVH:
        """The same hierarchy on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def closed(self, pseudonormals: Tensor) -> SurfaceBVH:
        """The same hierarchy, known to be of a closed and consistently oriented mesh.

        Args:
            pseudonormals: [F, 7, 3] outward normals of each face, of its edges ab, bc, ca and of its corners a, b, c.
        """
        check_tensor("pseudonormals", pseudonormals, (self.triangle_face.shape[0], 7, 3), device=self.device)
        by_slot = pseudonormals.float()[self.triangle_face.long()].contiguous()
        return replace(self, is_closed=True, pseudonormals=by_slot)

    def with_start(self, sign: str | None = None) -> SurfaceBVH:
        """The same hierarchy with a grid around it that tells each query where to look first.

        Worth its time, about that of a query for each of its cells, once there are as many queries. Answers stay the
        same to the last bit.

        Args:
            sign: Whether the grid should hold signs, too, found by this method of `signed_distance`, which then holds
                for all signed queries. Only a closed surface's signs can be passed on to points nearby.
        """
        resolution = self.start_resolution
        steps = torch.arange(resolution, device=self.device, dtype=torch.float64)
        axis = ((2 * steps + 1) / resolution - 1) * _START_HALF_SIDE
        centers = torch.cartesian_prod(axis, axis, axis) / self.scale + self.center
        shape = (resolution,) * 3
        grid = self
        if self.start_leaf is None:
            slot = _closest_point_op(centers, *_geometry(self))[4]
            leaf = torch.searchsorted(self.leaf_first, slot, right=True, out_int32=True) - 1
            grid = replace(self, start_leaf=leaf.reshape(shape))
        if sign is not None and self.is_closed:
            distance = signed_distance(centers, replace(grid, start_distance=None), sign)
            grid = replace(grid, start_distance=(distance * self.scale).float().reshape(shape))
        return grid

    @property
    def start_resolution(self) -> int:
        """Cells of the start grid along an axis: about two for each leaf, and not so many that they outgrow a cache."""
        leaves = self.leaf_first.shape[0] - 1
        return min(max(round(math.pow(2 * leaves, 1 / 3)), 4), 96)

    def check_sign(self, sign: str) -> None:
        """Refuse a way to find signs that is unknown, or that this hierarchy was not built for."""
        if sign not in SIGN_METHODS:
            raise ValueError(f"sign: expected 'pseudonormal' or 'winding', got {sign!r}")
        if sign == "pseudonormal" and self.pseudonormals is None:
            raise ValueError("sign: 'pseudonormal' needs a closed, consistently oriented mesh; use 'winding'")

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.boxes.device


@dataclass(frozen=True, eq=False)
class ClosestPoint:
    """Answer of a closest-point query for N points."""

    distance: Tensor  # [N] mesh units, not negative
    point: Tensor  # [N, 3] closest point of the surface
    face: Tensor  # [N] int64, face that holds it
    barycentric: Tensor  # [N, 3] weights of the face's corners, sum 1


def build_bvh(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> SurfaceBVH:
    """Build the hierarchy over a validated triangle mesh, on the CPU.

    Args:
        vertices: [V, 3] float32 or float64, finite, mesh units. float64 keeps a mesh far from the origin exact.
        faces: [F, 3] int32 or int64, each index below V.

    Returns:
        The hierarchy, relative to the middle of the bounding box.

    Raises:
        ValueError: No faces, an index out of range, or a coordinate that is not finite.
        TypeError: A wrong dtype.

    Source:
        Wald, "On fast Construction of SAH-based Bounding Volume Hierarchies", RT 2007.

    Example:
        >>> bvh = build_bvh(torch.eye(3), torch.tensor([[0, 1, 2]]))
        >>> tuple(bvh.triangles.shape)
        (1, 9)
    """
    cpu = torch.device("cpu")
    vertices = check_coordinates("vertices", check_tensor("vertices", vertices, ("V", 3), device=cpu))
    check_tensor("faces", faces, ("F", 3), (torch.int32, torch.int64), device=cpu)
    count = faces.shape[0]
    if count == 0 or count > 2**30:
        raise ValueError(f"faces: expected between 1 and 2**30 faces, got {count}")
    if int(faces.min()) < 0 or int(faces.max()) >= vertices.shape[0]:
        raise ValueError(f"faces: expected indices in 0..{vertices.shape[0] - 1}, got {faces.min()}..{faces.max()}")
    center, scale = torch.empty(3, dtype=torch.float64), torch.empty(1, dtype=torch.float64)
    triangles = torch.empty(count, 9)
    _native.call(
        "gather_corners", cpu, vertices.dtype, vertices=vertices.detach(), faces=faces.int().contiguous(),
        count=count, center=center, scale=scale, corners=triangles,
    )  # fmt: skip
    arrays: dict[str, Any] = _native.build_bvh(triangles)
    return SurfaceBVH(**arrays, center=center, scale=scale.item())


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
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> closest_point(torch.tensor([[0.25, 0.25, 2.0]]), bvh).distance
        tensor([2.])
    """
    points = check_points(points, bvh)
    distance, point, face, barycentric, _ = _closest_point_op(points, *_geometry(bvh))
    return ClosestPoint(distance, point, face, barycentric)


def unsigned_distance(
    points: Tensor,  # [N, 3]
    bvh: SurfaceBVH,
) -> Tensor:
    """Distance to the surface [N], not negative, in mesh units; arguments and errors as `closest_point`.

    Example:
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> unsigned_distance(torch.tensor([[-3.0, -4.0, 0.0]]), bvh)
        tensor([5.])
    """
    points = check_points(points, bvh)
    distance: Tensor = _distance_op(points, *_geometry(bvh), None, None, None, False, 0)
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
        sign: "pseudonormal" (one query; right for closed, consistently oriented meshes that do not overlap
            themselves) or "winding" (inside where the winding number is above 0.5; right for any mesh).

    Returns:
        Signed distance [N]. Its gradient is the unit vector of steepest ascent.

    Raises:
        ValueError: `sign` unknown, or "pseudonormal" for a hierarchy that was built without.

    Source:
        Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005;
        Jacobson, Kavan, Sorkine-Hornung, "Robust Inside-Outside Segmentation using Generalized Winding Numbers", 2013.

    Example:
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> signed_distance(torch.tensor([[0.2, 0.2, 3.0]]), bvh, sign="winding")
        tensor([3.])
    """
    points = check_points(points, bvh)
    bvh.check_sign(sign)
    normals, moments = (bvh.pseudonormals, None) if sign == "pseudonormal" else (None, bvh.moments)
    distance: Tensor = _distance_op(
        points, *_geometry(bvh), bvh.start_distance, normals, moments, bvh.is_closed, SIGN_METHODS[sign]
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
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> bool(winding_number(torch.tensor([[0.2, 0.2, 1e-6]]), bvh).abs() > 0.49)
        True
    """
    points = check_points(points, bvh)
    if not beta >= 1:
        raise ValueError(f"beta: expected at least 1, got {beta}")
    result: Tensor = _winding_number_op(
        points, bvh.links, bvh.moments, bvh.leaf_first, bvh.frames, bvh.triangles, bvh.center, bvh.scale, float(beta)
    )
    return result


def check_points(points: Tensor, bvh: SurfaceBVH) -> Tensor:
    """Return points [N, 3] contiguous, or refuse what no query can answer: wrong shape, dtype, device or values."""
    check_tensor("points", points, ("N", 3), device=bvh.device)
    return check_coordinates("points", points, bvh.center)


def check_coordinates(name: str, points: Tensor, center: Tensor | None = None) -> Tensor:
    """Return points [..., 3] contiguous, or refuse NaN, infinity and what leaves float32's range, as seen from center.

    The CPU looks at them once, on the library's own threads.
    """
    points = points.contiguous()
    looks_itself = points.device.type == "cpu" and not torch.compiler.is_compiling()
    if looks_itself and _native.largest_magnitude(points.detach()) < _SAFE_COORDINATE:
        return points
    check_finite(name, points)
    if points.dtype == torch.float64:
        check_finite(name, (points.detach() - (0.0 if center is None else center)).float())
    return points


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
    return (
        bvh.boxes, bvh.links, bvh.leaf_first, bvh.frames, bvh.triangles, bvh.triangle_face, bvh.center, bvh.scale,
        bvh.start_leaf,
    )  # fmt: skip


# ---- operators


def _query(
    points: Tensor,
    geometry: tuple[Any, ...],
    start_distance: Tensor | None = None,
    pseudonormals: Tensor | None = None,
    moments: Tensor | None = None,
    inherit: bool = False,
    sign_method: int = 0,
    **outputs: Tensor | None,
) -> None:
    names = ("boxes", "links", "leaf_first", "frames", "triangles", "triangle_face", "center", "scale", "start_leaf")
    keywords = dict(zip(names, geometry, strict=True))
    start_leaf = keywords["start_leaf"]
    order = morton_order(points) if points.is_cuda and points.shape[0] >= _SORT_FROM else None  # the CPU's sorts itself
    _native.call(
        "surface_query", points.device, points.dtype, points=points, count=points.shape[0], order=order, **keywords,
        start_distance=start_distance, start_resolution=0 if start_leaf is None else start_leaf.shape[0],
        moments=moments, pseudonormals=pseudonormals, sign_method=sign_method,
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
    return (slope + feature.along(grad_closest), *[None] * 9)


_GEOMETRY_SCHEMA = (
    "Tensor points, Tensor boxes, Tensor links, Tensor leaf_first, Tensor frames, Tensor triangles,"
    " Tensor triangle_face, Tensor center, float scale, Tensor? start_leaf"
)

_closest_point_op = register(
    "closest_point",
    f"({_GEOMETRY_SCHEMA}) -> (Tensor distance, Tensor closest, Tensor face, Tensor barycentric, Tensor slot)",
    _closest_point_kernel,
    _closest_point_fake,
    _closest_point_backward,
    _closest_point_context,
)


def _distance_kernel(
    points: Tensor,
    boxes: Tensor,
    links: Tensor,
    leaf_first: Tensor,
    frames: Tensor,
    triangles: Tensor,
    triangle_face: Tensor,
    center: Tensor,
    scale: float,
    start_leaf: Tensor | None,
    start_distance: Tensor | None,
    pseudonormals: Tensor | None,
    moments: Tensor | None,
    inherit: bool,
    sign_method: int,
) -> Tensor:
    distance = points.new_empty(points.shape[0])
    geometry = (boxes, links, leaf_first, frames, triangles, triangle_face, center, scale, start_leaf)
    _query(
        points, geometry, start_distance, pseudonormals, moments, inherit, sign_method, distance=distance,
        closest=None, slot=None, face=None, barycentric=None,
    )  # fmt: skip
    return distance


def _distance_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:8], inputs[9], output)
    ctx.scale = inputs[8]


def _distance_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    # The forward pass keeps distances alone; the closest points are found again for those who want gradients.
    points, *geometry, start_leaf, signed = ctx.saved_tensors
    distance, closest, _, barycentric, slot = _closest_point_op(points, *geometry, ctx.scale, start_leaf)
    feature = ClosestFeature.of(geometry[4][slot.long()].to(points.dtype), barycentric)
    slope = feature.away(points, distance, closest) * (gradient * torch.where(signed < 0, -1.0, 1.0)).unsqueeze(-1)
    return (slope, *[None] * 14)


_distance_op = register(
    "surface_distance",
    f"({_GEOMETRY_SCHEMA}, Tensor? start_distance, Tensor? pseudonormals, Tensor? moments, bool inherit,"
    " int sign_method) -> Tensor",
    _distance_kernel,
    lambda points, *_: points.new_empty(points.shape[0]),
    _distance_backward,
    _distance_context,
)


def _winding_number_kernel(
    points: Tensor,
    links: Tensor,
    moments: Tensor,
    leaf_first: Tensor,
    frames: Tensor,
    triangles: Tensor,
    center: Tensor,
    scale: float,
    beta: float,
) -> Tensor:
    out = points.new_empty(points.shape[0])
    _native.call(
        "winding_number", points.device, points.dtype, points=points, count=points.shape[0], links=links,
        moments=moments, leaf_first=leaf_first, frames=frames, triangles=triangles, center=center, scale=scale,
        beta=beta, plain=False, out=out,
    )  # fmt: skip
    return out


_winding_number_op = register(
    "winding_number",
    "(Tensor points, Tensor links, Tensor moments, Tensor leaf_first, Tensor frames, Tensor triangles, Tensor center,"
    " float scale, float beta) -> Tensor",
    _winding_number_kernel,
    lambda points, *_: points.new_empty(points.shape[0]),
    no_derivative("winding_number", "cannot be differentiated"),
    lambda ctx, inputs, output: None,
)
