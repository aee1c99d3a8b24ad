"""Meshes for the benchmarks: made here, or read from files the caller names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh

from pyimplicit import ops
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
    return Mesh(*join(parts))


def cluster(bodies: int = 60, seed: int = 0) -> Mesh:
    """Balls and rings that run into each other: closed and well oriented, 52,000 faces, most of them partly buried."""
    rng = np.random.default_rng(seed)
    parts = []
    for body in range(bodies):
        if body % 3:
            sphere = trimesh.creation.icosphere(subdivisions=3 if body % 2 else 2, radius=rng.uniform(0.04, 0.14))
            vertices, faces = sphere.vertices, sphere.faces
        else:
            vertices, faces = ring(rng.uniform(0.06, 0.16), rng.uniform(0.01, 0.04), steps=32, sides=16)
        turn = trimesh.transformations.random_rotation_matrix(rng.random(3))[:3, :3]
        parts.append((vertices @ turn.T + rng.uniform(-0.25, 0.25, 3), faces))
    return Mesh(*join(parts))


def abbey(seed: int = 0, pieces: int = 4869) -> Mesh:
    """A building as architects model one: 4,869 parts, 164,000 faces, open, inconsistently oriented, with slivers.

    Walls and slabs are boxes, often without the sides nobody sees; columns and rails are cylinders of long thin faces;
    vaults and mouldings are swept arcs; domes are fine. Every seventh part is inside out, every eleventh in half
    of its faces, and 83 faces have no area.
    """
    rng = np.random.default_rng(seed)

    def place(part: tuple[np.ndarray, np.ndarray], at: np.ndarray, turn: float) -> tuple[np.ndarray, np.ndarray]:
        cosine, sine = np.cos(turn), np.sin(turn)
        return part[0] @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]) + at, part[1]

    parts = []
    for part in range(pieces):
        kind = part % 12
        at = rng.uniform((-40, -25, 0), (40, 25, 18)) * (1, 1, rng.random())
        turn = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
        if kind < 5:
            wall = trimesh.creation.box(extents=rng.choice([0.05, 0.3, 1, 4, 12], 3) * rng.uniform(0.7, 1.3, 3))
            shape = wall.vertices, wall.faces[: rng.choice([8, 10, 12])]
        elif kind < 9:
            sides, height = rng.choice([6, 8, 16]), rng.choice([0.8, 3, 9])
            shape = _tube(rng.choice([0.02, 0.1, 0.4]), height, sides, rings=rng.choice([1, 2]))
        elif kind < 11:
            shape = _arch(rng.uniform(0.5, 3), rng.choice([0.03, 0.15]), rng.choice([6, 12]), sides=4)
        else:
            ball = trimesh.creation.icosphere(
                subdivisions=rng.choice([1, 1, 1, 2]), radius=rng.choice([0.15, 0.5, 2.5])
            )
            shape = ball.vertices, ball.faces[: rng.choice([40, 80, 320])]
        vertices, faces = place(shape, at, turn)
        turned = len(faces) if part % 7 == 0 else len(faces) // 2 if part % 11 == 0 else 0
        parts.append((vertices, np.concatenate([faces[:turned, ::-1], faces[turned:]])))
    vertices, faces = join(parts)
    flat = rng.choice(len(faces), 83, replace=False)
    faces[flat, 2] = faces[flat, 0]
    low, high = vertices.min(0), vertices.max(0)
    return Mesh((vertices - (low + high) / 2) * (0.9 / (high - low).max()), faces)


def _tube(radius: float, height: float, sides: int, rings: int) -> tuple[np.ndarray, np.ndarray]:
    """An upright cylinder without caps: faces as long as a ring is high."""
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    levels = np.linspace(0, height, rings + 1)
    vertices = np.concatenate([np.column_stack([circle, np.full(sides, level)]) for level in levels])
    return vertices, _quads(rings, sides)


def _arch(radius: float, thickness: float, steps: int, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """Half a torus standing on its ends."""
    along, around = np.meshgrid(np.linspace(0, np.pi, steps + 1), 2 * np.pi * np.arange(sides) / sides, indexing="ij")
    reach = radius + thickness * np.cos(around)
    vertices = np.stack([reach * np.cos(along), thickness * np.sin(around), reach * np.sin(along)], -1)
    return vertices.reshape(-1, 3), _quads(steps, sides)


def ring(radius: float, thickness: float, steps: int, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """A torus around z, closed: its vertices and faces."""
    along, around = np.meshgrid(np.arange(steps), np.arange(sides), indexing="ij")
    along, around = 2 * np.pi * along / steps, 2 * np.pi * around / sides
    reach = radius + thickness * np.cos(around)
    vertices = np.stack([reach * np.cos(along), reach * np.sin(along), thickness * np.sin(around)], -1)
    return vertices.reshape(-1, 3), _quads(steps, sides)[:, [0, 2, 1]] % (steps * sides)


def _quads(rows: int, columns: int) -> np.ndarray:
    """Faces of a grid of vertices [rows + 1, columns] that closes on itself along its columns."""
    row, column = (index.reshape(-1) for index in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    a, b = row * columns + column, row * columns + (column + 1) % columns
    return np.concatenate([np.stack([a, b, b + columns], 1), np.stack([a, b + columns, a + columns], 1)])


def join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several pairs of vertices and faces as one."""
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
    faces = [faces + start for (_, faces), start in zip(parts, starts, strict=True)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces)


def points_near(mesh: Mesh, count: int, sigma: float = 0.01, seed: int = 0) -> torch.Tensor:
    """Surface points plus N(0, sigma), [count, 3] float32."""
    points, _ = ops.sample_surface(mesh.vertices, mesh.faces, count, seed)
    return points.add_(ops.normal(count, ops.RandomStream(seed, purpose=1)), alpha=sigma)


def points_uniform(count: int, seed: int = 0) -> torch.Tensor:
    """Points uniform in the cube, [count, 3] float32."""
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
