"""Depth maps of a mesh from many directions, without a renderer, and how many of them see past a point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_finite, check_positive, check_tensor
from pyimplicit.ops._library import register

BANDS = 4  # pieces of an image that are drawn by themselves


@dataclass(frozen=True, eq=False)
class DepthViews:
    """Orthographic views of the space around the origin.

    Args:
        rotations: [V, 3, 3] float32; the rows are the image's axes and the direction of sight, unit vectors.
        size: Pixels along each side of an image, 1 to 16384.
        pixel: Length of a pixel, mesh units, above 0. An image spans size * pixel, with the origin in its middle.

    Raises:
        TypeError: A wrong dtype.
        ValueError: A wrong shape, a number out of range, NaN or infinity.
    """

    rotations: Tensor
    size: int
    pixel: float

    def __post_init__(self) -> None:
        check_tensor("rotations", self.rotations, ("V", 3, 3), (torch.float32,))
        check_finite("rotations", self.rotations)
        if check_count("size", self.size) > 16_384:
            raise ValueError(f"size: expected at most 16384 pixels, got {self.size}")
        check_positive("pixel", self.pixel)


def draw_depth(vertices: Tensor, faces: Tensor, views: DepthViews) -> Tensor:
    """Depth of the foremost face at each pixel's center, from either side of the faces.

    Depth is the coordinate along the direction of sight, so it is negative before the origin. A ray never slips between
    two faces with a common edge; a face seen edge on is not drawn. Not differentiable.

    Args:
        vertices: [P, 3] float32, finite, mesh units.
        faces: [F, 3] int32, indices of vertices; not checked beyond their range.
        views: Where to look from, on the device of `vertices`.

    Returns:
        [V, size, size] float32, rows first; infinite where there is nothing.

    Raises:
        TypeError: A wrong dtype.
        ValueError: A wrong shape or device, NaN or infinity, a face that names no vertex.

    Source:
        Pineda, "A Parallel Algorithm for Polygon Rasterization", SIGGRAPH 1988 (edge functions).

    Example:
        >>> views = DepthViews(torch.eye(3)[None], size=3, pixel=1.0)
        >>> corners = torch.tensor([[-9.0, -9.0, 0.5], [9.0, -9.0, 0.5], [0.0, 9.0, 0.5]])
        >>> draw_depth(corners, torch.tensor([[0, 1, 2]], dtype=torch.int32), views)[0, 1, 1]
        tensor(0.5000)
    """
    check_finite("vertices", check_tensor("vertices", vertices, ("P", 3), (torch.float32,)))
    check_tensor("faces", faces, ("F", 3), (torch.int32,), vertices.device)
    _check_views(views, vertices.device)
    if faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= len(vertices)):
        raise ValueError(f"faces: expected indices in 0..{len(vertices) - 1}, got {faces.min()}..{faces.max()}")
    depth: Tensor = _draw_depth_op(
        vertices.detach().contiguous(), faces.contiguous(), views.rotations.contiguous(), views.size, views.pixel
    )
    return depth


def count_views(points: Tensor, depth: Tensor, views: DepthViews, enough: int = 1) -> Tensor:
    """How many views see past each point: at its pixel, nothing lies before it.

    Args:
        points: [N, 3] float32, finite, mesh units. A point beside an image is seen in it.
        depth: [V, size, size] float32, of `draw_depth`, or made from it.
        views: What the maps were drawn for.
        enough: Where to stop counting, at least 1.

    Returns:
        [N] int32, at most `enough`.

    Raises:
        TypeError: A wrong dtype.
        ValueError: A wrong shape or device, NaN or infinity, `enough` below 1.

    Source:
        Kutulakos and Seitz, "A Theory of Shape by Space Carving", IJCV 2000 (what a view sees past is empty).

    Example:
        >>> views = DepthViews(torch.eye(3)[None], size=1, pixel=1.0)
        >>> count_views(torch.tensor([[0.0, 0, 1], [0, 0, 3]]), torch.full((1, 1, 1), 2.0), views)
        tensor([1, 0], dtype=torch.int32)
    """
    check_finite("points", check_tensor("points", points, ("N", 3), (torch.float32,)))
    _check_views(views, points.device)
    maps = (len(views.rotations), views.size, views.size)
    check_tensor("depth", depth, maps, (torch.float32,), points.device)
    check_count("enough", enough)
    seen: Tensor = _count_views_op(
        points.detach().contiguous(), depth.detach().contiguous(), views.rotations.contiguous(), views.size,
        views.pixel, enough,
    )  # fmt: skip
    return seen


def _check_views(views: DepthViews, device: torch.device) -> None:
    if not isinstance(views, DepthViews):
        raise TypeError(f"views: expected DepthViews, got {type(views).__name__}")
    check_tensor("views.rotations", views.rotations, ("V", 3, 3), (torch.float32,), device)


# ---- operators


def _draw_depth_kernel(vertices: Tensor, faces: Tensor, rotations: Tensor, size: int, pixel: float) -> Tensor:
    depth = _draw_depth_fake(vertices, faces, rotations, size, pixel)
    _native.call(
        "draw_depth", vertices.device, vertices=vertices, faces=faces, face_count=len(faces), rotations=rotations,
        view_count=len(rotations), size=size, pixel=pixel, bands=BANDS, depth=depth,
    )  # fmt: skip
    return depth


def _draw_depth_fake(vertices: Tensor, _faces: Tensor, rotations: Tensor, size: int, _pixel: float) -> Tensor:
    return vertices.new_empty(rotations.shape[0], size, size)


_draw_depth_op = register(
    "draw_depth",
    "(Tensor vertices, Tensor faces, Tensor rotations, int size, float pixel) -> Tensor",
    _draw_depth_kernel,
    _draw_depth_fake,
)


def _count_views_kernel(
    points: Tensor, depth: Tensor, rotations: Tensor, size: int, pixel: float, enough: int, plain: bool = False
) -> Tensor:
    """`plain` runs the plain body instead of the CPU's twin, for the tests."""
    seen = _count_views_fake(points)
    _native.call(
        "count_views", points.device, points=points, count=len(points), depth=depth, rotations=rotations,
        view_count=len(rotations), size=size, pixel=pixel, enough=enough, plain=plain, seen=seen,
    )  # fmt: skip
    return seen


def _count_views_fake(points: Tensor, *_rest: object) -> Tensor:
    return points.new_empty(points.shape[0], dtype=torch.int32)


_count_views_op = register(
    "count_views",
    "(Tensor points, Tensor depth, Tensor rotations, int size, float pixel, int enough) -> Tensor",
    _count_views_kernel,
    _count_views_fake,
)
