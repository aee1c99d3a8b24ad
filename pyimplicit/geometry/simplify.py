"""Fewer faces for display: vertices that share a cell of a grid become one."""

from __future__ import annotations

import torch

from pyimplicit.checks import check_count
from pyimplicit.geometry.mesh import Mesh, check_mesh

# Cells per axis of the finest grid that is tried.
_FINEST = 512
# Share of the faces allowed that is near enough to them to stop.
_CLOSE = 0.9


def cluster_vertices(mesh: Mesh, most_faces: int) -> Mesh:
    """Merge the vertices of a mesh within the cells of a grid until it has few enough faces.

    A merged vertex lies in the middle of those it stands for; faces that lost a corner are left out. That is enough to
    look at a mesh; it need not stay closed, and thin parts may fall together. A mesh with few enough faces is returned
    as it is.

    Args:
        mesh: Any mesh.
        most_faces: Most faces of the result, at least 100.

    Returns:
        The mesh of a grid that leaves at most `most_faces` faces, and nearly as many; if none does, the one with
        the fewest.

    Raises:
        ValueError, TypeError: No mesh, or `most_faces` below 100.

    Source:
        Rossignac and Borrel, "Multi-resolution 3D approximations for rendering complex scenes", 1993.

    Example:
        >>> corners = torch.rand(3000, 3, generator=torch.Generator().manual_seed(0))
        >>> faces = torch.arange(3000, dtype=torch.int32).reshape(-1, 3)
        >>> len(cluster_vertices(Mesh(corners, faces), 200).faces) <= 200
        True
    """
    mesh = check_mesh(mesh)
    most_faces = check_count("most_faces", most_faces, minimum=100)
    if len(mesh.faces) <= most_faces:
        return mesh
    low = mesh.vertices.min(dim=0).values
    side = float((mesh.vertices.max(dim=0).values - low).max())
    # Bisection: the number of faces grows with that of the cells, nearly always.
    fewest, most = 1, _FINEST
    best = smallest = mesh
    while fewest <= most:
        cells = (fewest + most) // 2
        found = _clustered(mesh, low, side / cells)
        if found is None:  # all of it fell together
            fewest = cells + 1
        elif len(found.faces) <= most_faces:
            best, fewest = found, cells + 1
            if len(found.faces) >= _CLOSE * most_faces:
                break
        else:
            smallest, most = found, cells - 1
    return smallest if best is mesh else best


def _clustered(mesh: Mesh, low: torch.Tensor, cell: float) -> Mesh | None:
    """Return the mesh with one vertex a cell; None where no face is left."""
    cells = ((mesh.vertices - low) / cell).floor().long()
    _, group = torch.unique((cells[:, 0] * 2**20 + cells[:, 1]) * 2**20 + cells[:, 2], return_inverse=True)
    count = int(group.max()) + 1
    sums = torch.zeros(count, 3, dtype=torch.float64).index_add_(0, group, mesh.vertices.double())
    sizes = torch.bincount(group, minlength=count)
    faces = group[mesh.faces.long()]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    # Faces that fell onto each other count once, whatever corner they begin with.
    start = faces.argmin(dim=1, keepdim=True)
    turned = torch.gather(faces, 1, (start + torch.arange(3)) % 3)[whole]
    # Below 2^21 vertices a face is one number; sorting those is many times faster than sorting rows.
    if count < 2**21:
        keys = torch.unique((turned[:, 0] << 42) | (turned[:, 1] << 21) | turned[:, 2])
        faces = torch.stack([keys >> 42, (keys >> 21) & (2**21 - 1), keys & (2**21 - 1)], dim=1)
    else:
        faces = torch.unique(turned, dim=0)
    return Mesh((sums / sizes[:, None]).float(), faces.int()) if len(faces) else None
