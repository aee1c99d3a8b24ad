"""The visible hull of a mesh as a field on a grid: what depth maps from all around do not see past is solid."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.geometry.visibility import sphere_directions
from pyimplicit.ops import DepthViews, count_views, draw_depth

VIEWS = 100
"""Directions to look from; the authors' number."""

PIXEL = 0.75
"""Cells of the views. Length of a pixel of the depth maps."""

OFFSET = 0.5
"""Cells of the grid, as all lengths below. The surface is extracted this far outside the faces, so that a sheet without
thickness becomes one cell thick and no node of the grid misses it."""

DISTANCE = 0.25
"""Cells. Its vertices are then drawn in to this distance. A sheet becomes half a cell thick, and is still one body."""

NEAR, FAR = 0.75, 1.5
"""Cells. Vertices up to `NEAR` from the faces are drawn in to `DISTANCE`. Those as far as `FAR`, which close a pocket
that no view sees, are not, and those between move by less and less."""

PINNED = 0.6
"""Cells. Vertices farther than this from the faces are put where views stop, by bisection of their grid edges, before
any is drawn in."""

HALVINGS = 4
"""Of a grid edge, by that bisection: a vertex is then within a 32nd of a cell of where views stop on it."""

ON_EDGE = 1e-3
"""Cells. A vertex that has two coordinates of nodes to within this lies on a grid edge; float32 is finer."""

ENOUGH = 2
"""A node is outside if this many views see past it. A single one may look through a crack of rounding."""

COARSE = 4
"""Cells between the nodes that are looked at first, at least. Of a finer grid those of the depth maps' cells follow."""

CLIP = 4.0
"""Cells. Largest magnitude of the field."""


class VisibleHull:
    """What can be seen of a mesh from far away, all around.

    Args:
        surface: The mesh, on the CPU, its bounding box centred at the origin.
        spacing: Edge of the cells that the depth maps are made for, mesh units.
        detail: Cells along each of those of the grid on which the surface is extracted.
    """

    def __init__(self, surface: Surface, spacing: float, detail: int = 1) -> None:
        self.surface, self.spacing, self.cell, self.detail = surface, spacing, spacing / detail, detail
        radius = float(surface.mesh.bounds.double().norm(dim=1).max())
        pixel = PIXEL * spacing
        self.views = DepthViews(_rotations(VIEWS), 2 * math.ceil(radius / pixel) + 4, pixel)
        self.depth = draw_depth(surface.mesh.vertices, surface.mesh.faces, self.views)
        # Each pixel takes the least depth around it: cracks narrower than that are closed, and no slanted face lets a
        # view see into it. The authors' erosion of depth maps by 3 x 3 pixels.
        self.eroded = _least_around(self.depth)

    def outside(self, points: Tensor) -> Tensor:
        """Whether points [N, 3] float32 can be seen, [N] bool."""
        return count_views(points, self.eroded, self.views, ENOUGH) >= ENOUGH

    def shown(self, points: Tensor) -> Tensor:
        """Whether points [N, 3] float32 of the surface can be seen, [N] bool."""
        return count_views(points, self.depth + self.spacing, self.views) > 0

    def field(self, points: Tensor) -> Tensor:
        """Signed distance [N] to the hull's surface near it, negative inside, mesh units."""
        distance = self.surface.unsigned_distance(points)
        # A distance of exactly OFFSET counts as inside.
        return torch.where(self.outside(points), distance, -distance) - OFFSET * (1 + 1e-6) * self.cell


