"""Meshes for the benchmarks: made here, or read from files the caller names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh

from pyimplicit.geometry.files import load_mesh
from pyimplicit.geometry.mesh import Mesh


def read(path: Path) -> Mesh:
    """A mesh file, or an .npz with arrays `v` [V, 3] and `f` [F, 3]."""
    if path.suffix != ".npz":
        return load_mesh(path)
    with np.load(path, allow_pickle=False) as arrays:
        return Mesh(arrays["v"], arrays["f"])


def refined(mesh: Mesh, seed: int = 0) -> Mesh:
    """Two midpoint subdivisions, then each vertex moved along its normal by N(0, 0.15 sqrt(mean area))."""
    fine = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False).subdivide().subdivide()
    shift = np.random.default_rng(seed).normal(size=(len(fine.vertices), 1)) * 0.15 * np.sqrt(fine.area_faces.mean())
    return Mesh(fine.vertices + shift * fine.vertex_normals, fine.faces)


def ball(subdivisions: int = 5) -> Mesh:
    """A sphere with bumps, closed: 20 * 4^subdivisions faces."""
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.4)
    bumps = 1 + 0.08 * np.sin(9 * sphere.vertices[:, :1] / 0.4) * np.cos(7 * sphere.vertices[:, 1:2] / 0.4)
    return Mesh(sphere.vertices * bumps, sphere.faces)


def soup(bodies: int = 2000, seed: int = 0) -> Mesh:
    """Boxes in a heap, every fourth without two of its faces, every fifth inside out."""
    rng = np.random.default_rng(seed)
    parts = []
    for body in range(bodies):
        box = trimesh.creation.box(extents=rng.uniform(0.005, 0.08, 3))
        box.apply_transform(trimesh.transformations.random_rotation_matrix(rng.random(3)))
        box.apply_translation(rng.uniform(-0.4, 0.4, 3) * (1, 0.5, 1))
        faces = box.faces[2:] if body % 4 == 0 else box.faces
        parts.append((box.vertices, faces[:, ::-1] if body % 5 == 0 else faces))
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
    vertices = np.concatenate([vertices for vertices, _ in parts])
    return Mesh(vertices, np.concatenate([faces + start for (_, faces), start in zip(parts, starts, strict=True)]))


def points_near(mesh: Mesh, count: int, sigma: float = 0.01, seed: int = 0) -> torch.Tensor:
    """Surface points plus N(0, sigma), [count, 3] float32."""
    from pyimplicit.geometry.surface import Surface
    from pyimplicit.ops import RandomStream
    from pyimplicit.sampling import SurfaceNoise

    return SurfaceNoise(sigma).draw(Surface(mesh), count, RandomStream(seed))


def points_uniform(count: int, seed: int = 0) -> torch.Tensor:
    """Points uniform in the cube, [count, 3] float32."""
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
