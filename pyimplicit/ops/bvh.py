"""The bounding volume hierarchy that surface queries go through: its tensors, and building it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_finite, check_tensor

SIGN_METHODS = {"pseudonormal": 1, "winding": 2}  # numbered as SignMethod in csrc/surface/surface.h

UNSURE = -0x7FFF8000  # kUnsure of csrc/surface/pseudonormal.h

# Points below this, and so what lies between two of them, are in float32's range.
_SAFE_COORDINATE = 1e37


@dataclass(frozen=True, eq=False)
class SurfaceBVH:
    """A triangle mesh prepared for queries: tensors only, so it can be moved, saved and shared.

    Coordinates are the hierarchy's own: relative to `center`, and times `scale`, which brings the largest of a mesh of
    any size between a half and one.
    """

    boxes: Tensor  # [M, 8, 8] float32, the boxes of each node's eight children and the axes they lie along
    links: Tensor  # [M, 8] int32, the child's node, or ~leaf
    moments: Tensor  # [M, 13, 8] float32 of each child, for the winding number far away
    leaf_first: Tensor  # [L + 1] int32, first triangle of each leaf
    frames: Tensor  # [L, 15, 8] float32, a leaf's triangles in frames of their own, and what is around it
    triangles: Tensor  # [F, 9] float32, corners in leaf order
    triangle_face: Tensor  # [F] int32, face of the mesh at each leaf slot
    center: Tensor  # [3] float64, mesh units
    scale: float  # a power of two, 1 / mesh units
    is_closed: bool = False  # closed and consistently oriented: the sign changes across the surface only
    pseudonormals: Tensor | None = None  # [F, 6] int32 by slot, packed: edges ab bc ca, corners a b c
    leaf_sides: Tensor | None = None  # [L] int32, `LeafSides` of csrc/surface/pseudonormal.h
    start_leaf: Tensor | None = None  # [R, R, R] int32, leaf nearest to the center of each cell of a grid
    start_distance: Tensor | None = None  # [R, R, R] float32, signed distance of those centers, of a closed surface
    start_half_side: float = 0.0  # of the cube around the mesh that the grid covers

    def to(self, device: torch.device | str) -> SurfaceBVH:
        """The same hierarchy on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def closed(self, pseudonormals: Tensor, gentle: Tensor) -> SurfaceBVH:
        """The same hierarchy, known to be of a closed and consistently oriented mesh.

        Args:
            pseudonormals: [F, 6] int32 by slot, as `pyimplicit.ops.topology.pseudonormals` packs them.
            gentle: [F] bool by slot, which of them are gentle, as it says there.
        """
        count = self.triangle_face.shape[0]
        check_tensor("pseudonormals", pseudonormals, (count, 6), (torch.int32,), self.device)
        check_tensor("gentle", gentle, (count,), (torch.bool,), self.device)
        leaves = leaf_of_triangles(self)
        lane = torch.arange(count, dtype=torch.int32, device=self.device) - self.leaf_first[leaves]
        bits = 1 + ((pseudonormals[:, 0] != UNSURE).int() << 8) + (gentle.int() << 16)
        sides = torch.zeros_like(self.leaf_first[1:]).index_add_(0, leaves, bits << lane)
        return replace(self, is_closed=True, pseudonormals=pseudonormals.contiguous(), leaf_sides=sides)

    def check_sign(self, sign: str) -> None:
        """Refuse a way to find signs that is unknown, or that this hierarchy was not built for."""
        if sign not in SIGN_METHODS:
            raise ValueError(f"sign: expected 'pseudonormal' or 'winding', got {sign!r}")
        if sign == "pseudonormal" and (self.pseudonormals is None or self.leaf_sides is None):
            raise ValueError("sign: 'pseudonormal' needs a closed, consistently oriented mesh; use 'winding'")

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.boxes.device


def build_bvh(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> SurfaceBVH:
    """Build the hierarchy over a validated triangle mesh, on the CPU.

    Args:
        vertices: [V, 3] float32 or float64, finite, mesh units. float64 keeps a mesh far from the origin exact.
        faces: [F, 3] int32 or int64, each index below V.

    Returns:
        The hierarchy, relative to the middle of the bounding box.

    Raises:
        ValueError: No faces, an index out of range, or a coordinate that is not finite.
        TypeError: A wrong dtype.

    Source:
        Wald, "On fast Construction of SAH-based Bounding Volume Hierarchies", RT 2007.

    Example:
        >>> bvh = build_bvh(torch.eye(3), torch.tensor([[0, 1, 2]]))
        >>> tuple(bvh.triangles.shape)
        (1, 9)
    """
    cpu = torch.device("cpu")
    vertices = check_coordinates("vertices", check_tensor("vertices", vertices, ("V", 3), device=cpu))
    check_tensor("faces", faces, ("F", 3), (torch.int32, torch.int64), device=cpu)
    count = faces.shape[0]
    if count == 0 or count > 2**30:
        raise ValueError(f"faces: expected between 1 and 2**30 faces, got {count}")
    if int(faces.min()) < 0 or int(faces.max()) >= vertices.shape[0]:
        raise ValueError(f"faces: expected indices in 0..{vertices.shape[0] - 1}, got {faces.min()}..{faces.max()}")
    center, scale = (torch.empty(size, dtype=torch.float64, device=cpu) for size in (3, 1))
    triangles = torch.empty(count, 9, dtype=torch.float32, device=cpu)
    _native.call(
        "gather_corners", cpu, vertices.dtype, vertices=vertices.detach(), faces=faces.int().contiguous(),
        count=count, center=center, scale=scale, corners=triangles,
    )  # fmt: skip
    arrays: dict[str, Any] = _native.build_bvh(triangles)
    return SurfaceBVH(**arrays, center=center, scale=scale.item())


def leaf_of_triangles(bvh: SurfaceBVH) -> Tensor:
    """The leaf [F] int32 of each triangle, by slot."""
    sizes = bvh.leaf_first.diff()
    leaves = torch.arange(sizes.shape[0], dtype=torch.int32, device=bvh.device)
    return leaves.repeat_interleave(sizes, output_size=bvh.triangles.shape[0])


def check_coordinates(name: str, points: Tensor, center: Tensor | None = None) -> Tensor:
    """Return points [..., 3] contiguous, or refuse NaN, infinity and what leaves float32's range, as seen from center.

    The CPU looks at them once, on the library's own threads.
    """
    points = points.contiguous()
    looks_itself = points.device.type == "cpu" and not torch.compiler.is_compiling()
    if looks_itself and _native.largest_magnitude(points.detach()) < _SAFE_COORDINATE:
        return points
    check_finite(name, points)
    if points.dtype == torch.float64:
        check_finite(name, (points.detach() - (0.0 if center is None else center)).float())
    return points
