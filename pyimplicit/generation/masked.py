"""The values of a field on a grid where it is only asked near the input shape, and what stands in for it far away."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pyimplicit.fields import Field, far_values
from pyimplicit.generation.grid import Grid
from pyimplicit.sampling import DistanceMask

# Of the evaluated nodes beside a far region, the share that may lie on the other side of the surface than the region
# does. Above it the region's side is not known, and its nodes are evaluated after all.
MOST_DISAGREEMENT = 0.02


def masked_values(grid: Grid, mask: DistanceMask) -> tuple[NDArray[np.float32], str]:
    """The field's values at the nodes within the mask, and a value of the right side at the others.

    Unsigned distances: nodes beyond the mask take its distance. Fields with an inside: nodes beyond it fall into
    regions without a surface, each wholly inside or outside. A region that reaches the border of the grid is outside;
    one that the nodes near the shape enclose is inside. Where the field itself says otherwise at the region's rim, as
    it does if the shape's points leave holes wider than twice the mask's distance, the region is evaluated after all.

    Args:
        grid: The nodes.
        mask: Of the input shape, on the field's device.

    Returns:
        Values [R + 1, R + 1, R + 1], axes x, y, z, and a note on regions that had to be evaluated, or "".

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-B; the extension to
        fields with an inside is this package's.
    """
    field, count = grid.field, grid.resolution + 1
    near = mask.grid(count, torch.tensor(grid.bounds, dtype=torch.float64)).cpu().numpy()
    values = np.empty(near.shape, dtype=np.float32)
    values[near] = grid.values(np.flatnonzero(near))
    if field.kind.name == "udf":
        values[~near] = mask.distance
        return values, ""
    outside, inside = far_values(field.kind, mask.distance, field.level)
    regions, number = ndimage.label(~near)
    border = np.zeros(number + 1, dtype=bool)
    for axis in range(3):
        sides = np.moveaxis(regions, axis, 0)
        border[sides[0]] = border[sides[-1]] = True
    disagree, rim = _votes(regions, number, values, near, field, border)
    doubtful = disagree > MOST_DISAGREEMENT * rim
    doubtful[0] = False
    fills = np.where(border, outside, inside).astype(np.float32)
    values[~near] = fills[regions[~near]]
    note = ""
    if doubtful.any():
        again = doubtful[regions] & ~near
        values[again] = grid.values(np.flatnonzero(again))
        note = (
            f"{int(doubtful.sum())} of {number} regions beyond the mask, {int(again.sum())} nodes, evaluated after "
            "all: the field at their rim lies on the other side of the surface"
        )
    return values, note


def _votes(
    regions: NDArray[np.integer],  # [X, Y, Z], 0 near the shape
    number: int,
    values: NDArray[np.float32],
    near: NDArray[np.bool_],
    field: Field,
    border: NDArray[np.bool_],  # [number + 1]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each region how many evaluated nodes next to it lie on the other side, and how many there are."""
    disagree, rim = np.zeros(number + 1, dtype=np.int64), np.zeros(number + 1, dtype=np.int64)
    for axis in range(3):
        region, asked = np.moveaxis(regions, axis, 0), np.moveaxis(near, axis, 0)
        value = np.moveaxis(values, axis, 0)
        for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            beside = (region[here] > 0) & asked[there]
            of, at = region[here][beside], value[there][beside]
            inside = at > field.level if field.inside_is_positive else at < field.level
            rim += np.bincount(of, minlength=number + 1)
            disagree += np.bincount(of, weights=inside == border[of], minlength=number + 1).astype(np.int64)
    return disagree, rim
