"""Points distributed evenly over the area of a triangle mesh."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_tensor
from pyimplicit.ops._library import register
from pyimplicit.ops.random import RandomStream


def build_area_table(
    corners: Tensor,  # [F, 9]
) -> Tensor:
    """What triangles are chosen by, with a probability proportional to their area, in constant time.

    Args:
        corners: [F, 9] float32, the corners of each triangle one behind the other, any length unit.

    Returns:
        [F, 2] int32, `AliasEntry` of csrc/sampling/alias_table.h, on the corners' device; 8 bytes a triangle.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape, or triangles without area.

    Source:
        Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution", 1991.

    Example:
        >>> build_area_table(torch.eye(3).reshape(1, 9)).shape
        torch.Size([1, 2])
    """
    held = check_tensor("corners", corners, ("F", 9), (torch.float32,)).detach().cpu().contiguous()
    entries = held.new_empty(held.shape[0], 2, dtype=torch.int32)
    total = held.new_empty(1, dtype=torch.float64)
    _native.call("build_area_table", held.device, corners=held, count=held.shape[0], entries=entries, total=total)
    if not 0 < total.item() < math.inf:
        raise ValueError("faces: expected a mesh of positive, finite area")
    return entries.to(corners.device)


def sample_surface(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    count: int,
    seed: int | RandomStream = 0,
    table: Tensor | None = None,  # [F, 2]
) -> tuple[Tensor, Tensor]:
    """Points distributed evenly over the area of a triangle mesh.

    Args:
        vertices: [V, 3] float32, finite, mesh units.
        faces: [F, 3] int32, each index below V.
        count: Number of points, at least 1.
        seed: The same seed draws the same points on any number of threads and any device.
        table: [F, 2] int32, `build_area_table` of `vertices[faces]`, to save making it again.

    Returns:
        Points [count, 3] float32 and the face [count] int64 of each.

    Raises:
        TypeError: A wrong dtype.
        ValueError: A wrong shape, an index out of range, or a mesh without area.

    Source:
        Osada et al., "Shape Distributions", TOG 2002, section 4.2.

    Example:
        >>> points, face = sample_surface(torch.eye(3), torch.tensor([[0, 1, 2]], dtype=torch.int32), 5)
        >>> torch.allclose(points.sum(1), torch.ones(5))
        True
    """
    check_tensor("vertices", vertices, ("V", 3), (torch.float32,))
    check_tensor("faces", faces, ("F", 3), (torch.int32,), device=vertices.device)
    check_count("count", count)
    if table is not None:
        check_tensor("table", table, (faces.shape[0], 2), (torch.int32,), vertices.device)
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    points, face = _sample_surface_op(
        vertices.detach().contiguous(), faces.contiguous(), table, count, stream.seed, stream.shape, stream.step,
        stream.purpose,
    )  # fmt: skip
    return points, face


# ---- operators


def _sample_surface_kernel(
    vertices: Tensor, faces: Tensor, table: Tensor | None, count: int, seed: int, shape: int, step: int, purpose: int
) -> tuple[Tensor, Tensor]:
    if faces.shape[0] and (int(faces.min()) < 0 or int(faces.max()) >= vertices.shape[0]):
        raise ValueError(f"faces: expected indices in 0..{vertices.shape[0] - 1}, got {faces.min()}..{faces.max()}")
    if table is None:
        table = build_area_table(vertices[faces.long()].reshape(-1, 9))
    points = vertices.new_empty(count, 3)
    face = vertices.new_empty(count, dtype=torch.int64)
    _native.call(
        "sample_surface", vertices.device, vertices=vertices, faces=faces, areas=table, face_count=faces.shape[0],
        count=count, seed=seed, shape=shape, step=step, purpose=purpose, points=points, chosen=face,
    )  # fmt: skip
    return points, face


_sample_surface_op = register(
    "sample_surface",
    "(Tensor vertices, Tensor faces, Tensor? table, int count, int seed, int shape, int step, int purpose)"
    " -> (Tensor, Tensor)",
    _sample_surface_kernel,
    lambda vertices, faces, table, count, *_: (
        vertices.new_empty(count, 3),
        vertices.new_empty(count, dtype=torch.int64),
    ),
)
