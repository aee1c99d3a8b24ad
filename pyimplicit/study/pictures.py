"""Pictures of surfaces and point clouds without a screen or a GPU: rays through the hierarchy of `Surface`, and dots.

Every picture looks at the cube [-0.5, 0.5]^3 from the same place, with parallel rays and y up, so that pictures beside
each other compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pyimplicit.geometry import Surface

#: Pixels of a picture: height and width.
SIZE = (360, 360)
# Rays per pixel and axis; their mean softens edges.
_OVERSAMPLING = 2
# Mesh units that a picture shows across: the whole cube fits.
_SPAN = 1.54
_GREY = (0.66, 0.70, 0.76)
_FAR = (0.84, 0.30, 0.10)
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """Where from the cube is looked at: the directions of the picture's axes, orthonormal, [3] float64 each."""

    right: NDArray[np.float64]
    up: NDArray[np.float64]
    forward: NDArray[np.float64]

    @classmethod
    def at(cls, azimuth: float = 40.0, elevation: float = 24.0) -> Camera:
        """Look from an azimuth about the y axis and an elevation above the ground, both in degrees."""
        turn, tilt = math.radians(azimuth), math.radians(elevation)
        forward = -np.array([math.cos(tilt) * math.sin(turn), math.sin(tilt), math.cos(tilt) * math.cos(turn)])
        right = np.array([math.cos(turn), 0.0, -math.sin(turn)])
        return cls(right, np.cross(right, forward), forward)


def draw_surface(
    surface: Surface, *, truth: Surface | None = None, beyond: float = 0.1, camera: Camera | None = None
) -> Pixels:
    """Draw a surface, shaded, on white.

    Args:
        surface: What is drawn, on the CPU.
        truth: The true surface; what lies farther than `beyond` from it is drawn in orange instead of grey.
        beyond: That distance, mesh units.
        camera: Where from; `Camera.at()` by default.

    Returns:
        The picture, [H, W, 3] uint8.

    Example:
        >>> corners = torch.tensor([[-0.4, -0.4, 0.0], [0.4, -0.4, 0.0], [0.0, 0.4, 0.0]])
        >>> picture = draw_surface(Surface(corners, torch.tensor([[0, 1, 2]])))
        >>> picture.shape, bool(picture[0, 0].min() == 255), bool(picture[180, 180].max() < 255)
        ((360, 360, 3), True, True)
    """
    camera = camera or Camera.at()
    height, width = (_OVERSAMPLING * side for side in SIZE)
    pixel = _SPAN / width
    across = (np.arange(width) + 0.5) * pixel - _SPAN / 2
    down = height * pixel / 2 - (np.arange(height) + 0.5) * pixel
    # Only the rectangle that the surface projects into: most of a picture is empty.
    corners = surface.mesh.vertices.double().numpy() @ np.stack([camera.right, camera.up], axis=1)
    low, high = corners.min(axis=0) - pixel, corners.max(axis=0) + pixel
    columns = np.flatnonzero((across > low[0]) & (across < high[0]))
    lines = np.flatnonzero((down > low[1]) & (down < high[1]))
    starts = across[None, columns, None] * camera.right + down[lines, None, None] * camera.up - 2 * camera.forward
    origins = torch.from_numpy(starts.reshape(-1, 3)).float()
    directions = torch.from_numpy(camera.forward).float().repeat(len(origins), 1)
    hits = surface.cast_rays(origins, directions)
    rows = torch.nonzero(hits.hit)[:, 0]
    normals = _smooth_normals(surface, hits.face[rows], hits.barycentric[rows])
    base = np.tile(_GREY, (len(rows), 1))
    if truth is not None and len(rows):
        points = origins[rows] + hits.t[rows, None] * directions[rows]
        base[(truth.unsigned_distance(points) > beyond).numpy()] = _FAR
    image = np.ones((height, width, 3))
    part = np.ones((len(origins), 3))
    part[rows.numpy()] = base * _light(normals, camera)[:, None]
    image[np.ix_(lines, columns)] = part.reshape(len(lines), len(columns), 3)
    return _reduced(image)


