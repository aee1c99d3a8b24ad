"""Surface extraction: a Field evaluated on a grid, then marching cubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyimplicit.checks import check_choice, check_count
from pyimplicit.errors import ExtractionError
from pyimplicit.fields import Bounds, Field, check_bounds
from pyimplicit.generation.grid import COARSEST, Grid, Progress, dense_values, refined_values
from pyimplicit.generation.masked import masked_values
from pyimplicit.generation.refinement import refine_vertices
from pyimplicit.geometry.marching import marching_cubes
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.sampling import DistanceMask

METHODS = ("mise", "dense")


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did."""

    method: str  # "mise", "dense" or "masked"; what was done, which can differ from what was asked for
    evaluated: int  # nodes that the field was asked for
    total: int  # nodes of the grid
    note: str = ""  # why it fell back to all nodes, or to more than the mask's

    @property
    def share(self) -> float:
        """Evaluated nodes in units of the dense grid's."""
        return self.evaluated / self.total


def extract_mesh(
    field: Field,
    resolution: int = 128,
    bounds: Bounds | Tensor | None = None,
    max_points: int = 262_144,
    progress: Progress | None = None,
    method: str = "mise",
    mask: DistanceMask | None = None,
    coarsest: int = COARSEST,
    refine: int = 0,
) -> Mesh:
    """Extract the surface where a field passes its level.

    The surface is triangulated by marching cubes on a grid of (resolution + 1)^3 nodes that span the bounds, corners
    included. Values exactly at the level are outside. Where the inside reaches the bounds it is cut off there: the mesh
    is closed by a cap that lies beyond the bounds by less than a hundredth of a cell.

    Args:
        field: Any field; its values may live on any device.
        resolution: Cells per axis, at least 1.
        bounds: Lowest and highest corner of the box to extract from, mesh units; None takes the field's.
        max_points: Most points in one call of the field, which bounds its memory.
        progress: Called after each chunk with the number of nodes evaluated and their total.
        method: "mise" evaluates a coarse grid first and then only the nodes of cells near the surface: a few percent of
            them, and the same mesh but for bodies that hide between the coarse nodes. It falls back to "dense", all
            nodes, where the resolution has no coarse grid of at least `coarsest` cells, or that grid sees no surface.
        mask: Of the input shape, on the field's device: the field is asked at the nodes within it, all of them, and
            nowhere else; see `pyimplicit.generation.masked` for what stands in beyond. Keeps away what a network
            imagines far from its training points. `method` does not matter then.
        coarsest: Least cells an axis of the coarse grid ("mise"), at least 1. ONet starts at 32, AIR-Nets at 64, which
            misses fewer small bodies.
        refine: Newton steps along the field's gradient that bring vertices to the level, at least 0; 3 leave nothing to
            see of the grid's lines. By at most half a cell, see `refine_vertices`. The field must be differentiable,
            and is asked once more at each vertex, and once for each step.

    Returns:
        A closed mesh on the CPU, every edge shared by exactly two faces, with outward normals; of one or several
        bodies. Vertices lie where linear interpolation between nodes meets the level, but stay about a thousandth of a
        cell away from the nodes. On curved fields that is off by the square of a cell, and where the field has an edge
        by up to half a cell; `refine` mends both. The authors of the networks leave vertices there, or refine them by
        ways of their own, so scores that are to be compared with theirs need the default.

    Raises:
        ExtractionError: The field has a value that is NaN or infinite, or never crosses its level.
        TypeError, ValueError: A wrong argument.

    Source:
        Mescheder et al., "Occupancy Networks: Learning 3D Reconstruction in Function Space", section 3.3 (MISE);
        Lorensen and Cline, "Marching Cubes: A High Resolution 3D Surface Construction Algorithm", with the cases of
        Lewiner et al., "Efficient implementation of Marching Cubes' cases with topological guarantees".

    Example:
        >>> from pyimplicit.fields import SDF
        >>> ball = Field(lambda points: points.norm(dim=1) - 0.4, SDF())
        >>> mesh = extract_mesh(ball, resolution=16)
        >>> bool((mesh.vertices.norm(dim=1) - 0.4).abs().max() < 0.01)
        True
        >>> mesh = extract_mesh(ball, resolution=16, refine=3)
        >>> bool((mesh.vertices.norm(dim=1) - 0.4).abs().max() < 1e-6)
        True
    """
    return extract_mesh_with_report(field, resolution, bounds, max_points, progress, method, mask, coarsest, refine)[0]


