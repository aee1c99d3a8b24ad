"""Angle-weighted pseudonormals against their definition and against the sign they must give."""

from __future__ import annotations

import math

import pytest
import torch

from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.pseudonormals import angle_weighted_pseudonormals
from tests.helpers import box, randn, sphere, tetrahedron, torus, unwelded


def by_definition(mesh: Mesh) -> torch.Tensor:
    """A loop over faces, edges and corners, straight from the paper."""
    vertices, faces = mesh.vertices.double(), mesh.faces.tolist()
    normal = [
        torch.nn.functional.normalize(torch.linalg.cross(*(vertices[f[i]] - vertices[f[0]] for i in (1, 2))), dim=0)
        for f in faces
    ]
    edges: dict[frozenset[int], torch.Tensor] = {}
    corners: dict[int, torch.Tensor] = {}
    for face, n in zip(faces, normal, strict=True):
        for i in range(3):
            here, after, before = face[i], face[(i + 1) % 3], face[i - 1]
            edges[frozenset((here, after))] = edges.get(frozenset((here, after)), 0) + n
            one, other = vertices[after] - vertices[here], vertices[before] - vertices[here]
            angle = math.acos(float(one @ other / one.norm() / other.norm()))
            corners[here] = corners.get(here, 0) + angle * n
    rows = []
    for face, n in zip(faces, normal, strict=True):
        sides = [edges[frozenset((face[i], face[(i + 1) % 3]))] for i in range(3)]
        rows.append(torch.stack([n, *sides, *(corners[v] for v in face)]))
    return torch.stack(rows)


@pytest.mark.parametrize("shape", [tetrahedron(), box(), sphere(0.4, 1), torus(rings=8, sides=5)])
def test_definition(shape):
    mesh = Mesh(*shape)
    torch.testing.assert_close(angle_weighted_pseudonormals(mesh).double(), by_definition(mesh), rtol=1e-5, atol=1e-5)


def test_vertex_normal_does_not_depend_on_the_triangulation():
    """The corners of a box point along its diagonals, however its sides are cut into triangles."""
    vertices, faces = box((-1, -1, -1), (1, 1, 1))
    normals = angle_weighted_pseudonormals(Mesh(vertices, faces))
    for corner in range(3):
        directions = torch.nn.functional.normalize(normals[:, 4 + corner], dim=1)
        torch.testing.assert_close(directions, (vertices[faces[:, corner]] / math.sqrt(3)).float())


def test_unwelded_vertices_count_as_one():
    whole, apart = torus(), unwelded(torus())
    torch.testing.assert_close(
        angle_weighted_pseudonormals(Mesh(*whole)), angle_weighted_pseudonormals(Mesh(*apart)), rtol=1e-5, atol=1e-6
    )


def test_every_normal_points_outwards():
    """A step from any feature along its pseudonormal leaves a ball of vertices on a sphere, a step back enters it."""
    vertices, faces = sphere()
    normals = angle_weighted_pseudonormals(Mesh(vertices, faces)).double()
    corners = vertices[faces]
    feet = torch.cat([corners.mean(1, keepdim=True), (corners + corners.roll(-1, 1)) / 2, corners], 1)
    assert bool(((normals * feet).sum(2) > 0).all())


def test_degenerate_faces_have_no_say():
    """A face without area adds a zero normal, not NaN."""
    vertices, faces = tetrahedron()
    with_sliver = Mesh(vertices, torch.cat([faces, torch.tensor([[0, 0, 1]])]))
    normals = angle_weighted_pseudonormals(with_sliver)
    assert not normals.isnan().any()
    torch.testing.assert_close(normals[:4, 4:], angle_weighted_pseudonormals(Mesh(vertices, faces))[:, 4:])


def test_sliver_angles_keep_their_digits():
    """The angles at a vertex of a thin fan sum to those of the fan, though each is a millionth of a radian."""
    count = 1000
    steps = torch.arange(count + 1, dtype=torch.float64) * 1e-6
    rim = torch.stack([steps.cos(), steps.sin(), torch.zeros_like(steps)], 1)
    vertices = torch.cat([torch.zeros(1, 3).double(), rim])
    faces = torch.stack(
        [torch.zeros(count, dtype=torch.int64), torch.arange(1, count + 1), torch.arange(2, count + 2)], 1
    )
    normals = angle_weighted_pseudonormals(Mesh(vertices.float(), faces))
    assert float(normals[0, 4, 2]) == pytest.approx(count * 1e-6, rel=1e-3)


def test_scale_does_not_matter():
    vertices, faces = torus()
    small, large = (angle_weighted_pseudonormals(Mesh(vertices * size, faces)) for size in (1e-4, 1e4))
    torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-4)
    turned = torch.linalg.qr(randn(3, 3, dtype=torch.float64))[0]
    turned = turned * torch.linalg.det(turned).sign()
    expected = angle_weighted_pseudonormals(Mesh(vertices, faces)).double() @ turned
    found = angle_weighted_pseudonormals(Mesh(vertices @ turned, faces)).double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
