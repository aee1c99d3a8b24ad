"""Which query points, or nodes of a grid, lie within a distance of a point cloud."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_finite, check_tensor
from pyimplicit.ops._library import register
from pyimplicit.ops.cloud_grid import CloudGrid, box_of, sizes_of

# Cells of known state along the longest axis.
STATE_CELLS = 64
_HALF_DIAGONAL = math.sqrt(3) / 2  # of a cube of edge 1


@dataclass(frozen=True, eq=False)
class MaskCells:
    """Cells that lie wholly within the distance, wholly beyond it, or neither. Beyond them everything is far."""

    state: Tensor  # [X, Y, Z] uint8: FAR, NEAR or BOUNDARY
    low: tuple[float, float, float]  # corner, mesh units
    cell_size: float  # mesh units

    FAR = 0
    NEAR = 1
    BOUNDARY = 2

    def to(self, device: torch.device | str) -> MaskCells:
        """The same cells on another device."""
        return replace(self, state=self.state.to(device))

    def of(self, points: Tensor) -> Tensor:
        """State [N] uint8 of the cell of each of `points` [N, 3]."""
        state = torch.empty(points.shape[0], dtype=torch.uint8, device=points.device)
        _native.call(
            "look_up_mask_cells", points.device, points.dtype, points=points, count=points.shape[0], state=self.state,
            state_box=box_of(self.low, self.cell_size), state_size=sizes_of(self.state.shape), found=state,
        )  # fmt: skip
        return state


def build_mask_cells(grid: CloudGrid) -> MaskCells | None:
    """Cells of known state for the masks of many points.

    The middle of a cell decides: a cell within half its diagonal of the boundary is left to the exact test.

    Args:
        grid: A single cloud, from `build_cloud_grid`.

    Returns:
        The cells, on the grid's device; None where they are of no use: for a batch of clouds, and for a distance that
        is small beside the cloud.

    Example:
        >>> from pyimplicit.ops import build_cloud_grid
        >>> cells = build_mask_cells(build_cloud_grid(torch.zeros(1, 3), 0.1))
        >>> cells.state.shape
        torch.Size([64, 64, 64])
    """
    if grid.batch is not None:
        return None
    high = [a + n * grid.cell_size for a, n in zip(grid.low, grid.size, strict=True)]
    layout = mask_cell_layout(grid.low, (high[0], high[1], high[2]), grid.distance)
    if layout is None:
        return None
    low, size, cell_size, reach = layout
    axes = cell_middles(low, size, cell_size, grid.cloud.device)
    near = distance_mask_grid(*axes, replace(grid, distance=grid.distance - reach))
    far = ~distance_mask_grid(*axes, replace(grid, distance=grid.distance + reach))
    return MaskCells(mask_states(near, far), low, cell_size)


def mask_cell_layout(
    low: tuple[float, float, float], high: tuple[float, float, float], distance: float
) -> tuple[tuple[float, float, float], tuple[int, int, int], float, float] | None:
    """How to lay cells around all that is within `distance` of a box; None where they would be too coarse.

    Returns:
        Corner, number along each axis, edge, and what to add to a distance measured at a cell's middle so that it
        holds for the whole cell.
    """
    magnitude = max(abs(x) for x in (*low, *high)) + distance
    wide = distance * (1 + 1e-6) + 1e-14 * magnitude
    extents = [b - a + 2 * wide for a, b in zip(low, high, strict=True)]
    cell_size = max(extents) / STATE_CELLS
    reach = _HALF_DIAGONAL * cell_size * (1 + 1e-9) + 1e-14 * magnitude
    if not reach < distance / 2:
        return None
    x, y, z = (min(STATE_CELLS, math.floor(extent / cell_size) + 1) for extent in extents)
    return (low[0] - wide, low[1] - wide, low[2] - wide), (x, y, z), cell_size, reach


def cell_middles(
    low: tuple[float, float, float], size: tuple[int, int, int], cell_size: float, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates of the middles of cells along x, y, z, float64."""
    x, y, z = (
        a + (torch.arange(n, dtype=torch.float64, device=device) + 0.5) * cell_size
        for a, n in zip(low, size, strict=True)
    )
    return x, y, z


def mask_states(near: Tensor, far: Tensor) -> Tensor:
    """States of cells, uint8, from what is known of them."""
    state = torch.full(near.shape, MaskCells.BOUNDARY, dtype=torch.uint8, device=near.device)
    state[near] = MaskCells.NEAR
    state[far] = MaskCells.FAR
    return state


