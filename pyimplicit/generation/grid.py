"""The values of a field at the nodes of a grid: all of them, or coarse to fine only those that a surface needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pyimplicit.errors import ExtractionError
from pyimplicit.fields import Bounds, Field

Progress = Callable[[int, int], None]

# Cells along an axis that the coarsest grid of `refined_values` has at least, unless told otherwise: ONet's.
COARSEST = 32


class Grid:
    """Nodes that span a box, corners included, and how many of them a field has been asked for.

    Args:
        field: The field.
        bounds: Lowest and highest corner of the box, mesh units.
        resolution: Cells along each axis.
        max_points: Most points in one call of the field.
        progress: Called after each chunk with the number of nodes evaluated and their total.
    """

    def __init__(
        self, field: Field, bounds: Bounds, resolution: int, max_points: int, progress: Progress | None = None
    ) -> None:
        self.field, self.bounds, self.resolution = field, bounds, resolution
        self.max_points, self.progress = max_points, progress
        self.evaluated = 0
        self._axes = [
            torch.linspace(low, high, resolution + 1, dtype=torch.float64).to(field.device, torch.float32)
            for low, high in zip(*bounds, strict=True)
        ]

    @property
    def total(self) -> int:
        """How many nodes there are."""
        return (self.resolution + 1) ** 3

    def values(self, nodes: NDArray[np.int64] | range) -> NDArray[np.float32]:
        """Values at nodes given by their place in [x, y, z] order; ExtractionError where one is not finite."""
        values = np.empty(len(nodes), dtype=np.float32)
        count = self.resolution + 1
        for start in range(0, len(nodes), self.max_points):
            some = np.asarray(nodes[start : start + self.max_points], dtype=np.int64)
            node = torch.from_numpy(some).to(self.field.device)
            indices = (node // count**2, node // count % count, node % count)
            points = torch.stack(
                [axis[index] for axis, index in zip(self._axes, indices, strict=True)], dim=1
            )  # [n, 3]
            with torch.no_grad():
                chunk = self.field(points).detach().to("cpu", torch.float32)
            finite = torch.isfinite(chunk)
            if not bool(finite.all()):
                first = int((~finite).nonzero()[0])
                where = ", ".join(f"{x:g}" for x in points[first].tolist())
                raise ExtractionError(f"field: expected finite values, got {chunk[first].item()} at ({where})")
            values[start : start + len(chunk)] = chunk.numpy()
            self.evaluated += len(chunk)
            if self.progress is not None:
                self.progress(self.evaluated, self.total)
        return values


def dense_values(grid: Grid) -> NDArray[np.float32]:  # [R + 1, R + 1, R + 1], axes x, y, z
    """The field's values at all nodes."""
    return grid.values(range(grid.total)).reshape((grid.resolution + 1,) * 3)


def refined_values(grid: Grid, levels: int) -> NDArray[np.float32]:  # [R + 1, R + 1, R + 1], axes x, y, z
    """The field's values at the nodes of all cells that the surface passes through; elsewhere any of the right side.

    A coarse grid first. Cells whose corners are not all on one side are cut into eight, level after level, and
    wherever the surface leaves the cells known so far, its neighbours are looked at too. So every body of the surface
    that a coarse cell sees comes out whole, exactly as from all values; a body that hides between the coarse nodes
    stays unseen.

    Args:
        grid: The nodes; its resolution must be divisible by 2 ** levels.
        levels: How many times coarse cells are cut into eight.

    Source:
        Mescheder et al., "Occupancy Networks: Learning 3D Reconstruction in Function Space", section 3.3 (MISE).
    """
    stride = 2**levels
    cells = grid.resolution // stride
    every = np.arange(grid.total, dtype=np.int64).reshape((grid.resolution + 1,) * 3)
    values = grid.values(every[::stride, ::stride, ::stride].reshape(-1)).reshape((cells + 1,) * 3)
    del every
    known = np.ones(values.shape, dtype=bool)
    while stride > 1:
        mixed = _mixed(_is_inside(values, grid.field))
        stride //= 2
        values, known = _doubled(values), _known_doubled(known)
        wanted = np.zeros(values.shape, dtype=bool)
        for x, y, z in np.ndindex(3, 3, 3):  # the nodes of a cell that is cut into eight
            ends = [slice(shift, shift + 2 * side - 1, 2) for shift, side in zip((x, y, z), mixed.shape, strict=True)]
            wanted[tuple(ends)] |= mixed
        while True:
            wanted &= ~known
            nodes = np.argwhere(wanted) * stride
            if not len(nodes):
                break
            count = grid.resolution + 1
            values[wanted] = grid.values((nodes[:, 0] * count + nodes[:, 1]) * count + nodes[:, 2])
            known |= wanted
            wanted[:] = False
            mixed = _mixed(_is_inside(values, grid.field))
            for x, y, z in np.ndindex(2, 2, 2):
                wanted[
                    tuple(slice(shift, shift + side) for shift, side in zip((x, y, z), mixed.shape, strict=True))
                ] |= mixed
    return values


def _is_inside(values: NDArray[np.float32], of: Field) -> NDArray[np.bool_]:
    return values > of.level if of.inside_is_positive else values < of.level


def _mixed(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which cells have corners on both sides."""
    some, every = inside, inside
    for axis in range(3):
        low, high = (slice(None),) * axis + (slice(None, -1),), (slice(None),) * axis + (slice(1, None),)
        some, every = some[low] | some[high], every[low] & every[high]
    return some & ~every


def _doubled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values at twice the resolution: halfway between nodes their mean, which is on their side if they agree."""
    for axis in range(3):
        sides = np.moveaxis(values, axis, 0)
        fine = np.empty((2 * len(sides) - 1, *sides.shape[1:]), dtype=np.float32)
        fine[::2] = sides
        # Halves first: the sum of two large values would overflow.
        np.add(sides[:-1] / 2, sides[1:] / 2, out=fine[1::2])
        values = np.moveaxis(fine, 0, axis)
    return np.ascontiguousarray(values)


def _known_doubled(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    fine = np.zeros([2 * side - 1 for side in known.shape], dtype=bool)
    fine[::2, ::2, ::2] = known
    return fine
