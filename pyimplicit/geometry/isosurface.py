"""The surface where values on a regular grid change sign, as a closed, oriented mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from pyimplicit.errors import MeshError
from pyimplicit.geometry.mesh import Mesh

MIN_VALUE = 1e-3
"""Grid values nearer to zero than this, in units of the smallest spacing, are moved out to it, on their own side. It
moves the surface by at most a thousandth of a cell and keeps marching cubes from making faces without area."""


def grid_isosurface(
    values: NDArray[Any],  # [X, Y, Z]
    origin: Sequence[float],
    spacing: Sequence[float],
) -> Mesh:
    """Triangulate the zero surface of distances sampled on a grid, by marching cubes.

    Node (i, j, k) lies at `origin + (i, j, k) * spacing`; there is no half-cell offset. Where the solid reaches the
    border of the grid it is closed just outside, by less than a cell.

    Args:
        values: [X, Y, Z] floats, negative inside, finite. Distances in mesh units give the best placed vertices.
        origin: Position of node (0, 0, 0), mesh units.
        spacing: Distance of neighbouring nodes along each axis, mesh units, above 0.

    Returns:
        A closed mesh, oriented outward; it may have several bodies.

    Raises:
        MeshError: Fewer than two nodes along an axis, values that are not finite, or none of them negative.

    Source:
        Lewiner et al., Efficient implementation of marching cubes' cases with topological guarantees.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
        >>> ball = grid_isosurface(np.sqrt(x * x + y * y + z * z) - 0.8, [-1, -1, -1], [0.1, 0.1, 0.1])
        >>> bool((ball.vertices.norm(dim=1) - 0.8).abs().max() < 0.005)
        True
    """
    if values.ndim != 3 or min(values.shape) < 2:
        raise MeshError(f"values: expected a grid of at least 2 x 2 x 2 nodes, got shape {list(values.shape)}")
    if not np.isfinite(values).all():
        raise MeshError("values: expected finite values, got NaN or infinity")
    steps = np.asarray(spacing, dtype=np.float64)
    least = MIN_VALUE * float(steps.min())
    inside = values < 0
    if not inside.any():
        raise MeshError("the field has no inside: no value is negative")
    padded = np.full([size + 2 for size in values.shape], float(steps.min()), dtype=np.float32)
    padded[1:-1, 1:-1, 1:-1] = np.where(inside, np.minimum(values, -least), np.maximum(values, least))
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="descent")  # type: ignore[no-untyped-call]
    return Mesh((vertices.astype(np.float64) - 1) * steps + np.asarray(origin, dtype=np.float64), faces)