def extract_mesh_with_report(
    field: Field,
    resolution: int = 128,
    bounds: Bounds | Tensor | None = None,
    max_points: int = 262_144,
    progress: Progress | None = None,
    method: str = "mise",
    mask: DistanceMask | None = None,
    coarsest: int = COARSEST,
    refine: int = 0,
) -> tuple[Mesh, ExtractionReport]:
    """What `extract_mesh` returns, and how it was made; arguments and errors as there.

    Example:
        >>> from pyimplicit.fields import SDF
        >>> ball = Field(lambda points: points.norm(dim=1) - 0.4, SDF())
        >>> _, report = extract_mesh_with_report(ball, resolution=128)
        >>> report.method, report.share < 0.12
        ('mise', True)
    """
    if not isinstance(field, Field):
        raise TypeError(f"field: expected a Field, got {type(field).__name__}")
    resolution = check_count("resolution", resolution)
    max_points = check_count("max_points", max_points)
    check_choice("method", method, METHODS)
    check_count("coarsest", coarsest)
    check_count("refine", refine, minimum=0)
    low, high = field.bounds if bounds is None else check_bounds(bounds)
    grid = Grid(field, (low, high), resolution, max_points, progress)
    values, note = None, ""
    done = "dense"
    if mask is not None:
        _check_mask(mask, field)
        (values, note), done = masked_values(grid, mask), "masked"
    elif method == "mise":
        levels = _levels(resolution, coarsest)
        if levels:
            values = refined_values(grid, levels)
            done = "mise"
            if not _crosses(values, field):
                values, note, done = None, f"no surface seen at {resolution // 2**levels} cells an axis", "dense"
        else:
            note = f"{resolution} cells an axis have no coarser grid of at least {coarsest}"
    if values is None:
        values = dense_values(grid)
    least, greatest = float(values.min()), float(values.max())
    if not _crosses(values, field):
        hint = ""
        if field.kind.name == "udf" and least >= field.level:
            hint = "; unsigned distances only have a surface to extract at a level above 0"
        raise ExtractionError(
            f"field: its values never cross the level {field.level:g}: "
            f"at {resolution + 1}^3 nodes they lie between {least:g} and {greatest:g}{hint}"
        )
    values -= np.float32(field.level)
    if not field.inside_is_positive:
        np.negative(values, out=values)
    x, y, z = ((b - a) / resolution for a, b in zip(low, high, strict=True))
    mesh = marching_cubes(values, low, (x, y, z))
    if refine:
        mesh = _refined(mesh, grid, min(x, y, z) / 2, refine)
    return mesh, ExtractionReport(done, grid.evaluated, grid.total, note)


def _refined(mesh: Mesh, grid: Grid, reach: float, steps: int) -> Mesh:
    """Bring vertices to the level within the bounds, but for those of caps, which lie beyond."""
    low, high = (torch.tensor(corner, dtype=torch.float32, device="cpu") for corner in grid.bounds)
    beyond = ((mesh.vertices < low) | (mesh.vertices > high)).any(dim=1, keepdim=True)
    refined = refine_vertices(grid.field, mesh, reach, steps, grid.max_points).vertices.clamp(low, high)
    return Mesh(torch.where(beyond, mesh.vertices, refined), mesh.faces)


def _check_mask(mask: DistanceMask, field: Field) -> None:
    if not isinstance(mask, DistanceMask):
        raise TypeError(f"mask: expected a DistanceMask, got {type(mask).__name__}")
    if mask.device != field.device:
        raise ValueError(f"mask: expected one on {field.device}, where the field is, got one on {mask.device}")
    if field.kind.name == "udf" and mask.distance <= field.level:
        raise ValueError(f"mask: expected a distance above the level {field.level:g}, got {mask.distance:g}")


def _levels(resolution: int, coarsest: int) -> int:
    """How often the cells of the coarsest grid of a resolution are cut into eight."""
    levels = 0
    while resolution % 2 ** (levels + 1) == 0 and resolution // 2 ** (levels + 1) >= coarsest:
        levels += 1
    return levels


def _crosses(values: NDArray[np.float32], field: Field) -> bool:
    shifted = values - np.float32(field.level)
    if field.inside_is_positive:
        return bool(shifted.max() > 0 >= shifted.min())
    return bool(shifted.min() < 0 <= shifted.max())
