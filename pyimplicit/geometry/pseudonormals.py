"""Outward normals of faces, edges and vertices, such that the nearest feature's normal tells inside from outside."""

from __future__ import annotations

from torch import Tensor

from pyimplicit.geometry.mesh import Mesh, check_mesh
from pyimplicit.ops.topology import match_edges, pseudonormals, weld_corners


def angle_weighted_pseudonormals(mesh: Mesh) -> Tensor:
    """Pseudonormals of a closed, consistently oriented mesh, by face and feature.

    Args:
        mesh: Closed and oriented; vertices at the same position count as one.

    Returns:
        [F, 7, 3] float32: each face's own normal, those of its edges ab, bc, ca and of its corners a, b, c. Not
        normalised: only the sign of a dot product with them means something.

    Source:
        Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005.

    Example:
        >>> import torch
        >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> faces = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
        >>> angle_weighted_pseudonormals(Mesh(corners, faces))[0, 0]
        tensor([ 0.,  0., -1.])
    """
    corners = check_mesh(mesh).vertices[mesh.faces.reshape(-1)]  # [3 F, 3]
    vertex, first = weld_corners(corners)
    vertex = vertex.reshape(-1, 3)
    ring = match_edges(vertex, len(first)).ring
    sums = pseudonormals(corners.reshape(-1, 9), vertex, ring, len(first), sums=True).sums
    assert sums is not None
    return sums
