"""Everything that is asked of a surface, and what its answers are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import reference
from tests import helpers
from tests.helpers import diagonal


def surface_of(mesh: helpers.Mesh, device: torch.device | str = "cpu") -> Surface:
    return Surface(*mesh, device=device)


SIGNED = {
    "signed": lambda surface, points: surface.signed_distance(points),
    "signed, pseudonormal": lambda surface, points: surface.signed_distance(points, "pseudonormal"),
    "signed, winding": lambda surface, points: surface.signed_distance(points, "winding"),
}
QUERIES: dict[str, Callable[[Surface, Any], Any]] = {
    "closest": lambda surface, points: surface.closest_point(points).distance,
    "unsigned": lambda surface, points: surface.unsigned_distance(points),
    **SIGNED,
    "winding": lambda surface, points: surface.winding_number(points),
    "contains": lambda surface, points: surface.contains(points),
    "contains, winding": lambda surface, points: surface.contains(points, "winding"),
}
ANY_MESH = [name for name in QUERIES if name != "signed, pseudonormal"]


def tolerance(mesh: helpers.Mesh, points: Tensor) -> Tensor:
    """What a distance may be off by: 1e-6 of the diagonal and the rounding of the point and of the answer, [N]."""
    step = torch.finfo(points.dtype).eps
    reach = points.double().abs().amax(1)
    return 1e-6 * diagonal(mesh) + 4 * step * reach + 4 * torch.finfo(points.dtype).smallest_normal * step


def check_right(surface: Surface, mesh: helpers.Mesh, points: Tensor) -> None:
    """All queries against sums and brute force in double precision over the faces of `mesh`."""
    exact, off = points.double(), tolerance(mesh, points)
    distance, winding = reference.unsigned_distance(exact, *mesh), reference.winding_number(exact, *mesh)
    hit = surface.closest_point(points)
    for found in (hit.distance, surface.unsigned_distance(points)):
        assert bool(((found.double() - distance).abs() <= off).all())
    assert bool((((exact - hit.point.double()).norm(dim=1) - distance).abs() <= 2 * off).all())
    assert bool(((hit.face >= 0) & (hit.face < len(mesh[1]))).all())
    assert bool((hit.barycentric >= -1e-6).all())
    assert bool(((hit.barycentric.sum(1) - 1).abs() <= 1e-5).all())

    # A single face seen from two radii away is known to some percent; in closed meshes such errors cancel.
    assert bool(((surface.winding_number(points) - winding).abs() <= 0.05 * (1 + winding.abs())).all())
    clear = (distance > off) & ((winding - 0.5).abs() > 0.02)
    for sign in ("auto", "winding"):
        found = surface.signed_distance(points, sign)
        assert bool(((found.double().abs() - distance).abs() <= off).all())
        assert torch.equal((found < 0)[clear], (winding > 0.5)[clear])
        assert torch.equal(surface.contains(points, sign)[clear], (winding > 0.5)[clear])
