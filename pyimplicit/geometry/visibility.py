"""Which sides of a mesh's faces can be seen from outside."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pyimplicit.geometry.surface import Surface

DIRECTIONS = 48
"""Directions to look from, spread evenly over the sphere."""

SAMPLES = 120_000
"""Points on the surface, beside the centre of each face. About four fall on each pixel that a car covers."""

PIXELS = 144
"""Pixels across the bounding sphere in each view."""

DEPTH_TOLERANCE = 1.5
"""Pixels. A point counts as visible down to this depth behind the foremost point in its pixel: a face seen at a slant
spans some depth within one pixel."""


def visible_sides(surface: Surface) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate how much of the view from outside falls on the front and on the back of each face.

    Points on the surface are splatted into depth images from many directions; each visible point counts with the cosine
    of its slant. A side that nothing hides gets a little under 1/4, one inside a closed room about 0.

    Args:
        surface: The mesh, on the CPU; a face without area gets 0.

    Returns:
        The shares of front and back, each [F] float64 in [0, 1].

    Source:
        Stutz and Geiger, Learning 3D Shape Completion under Weak Supervision: what is seen from outside is the shape.

    Example:
        >>> from pyimplicit.geometry.mesh import Mesh
        >>> front, back = visible_sides(Surface(Mesh(np.eye(3), np.array([[0, 1, 2]]))))
        >>> front.round(1), back.round(1)
        (array([0.2]), array([0.2]))
    """
    corners = surface.mesh.vertices.double().numpy()[surface.mesh.faces.numpy()]  # [F, 3, 3]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(cross, axis=1, keepdims=True)
    normals = cross / np.where(lengths > 0, lengths, 1.0)
    drawn = surface.sample_surface(SAMPLES)
    points = np.concatenate([drawn.points.double().numpy(), corners.mean(axis=1)])
    face = np.concatenate([drawn.face.numpy(), np.arange(len(corners))])

    low, high = surface.mesh.bounds.double().numpy()
    points = points - (low + high) / 2
    radius = float(np.linalg.norm(high - low)) / 2
    pixel = 2 * radius / PIXELS
    front, back = np.zeros(len(corners)), np.zeros(len(corners))
    for direction in sphere_directions(DIRECTIONS):
        right = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
        right /= np.linalg.norm(right)
        across = points @ np.stack([right, np.cross(direction, right)], axis=1)
        column, row = np.clip(((across + radius) / pixel).astype(np.int64), 0, PIXELS - 1).T
        place = row * PIXELS + column
        depth = points @ direction
        foremost = np.full(PIXELS * PIXELS, -np.inf)
        np.maximum.at(foremost, place, depth)
        seen = np.bincount(face[depth >= foremost[place] - DEPTH_TOLERANCE * pixel], minlength=len(corners))
        slant = normals @ direction
        front += seen * np.maximum(slant, 0)
        back += seen * np.maximum(-slant, 0)
    total = np.bincount(face, minlength=len(corners)) * DIRECTIONS
    return front / total, back / total


def sphere_directions(count: int) -> NDArray[np.float64]:
    """Unit vectors spread evenly over the sphere along a golden spiral, [count, 3].

    Example:
        >>> sphere_directions(2).round(2)[:, 1]
        array([ 0.5, -0.5])
    """
    place = np.arange(count) + 0.5
    height = 1 - 2 * place / count
    angle = place * (math.pi * (3 - math.sqrt(5)))
    ring = np.sqrt(1 - height * height)
    return np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], axis=1)