def visible_hull_field(
    hull: VisibleHull,
    bounds: NDArray[np.float64],  # [2, 3]
) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Sample the field of a visible hull on a grid around it; return it, and the grid's origin.

    Values are exact near faces and wherever the coarser grid sees both sides; elsewhere they tell its nodes' side.
    Far from faces a gap that views see into is lost if it is narrower than that grid's cells.
    """
    spacing = hull.cell
    coarse = hull.detail * math.ceil(COARSE / hull.detail)
    coarse_cells = np.ceil((bounds[1] - bounds[0]) / (spacing * coarse)).astype(int) + 2  # a coarse cell of air around
    cells = coarse_cells * coarse
    origin = (bounds[0] + bounds[1] - cells * spacing) / 2
    axes = [torch.from_numpy(origin[k] + np.arange(cells[k] + 1) * spacing).float() for k in range(3)]
    wanted = np.ones(coarse_cells + 1, dtype=bool)
    field = np.zeros(wanted.shape, dtype=np.float32)
    steps = sorted({coarse, hull.detail, 1}, reverse=True)
    for step, finer in itertools.zip_longest(steps, steps[1:]):
        at = np.flatnonzero(wanted)
        along = np.unravel_index(at, wanted.shape)
        points = torch.stack([axes[k][torch.from_numpy(along[k] * step)] for k in range(3)], dim=1)
        field.reshape(-1)[at] = hull.field(points).numpy()
        if finer is None:
            break
        # Every point of a cell is within half its diagonal of a corner.
        near = _of_cells(np.abs(field + OFFSET * spacing), np.minimum) <= (step * math.sqrt(3) / 2 + OFFSET) * spacing
        inside = field < 0
        wanted = _nodes_of(near | (_of_cells(inside, np.maximum) != _of_cells(inside, np.minimum)), step // finer)
        field = _spread(field, step // finer, wanted.shape)
    field.clip(-CLIP * spacing, CLIP * spacing, out=field)
    return field, (float(origin[0]), float(origin[1]), float(origin[2]))


def pin_covers(mesh: Mesh, hull: VisibleHull, origin: tuple[float, float, float]) -> Mesh:
    """Move those vertices of a hull's extracted surface to where views stop that no face is near to.

    Between inside and outside the field jumps there, so its values at the ends of a grid edge do not tell where on the
    edge that is: it is bisected. A vertex stays on its edge, so the surface still does not cross itself.

    Args:
        mesh: What marching cubes makes of `visible_hull_field`.
        hull: The hull.
        origin: That grid's origin, mesh units.
    """
    corner = torch.tensor(origin, dtype=torch.float64)
    nodes = (mesh.vertices.double() - corner) / hull.cell
    # Across its edge a vertex has the coordinates of nodes. Those that marching cubes puts inside a cell have none, and
    # stay.
    on_edge = (nodes - nodes.round()).abs().sort(dim=1).values[:, 1] < ON_EDGE
    far = ((hull.surface.unsigned_distance(mesh.vertices) > PINNED * hull.cell) & on_edge).nonzero()[:, 0]
    nodes = nodes[far]
    along = (nodes - nodes.round()).abs().argmax(dim=1, keepdim=True)
    first = nodes.round().scatter(1, along, nodes.gather(1, along).floor())
    edge = torch.zeros_like(first).scatter(1, along, 1)

    def place(share: Tensor) -> Tensor:
        return ((first + share[:, None] * edge) * hull.cell + corner).to(mesh.vertices.dtype)

    begin, end = torch.zeros(len(far)), torch.ones(len(far))
    side = hull.field(place(begin)) < 0
    jumps = (hull.field(place(end)) < 0) != side
    for _ in range(HALVINGS):
        middle = (begin + end) / 2
        same = (hull.field(place(middle)) < 0) == side
        begin, end = torch.where(same, middle, begin), torch.where(same, end, middle)
    vertices = mesh.vertices.clone()
    vertices[far[jumps]] = place((begin + end) / 2)[jumps]
    return Mesh(vertices, mesh.faces)


def draw_in(mesh: Mesh, hull: VisibleHull) -> Mesh:
    """Move the vertices of a hull's extracted surface to `DISTANCE` of the faces, each towards its nearest point.

    Ways to nearest points do not cross. A face whose corners have theirs on different walls may turn over all the same:
    its vertices stay. Where walls meet, some faces may still cross each other by less than they were moved.
    """
    start = mesh.vertices
    nearest = hull.surface.closest_point(start)
    cells = nearest.distance / hull.cell
    way = (cells - DISTANCE).clamp(min=0)
    way = torch.where(cells > NEAR, (NEAR - DISTANCE) * (FAR - cells).clamp(min=0) / (FAR - NEAR), way) * hull.cell
    arm = torch.nn.functional.normalize(nearest.point - start, dim=1)
    faces_around = _FacesAround(mesh)
    faces = mesh.faces
    normals = _face_normals(start, faces)
    while True:
        moved = start + way[:, None] * arm
        turned = (_face_normals(moved, faces) * normals).sum(dim=1) <= 0
        turned &= (way[faces] > 0).any(dim=1)
        if not bool(turned.any()):
            return Mesh(moved, mesh.faces)
        stays = np.unique(faces[turned].numpy())
        way[torch.from_numpy(stays)] = 0
        # Only faces of those vertices are another now.
        faces = mesh.faces[faces_around(stays)]
        normals = _face_normals(start, faces)


class _FacesAround:
    """The faces that have some vertices, found without a look at all faces."""

    def __init__(self, mesh: Mesh) -> None:
        corners = mesh.faces.numpy().ravel()
        self.by_vertex = np.argsort(corners)
        self.first = np.append(0, np.cumsum(np.bincount(corners, minlength=len(mesh.vertices))))

    def __call__(self, vertices: NDArray[np.integer[Any]]) -> Tensor:
        """Indices of the faces around vertices [N], in ascending order, each once."""
        first, end = self.first[vertices], self.first[vertices + 1]
        count = end - first
        places = np.arange(count.sum()) + np.repeat(end - np.cumsum(count), count)
        return torch.from_numpy(np.unique(self.by_vertex[places] // 3))


def _face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Normals [F, 3] float64, twice the faces' areas long."""
    a, b, c = vertices.double()[faces].unbind(dim=1)
    normals: Tensor = torch.linalg.cross(b - a, c - a)
    return normals


