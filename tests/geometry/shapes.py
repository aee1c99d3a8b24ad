"""Meshes whose volume, area and faults are known by construction."""

from __future__ import annotations

import numpy as np
import trimesh

from pyimplicit.geometry.mesh import Mesh

# The corners of the unit cube in binary order, and two triangles a side, counter-clockwise from outside.
CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
SIDES = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5]),  # x = 0, x = 1
        *([0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]),  # y = 0, y = 1
        *([0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),  # z = 0, z = 1
    ]
)


def cube(low: float = 0.0, high: float = 1.0) -> Mesh:
    return Mesh(low + (high - low) * CORNERS, SIDES)


def ball(radius: float = 0.5, subdivisions: int = 3) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return Mesh(np.asarray(sphere.vertices), np.asarray(sphere.faces))


def join(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return Mesh(
        np.concatenate([mesh.vertices.numpy() for mesh in meshes]),
        np.concatenate([mesh.faces.numpy() + start for mesh, start in zip(meshes, starts, strict=False)]),
    )
