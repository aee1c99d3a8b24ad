"""The triangle mesh: validated once at construction, inspected, welded and normalised.

Everything below this module may trust a `Mesh`: it is not empty, its vertices are finite and every face index exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyimplicit.checks import check_positive
from pyimplicit.errors import MeshError
from pyimplicit.ops.topology import MOST_FACES, label_bodies, match_edges, measure_faces, weld_corners

LONGEST_SIDE = 1.0
"""Longest side of the bounding box of a normalised mesh, in mesh units: it then just fits the cube [-0.5, 0.5]^3."""

MAX_COUNT = 2**31 - 1
"""Most vertices of a mesh: indices are int32."""

DEGENERATE_AREA = 1e-12
"""A face with less area than this, in units of the squared bounding-box diagonal, counts as degenerate. It is the area
of a triangle with edges of about 1e-6 diagonals, some ten float32 steps: smaller ones are rounding, not shape."""


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Mesh:
    """A triangle mesh: finite vertices, and faces that name three of them each.

    The constructor accepts numpy arrays and CPU tensors, copies them, and stores float32 vertices and int32 faces;
    float64 vertices are rounded and wider integer faces narrowed. Gradients are not tracked. Nothing is repaired.

    Args:
        vertices: [V, 3] float32 or float64, mesh units.
        faces: [F, 3] integers in [0, V), counter-clockwise seen from outside.

    Raises:
        TypeError: Not an array or tensor, vertices that are not floats, faces that are not integers.
        MeshError: A wrong shape, a tensor off the CPU, no vertices, no faces, NaN or infinity, an index out of range.

    Example:
        >>> mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]))
        >>> mesh.vertices.dtype, mesh.faces.dtype
        (torch.float32, torch.int32)
    """

    vertices: Tensor  # [V, 3] float32, CPU
    faces: Tensor  # [F, 3] int32, CPU

    def __init__(self, vertices: Tensor | NDArray[Any], faces: Tensor | NDArray[Any]) -> None:
        corners = _as_array("vertices", vertices, np.floating, "float32 or float64", (4, 8))
        indices = _as_array("faces", faces, np.integer, "integers", (1, 2, 4, 8))
        if not len(corners) or not len(indices):
            raise MeshError(f"empty mesh: expected vertices and faces, got {len(corners)} and {len(indices)}")
        if len(corners) > MAX_COUNT or len(indices) > MOST_FACES:
            raise MeshError(
                f"mesh too large: expected at most {MAX_COUNT} vertices and {MOST_FACES} faces, got {len(corners)} and"
                f" {len(indices)}"
            )
        with np.errstate(over="ignore"):
            rounded = corners.astype(np.float32, order="C")
        finite = np.isfinite(rounded).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            raise MeshError(f"vertices: expected finite float32, got {corners[first].tolist()} at vertex {first}")
        known = ((indices >= 0) & (indices < len(corners))).all(axis=1)
        if not known.all():
            first = int(np.argmin(known))
            raise MeshError(f"faces: expected 0 to {len(corners) - 1}, got {indices[first].tolist()} at face {first}")
        object.__setattr__(self, "vertices", torch.from_numpy(rounded))
        object.__setattr__(self, "faces", torch.from_numpy(indices.astype(np.int32, order="C")))

    def __repr__(self) -> str:
        return f"Mesh({len(self.vertices)} vertices, {len(self.faces)} faces)"

    @cached_property
    def bounds(self) -> Tensor:
        """Lowest and highest corner of the vertices that faces use, [2, 3] float32."""
        used = self.vertices[_is_used(self)]
        return torch.stack([used.amin(dim=0), used.amax(dim=0)])


@dataclass(frozen=True)
class MeshReport:
    """What `inspect_mesh` found. Edges are counted by vertex index: weld first where positions repeat.

    Faces that name a vertex twice cover nothing and are left out of every edge count.
    """

    vertices: int
    faces: int
    boundary_edges: int  # used by exactly one face
    non_manifold_edges: int  # used by more than two faces
    inconsistent_edges: int  # shared, but its faces do not run along it in opposite directions
    components: int  # bodies: sets of faces connected through edges
    degenerate_faces: int  # a repeated vertex, or less area than DEGENERATE_AREA
    duplicate_faces: int  # the same three vertices as an earlier face
    unreferenced_vertices: int
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]]
    area: float  # squared mesh units
    volume: float  # signed, cubic mesh units; a volume only if closed and oriented
    is_closed: bool  # every edge is used by an even number of faces: no boundary
    is_oriented: bool  # no inconsistent edges

    @property
    def is_solid(self) -> bool:
        """Closed, oriented and with positive volume: the winding number is an integer everywhere, 0 outside."""
        return self.is_closed and self.is_oriented and self.volume > 0

    def summary(self) -> str:
        """One line for people.

        Example:
            >>> inspect_mesh(Mesh(np.eye(3), np.array([[0, 1, 2]]))).summary()
            '3 vertices, 1 face, 1 body, open (3 boundary edges)'
        """
        parts = [
            f"{self.vertices:,} vertices",
            f"{self.faces:,} face{'s' * (self.faces != 1)}",
            f"{self.components:,} {'body' if self.components == 1 else 'bodies'}",
            "closed" if self.is_closed else f"open ({self.boundary_edges:,} boundary edges)",
        ]
        if not self.is_oriented:
            parts.append(f"not oriented ({self.inconsistent_edges:,} edges)")
        for count, words in (
            (self.non_manifold_edges, "non-manifold edges"),
            (self.degenerate_faces, "degenerate faces"),
            (self.duplicate_faces, "duplicate faces"),
            (self.unreferenced_vertices, "unreferenced vertices"),
        ):
            if count:
                parts.append(f"{count:,} {words}")
        if self.is_closed and self.is_oriented:
            parts.append(f"volume {self.volume:.4g}")
        return ", ".join(parts)


def inspect_mesh(mesh: Mesh) -> MeshReport:
    """Count what can be wrong with a mesh.

    Args:
        mesh: Any mesh.

    Returns:
        The counts, bounds, area and signed volume as a `MeshReport`; see there for each definition.

    Raises:
        TypeError: `mesh` is not a `Mesh`.

    Example:
        >>> corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
        >>> report = inspect_mesh(Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])))
        >>> report.is_solid, round(report.volume, 4)
        (True, 0.1667)
    """
    edges = match_edges(check_mesh(mesh).faces, len(mesh.vertices))
    bodies = label_bodies(edges.ring)[1]
    low, high = mesh.bounds.double().numpy()
    areas, volumes = _measure(mesh)
    smallest = DEGENERATE_AREA * float(((high - low) ** 2).sum())
    return MeshReport(
        vertices=len(mesh.vertices),
        faces=len(mesh.faces),
        boundary_edges=edges.boundary,
        non_manifold_edges=edges.non_manifold,
        inconsistent_edges=edges.inconsistent,
        components=bodies,
        degenerate_faces=int((_names_vertex_twice(mesh.faces.numpy()) | (areas <= smallest)).sum()),
        duplicate_faces=edges.duplicate_faces,
        unreferenced_vertices=len(mesh.vertices) - int(_is_used(mesh).sum()),
        bounds=(tuple(low.tolist()), tuple(high.tolist())),
        area=float(areas.sum()),
        volume=float(volumes.sum()),
        is_closed=edges.is_closed,
        is_oriented=edges.is_oriented,
    )


def face_components(mesh: Mesh) -> NDArray[np.int64]:
    """Label each face with its body; faces that share an edge belong to the same one.

    Args:
        mesh: Any mesh.

    Returns:
        The body of each face, [F] int64, numbered from 0 in the order of their first faces.

    Example:
        >>> face_components(Mesh(np.eye(4)[:, :3], np.array([[0, 1, 2], [2, 1, 3]])))
        array([0, 0])
    """
    edges = match_edges(check_mesh(mesh).faces, len(mesh.vertices))
    labels: NDArray[np.int64] = label_bodies(edges.ring)[0].long().numpy()
    return labels


def body_volumes(
    mesh: Mesh,
    body: NDArray[np.int64],  # [F]
) -> NDArray[np.float64]:
    """Signed volume of each body, meaningful where it is closed and oriented.

    Args:
        mesh: Any mesh.
        body: The body of each face, as `face_components` numbers them, [F].

    Returns:
        [bodies] float64, cubic mesh units; negative for a body that is inside out, such as a cavity.

    Example:
        >>> corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
        >>> mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
        >>> body_volumes(mesh, face_components(mesh)).round(4)
        array([0.1667])
    """
    volumes: NDArray[Any] = np.bincount(body, weights=_measure(check_mesh(mesh))[1])
    return volumes


def take_faces(
    mesh: Mesh,
    chosen: NDArray[Any],  # [F] bool, or [n] indices
) -> Mesh:
    """Return the mesh of the chosen faces, with only the vertices they use.

    Example:
        >>> take_faces(Mesh(np.eye(4)[:, :3], np.array([[0, 1, 2], [2, 1, 3]])), np.array([1]))
        Mesh(3 vertices, 1 faces)
    """
    faces = check_mesh(mesh).faces.numpy()[chosen]
    if not len(faces):
        raise MeshError("empty mesh: no faces chosen")
    used, renumbered = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices.numpy()[used], renumbered.reshape(-1, 3))


def merge_vertices(mesh: Mesh) -> Mesh:
    """Weld vertices at exactly the same float32 position, drop the unused, keep the order of first use.

    Files store a vertex once per texture seam, per facet or per strip; welding restores which faces are neighbours.
    No tolerance is applied, so no shape changes. All faces are kept, in order.

    Example:
        >>> corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
        >>> merge_vertices(Mesh(corners, np.arange(6).reshape(2, 3))).faces.tolist()
        [[0, 1, 2], [1, 3, 2]]
    """
    corners = check_mesh(mesh).vertices[mesh.faces.reshape(-1)]  # [3 F, 3]
    vertex, first = weld_corners(corners)
    return Mesh(corners[first] + 0.0, vertex.reshape(-1, 3))  # -0.0 becomes 0.0


def flip_faces(mesh: Mesh) -> Mesh:
    """Return the mesh turned inside out: every face runs the other way round.

    Example:
        >>> flip_faces(Mesh(np.eye(3), np.array([[0, 1, 2]]))).faces.tolist()
        [[0, 2, 1]]
    """
    return Mesh(check_mesh(mesh).vertices, mesh.faces[:, [0, 2, 1]])


def normalize_mesh(mesh: Mesh, longest_side: float = LONGEST_SIDE) -> Mesh:
    """Centre the bounding box at the origin and scale its longest side.

    The box is that of the vertices in use; a vertex that no face names moves along but does not count.

    Args:
        mesh: Any mesh with some extent.
        longest_side: Longest side of the result's bounding box, mesh units, above 0.

    Returns:
        The moved and scaled mesh, same faces.

    Raises:
        MeshError: All vertices in use lie at one point.
        ValueError: `longest_side` is not a finite number above 0.

    Source:
        Mescheder et al., Occupancy Networks: Learning 3D Reconstruction in Function Space, supplementary (unit cube).

    Example:
        >>> normalize_mesh(Mesh(4 * np.eye(3), np.array([[0, 1, 2]]))).bounds.tolist()
        [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]
    """
    side = check_positive("longest_side", longest_side)
    low, high = check_mesh(mesh).bounds.double()
    extent = float((high - low).max())
    if extent == 0:
        raise MeshError(f"cannot normalise a mesh without extent: all vertices lie at {low.tolist()}")
    return Mesh((mesh.vertices.double() - (low + high) / 2) * (side / extent), mesh.faces)


def check_mesh(mesh: object, name: str = "mesh") -> Mesh:
    """Return `mesh` if it is a `Mesh`, else raise `TypeError` naming the argument and what came."""
    if not isinstance(mesh, Mesh):
        raise TypeError(f"{name}: expected a Mesh, got {type(mesh).__name__}")
    return mesh


def _as_array(name: str, value: object, kind: type, wanted: str, sizes: tuple[int, ...]) -> NDArray[Any]:
    """Return an [n, 3] array of the wanted kind that may alias `value`, or raise."""
    if isinstance(value, Tensor):
        if value.device.type != "cpu":
            raise MeshError(f"{name}: expected a tensor on the CPU, got one on {value.device}")
        if value.dtype == torch.bfloat16 or value.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor of {wanted}, got {value.layout} of {value.dtype}")
        value = value.detach().numpy()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array or torch tensor, got {type(value).__name__}")
    if not np.issubdtype(value.dtype, kind) or value.dtype.itemsize not in sizes:
        raise TypeError(f"{name}: expected {wanted}, got {value.dtype}")
    if value.ndim != 2 or value.shape[1] != 3:
        raise MeshError(f"{name}: expected shape [n, 3], got {list(value.shape)}")
    return value


def _names_vertex_twice(faces: NDArray[np.int32]) -> NDArray[np.bool_]:
    a, b, c = faces.T
    same: NDArray[np.bool_] = (a == b) | (b == c) | (c == a)
    return same


def _is_used(mesh: Mesh) -> Tensor:
    """Whether some face names each vertex, [V] bool."""
    used = torch.zeros(len(mesh.vertices), dtype=torch.bool)
    used[mesh.faces.reshape(-1)] = True
    return used


def _measure(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas of the faces, and signed volumes that add up to that of a closed mesh, [F] each."""
    # From the mesh's middle: the volume of one far from the origin keeps its digits.
    x, y, z = mesh.bounds.double().mean(dim=0).tolist()
    areas, volumes = measure_faces(mesh.vertices, mesh.faces, (x, y, z))
    return areas.numpy(), volumes.numpy()