def _rotations(count: int) -> Tensor:
    """Rows: an image's axes and the direction of sight, [count, 3, 3] float32."""
    forward = sphere_directions(count)
    right = np.cross(forward, np.eye(3)[np.abs(forward).argmin(axis=1)])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return torch.from_numpy(np.stack((right, np.cross(forward, right), forward), axis=1)).float()


def _least_around(images: Tensor) -> Tensor:
    """Smallest of each pixel and its eight neighbours; by minima of shifted images, faster than a pooling."""
    for axis in (1, 2):
        least = images.clone()
        inner = images.narrow(axis, 1, images.shape[axis] - 1)
        outer = images.narrow(axis, 0, images.shape[axis] - 1)
        torch.minimum(least.narrow(axis, 0, outer.shape[axis]), inner, out=least.narrow(axis, 0, outer.shape[axis]))
        torch.minimum(least.narrow(axis, 1, inner.shape[axis]), outer, out=least.narrow(axis, 1, inner.shape[axis]))
        images = least
    return images


def _of_cells(nodes: NDArray[Any], combine: np.ufunc) -> NDArray[Any]:
    """Combine the values of each cell's eight corners."""
    for axis in range(3):
        values = np.moveaxis(nodes, axis, 0)
        nodes = np.moveaxis(combine(values[:-1], values[1:]), 0, axis)
    return nodes


def _spread(nodes: NDArray[np.float32], finer: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values on a grid `finer` times as fine: between nodes those of their cell's first one."""
    rows = nodes.repeat(finer, axis=2)[:, :, : shape[2]]
    spread = np.empty(shape, dtype=nodes.dtype)
    for x, y in np.ndindex(finer, finer):
        part = spread[x::finer, y::finer]
        part[...] = rows[: part.shape[0], : part.shape[1]]
    return spread


def _nodes_of(cells: NDArray[np.bool_], finer: int) -> NDArray[np.bool_]:
    """Nodes of a grid `finer` times as fine that lie in or on the chosen cells."""
    for axis in range(3):
        chosen = np.moveaxis(cells, axis, 0).repeat(finer, 0)
        nodes = np.zeros((chosen.shape[0] + 1, *chosen.shape[1:]), dtype=bool)
        nodes[:-1] = chosen
        nodes[1:] |= chosen
        cells = np.moveaxis(nodes, 0, axis)
    return cells