def distance_mask(
    points: Tensor,  # [..., 3]
    grid: CloudGrid,
    cells: MaskCells | None = None,
) -> Tensor:
    """Whether each query point has a cloud point at most `grid.distance` away.

    Args:
        points: [..., 3] float32 or float64, finite, mesh units, on the grid's device; [B, ..., 3] for a batch of B
            clouds, each point to be compared with the cloud of its row.
        grid: The cloud, from `build_cloud_grid`.
        cells: From `build_mask_cells(grid)`: changes the time, never the answer.

    Returns:
        Mask [...] bool: True within the distance. Squared distances are compared in double precision.

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape or device, NaN or infinity.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-B.

    Example:
        >>> from pyimplicit.ops import build_cloud_grid
        >>> grid = build_cloud_grid(torch.zeros(1, 3), 0.1)
        >>> distance_mask(torch.tensor([[0.05, 0.0, 0.0], [0.2, 0.0, 0.0]]), grid)
        tensor([ True, False])
    """
    check_finite("points", check_tensor("points", points, ("...", 3), device=grid.cloud.device))
    if grid.batch is not None and (points.dim() < 2 or points.shape[0] != grid.batch):
        raise ValueError(f"points: expected shape [{grid.batch}, ..., 3], one row a cloud, got {list(points.shape)}")
    mask: Tensor = _distance_mask_op(
        points.detach().reshape(-1, 3).contiguous(), *_arguments(grid), None if cells is None else cells.state,
        [] if cells is None else [*cells.low, cells.cell_size],
    )  # fmt: skip
    return mask.reshape(points.shape[:-1])


def distance_mask_grid(
    x: Tensor,  # [X]
    y: Tensor,  # [Y]
    z: Tensor,  # [Z]
    grid: CloudGrid,
) -> Tensor:
    """The mask of all nodes of a rectilinear grid: what `distance_mask` says of each, found many times faster.

    Args:
        x: Coordinates of the nodes along x, float32 or float64, finite, ascending, mesh units, on the grid's device.
        y: Along y.
        z: Along z. Even spacing, to about a quarter of a step, is what the speed on the CPU rests on.
        grid: The cloud, from `build_cloud_grid`.

    Returns:
        Mask [X, Y, Z] bool, or [B, X, Y, Z] for a batch of B clouds.

    Raises:
        TypeError: Not tensors, or a wrong dtype.
        ValueError: A wrong shape or device, NaN or infinity, coordinates that descend.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-B.

    Example:
        >>> from pyimplicit.ops import build_cloud_grid
        >>> grid = build_cloud_grid(torch.zeros(1, 3), 0.5)
        >>> axis = torch.linspace(-1, 1, 5)
        >>> distance_mask_grid(axis, axis, axis, grid).sum()
        tensor(7)
    """
    axes = []
    for name, axis in (("x", x), ("y", y), ("z", z)):
        check_finite(name, check_tensor(name, axis, ("nodes",), device=grid.cloud.device))
        if not bool((axis[1:] >= axis[:-1]).all()):
            raise ValueError(f"{name}: expected ascending coordinates")
        axes.append(axis.detach().double().contiguous())
    mask: Tensor = _distance_mask_grid_op(*axes, *_arguments(grid), False)
    return mask if grid.batch is not None else mask[0]


def _arguments(grid: CloudGrid) -> tuple[Any, ...]:
    items = 1 if grid.batch is None else grid.batch
    return grid.cloud, grid.cell_start, items, [*grid.low, grid.cell_size], list(grid.size), grid.distance


# ---- operators


def _distance_mask_kernel(
    points: Tensor,
    cloud: Tensor,
    cell_start: Tensor,
    items: int,
    box: list[float],
    size: list[int],
    distance: float,
    state: Tensor | None,
    state_box: list[float],
) -> Tensor:
    count = points.shape[0]
    mask = points.new_empty(count, dtype=torch.bool)
    _native.call(
        "distance_mask", points.device, points.dtype, points=points, count=count, each=max(1, count // items),
        cloud=cloud, cell_start=cell_start, box=box_of(box[:3], box[3]), size=sizes_of(size), distance=distance,
        state=state, state_box=torch.tensor(state_box, dtype=torch.float64, device="cpu"),
        state_size=None if state is None else sizes_of(state.shape), mask=mask,
    )  # fmt: skip
    return mask


_distance_mask_op = register(
    "distance_mask",
    "(Tensor points, Tensor cloud, Tensor cell_start, int items, float[] box, int[] size, float distance,"
    " Tensor? state, float[] state_box) -> Tensor",
    _distance_mask_kernel,
    lambda points, *_: points.new_empty(points.shape[0], dtype=torch.bool),
)


def _distance_mask_grid_kernel(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    cloud: Tensor,
    cell_start: Tensor,
    items: int,
    box: list[float],
    size: list[int],
    distance: float,
    plain: bool,
) -> Tensor:
    mask = x.new_empty(items, x.shape[0], y.shape[0], z.shape[0], dtype=torch.bool)
    _native.call(
        "distance_mask_grid", x.device, x=x, y=y, z=z, x_nodes=x.shape[0], y_nodes=y.shape[0], z_nodes=z.shape[0],
        items=items, cloud=cloud, cell_start=cell_start, box=box_of(box[:3], box[3]), size=sizes_of(size),
        distance=distance, plain=plain, mask=mask,
    )  # fmt: skip
    return mask


_distance_mask_grid_op = register(
    "distance_mask_grid",
    "(Tensor x, Tensor y, Tensor z, Tensor cloud, Tensor cell_start, int items, float[] box, int[] size,"
    " float distance, bool plain) -> Tensor",
    _distance_mask_grid_kernel,
    lambda x, y, z, cloud, cell_start, items, *_: x.new_empty(
        items, x.shape[0], y.shape[0], z.shape[0], dtype=torch.bool
    ),
)
