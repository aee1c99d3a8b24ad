"""Marching cubes that always ends in a closed, oriented mesh: what happens to values before the cubes see them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import measure

from pyimplicit.geometry.mesh import Mesh
from pyimplicit.ops.topology import match_edges

#: Cells. No vertex lies nearer than about this to a node, so values at or next to the level give small triangles and
#: not coincident vertices. Sixteen float32 steps of a node index up to 1,024. Where the values across the surface from
#: a node at the level differ by a factor, its other vertices move by up to this times that factor.
NODE_CLEARANCE = 2.0**-10

#: Relative. Nodes of one checkerboard colour are pushed away from the level by this factor, which moves a vertex by at
#: most a quarter of it, in cells. The two diagonals of a cell's face have different colours, so their products, whose
#: comparison decides how an ambiguous face is cut, no longer tie, and both cells at the face cut it alike.
CHECKERBOARD = 2.0**-14

#: Exponent of the largest magnitude handed to scikit-image, which adds and compares with an absolute 2.2e-16.
LARGEST_EXPONENT = 60
LEAST_MAGNITUDE = 2.0**-40

#: Nodes that are looked at in one go where all are, so that what is noted of them is small enough for the caches.
SLAB = 1 << 20


def marching_cubes(
    values: NDArray[Any],  # [X, Y, Z]
    low: tuple[float, float, float],
    spacing: tuple[float, float, float],
) -> Mesh:
    """Triangulate the surface where values on a grid pass from positive (inside) to the rest.

    A value of exactly 0 is outside. Where the inside touches the border of the grid the mesh is closed by a cap
    `NODE_CLEARANCE` cells (at most seven times that in a corner) beyond the border.

    Args:
        values: [X, Y, Z], finite, positive inside, at least one of them positive; rounded to float32.
        low: Position of node [0, 0, 0], mesh units.
        spacing: Distance between neighbouring nodes along each axis, mesh units, above 0.

    Returns:
        A mesh in which every edge is shared by exactly two faces that run along it in opposite directions, with
        outward normals.

    Source:
        Lewiner et al., "Efficient implementation of Marching Cubes' cases with topological guarantees", as in
        scikit-image; where its result is not closed, Lorensen and Cline, "Marching Cubes", whose table cannot fail.

    Example:
        >>> axis = np.linspace(-1, 1, 9)
        >>> ball = 0.75 - np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis)), axis=0)
        >>> mesh = marching_cubes(ball, (-1, -1, -1), (0.25, 0.25, 0.25))
        >>> bool((mesh.vertices.norm(dim=1) - 0.75).abs().max() < 0.03)
        True
    """
    padded = _pad(np.asarray(values, dtype=np.float32))
    _clear_nodes(padded)
    _close_border(padded)
    for x, y, z in np.ndindex(2, 2, 2):
        if (x + y + z) % 2 == 0:
            padded[x::2, y::2, z::2] *= np.float32(1 + CHECKERBOARD)
    # "ascent": the values rise towards the inside, which makes the normals point outward.
    for method in ("lewiner", "lorensen"):
        surface = measure.marching_cubes(padded, 0.0, gradient_direction="ascent", method=method)  # type: ignore[no-untyped-call]
        vertices, faces = surface[:2]
        if _is_closed(faces):
            break
    else:
        raise RuntimeError("marching cubes made an open mesh")
    return Mesh((vertices.astype(np.float64) - 1) * np.asarray(spacing) + np.asarray(low), faces)


def _pad(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply by a power of two, which is exact, so that the largest magnitude is about 2**LARGEST_EXPONENT.

    Around it a layer that repeats the outermost one.
    """
    largest = max(float(values.max()), -float(values.min()))
    padded = np.empty([size + 2 for size in values.shape], dtype=np.float32)
    np.ldexp(values, LARGEST_EXPONENT - int(np.frexp(largest)[1]), out=padded[1:-1, 1:-1, 1:-1])
    for axis in range(3):
        sides = np.moveaxis(padded, axis, 0)
        sides[0], sides[-1] = sides[1], sides[-2]
    return padded


