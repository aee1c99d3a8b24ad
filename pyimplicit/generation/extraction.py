"""Surface extraction: a Field evaluated on a grid, then marching cubes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyimplicit.checks import check_count
from pyimplicit.errors import ExtractionError
from pyimplicit.fields import Bounds, Field, check_bounds
from pyimplicit.geometry.marching import marching_cubes
from pyimplicit.geometry.mesh import Mesh


def extract_mesh(
    field: Field,
    resolution: int = 128,
    bounds: Bounds | Tensor | None = None,
    max_points: int = 262_144,
    progress: Callable[[int, int], None] | None = None,
) -> Mesh:
    """Extract the surface where a field passes its level.

    The field is evaluated at (resolution + 1)^3 nodes that span the bounds, corners included, and triangulated by
    marching cubes. Values exactly at the level are outside. Where the inside reaches the bounds it is cut off there:
    the mesh is closed by a cap that lies beyond the bounds by less than a hundredth of a cell.

    Args:
        field: Any field; its values may live on any device.
        resolution: Cells per axis, at least 1.
        bounds: Lowest and highest corner of the box to extract from, mesh units; None takes the field's.
        max_points: Most points in one call of the field, which bounds its memory.
        progress: Called after each chunk with the number of nodes evaluated and their total.

    Returns:
        A closed mesh on the CPU, every edge shared by exactly two faces, with outward normals; of one or several
        bodies. Vertices lie where linear interpolation between nodes meets the level, but stay about a thousandth of a
        cell away from the nodes.

    Raises:
        ExtractionError: The field has a value that is NaN or infinite, or never crosses its level.
        TypeError, ValueError: A wrong argument.

    Source:
        Lorensen and Cline, "Marching Cubes: A High Resolution 3D Surface Construction Algorithm", with the cases of
        Lewiner et al., "Efficient implementation of Marching Cubes' cases with topological guarantees".

    Example:
        >>> from pyimplicit.fields import SDF
        >>> ball = Field(lambda points: points.norm(dim=1) - 0.4, SDF())
        >>> mesh = extract_mesh(ball, resolution=16)
        >>> bool((mesh.vertices.norm(dim=1) - 0.4).abs().max() < 0.01)
        True
    """
    if not isinstance(field, Field):
        raise TypeError(f"field: expected a Field, got {type(field).__name__}")
    resolution = check_count("resolution", resolution)
    max_points = check_count("max_points", max_points)
    low, high = field.bounds if bounds is None else check_bounds(bounds)
    values = _evaluate_grid(field, (low, high), resolution + 1, max_points, progress)
    least, greatest = float(values.min()), float(values.max())
    values -= np.float32(field.level)
    if not field.inside_is_positive:
        np.negative(values, out=values)
    if not (values.max() > 0 >= values.min()):
        hint = ""
        if field.kind.name == "udf" and least >= field.level:
            hint = "; unsigned distances only have a surface to extract at a level above 0"
        raise ExtractionError(
            f"field: its values never cross the level {field.level:g}: "
            f"at {resolution + 1}^3 nodes they lie between {least:g} and {greatest:g}{hint}"
        )
    x, y, z = ((b - a) / resolution for a, b in zip(low, high, strict=True))
    return marching_cubes(values, low, (x, y, z))


def _evaluate_grid(
    field: Field, bounds: Bounds, count: int, max_points: int, progress: Callable[[int, int], None] | None
) -> NDArray[np.float32]:  # [count, count, count], axes x, y, z
    axes = [
        torch.linspace(low, high, count, dtype=torch.float64).to(field.device, torch.float32)
        for low, high in zip(*bounds, strict=True)
    ]
    total = count**3
    values = np.empty(total, dtype=np.float32)
    with torch.no_grad():
        for start in range(0, total, max_points):
            node = torch.arange(start, min(start + max_points, total), device=field.device)
            indices = (node // count**2, node // count % count, node % count)
            points = torch.stack([axis[index] for axis, index in zip(axes, indices, strict=True)], dim=1)  # [n, 3]
            chunk = field(points).detach().to("cpu", torch.float32)
            finite = torch.isfinite(chunk)
            if not bool(finite.all()):
                first = int((~finite).nonzero()[0])
                where = ", ".join(f"{x:g}" for x in points[first].tolist())
                raise ExtractionError(f"field: expected finite values, got {chunk[first].item()} at ({where})")
            values[start : start + len(chunk)] = chunk.numpy()
            if progress is not None:
                progress(start + len(chunk), total)
    return values.reshape(count, count, count)
