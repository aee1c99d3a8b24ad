"""Vertices on the level, and normals from the field: what marching cubes leaves between the nodes of its grid."""

from __future__ import annotations

import torch
from torch import Tensor

from pyimplicit.checks import check_count, check_positive
from pyimplicit.errors import ExtractionError
from pyimplicit.fields import Field
from pyimplicit.geometry.mesh import Mesh, check_mesh

#: Below this squared length a gradient has no direction.
_FLAT = 1e-24


def refine_vertices(field: Field, mesh: Mesh, reach: float, steps: int = 3, max_points: int = 262_144) -> Mesh:
    """Move the vertices of an extracted mesh along the field's gradient to its level, by Newton's method.

    Marching cubes puts vertices where the line between two nodes meets the level; on curved fields that is off by the
    square of a cell. A step that would not bring the value closer to the level is not taken, and no vertex goes farther
    than `reach` from where it was. Vertices where the gradient vanishes, as everywhere in an
    exact occupancy, stay.

    Args:
        field: What the mesh was extracted from; differentiable in the points.
        mesh: Its surface.
        reach: Farthest a vertex may move, mesh units, above 0; half a cell of the grid is safe.
        steps: Newton steps, at least 1.
        max_points: Most points in one call of the field.

    Returns:
        The mesh with moved vertices, same faces.

    Raises:
        ExtractionError: The field has a value or slope that is NaN or infinite.
        TypeError, ValueError: A wrong argument, or a field that cannot be differentiated.

    Source:
        Mescheder et al., "Occupancy Networks", section 3.3, refines vertices by gradients of a loss over the faces; a
        Newton step needs no learning rate.

    Example:
        >>> from pyimplicit.fields import SDF
        >>> from pyimplicit.generation import extract_mesh
        >>> ball = Field(lambda points: points.norm(dim=1) - 0.4, SDF())
        >>> mesh = refine_vertices(ball, extract_mesh(ball, resolution=16), reach=1 / 32)
        >>> bool((mesh.vertices.norm(dim=1) - 0.4).abs().max() < 1e-6)
        True
    """
    check_mesh(mesh)
    reach, steps = check_positive("reach", reach), check_count("steps", steps)
    moved = [
        _refined(field, start, reach, steps)
        for start in torch.split(mesh.vertices.to(field.device), check_count("max_points", max_points))
    ]
    return Mesh(torch.cat(moved).cpu(), mesh.faces)


def field_normals(field: Field, points: Tensor, max_points: int = 262_144) -> Tensor:
    """Outward unit normals of a field's surface: its normalised gradient, away from the inside.

    Args:
        field: Differentiable in the points.
        points: [N, 3] float32, mesh units, on the field's device; vertices of its mesh, or points of its dense cloud.
        max_points: Most points in one call of the field.

    Returns:
        [N, 3]; 0 where the gradient vanishes. Of unsigned distances, away from the surface.

    Raises:
        ExtractionError: A slope that is NaN or infinite.
        TypeError, ValueError: A wrong argument, or a field that cannot be differentiated.

    Example:
        >>> from pyimplicit.fields import SDF
        >>> ball = Field(lambda points: points.norm(dim=1) - 0.4, SDF())
        >>> field_normals(ball, torch.tensor([[0.0, 0.4, 0.0]]))
        tensor([[0., 1., 0.]])
    """
    sign = -1.0 if field.inside_is_positive else 1.0
    slopes = [_slope(field, part)[1] for part in torch.split(points, check_count("max_points", max_points))]
    return sign * torch.nn.functional.normalize(torch.cat(slopes), dim=1, eps=_FLAT**0.5)


def _refined(field: Field, start: Tensor, reach: float, steps: int) -> Tensor:
    at, (value, slope) = start, _slope(field, start)
    for _ in range(steps):
        squared = slope.square().sum(dim=1, keepdim=True)
        step = torch.where(squared > _FLAT, value[:, None] * slope / squared.clamp(min=_FLAT), 0.0)
        arm = at - step - start
        length = arm.norm(dim=1, keepdim=True)
        tried = start + arm * (reach / length.clamp(min=reach))
        new_value, new_slope = _slope(field, tried)
        better = new_value.abs() < value.abs()
        at = torch.where(better[:, None], tried, at)
        value, slope = torch.where(better, new_value, value), torch.where(better[:, None], new_slope, slope)
    return at


def _slope(field: Field, points: Tensor) -> tuple[Tensor, Tensor]:
    """Values above the level [N] and gradients [N, 3]."""
    values, slope = field.value_and_gradient(points)
    if not bool(torch.isfinite(values).all() and torch.isfinite(slope).all()):
        raise ExtractionError("field: its values or slopes at the surface are not all finite")
    return values - field.level, slope
