"""A mesh ready for queries: distances, signs, closest points and samples on its surface."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.checks import check_choice, check_count
from pyimplicit.geometry.mesh import Mesh, MeshReport, inspect_mesh, merge_vertices
from pyimplicit.geometry.signs import SurfaceSigns, find_signs
from pyimplicit.ops import (
    ClosestPoint,
    DistanceWeight,
    PointSource,
    RandomStream,
    RayHits,
    RowStreams,
    SurfaceBVH,
    SurfaceTable,
    WeightCells,
)
from pyimplicit.ops.start_grid import start_resolution

SIGNS = ("auto", "pseudonormal", "winding")


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Points drawn evenly over the area of a surface."""

    points: Tensor  # [n, 3] float32, mesh units
    face: Tensor  # [n] int64
    surface: Surface

    @cached_property
    def normals(self) -> Tensor:
        """Unit normals [n, 3] float32 of the faces; zero on a face without area."""
        return self.surface.face_normals(self.face)


class Surface:
    """A triangle mesh with its bounding volume hierarchy, on a device.

    Args:
        mesh: The mesh, or its vertices [V, 3]; float64 vertices keep a mesh far from the origin exact.
        faces: [F, 3] integers, if vertices were given.
        device: Where queries run. The hierarchy is built on the CPU and moved.

    Raises:
        MeshError: A mesh that cannot be used (see `Mesh`).
        TypeError: Vertices without faces, or a mesh with them.

    Example:
        >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> surface.unsigned_distance(torch.tensor([[0.2, 0.2, 0.5]]))
        tensor([0.5000])
    """

    def __init__(self, mesh: Mesh | Tensor, faces: Tensor | None = None, device: torch.device | str = "cpu") -> None:
        if isinstance(mesh, Mesh):
            if faces is not None:
                raise TypeError("faces: expected none beside a Mesh, which has its own")
            self.mesh = mesh
            vertices = mesh.vertices
        else:
            if faces is None:
                raise TypeError("faces: expected [F, 3] integers beside vertices, got none")
            self.mesh = Mesh(mesh, faces)
            # The mesh keeps float32; the hierarchy is relative to its own center and makes use of more digits.
            vertices = self.mesh.vertices
            if mesh.dtype.itemsize == 8:
                wide = mesh.detach().numpy() if isinstance(mesh, Tensor) else mesh
                vertices = torch.from_numpy(np.array(wide, dtype=np.float64))
        self.hierarchy = ops.build_bvh(vertices, self.mesh.faces).to(device)
        self._vertices, self._faces = self.mesh.vertices.to(device), self.mesh.faces.to(device)
        self._cells: dict[DistanceWeight, WeightCells] = {}
        self._held: tuple[SurfaceBVH, SurfaceTable] | None = None
        self.own_batch: object | None = None  # what `SurfaceBatch.single` keeps here
        self._asked = 0  # points so far

    def __repr__(self) -> str:
        return f"Surface({self.mesh!r}, device={str(self.device)!r})"

    @property
    def device(self) -> torch.device:
        """Where queries run and their points must be."""
        return self.hierarchy.device

    @cached_property
    def report(self) -> MeshReport:
        """What `inspect_mesh` says of the mesh once vertices at the same position count as one."""
        return inspect_mesh(merge_vertices(self.mesh))

    @cached_property
    def signs(self) -> SurfaceSigns:
        """What is known of the surface's inside."""
        return find_signs(self.hierarchy)

    @property
    def is_closed(self) -> bool:
        """Whether the mesh has no boundary, once vertices at the same position count as one."""
        return self.signs.is_closed

    @cached_property
    def sign_method(self) -> str:
        """What `sign="auto"` means for this mesh.

        "pseudonormal" for a closed, consistently oriented mesh: the normal of the nearest feature costs little beside
        the distance. Where it cannot be relied on, because bodies overlap, touch, fold or are inside out there, the
        winding number decides. "winding" where that is so for half of the mesh, and for open and inconsistently
        oriented meshes, for which it does the best that can be done.
        """
        return self.signs.method

    def to(self, device: torch.device | str) -> Surface:
        """The same surface on another device; itself if it is there already."""
        vertices = self._vertices.to(device)
        if vertices.device == self.device:  # not the argument: "cuda" names the device of "cuda:0"
            return self
        moved = object.__new__(Surface)
        moved.__dict__.update(self.__dict__)
        moved.hierarchy = self.hierarchy.to(device)
        moved._vertices, moved._faces = vertices, self._faces.to(device)
        for name in ("signed_hierarchy", "area_table"):
            moved.__dict__.pop(name, None)
        moved._held = moved.own_batch = None
        moved._cells = {weight: cells.to(device) for weight, cells in self._cells.items()}
        return moved

    def closest_point(self, points: Tensor) -> ClosestPoint:
        """Closest point of the surface to each of `points` [N, 3], with distance, face and barycentric coordinates.

        Exact; differentiable in the points. Errors as `pyimplicit.ops.closest_point`.

        Example:
            >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
            >>> surface.closest_point(torch.tensor([[-1.0, 0.0, 0.0]])).point
            tensor([[0., 0., 0.]])
        """
        self._note(points)
        return ops.closest_point(points, self.hierarchy)

    def unsigned_distance(self, points: Tensor) -> Tensor:
        """Distance [N] of each of `points` [N, 3] to the surface, mesh units, not negative.

        Exact; differentiable in the points. Errors as `pyimplicit.ops.closest_point`.

        Example:
            >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
            >>> surface.unsigned_distance(torch.tensor([[0.0, -2.0, 0.0]])).round(decimals=5)
            tensor([2.])
        """
        self._note(points)
        return ops.unsigned_distance(points, self.hierarchy)

    def signed_distance(self, points: Tensor, sign: str = "auto") -> Tensor:
        """Distance [N] to the surface, mesh units, negative inside.

        Args:
            points: [N, 3] float32 or float64, finite, mesh units, on the surface's device.
            sign: "auto" (see `sign_method`), "pseudonormal" or "winding".

        Returns:
            Signed distances; differentiable in the points.

        Raises:
            ValueError: `sign` unknown, or "pseudonormal" on a mesh that is not closed and oriented; else as
                `pyimplicit.ops.closest_point`.

        Source:
            Baerentzen and Aanaes, "Signed Distance Computation Using the Angle Weighted Pseudonormal", 2005;
            Barill et al., "Fast Winding Numbers for Soups and Clouds", SIGGRAPH 2018.

        Example:
            >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
            >>> surface = Surface(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
            >>> surface.signed_distance(torch.tensor([[0.1, 0.2, 0.2], [-0.5, 0.1, 0.1]]))
            tensor([-0.1000, 0.5000])
        """
        if check_choice("sign", sign, SIGNS) == "auto":
            sign = self.sign_method
        self._note(points)
        bvh = self.signed_hierarchy
        if bvh.start_distance is not None and sign != self.sign_method:
            bvh = replace(bvh, start_distance=None)  # its signs were found by the other method
        return ops.signed_distance(points, bvh, sign)

    def winding_number(self, points: Tensor) -> Tensor:
        """Generalised winding number [N] around each of `points` [N, 3]: 1 inside, 0 outside a closed mesh.

        Example:
            >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
            >>> bool(surface.winding_number(torch.tensor([[9.0, 9.0, 9.0]])).abs() < 0.01)
            True
        """
        return ops.winding_number(points, self.hierarchy)

    def contains(self, points: Tensor, sign: str = "auto") -> Tensor:
        """Whether each of `points` [N, 3] lies inside, [N] bool; arguments and errors as `signed_distance`.

        A point on the surface, as far as float32 can tell, may be called either.

        Example:
            >>> corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
            >>> surface = Surface(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
            >>> surface.contains(torch.tensor([[0.1, 0.2, 0.2], [-0.5, 0.1, 0.1]]))
            tensor([ True, False])
        """
        if check_choice("sign", sign, SIGNS) == "pseudonormal":
            return self.signed_distance(points.detach() if isinstance(points, Tensor) else points, sign) < 0
        return ops.contains(points, self.hierarchy)  # needs no distance, and is right for every mesh

    def cast_rays(self, origins: Tensor, directions: Tensor, *, any_hit: bool = False) -> RayHits:
        """Where each ray `origins` [N, 3] + t `directions` [N, 3] first meets the surface, from either side.

        Arguments and errors as `pyimplicit.ops.cast_rays`.

        Example:
            >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
            >>> surface.cast_rays(torch.tensor([[0.2, 0.2, 1.0]]), torch.tensor([[0.0, 0.0, 1.0]])).hit
            tensor([False])
        """
        return ops.cast_rays(origins, directions, self.hierarchy, any_hit=any_hit)

    def sample_surface(self, count: int, seed: int | RandomStream = 0) -> SurfaceSamples:
        """Points distributed evenly over the area, with their faces and normals.

        Args:
            count: Number of points, at least 1.
            seed: The same seed draws the same points on any number of threads and any device.

        Returns:
            `SurfaceSamples` on the surface's device.

        Raises:
            ValueError: `count` below 1, or a mesh without area.

        Source:
            Osada et al., "Shape Distributions", TOG 2002, section 4.2.

        Example:
            >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
            >>> surface.sample_surface(4).normals[0]
            tensor([0., 0., 1.])
        """
        stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
        source = PointSource(check_count("count", count), 0.0, stream.purpose)
        row = torch.zeros(1, dtype=torch.int64, device=self.device)
        streams = RowStreams.of(stream.seed, stream, self.device)
        points, face = ops.query_points(self._table, self.area_table, row, streams, [source])
        assert face is not None
        return SurfaceSamples(points[0], face[0], self)

    def face_normals(self, face: Tensor) -> Tensor:
        """Unit normals [N, 3] float32 of faces [N] int64, 0 for a face without area."""
        corners = self._vertices.double()[self._faces[face].long()]
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1)
        lengths = normals.norm(dim=1, keepdim=True)
        unit: Tensor = normals / torch.where(lengths > 0, lengths, 1.0)
        return unit.float()

    @property
    def _table(self) -> SurfaceTable:
        """The hierarchy as a table of one, which shares its memory."""
        if self._held is None or self._held[0] is not self.hierarchy:
            self._held = self.hierarchy, SurfaceTable.of([self.hierarchy], ["winding"])
        return self._held[1]

    @cached_property
    def area_table(self) -> Tensor:
        """What triangles are chosen by: `pyimplicit.ops.build_area_table`."""
        return ops.build_area_table(self.hierarchy.triangles)

    def weight_cells(self, weight: DistanceWeight) -> WeightCells:
        """The cells of the cube that points are drawn from by a weight of their distance; kept for the next draw."""
        if weight not in self._cells:
            self._cells[weight] = ops.build_weight_cells(self.hierarchy, weight)
        return self._cells[weight]

    def prepare(self) -> Surface:
        """Make, now, the grid that tells queries where to look first; returns the surface.

        A surface makes it by itself once as many points have been asked for as the grid has cells, or at once for a
        call of four times as many. Answers are the same with and without, to the last bit; only their time changes.

        Example:
            >>> surface = Surface(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
            >>> surface.prepare().unsigned_distance(torch.tensor([[0.2, 0.2, 0.5]]))
            tensor([0.5000])
        """
        if self.hierarchy.start_leaf is None:
            self.hierarchy = ops.build_start_grid(self.hierarchy)
            signed = self.__dict__.get("signed_hierarchy")
            if signed is not None:
                self.__dict__["signed_hierarchy"] = self._with_signs(signed)
        return self

    def _note(self, points: Tensor) -> None:
        """Count the points, whatever they are, and prepare for more once that pays."""
        if self.hierarchy.start_leaf is None:
            count = points.shape[0] if isinstance(points, Tensor) and points.ndim == 2 else 0
            if max(self._asked, count / 4) > start_resolution(self.hierarchy) ** 3:
                self.prepare()
            self._asked += count

    @cached_property
    def signed_hierarchy(self) -> SurfaceBVH:
        """The hierarchy with what signed queries need beside it."""
        signs = self.signs
        if signs.pseudonormals is None or signs.gentle is None:
            return self.hierarchy  # inherits no signs
        return self._with_signs(
            self.hierarchy.closed(signs.pseudonormals.to(self.device), signs.gentle.to(self.device))
        )

    def _with_signs(self, signed: SurfaceBVH) -> SurfaceBVH:
        """Share the start grid, and give it signs to pass on."""
        start = self.hierarchy
        signed = replace(signed, start_leaf=start.start_leaf, start_half_side=start.start_half_side)
        return signed if signed.start_leaf is None else ops.build_start_grid(signed, self.sign_method)