def draw_points(
    points: NDArray[np.float32],
    colours: NDArray[np.float64] | None = None,
    *,
    radius: int = 2,
    camera: Camera | None = None,
) -> Pixels:
    """Draw a cloud as dots, those in front over those behind, paler with depth, on white.

    Args:
        points: [N, 3], mesh units.
        colours: [N, 3] between 0 and 1; None is one blue for all.
        radius: Of a dot, in half pixels.
        camera: Where from; `Camera.at()` by default.

    Returns:
        The picture, [H, W, 3] uint8.

    Example:
        >>> picture = draw_points(np.zeros((1, 3), np.float32))
        >>> int((picture.min(axis=2) < 255).sum()) > 3
        True
    """
    camera = camera or Camera.at()
    height, width = (_OVERSAMPLING * side for side in SIZE)
    scale = width / _SPAN
    base = np.tile((0.13, 0.33, 0.60), (len(points), 1)) if colours is None else np.asarray(colours, np.float64)
    depth = points @ camera.forward
    order = np.argsort(-depth, kind="stable")
    # From the front of the cube to its back a dot loses up to half of its colour.
    pale = np.clip((depth[order, None] + 0.7) / 1.4, 0, 1) * 0.5
    x = np.rint(points[order] @ camera.right * scale + width / 2).astype(int)
    y = np.rint(height / 2 - points[order] @ camera.up * scale).astype(int)
    steps = np.arange(-radius, radius + 1)
    dots = np.array([(i, j) for i in steps for j in steps if i * i + j * j <= (radius + 0.3) ** 2])
    rows, columns = (y[:, None] + dots[:, 0]).ravel(), (x[:, None] + dots[:, 1]).ravel()
    seen = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    image = np.ones((height, width, 3))
    # Of repeated places the last one counts: the nearest point.
    image[rows[seen], columns[seen]] = np.repeat(base[order] * (1 - pale) + pale, len(dots), axis=0)[seen]
    return _reduced(image)


def crop_together(pictures: list[Pixels], margin: int = 8) -> list[Pixels]:
    """Cut the white borders off pictures of one size, all alike, so that they still compare."""
    ink = np.any([picture.min(axis=2) < 250 for picture in pictures], axis=0)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return pictures
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    return [picture[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin] for picture in pictures]


def _smooth_normals(surface: Surface, face: torch.Tensor, barycentric: torch.Tensor) -> NDArray[np.float64]:
    """Normals between those of a face's corners: [N, 3], of unit length, 0 where there is none."""
    vertices, faces = surface.mesh.vertices.double().numpy(), surface.mesh.faces.numpy()
    corners = vertices[faces]
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    at_vertices = np.stack(
        [np.bincount(faces.ravel(), np.repeat(weighted[:, axis], 3), len(vertices)) for axis in range(3)], axis=1
    )
    mixed = (at_vertices[faces[face.numpy()]] * barycentric.double().numpy()[:, :, None]).sum(axis=1)
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.asarray(mixed / np.where(length > 0, length, 1.0))


def _light(normals: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    """Brightness under a lamp over the viewer's left shoulder and a weak one from below; both sides are lit."""
    facing = np.where(normals @ camera.forward > 0, -1.0, 1.0)[:, None] * normals
    lamp = -camera.forward + 0.9 * camera.up - 0.5 * camera.right
    diffuse = np.clip(facing @ (lamp / np.linalg.norm(lamp)), 0, 1)
    return np.asarray(np.clip(0.34 + 0.10 * (1 - facing @ camera.up) / 2 + 0.72 * diffuse, 0, 1.25))


def _reduced(image: NDArray[np.float64]) -> Pixels:
    height, width = SIZE
    parts = np.clip(image, 0, 1).reshape(height, _OVERSAMPLING, width, _OVERSAMPLING, 3)
    return np.asarray(np.rint(255 * parts.mean(axis=(1, 3))), dtype=np.uint8)
