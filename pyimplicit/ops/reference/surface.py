"""Twins of the queries of a surface, by brute force over all faces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pyimplicit.ops.rays import RayHits
from pyimplicit.ops.reference.brute_force import chunks
from pyimplicit.ops.surface import ClosestPoint


def closest_point(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> ClosestPoint:
    """Twin of `pyimplicit.ops.closest_point`, over all faces."""
    triangles = vertices.double()[faces.long()]  # [F, 3, 3]
    exact = points.double()
    with torch.no_grad():
        pairs = (_closest_on_triangles(some.T.unsqueeze(2), triangles) for some in chunks(exact, triangles))
        face = torch.cat([squared.argmin(1) for squared, _ in pairs])
    corners = triangles[face]
    barycentric = _closest_on_triangles(exact.T, corners)[1].T
    closest = (barycentric.unsqueeze(2) * corners).sum(1)
    distance = torch.linalg.vector_norm(exact - closest, dim=1)
    return ClosestPoint(distance.to(points.dtype), closest.to(points.dtype), face, barycentric.to(points.dtype))


def unsigned_distance(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.unsigned_distance`."""
    return closest_point(points, vertices, faces).distance


def signed_distance(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.signed_distance`, whose sign is always that of the winding number."""
    distance = unsigned_distance(points, vertices, faces)
    return torch.where(winding_number(points.detach(), vertices, faces) > 0.5, -distance, distance)


def batch_closest_point(
    points: Tensor,  # [B, N, 3]
    meshes: Sequence[tuple[Tensor, Tensor]],  # vertices and faces of each surface
    shapes: Tensor,  # [B]
    *,
    signed: bool = False,
) -> ClosestPoint:
    """Twin of `pyimplicit.ops.batch_closest_point`: one row after the other."""
    rows = [closest_point(row, *meshes[shape]) for row, shape in zip(points, shapes.tolist(), strict=True)]
    parts = [torch.stack([getattr(row, part) for row in rows]) for part in ClosestPoint.__annotations__]
    if signed:
        parts[0] = batch_distance(points, meshes, shapes, signed=True)
    return ClosestPoint(*parts)


def batch_distance(
    points: Tensor,  # [B, N, 3]
    meshes: Sequence[tuple[Tensor, Tensor]],  # vertices and faces of each surface
    shapes: Tensor,  # [B]
    *,
    signed: bool,
) -> Tensor:
    """Twin of `pyimplicit.ops.batch_distance`: one row after the other."""
    of_row = signed_distance if signed else unsigned_distance
    return torch.stack([of_row(row, *meshes[shape]) for row, shape in zip(points, shapes.tolist(), strict=True)])


def pseudonormals(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.topology.pseudonormals`, the sums alone: [F, 7, 3] float32."""
    positions, vertex = torch.unique(vertices.float() + 0.0, dim=0, return_inverse=True)
    faces = vertex[faces.long()]
    corners = positions.double()[faces]  # [F, 3, 3]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1)
    normals = torch.nn.functional.normalize(normals, dim=1, eps=0.0).nan_to_num(0.0)

    along = corners.roll(-1, dims=1) - corners  # edges ab, bc, ca
    back = -along.roll(1, dims=1)
    # atan2 of cross and dot: the angle of a sliver keeps its digits where acos would lose them.
    sine = torch.linalg.cross(along, back, dim=2).norm(dim=2)
    angles = torch.atan2(sine, (along * back).sum(2))  # [F, 3]
    at_vertices = torch.zeros(len(positions), 3, dtype=torch.float64)
    at_vertices.index_add_(0, faces.reshape(-1), (angles.unsqueeze(2) * normals.unsqueeze(1)).reshape(-1, 3))

    ends = torch.stack((faces, faces.roll(-1, dims=1)), dim=2)  # [F, 3, 2] vertices of ab, bc, ca
    keys = ends.amin(2) * len(positions) + ends.amax(2)
    _, edge = torch.unique(keys.reshape(-1), return_inverse=True)
    at_edges = torch.zeros(int(edge.max()) + 1, 3, dtype=torch.float64)
    at_edges.index_add_(0, edge, normals.repeat_interleave(3, dim=0))
    return torch.cat((normals.unsqueeze(1), at_edges[edge].reshape(-1, 3, 3), at_vertices[faces]), dim=1).float()


def cast_rays(
    origins: Tensor,  # [N, 3]
    directions: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> RayHits:
    """Twin of `pyimplicit.ops.cast_rays`, by Cramer's rule over all pairs: a ray along an edge may slip through."""
    a, b, c = vertices.double()[faces.long()].unbind(1)  # [F, 3] each
    e1, e2 = b - a, c - a
    o, d = origins.double().unsqueeze(1), directions.double().unsqueeze(1)  # [N, 1, 3]
    across = torch.linalg.cross(d, e2.unsqueeze(0).expand(len(origins), -1, -1), dim=2)
    determinant = (across * e1).sum(2)
    arm = o - a
    v = (arm * across).sum(2) / determinant
    turned = torch.linalg.cross(arm, e1.unsqueeze(0).expand(len(origins), -1, -1), dim=2)
    w = (d * turned).sum(2) / determinant
    t = (e2 * turned).sum(2) / determinant
    met = (determinant != 0) & (v >= 0) & (w >= 0) & (v + w <= 1) & (t >= 0)
    first, face = torch.where(met, t, torch.inf).min(1)
    rows = torch.arange(len(origins))
    weights = torch.stack((1 - v - w, v, w), 2)[rows, face]
    hit = first.isfinite()
    return RayHits(
        first.to(origins.dtype), torch.where(hit, face, -1), torch.where(hit.unsqueeze(1), weights, 0).to(origins.dtype)
    )


def winding_number(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.winding_number`: the sum of all solid angles."""
    corners = vertices.double()[faces.long()].permute(1, 2, 0).unsqueeze(2)  # [3 corners, 3 axes, 1, F]
    sums = []
    for some in chunks(points.double(), faces):
        a, b, c = corners - some.T.unsqueeze(2)  # [3, n, F] each
        la, lb, lc = _dot(a, a).sqrt(), _dot(b, b).sqrt(), _dot(c, c).sqrt()
        determinant = _dot(a, _cross(b, c))
        denominator = la * lb * lc + _dot(a, b) * lc + _dot(b, c) * la + _dot(c, a) * lb
        # In the plane of a face the angle is 0 or, on the face itself, undecided between +2 pi and -2 pi: 0 again.
        angles = torch.where(determinant == 0, 0.0, 2 * torch.atan2(determinant, denominator))
        sums.append(angles.sum(1) / (4 * math.pi))
    return torch.cat(sums).to(points.dtype)


def contains(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.contains`."""
    return winding_number(points.double(), vertices, faces) > 0.5


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _closest_on_triangles(
    points: Tensor,  # [3, n] or [3, n, 1]
    triangles: Tensor,  # [F, 3, 3]
) -> tuple[Tensor, Tensor]:
    """Squared distances [...] of points to triangles and barycentric coordinates [3, ...] of the closest points.

    Points [3, n] pair up with as many triangles, points [3, n, 1] meet all of them. The best of four candidates: the
    closest point of each edge, and the projection on the plane where it falls inside.
    """
    a, b, c = triangles.permute(1, 2, 0)  # [3, F] each, axis by axis: rows of numbers are what torch adds fastest
    if points.dim() == 3:
        a, b, c = a.unsqueeze(1), b.unsqueeze(1), c.unsqueeze(1)
    arm, normal = points - a, _cross(b - a, c - a)
    area = _dot(normal, normal)
    flat = torch.where(area > 0, area, 1.0)
    v, w = _dot(arm, _cross(c - a, normal)) / flat, _dot(arm, _cross(normal, b - a)) / flat
    inside = (area > 0) & (v > 0) & (w > 0) & (v + w < 1)
    best = torch.where(inside, _dot(arm, normal).square() / flat, math.inf)
    barycentric = torch.stack([1 - v - w, v, w])
    for start, end, order in ((a, b, (0, 1, 2)), (b, c, (2, 0, 1)), (c, a, (1, 2, 0))):
        arm, along = points - start, end - start
        length = _dot(along, along)
        t = (_dot(arm, along) / torch.where(length > 0, length, 1.0)).clamp(0, 1)
        off = arm - t * along
        squared = _dot(off, off)
        weights = torch.stack([1 - t, t, torch.zeros_like(t)])[list(order)]
        barycentric = torch.where(squared < best, weights, barycentric)
        best = torch.minimum(squared, best)
    return best, barycentric
