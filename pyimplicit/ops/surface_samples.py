"""Points distributed evenly over the area of a triangle mesh."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_tensor
from pyimplicit.ops._library import register
from pyimplicit.ops.random import RandomStream


@dataclass(frozen=True, eq=False)
class AreaGuide:
    """Running sums of a mesh's areas, and where to start looking in them. Made once, it serves any number of draws."""

    cumulative: Tensor  # [F] float64, squared mesh units
    first: Tensor  # [F] int32, first face whose sum exceeds that share of the whole

    def to(self, device: torch.device | str) -> AreaGuide:
        """The same guide on another device."""
        return AreaGuide(self.cumulative.to(device), self.first.to(device))


def build_area_guide(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> AreaGuide:
    """Prepare a mesh for `sample_surface`.

    Args:
        vertices: [V, 3] float32, finite, mesh units.
        faces: [F, 3] int32, each index below V.

    Returns:
        The guide, on the mesh's device.

    Raises:
        ValueError: A wrong shape, an index out of range, or a mesh without area.

    Source:
        Chen and Asau, "On Generating Random Variates from an Empirical Distribution", 1974 (the guide).

    Example:
        >>> build_area_guide(torch.eye(3), torch.tensor([[0, 1, 2]], dtype=torch.int32)).first
        tensor([0], dtype=torch.int32)
    """
    _check_mesh(vertices, faces)
    return _build(vertices.detach().contiguous(), faces.contiguous())


def sample_surface(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    count: int,
    seed: int | RandomStream = 0,
    guide: AreaGuide | None = None,
) -> tuple[Tensor, Tensor]:
    """Points distributed evenly over the area of a triangle mesh.

    Args:
        vertices: [V, 3] float32, finite, mesh units.
        faces: [F, 3] int32, each index below V.
        count: Number of points, at least 1.
        seed: The same seed draws the same points on any number of threads and any device.
        guide: From `build_area_guide` of this very mesh, to save making it again.

    Returns:
        Points [count, 3] float32 and the face [count] int64 of each.

    Raises:
        ValueError: A wrong shape, an index out of range, or a mesh without area.

    Source:
        Osada et al., "Shape Distributions", TOG 2002, section 4.2.

    Example:
        >>> points, face = sample_surface(torch.eye(3), torch.tensor([[0, 1, 2]], dtype=torch.int32), 5)
        >>> torch.allclose(points.sum(1), torch.ones(5))
        True
    """
    points, face, _ = draw_surface_samples(vertices, faces, count, seed, guide, normals=False)
    return points, face


def draw_surface_samples(
    vertices: Tensor,
    faces: Tensor,
    count: int,
    seed: int | RandomStream = 0,
    guide: AreaGuide | None = None,
    *,
    normals: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `sample_surface` returns, and the unit normals [count, 3] float32 of the faces, or an empty tensor."""
    _check_mesh(vertices, faces)
    check_count("count", count)
    if guide is not None and (guide.cumulative.shape[0] != faces.shape[0] or guide.first.device != faces.device):
        raise ValueError(
            f"guide: expected that of {faces.shape[0]} faces on {faces.device}, got one of "
            f"{guide.cumulative.shape[0]} on {guide.first.device}"
        )
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    points, face, normal = _sample_surface_op(
        vertices.detach().contiguous(), faces.contiguous(), None if guide is None else guide.cumulative,
        None if guide is None else guide.first, count, stream.seed, stream.shape, stream.step, stream.purpose, normals,
    )  # fmt: skip
    return points, face, normal


def _check_mesh(vertices: Tensor, faces: Tensor) -> None:
    check_tensor("vertices", vertices, ("V", 3), (torch.float32,))
    check_tensor("faces", faces, ("F", 3), (torch.int32,), device=vertices.device)


def _build(vertices: Tensor, faces: Tensor) -> AreaGuide:
    count = faces.shape[0]
    areas = torch.empty(count, dtype=torch.float64, device=vertices.device)
    _native.call(
        "face_areas", vertices.device, vertices=vertices, faces=faces, vertex_count=vertices.shape[0], count=count,
        areas=areas,
    )  # fmt: skip
    sums = areas.cpu()  # one after the other: the running sums are the same for every device
    guide = torch.empty(count, dtype=torch.int32)
    _native.call("fill_area_guide", sums.device, areas=sums, faces=count, guide=guide, entries=count)
    if count == 0 or not 0 < float(sums[-1]) < math.inf:
        if count and (int(faces.min()) < 0 or int(faces.max()) >= vertices.shape[0]):
            raise ValueError(f"faces: expected indices in 0..{vertices.shape[0] - 1}, got {faces.min()}..{faces.max()}")
        raise ValueError("faces: expected a mesh of positive, finite area")
    return AreaGuide(sums.to(vertices.device), guide.to(vertices.device))


# ---- operators


def _sample_surface_kernel(
    vertices: Tensor,
    faces: Tensor,
    cumulative: Tensor | None,
    guide: Tensor | None,
    count: int,
    seed: int,
    shape: int,
    step: int,
    purpose: int,
    normals: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if cumulative is None or guide is None:
        made = _build(vertices, faces)
        cumulative, guide = made.cumulative, made.first
    points = vertices.new_empty(count, 3)
    face = vertices.new_empty(count, dtype=torch.int64)
    normal = vertices.new_empty(count if normals else 0, 3)
    _native.call(
        "sample_surface", vertices.device, vertices=vertices, faces=faces, cumulative=cumulative,
        face_count=faces.shape[0], guide=guide, entries=guide.shape[0], count=count, seed=seed, shape=shape, step=step,
        purpose=purpose, points=points, chosen=face, normals=normal if normals else None,
    )  # fmt: skip
    return points, face, normal


_sample_surface_op = register(
    "sample_surface",
    "(Tensor vertices, Tensor faces, Tensor? cumulative, Tensor? guide, int count, int seed, int shape, int step,"
    " int purpose, bool normals) -> (Tensor, Tensor, Tensor)",
    _sample_surface_kernel,
    lambda vertices, faces, cumulative, guide, count, seed, shape, step, purpose, normals: (
        vertices.new_empty(count, 3),
        vertices.new_empty(count, dtype=torch.int64),
        vertices.new_empty(count if normals else 0, 3),
    ),
)
