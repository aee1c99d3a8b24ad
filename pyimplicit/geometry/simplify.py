"""Meshes of fewer faces, by quadric error metrics of the library fast-simplification (an extra)."""

from __future__ import annotations

import numpy as np

from pyimplicit.checks import check_count
from pyimplicit.errors import MeshError
from pyimplicit.geometry.mesh import Mesh, inspect_mesh

AGGRESSIONS = (3, 5, 7)
"""How fast the library's threshold grows, from careful to careless. At 3 the surface moves least, but not every mesh
gets down to the number of faces that is asked for."""


def simplify_mesh(mesh: Mesh, faces: int) -> Mesh | None:
    """Return a closed mesh with about `faces` faces at most, or None where that would open it, or lose a body.

    Edges are collapsed where that moves the surface least. What comes out is checked like any mesh: closed, oriented,
    with positive volume and as many bodies. Among careful and careless collapsing the first that gets within 5% of
    `faces` is taken, else what has the fewest faces.

    Args:
        mesh: Closed, oriented, facing outwards. Anything else is not simplified but refused.
        faces: How many faces are wanted, at least 4.

    Returns:
        The mesh, of which nothing is changed if it has no more faces than that; or None.

    Raises:
        ValueError: `faces` out of range.
        MeshError: A mesh that is not closed and oriented, or fast-simplification is not installed.

    Source:
        Garland and Heckbert, Surface Simplification Using Quadric Error Metrics, SIGGRAPH 1997.

    Example:
        >>> corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
        >>> simplify_mesh(Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])), 4)
        Mesh(4 vertices, 4 faces)
    """
    check_count("faces", faces, minimum=4)
    before = inspect_mesh(mesh)
    if not before.is_solid:
        raise MeshError(f"expected a closed mesh that faces outwards, got {before.summary()}")
    if before.faces <= faces:
        return mesh
    best: Mesh | None = None
    for aggression in AGGRESSIONS:
        made = _collapsed(mesh, faces, aggression)
        if made is None:
            continue
        found = inspect_mesh(made)
        if not found.is_solid or found.components != before.components:
            continue
        if best is None or found.faces < len(best.faces):
            best = made
        if found.faces <= 1.05 * faces:
            break
    return best if best is not None and len(best.faces) < before.faces else None


def reduce_faces(mesh: Mesh, faces: int) -> Mesh:
    """Return a mesh to look at, of about `faces` faces at most; it need not stay closed, nor keep its bodies.

    Args:
        mesh: Any mesh.
        faces: How many faces are wanted, at least 4.

    Raises:
        ValueError: `faces` out of range.
        MeshError: fast-simplification is not installed.

    Source:
        Garland and Heckbert, Surface Simplification Using Quadric Error Metrics, SIGGRAPH 1997.

    Example:
        >>> corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
        >>> reduce_faces(Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]])), 100)
        Mesh(4 vertices, 2 faces)
    """
    check_count("faces", faces, minimum=4)
    return mesh if len(mesh.faces) <= faces else _collapsed(mesh, faces, AGGRESSIONS[-1]) or mesh


def _collapsed(mesh: Mesh, faces: int, aggression: int) -> Mesh | None:
    """What the library makes of a mesh; None where no face is left."""
    try:
        import fast_simplification
    except ImportError as error:
        raise MeshError("simplifying needs fast-simplification: pip install 'pyimplicit[simplify]'") from error
    points, corners = fast_simplification.simplify(
        mesh.vertices.numpy(), mesh.faces.numpy().astype(np.int32), target_count=faces, agg=aggression
    )
    return Mesh(points, corners.astype(np.int64)) if len(corners) else None
