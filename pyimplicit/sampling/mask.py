"""The distance mask: which points of space are near enough to the input shape to be worth the network's time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.checks import check_count, check_finite, check_positive, check_tensor
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import CloudGrid, MaskCells
from pyimplicit.ops.distance_mask import cell_middles, mask_cell_layout, mask_states

CUBE = ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
# Points asked for, from which on cells of known state pay for themselves.
CELLS_FROM = 100_000
# Nodes along each axis of a block that one distance to a mesh may decide.
BLOCK = 4
# What a float32 distance to a mesh may be off by, as a share of the coordinates' size; several times what is measured.
FLOAT32_ERROR = 1e-5
# Coordinates beyond this are taken for this: their squares fit into float64, and the point is far from any mesh.
FARTHEST = 1e30


class DistanceMask:
    """True for points at most `distance` away from a point cloud or a mesh.

    Made by `from_cloud` and `from_surface`. The answers are those of comparing each point's distance, in double
    precision, with `distance`: for a cloud to the last bit, for a mesh as `Surface.unsigned_distance` finds it for
    float64 points.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-B.

    Example:
        >>> mask = DistanceMask.from_cloud(torch.zeros(1, 3), distance=0.1)
        >>> mask(torch.tensor([[0.0, 0.09, 0.0], [0.0, 0.11, 0.0]]))
        tensor([ True, False])
    """

    def __init__(self, source: CloudGrid | Surface, distance: float) -> None:
        self.source = source
        self.distance = distance  # radius of the mask, mesh units
        self._cells: MaskCells | None = None
        self._asked = 0  # points so far
        self._is_prepared = False

    def __repr__(self) -> str:
        return f"DistanceMask({self._kind}, distance={self.distance}, device={str(self.device)!r})"

    @property
    def _kind(self) -> str:
        if isinstance(self.source, Surface):
            return "of a mesh"
        batch, each = self.source.batch, self.source.cloud.shape[-2]
        return f"of a cloud of {each} points" if batch is None else f"of {batch} clouds of {each} points"

    @classmethod
    def from_cloud(cls, cloud: Tensor, distance: float = 0.1) -> DistanceMask:
        """The mask of a cloud [M, 3] float32, or the masks of a batch of clouds [B, M, 3].

        Errors as `pyimplicit.ops.build_cloud_grid`.

        Example:
            >>> masks = DistanceMask.from_cloud(torch.tensor([[[0.0, 0, 0]], [[1.0, 0, 0]]]), distance=0.5)
            >>> masks(torch.tensor([[[0.2, 0, 0]], [[0.2, 0, 0]]]))
            tensor([[ True],
                    [False]])
        """
        grid = ops.build_cloud_grid(cloud, distance)
        return cls(grid, grid.distance)

    @classmethod
    def from_surface(cls, surface: Surface, distance: float = 0.1) -> DistanceMask:
        """The mask of a mesh: points at most `distance` from any of its faces.

        Raises:
            TypeError: Not a `Surface`.
            ValueError: `distance` not a finite number above 0.

        Example:
            >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
            >>> DistanceMask.from_surface(surface, 0.1)(torch.tensor([[0.2, 0.2, 0.05], [0.2, 0.2, 0.2]]))
            tensor([ True, False])
        """
        if not isinstance(surface, Surface):
            raise TypeError(f"surface: expected a Surface, got {type(surface).__name__}")
        return cls(surface, check_positive("distance", distance))

    @property
    def device(self) -> torch.device:
        """Where points must be."""
        return self.source.device if isinstance(self.source, Surface) else self.source.cloud.device

    def to(self, device: torch.device | str) -> DistanceMask:
        """The same mask on another device."""
        return DistanceMask(self.source.to(device), self.distance)

    def prepare(self) -> DistanceMask:
        """Find, now, the cells that lie wholly inside or outside; returns the mask.

        A mask does so by itself once it has been asked for 100,000 points. Answers are the same with and without; only
        their time changes.
        """
        if not self._is_prepared:
            self._is_prepared = True
            if isinstance(self.source, Surface):
                self._cells = self._surface_cells(self.source)
            else:
                self._cells = ops.build_mask_cells(self.source)
        return self

    def __call__(self, points: Tensor) -> Tensor:
        """Mask [...] bool of `points` [..., 3]; errors as `pyimplicit.ops.distance_mask`."""
        if isinstance(self.source, CloudGrid):
            self._note(points)
            return ops.distance_mask(points, self.source, self._cells)
        check_finite("points", check_tensor("points", points, ("...", 3), device=self.device))
        self._note(points)
        flat = points.detach().reshape(-1, 3).contiguous()
        if self._cells is None:
            mask = self._near_surface(self.source, flat)
        else:
            state = self._cells.of(flat)
            mask = state == MaskCells.NEAR
            open_ones = (state == MaskCells.BOUNDARY).nonzero()[:, 0]
            mask[open_ones] = self._near_surface(self.source, flat[open_ones])
        return mask.reshape(points.shape[:-1])

    def grid(
        self, resolution: int, bounds: Tensor | Sequence[Sequence[float]] = CUBE, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The mask of the nodes of a regular grid.

        Nodes span the bounds, corners included: `resolution` along each axis, at
        `torch.linspace(low, high, resolution, dtype=torch.float64).to(dtype)`. They are those at which `extract_mesh`
        evaluates a field if its resolution, which counts cells, is one less.

        Args:
            resolution: Nodes along each axis, at least 1.
            bounds: Lowest and highest corner [2, 3], finite, mesh units.
            dtype: float32 or float64, to which the coordinates of the nodes are rounded.

        Returns:
            Mask [R, R, R] bool, axes x, y, z; [B, R, R, R] for a batch of clouds.

        Raises:
            TypeError: `resolution` not a whole number, or another dtype.
            ValueError: `resolution` below 1, or bounds of another form.

        Example:
            >>> DistanceMask.from_cloud(torch.zeros(1, 3), distance=0.25).grid(5).sum()
            tensor(7)
        """
        x, y, z = self._axes(resolution, bounds, dtype)
        if isinstance(self.source, CloudGrid):
            return ops.distance_mask_grid(x, y, z, self.source)
        return self._surface_grid(self.source, (x, y, z))

    def compact(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The points that are in the mask, and where they were.

        Args:
            points: [N, 3], as for a call of the mask.

        Returns:
            Kept points [n, 3], differentiable in `points`, and their indices [n] int64, ascending. `scatter` puts
            their values back.

        Example:
            >>> mask = DistanceMask.from_cloud(torch.zeros(1, 3), distance=0.1)
            >>> kept, indices = mask.compact(torch.tensor([[1.0, 0, 0], [0.0, 0.05, 0]]))
            >>> DistanceMask.scatter(torch.tensor([7.0]), indices, (2,), fill=-1.0)
            tensor([-1.,  7.])
        """
        check_tensor("points", points, ("N", 3))
        if isinstance(self.source, CloudGrid) and self.source.batch is not None:
            raise ValueError("points: expected the mask of a single cloud; rows of a batch keep different numbers")
        indices = self(points).nonzero()[:, 0]
        return points[indices], indices

    @staticmethod
    def scatter(values: Tensor, indices: Tensor, shape: int | Sequence[int], fill: float = 0.0) -> Tensor:
        """Values of the kept points back in their places among all.

        Args:
            values: [n, ...] of the points that were kept.
            indices: [n] int64, each below the number of all points, none twice.
            shape: Of all points: N, or for instance (R, R, R) for the nodes of a grid.
            fill: Value of the points that were not kept.

        Returns:
            Values [*shape, ...], differentiable in `values`.

        Raises:
            TypeError: Not tensors, or indices that are not int64.
            ValueError: Another number of values than of indices, or an index out of range.
        """
        check_tensor("indices", indices, ("n",), (torch.int64,))
        if not isinstance(values, Tensor):
            raise TypeError(f"values: expected a torch tensor, got {type(values).__name__}")
        if values.dim() == 0 or values.shape[0] != indices.shape[0]:
            raise ValueError(f"values: expected {indices.shape[0]} rows, one an index, got {list(values.shape)}")
        whole = [shape] if isinstance(shape, int) else list(shape)
        count = math.prod(check_count("shape", size, minimum=0) for size in whole)
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < count:
            raise ValueError(f"indices: expected 0..{count - 1}, got {int(indices.min())}..{int(indices.max())}")
        rest = values.shape[1:]
        filled = torch.full((count, *rest), fill, dtype=values.dtype, device=values.device)
        return filled.index_copy(0, indices, values).reshape(*whole, *rest)

    def _note(self, points: Tensor) -> None:
        """Count the points, whatever they are, and prepare for more once that pays."""
        self._asked += points.numel() // 3 if isinstance(points, Tensor) else 0
        if self._asked > CELLS_FROM:
            self.prepare()

    def _axes(
        self, resolution: int, bounds: Tensor | Sequence[Sequence[float]], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = check_count("resolution", resolution)
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"dtype: expected float32 or float64, got {dtype}")
        try:
            box = torch.as_tensor(bounds, dtype=torch.float64, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            box = torch.empty(0)
        if box.shape != (2, 3) or not bool(torch.isfinite(box).all()) or not bool((box[0] < box[1]).all()):
            raise ValueError(f"bounds: expected a finite lowest and a higher highest corner, [2, 3], got {bounds!r}")
        x, y, z = (
            torch.linspace(low, high, count, dtype=torch.float64).to(self.device, dtype) for low, high in box.T.tolist()
        )
        return x, y, z

    # ---- masks of a mesh

    def _near_surface(self, surface: Surface, points: Tensor) -> Tensor:
        """Distances in single precision, and again in double where that could not decide."""
        points = points.clamp(-FARTHEST, FARTHEST)
        distance = surface.unsigned_distance(points.float())
        mask = distance <= self.distance
        close = ((distance - self.distance).abs() <= self._error(surface, points)).nonzero()[:, 0]
        mask[close] = surface.unsigned_distance(points[close].double()) <= self.distance
        return mask

    def _error(self, surface: Surface, points: Tensor) -> Tensor:
        """What each distance [N] in single precision may be off by, rounding of the points included; mesh units."""
        own = float(surface.mesh.vertices.abs().max()) + self.distance
        return FLOAT32_ERROR * (points.abs().amax(1).double() + own)

    def _surface_cells(self, surface: Surface) -> MaskCells | None:
        low, high = (corner.double().tolist() for corner in surface.mesh.vertices.aminmax(dim=0))
        layout = mask_cell_layout((low[0], low[1], low[2]), (high[0], high[1], high[2]), self.distance)
        if layout is None:
            return None
        corner, size, cell_size, reach = layout
        middles = torch.cartesian_prod(*cell_middles(corner, size, cell_size, surface.device))
        distance = surface.unsigned_distance(middles.float())
        wide = reach + self._error(surface, middles)
        states = mask_states(distance <= self.distance - wide, distance > self.distance + wide)
        return MaskCells(states.reshape(size), corner, cell_size)

    def _surface_grid(self, surface: Surface, axes: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Blocks of nodes whose middle decides for all of them, then the nodes of the other blocks one by one."""
        blocks = [torch.split(axis.double(), BLOCK) for axis in axes]
        middles = [torch.stack([(part[0] + part[-1]) / 2 for part in parts]) for parts in blocks]
        halves = [torch.stack([(part[-1] - part[0]) / 2 for part in parts]) for parts in blocks]
        centers = torch.cartesian_prod(*middles)
        reach = torch.cartesian_prod(*halves).norm(dim=1) * (1 + 1e-9) + self._error(surface, centers)
        distance = surface.unsigned_distance(centers.float())
        states = mask_states(distance <= self.distance - reach, distance > self.distance + reach)
        states = states.reshape([len(parts) for parts in blocks])
        for dim, axis in enumerate(axes):
            states = states.repeat_interleave(BLOCK, dim).narrow(dim, 0, len(axis))
        mask = states == MaskCells.NEAR
        open_ones = (states == MaskCells.BOUNDARY).nonzero()
        nodes = torch.stack([axis[place] for axis, place in zip(axes, open_ones.unbind(1), strict=True)], 1)
        near = [self._near_surface(surface, part) for part in torch.split(nodes, 1 << 20)]
        mask[tuple(open_ones.unbind(1))] = torch.cat(near) if near else mask.new_empty(0)
        return mask
