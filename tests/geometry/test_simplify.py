from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from pyimplicit.geometry import Mesh, Surface
from pyimplicit.geometry.simplify import cluster_vertices


def sphere(subdivisions: int = 5) -> Mesh:
    solid = trimesh.creation.icosphere(subdivisions, radius=0.5)
    return Mesh(np.asarray(solid.vertices), np.asarray(solid.faces))


@pytest.mark.parametrize("most", [100, 1_000, 5_000])
def test_few_enough_faces_close_to_the_surface(most: int) -> None:
    mesh = sphere()
    found = cluster_vertices(mesh, most)
    assert 0.2 * most <= len(found.faces) <= most
    # A face stands for about 4 pi / F of the unit sphere; nothing moves farther than a few of its edges.
    edge = 0.5 * np.sqrt(4 * np.pi / len(found.faces))
    distances, _ = KDTree(found.vertices.numpy()).query(mesh.vertices.numpy())
    assert distances.max() < 3 * edge
    assert float(Surface(mesh).unsigned_distance(found.vertices).max()) < edge
    corners = found.vertices[found.faces.long()]
    assert float((corners - corners.roll(1, dims=1)).norm(dim=2).min()) > 0


def test_faces_keep_their_side() -> None:
    found = cluster_vertices(sphere(), 2_000)
    solid = trimesh.Trimesh(found.vertices.numpy(), found.faces.numpy(), process=False)
    assert (np.einsum("ij,ij->i", solid.face_normals, solid.triangles_center) > 0).mean() > 0.99
    assert solid.volume == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.05)


def test_a_small_mesh_is_returned_as_it_is() -> None:
    mesh = sphere(2)
    assert cluster_vertices(mesh, len(mesh.faces)) is mesh


def test_equal_calls_give_equal_meshes() -> None:
    one, two = cluster_vertices(sphere(), 700), cluster_vertices(sphere(), 700)
    assert one.vertices.equal(two.vertices)
    assert one.faces.equal(two.faces)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="most_faces"):
        cluster_vertices(sphere(1), 99)
    with pytest.raises(TypeError, match="mesh"):
        cluster_vertices("mesh", 100)  # type: ignore[arg-type]
