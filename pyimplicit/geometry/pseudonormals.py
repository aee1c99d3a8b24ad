"""Outward normals of faces, edges and vertices, such that the nearest feature's normal tells inside from outside."""

from __future__ import annotations

import torch
from torch import Tensor

from pyimplicit.geometry.mesh import Mesh, merge_vertices


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
        >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> faces = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
        >>> angle_weighted_pseudonormals(Mesh(corners, faces))[0, 0]
        tensor([ 0.,  0., -1.])
    """
    welded = merge_vertices(mesh)
    faces = welded.faces.long()
    corners = welded.vertices.double()[faces]  # [F, 3, 3]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1)
    normals = torch.nn.functional.normalize(normals, dim=1, eps=0.0).nan_to_num(0.0)

    along = corners.roll(-1, dims=1) - corners  # edges ab, bc, ca
    back = -along.roll(1, dims=1)
    # atan2 of cross and dot: the angle of a sliver keeps its digits where acos would lose them.
    sine = torch.linalg.cross(along, back, dim=2).norm(dim=2)
    angles = torch.atan2(sine, (along * back).sum(2))  # [F, 3]
    at_vertices = torch.zeros(len(welded.vertices), 3, dtype=torch.float64)
    at_vertices.index_add_(0, faces.reshape(-1), (angles.unsqueeze(2) * normals.unsqueeze(1)).reshape(-1, 3))

    ends = torch.stack((faces, faces.roll(-1, dims=1)), dim=2)  # [F, 3, 2] vertices of ab, bc, ca
    keys = ends.amin(2) * len(welded.vertices) + ends.amax(2)
    _, edge = torch.unique(keys.reshape(-1), return_inverse=True)
    at_edges = torch.zeros(int(edge.max()) + 1, 3, dtype=torch.float64)
    at_edges.index_add_(0, edge, normals.repeat_interleave(3, dim=0))
    return torch.cat((normals.unsqueeze(1), at_edges[edge].reshape(-1, 3, 3), at_vertices[faces]), dim=1).float()