def _clear_nodes(padded: NDArray[np.float32]) -> None:
    """Raise magnitudes in place to NODE_CLEARANCE times the largest across the surface; a zero becomes outside.

    A node beside the surface has neighbours on the other side of it. A second sweep serves those whose neighbours the
    first one raised. The outermost layer repeats its neighbours, so no surface passes between.
    """
    flat, plane = padded.reshape(-1), padded.shape[1] * padded.shape[2]
    slabs = [slice(x, x + max(1, SLAB // plane)) for x in range(0, len(padded), max(1, SLAB // plane))]
    beside = [np.flatnonzero(_beside(padded, slab)) + slab.start * plane for slab in slabs]
    nodes = np.concatenate(beside)
    own_side = flat[nodes] > 0
    steps = (1, padded.shape[2], plane)
    for _ in range(2):
        largest = np.zeros(len(nodes), dtype=np.float32)
        for step in (*steps, *(-step for step in steps)):
            other = nodes + step
            across = (flat[other] > 0) != own_side
            np.maximum(largest, np.where(across, np.abs(flat[other]), 0), out=largest)
        # A zero among zeros still needs a magnitude, one that scikit-image's own constant cannot drown.
        least = np.maximum(np.float32(NODE_CLEARANCE) * largest, np.float32(LEAST_MAGNITUDE))
        magnitude = np.maximum(np.abs(flat[nodes]), least)
        flat[nodes] = np.where(own_side, magnitude, -magnitude)
    # No edge crosses beside the other nodes, but a vertex inside a cell would fall onto one of them that is near zero.
    floor = np.float32(NODE_CLEARANCE * np.median(magnitude) if len(nodes) else LEAST_MAGNITUDE)
    for slab, own in zip(slabs, beside, strict=True):
        part = padded[slab]
        low = np.flatnonzero((part < floor) & (part > -floor)) + slab.start * plane
        low = np.setdiff1d(low, own, assume_unique=True)
        flat[low] = np.where(flat[low] > 0, floor, -floor)


def _beside(padded: NDArray[np.float32], slab: slice) -> NDArray[np.bool_]:
    """The nodes of some planes that have a neighbour across the surface; none of the outermost layer."""
    first = max(slab.start - 1, 0)
    inside = padded[first : slab.stop + 1] > 0
    beside = np.zeros(inside.shape, dtype=bool)
    for axis in range(3):
        sides, marks = np.moveaxis(inside, axis, 0), np.moveaxis(beside, axis, 0)
        crossing = sides[1:] != sides[:-1]
        marks[1:] |= crossing
        marks[:-1] |= crossing
    for axis in (1, 2):
        np.moveaxis(beside, axis, 0)[[0, -1]] = False
    beside = beside[slab.start - first :][: len(padded[slab])]
    if slab.start == 0:
        beside[0] = False
    if slab.stop >= len(padded):
        beside[-1] = False
    return beside


def _close_border(padded: NDArray[np.float32]) -> None:
    """Make the outermost layer outside, so much so that a crossing lies NODE_CLEARANCE cells beyond the border."""
    ratio = np.float32(1 / NODE_CLEARANCE - 1)
    for axis in range(3):
        sides = np.moveaxis(padded, axis, 0)
        sides[0], sides[-1] = -ratio * np.abs(sides[1]), -ratio * np.abs(sides[-2])


def _is_closed(faces: NDArray[np.int32]) -> bool:
    """Whether every edge is used exactly once in each direction."""
    edges = match_edges(torch.from_numpy(np.ascontiguousarray(faces)), int(faces.max()) + 1)
    whole = edges.is_closed and edges.is_oriented and edges.non_manifold == 0
    return whole and not bool((faces == faces[:, [1, 2, 0]]).any())
