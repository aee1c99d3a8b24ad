"""What a mesh's faces have in common: vertices, edges, bodies, and the normals that tell inside from outside.

On the CPU. Results do not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_tensor

MOST_FACES = (2**31 - 1) // 3
"""Half-edges, three of each face, are numbered in int32."""

_CPU = torch.device("cpu")
# Kernels write to these: the default device and type of torch must not matter.
_empty, _zeros = (partial(make, device=_CPU) for make in (torch.empty, torch.zeros))


@dataclass(frozen=True, eq=False)
class Edges:
    """How the faces of a mesh meet. Half-edge 3 f + k runs from corner k of face f to the next corner.

    Faces that name a vertex twice cover nothing; only `ring` and `duplicate_faces` know them.
    """

    ring: Tensor  # [F, 3] int32, the next half-edge along the same edge, the last leading to the first
    edges: int
    boundary: int  # edges of exactly one face
    odd: int  # edges of an odd number of faces
    non_manifold: int  # edges of more than two faces
    inconsistent: int  # shared edges along which the faces do not run in opposite directions
    duplicate_faces: int  # the same three vertices as another face before

    @property
    def is_closed(self) -> bool:
        """Every edge belongs to an even number of faces: there is no boundary."""
        return self.edges > 0 and self.odd == 0

    @property
    def is_oriented(self) -> bool:
        """No edge is inconsistent."""
        return self.inconsistent == 0


@dataclass(frozen=True, eq=False)
class Pseudonormals:
    """Outward normals of a closed, consistently oriented surface, and where they cannot be relied on."""

    packed: Tensor  # [F, 6] int32, directions at edges ab, bc, ca and corners a, b, c; see csrc/surface/pseudonormal.h
    crossed: Tensor  # [F] uint8, 1 where a face at the same vertex crosses this one or lies on it, or may do so
    close: Tensor  # [F] uint8, 1 where a face at the same vertex forms a sharp wedge with this one
    gentle: Tensor  # [F] uint8, 1 where those at the same vertices leave it gentle; see csrc/surface/pseudonormal.h
    sums: Tensor | None  # [F, 7, 3] float32, sums of unit normals: face, edges, and weighted by angle the corners


def weld_corners(
    corners: Tensor,  # [N, 3]
) -> tuple[Tensor, Tensor]:
    """Number positions: corners at exactly the same one are one vertex; 0 and -0 are the same.

    Args:
        corners: [N, 3] float32, N up to 2**31 - 1.

    Returns:
        The vertex of each corner, [N] int32, in the order of their first corners; and those, [V] int32.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape, or not on the CPU.

    Example:
        >>> vertex, first = weld_corners(torch.tensor([[0.0, 1, 2], [3, 4, 5], [-0.0, 1, 2]]))
        >>> vertex.tolist(), first.tolist()
        ([0, 1, 0], [0, 1])
    """
    count = check_tensor("corners", corners, ("N", 3), (torch.float32,), _CPU).shape[0]
    vertex, first = _empty(count, dtype=torch.int32), _empty(count, dtype=torch.int32)
    vertices = _empty(1, dtype=torch.int64)
    _native.call(
        "weld_corners", _CPU, corners=corners.contiguous(), count=count, vertex=vertex, first=first, vertices=vertices
    )
    return vertex, first[: int(vertices)].clone()


def match_edges(
    faces: Tensor,  # [F, 3]
    vertices: int,
) -> Edges:
    """Find which faces share which edges.

    Args:
        faces: [F, 3] int32, up to `MOST_FACES`.
        vertices: Their number; every index is below it.

    Returns:
        The edges, as rings of half-edges, and counts of them.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape, not on the CPU, too many faces, or an index out of range.

    Example:
        >>> edges = match_edges(torch.tensor([[0, 1, 2], [2, 1, 3]], dtype=torch.int32), 4)
        >>> edges.boundary, edges.ring.tolist()
        (4, [[0, 3, 2], [1, 4, 5]])
    """
    count = _check_faces("faces", faces)
    vertices = check_count("vertices", vertices)
    if count and (int(faces.min()) < 0 or int(faces.max()) >= vertices):
        raise ValueError(f"faces: expected indices in 0..{vertices - 1}, got {faces.min()}..{faces.max()}")
    ring = _empty(count, 3, dtype=torch.int32)
    counts = _empty(6, dtype=torch.int64)
    _native.call(
        "match_edges", _CPU, faces=faces.contiguous(), count=count, vertices=vertices, ring=ring, counts=counts
    )
    return Edges(ring, *counts.tolist())


def label_bodies(
    ring: Tensor,  # [F, 3]
    blocked: Tensor | None = None,  # [F]
) -> tuple[Tensor, int]:
    """Number the bodies of a mesh: faces that share an edge belong to the same one.

    Args:
        ring: [F, 3] int32, as in `Edges`.
        blocked: [F] uint8, not 0 for faces that belong to no body and join none.

    Returns:
        The body of each face, [F] int32, numbered in the order of their first faces, -1 where blocked; and how many.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape, or not on the CPU.

    Example:
        >>> label_bodies(match_edges(torch.tensor([[0, 1, 2], [2, 1, 3]], dtype=torch.int32), 4).ring)
        (tensor([0, 0], dtype=torch.int32), 1)
    """
    count = _check_faces("ring", ring)
    if blocked is not None:
        check_tensor("blocked", blocked, (count,), (torch.uint8,), _CPU)
    body, bodies = _empty(count, dtype=torch.int32), _empty(1, dtype=torch.int64)
    _native.call(
        "label_bodies", _CPU, ring=ring.contiguous(), count=count,
        blocked=None if blocked is None else blocked.contiguous(), body=body, bodies=bodies,
    )  # fmt: skip
    return body, int(bodies)


def measure_bodies(
    corners: Tensor,  # [F, 9]
    body: Tensor,  # [F]
    bodies: int,
) -> tuple[Tensor, Tensor]:
    """The largest face of each body, [bodies] int32, and its number of faces, [bodies] int32.

    Args:
        corners: [F, 9] float32, those of each face.
        body: [F] int32, as `label_bodies` numbers them.
        bodies: How many there are.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape, or not on the CPU.

    Example:
        >>> corners = torch.tensor([[0.0, 0, 0, 1, 0, 0, 0, 1, 0], [0, 0, 0, 2, 0, 0, 0, 2, 0]])
        >>> measure_bodies(corners, torch.zeros(2, dtype=torch.int32), 1)
        (tensor([1], dtype=torch.int32), tensor([2], dtype=torch.int32))
    """
    count = check_tensor("corners", corners, ("F", 9), (torch.float32,), _CPU).shape[0]
    check_tensor("body", body, (count,), (torch.int32,), _CPU)
    largest, faces = _zeros(bodies, dtype=torch.int32), _zeros(bodies, dtype=torch.int32)
    _native.call(
        "measure_bodies", _CPU, corners=corners.contiguous(), body=body.contiguous(), count=count, bodies=bodies,
        largest=largest, faces=faces,
    )  # fmt: skip
    return largest, faces


def measure_faces(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    center: tuple[float, float, float],
) -> tuple[Tensor, Tensor]:
    """Area of each face and signed volume of the tetrahedron it spans with the center, [F] float64 each.

    Args:
        vertices: [V, 3] float32, mesh units.
        faces: [F, 3] int32, each index below V.
        center: Any point; the nearer to the mesh, the less cancels in the sum of the volumes.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape, or not on the CPU.

    Example:
        >>> area, volume = measure_faces(torch.eye(3), torch.tensor([[0, 1, 2]], dtype=torch.int32), (0.0, 0.0, 0.0))
        >>> volume
        tensor([0.1667], dtype=torch.float64)
    """
    count = _check_faces("faces", faces)
    check_tensor("vertices", vertices, ("V", 3), (torch.float32,), _CPU)
    area, volume = _empty(count, dtype=torch.float64), _empty(count, dtype=torch.float64)
    _native.call(
        "measure_faces", _CPU, vertices=vertices.contiguous(), faces=faces.contiguous(), count=count, x=center[0],
        y=center[1], z=center[2], area=area, volume=volume,
    )  # fmt: skip
    return area, volume


def pseudonormals(
    corners: Tensor,  # [F, 9]
    vertex: Tensor,  # [F, 3]
    ring: Tensor,  # [F, 3]
    vertices: int,
    *,
    sums: bool = False,
) -> Pseudonormals:
    """Angle-weighted pseudonormals of a closed, consistently oriented surface.

    Args:
        corners: [F, 9] float32, those of each face.
        vertex: [F, 3] int32, their vertices, as `weld_corners` numbers them.
        ring: [F, 3] int32, as in `Edges`.
        vertices: Number of vertices.
        sums: Whether the sums that the packed directions stand for are wanted, too.

    Returns:
        Packed directions, with the faces whose normals cannot be relied on because of those that touch them.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape, or not on the CPU.

    Source:
        Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005.

    Example:
        >>> apexes = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> faces = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], dtype=torch.int32)
        >>> normals = pseudonormals(apexes[faces].reshape(4, 9), faces, match_edges(faces, 4).ring, 4, sums=True)
        >>> normals.sums[0, 0]
        tensor([ 0.,  0., -1.])
    """
    count = check_tensor("corners", corners, ("F", 9), (torch.float32,), _CPU).shape[0]
    check_tensor("vertex", vertex, (count, 3), (torch.int32,), _CPU)
    check_tensor("ring", ring, (count, 3), (torch.int32,), _CPU)
    result = Pseudonormals(
        _empty(count, 6, dtype=torch.int32),
        _empty(count, dtype=torch.uint8),
        _empty(count, dtype=torch.uint8),
        _empty(count, dtype=torch.uint8),
        _empty(count, 7, 3, dtype=torch.float32) if sums else None,
    )
    _native.call(
        "build_pseudonormals", _CPU, corners=corners.contiguous(), vertex=vertex.contiguous(), ring=ring.contiguous(),
        count=count, vertices=vertices, packed=result.packed, sums=result.sums, crossed=result.crossed,
        close=result.close, gentle=result.gentle,
    )  # fmt: skip
    return result


def _check_faces(name: str, faces: Tensor) -> int:
    count = check_tensor(name, faces, ("F", 3), (torch.int32,), _CPU).shape[0]
    if count > MOST_FACES:
        raise ValueError(f"{name}: expected at most {MOST_FACES} faces, got {count}")
    return count
