"""Surface queries for several meshes in one call: points [B, N, 3], each row for a surface of its own."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_tensor
from pyimplicit.ops._closest_feature import ClosestFeature
from pyimplicit.ops._library import is_plain, register
from pyimplicit.ops.bvh import SIGN_METHODS, SurfaceBVH, check_coordinates, leaf_of_triangles
from pyimplicit.ops.surface import ClosestPoint


@dataclass(frozen=True, eq=False)
class SurfaceTable:
    """Several hierarchies as one: their arrays, each kind one behind the other, and where each one's own begin.

    Tensors and numbers only, like `SurfaceBVH`, so it can be moved, saved and shared. No gradient runs into its
    tensors; whether they ask for one is looked at when the table is made.
    """

    entries: Tensor  # [S, 16] int64, `SurfaceEntry` of csrc/surface/surface_batch.h
    boxes: Tensor
    links: Tensor
    moments: Tensor
    leaf_first: Tensor
    frames: Tensor
    triangles: Tensor
    triangle_face: Tensor
    triangle_leaf: Tensor
    start_leaf: Tensor
    start_distance: Tensor
    pseudonormals: Tensor
    leaf_sides: Tensor
    reach: float = math.inf  # no coordinate of a surface is larger, mesh units
    known: int = field(init=False)  # arguments of an operator that begin with these tensors and are known to be plain

    def __post_init__(self) -> None:
        tensors = table_tensors(self)
        plain = is_plain(tensors) and not any(tensor.requires_grad for tensor in tensors)
        object.__setattr__(self, "known", len(tensors) if plain else 0)

    @staticmethod
    def of(bvhs: Sequence[SurfaceBVH], signs: Sequence[str]) -> SurfaceTable:
        """The table of these hierarchies, which are copied into it; of one, whose arrays it shares.

        Args:
            bvhs: At least one, all on the same device.
            signs: How signed queries find their sign, for each of them; see `signed_distance`.

        Raises:
            ValueError: None, devices that differ, or a sign method that a hierarchy cannot serve.
        """
        if not bvhs:
            raise ValueError("bvhs: expected at least one hierarchy, got none")
        device = bvhs[0].device
        for bvh, sign in zip(bvhs, signs, strict=True):
            if bvh.device != device:
                raise ValueError(f"bvhs: expected all on {device}, got one on {bvh.device}")
            bvh.check_sign(sign)
        parts: dict[str, list[Tensor]] = {name: [] for name in _TABLE if name != "entries"}
        begins = dict.fromkeys(parts, 0)
        rows = []
        reach = 0.0
        for bvh, sign in zip(bvhs, signs, strict=True):
            center = bvh.center.tolist()
            reach = max(reach, max(map(abs, center)) + 1 / bvh.scale)
            optional = {
                "start_leaf": bvh.start_leaf,
                "start_distance": bvh.start_distance,
                "pseudonormals": bvh.pseudonormals if sign == "pseudonormal" else None,
            }
            sides = bvh.leaf_sides if sign == "pseudonormal" else None
            made = optional | {
                "triangle_leaf": leaf_of_triangles(bvh),
                "leaf_sides": torch.zeros_like(bvh.leaf_first[1:]) if sides is None else sides,
            }
            rows.append(
                [begins["boxes"], begins["frames"], begins["leaf_first"], begins["triangles"]]
                + [-1 if array is None else begins[name] for name, array in optional.items()]
                + [bvh.triangles.shape[0], 0 if bvh.start_leaf is None else bvh.start_leaf.shape[0]]
                + [SIGN_METHODS[sign], int(bvh.is_closed)]
                + [_bits(number) for number in (bvh.scale, bvh.start_half_side, *center)]
            )
            for name, held in parts.items():
                array = made[name] if name in made else getattr(bvh, name)
                if array is not None:
                    held.append(array.reshape(-1) if name.startswith("start") else array)
                    begins[name] += held[-1].shape[0]
        empty = torch.empty(0, device=device)
        arrays = {
            name: held[0] if len(held) == 1 else torch.cat(held) if held else empty for name, held in parts.items()
        }
        return SurfaceTable(torch.tensor(rows, dtype=torch.int64, device=device), **arrays, reach=reach)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.entries.device


def batch_closest_point(
    points: Tensor,  # [B, N, 3]
    table: SurfaceTable,
    shapes: Tensor,  # [B]
    *,
    signed: bool = False,
) -> ClosestPoint:
    """Closest point of surface `shapes[b]` to each of `points[b]`, exact, differentiable in the points.

    Args:
        points: [B, N, 3] float32 or float64, finite, mesh units, on the table's device. B and N may be 0.
        table: The surfaces.
        shapes: [B] int64, which surface each row of points is for.
        signed: Whether distances are negative inside, by each surface's own way to find the sign.

    Returns:
        As `closest_point`, with the axes [B, N] in place of [N].

    Raises:
        TypeError: Not a tensor, or a wrong dtype.
        ValueError: A wrong shape or device, NaN or infinity, a surface that the table does not have.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> table = SurfaceTable.of([bvh, bvh], ["winding", "winding"])
        >>> batch_closest_point(torch.full((1, 2, 3), 0.25), table, torch.tensor([1])).distance
        tensor([[0.2500, 0.2500]])
    """
    points, shapes = _check(points, table, shapes)
    distance, point, face, barycentric, _ = _closest_point_op(points, *table_tensors(table), shapes, signed)
    return ClosestPoint(distance, point, face, barycentric)


def batch_distance(
    points: Tensor,  # [B, N, 3]
    table: SurfaceTable,
    shapes: Tensor,  # [B]
    *,
    signed: bool,
) -> Tensor:
    """Distance [B, N] of each of `points[b]` to surface `shapes[b]`; arguments and errors as `batch_closest_point`.

    Args:
        points: As there.
        table: As there.
        shapes: As there.
        signed: Negative inside, by each surface's own way to find the sign; else never negative.

    Example:
        >>> from pyimplicit.ops import build_bvh
        >>> bvh = build_bvh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
        >>> table = SurfaceTable.of([bvh], ["winding"])
        >>> batch_distance(torch.full((1, 2, 3), 0.25), table, torch.tensor([0]), signed=False)
        tensor([[0.2500, 0.2500]])
    """
    points, shapes = _check(points, table, shapes)
    distance: Tensor = _distance_op(points, *table_tensors(table), shapes, signed)
    return distance


def _check(points: Tensor, table: SurfaceTable, shapes: Tensor) -> tuple[Tensor, Tensor]:
    check_tensor("points", points, ("B", "N", 3), device=table.device)
    return check_coordinates("points", points), check_shapes(shapes, table, points.shape[0])


def check_shapes(shapes: Tensor, table: SurfaceTable, rows: int | None) -> Tensor:
    """Return shapes [B] contiguous, or refuse what does not name surfaces of the table."""
    check_tensor("shapes", shapes, ("B" if rows is None else rows,), (torch.int64,), table.device)
    count = table.entries.shape[0]
    one = shapes.is_cpu and shapes.numel() == 1 and not torch.compiler.is_compiling()
    if one and 0 <= shapes.item() < count:
        return shapes  # without a tensor operation
    known = ((shapes >= 0) & (shapes < count)).all()
    if torch.compiler.is_compiling():
        torch._assert_async(known, f"shapes: expected numbers in 0..{count - 1}")
    elif not bool(known):
        raise ValueError(f"shapes: expected numbers in 0..{count - 1}, got {shapes.min()}..{shapes.max()}")
    return shapes.contiguous()


def _bits(number: float) -> int:
    value: int = struct.unpack("<q", struct.pack("<d", number))[0]
    return value


_TABLE = tuple(name for name, kind in SurfaceTable.__annotations__.items() if kind == "Tensor")
TABLE_SCHEMA = ", ".join(f"Tensor {name}" for name in _TABLE)


def table_tensors(table: SurfaceTable) -> tuple[Tensor, ...]:
    """The table's tensors, in their order."""
    return tuple([getattr(table, name) for name in _TABLE])  # a list is faster


# ---- operators

_SCHEMA = f"Tensor points, {TABLE_SCHEMA}, Tensor shapes"


def _query(points: Tensor, table: Sequence[Tensor], shapes: Tensor, signed: bool, **outputs: Tensor | None) -> None:
    _native.call(
        "surface_batch_query", points.device, points.dtype, points=points, batch=points.shape[0],
        each=points.shape[1], table=tuple(table), shapes=shapes, with_sign=signed, **outputs,
    )  # fmt: skip


def _closest_point_kernel(points: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    *table, shapes, signed = rest
    outputs = _closest_point_fake(points)
    distance, closest, face, barycentric, slot = outputs
    _query(
        points, table, shapes, signed, distance=distance, closest=closest, slot=slot, face=face, barycentric=barycentric
    )
    return outputs


def _closest_point_fake(points: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    axes = points.shape[:2]
    return (
        points.new_empty(axes),
        points.new_empty(points.shape),
        points.new_empty(axes, dtype=torch.int64),
        points.new_empty(points.shape),
        points.new_empty(axes, dtype=torch.int32),
    )


def _closest_point_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    points, *table, shapes, _ = inputs
    distance, closest, face, barycentric, slot = output
    ctx.mark_non_differentiable(face, barycentric, slot)
    entries, triangles = table[0], table[_TABLE.index("triangles")]
    ctx.save_for_backward(points, distance, closest, barycentric, entries, triangles, shapes, slot)


def _closest_point_backward(
    ctx: Any, grad_distance: Tensor, grad_closest: Tensor, *_unused: Tensor
) -> tuple[Tensor | None, ...]:
    points, distance, closest, barycentric, *named = ctx.saved_tensors
    feature = ClosestFeature.of(_corners_op(*named).to(points.dtype), barycentric)
    uphill = (grad_distance * torch.where(distance < 0, -1.0, 1.0)).unsqueeze(-1)
    slope = feature.away(points, distance.abs(), closest) * uphill
    return (slope + feature.along(grad_closest), *[None] * (len(_TABLE) + 2))


_closest_point_op = register(
    "surface_batch_closest_point",
    f"({_SCHEMA}, bool signed) -> (Tensor distance, Tensor closest, Tensor face, Tensor barycentric, Tensor slot)",
    _closest_point_kernel,
    _closest_point_fake,
    _closest_point_backward,
    _closest_point_context,
)


def _distance_kernel(points: Tensor, *rest: Any) -> Tensor:
    *table, shapes, signed = rest
    distance = points.new_empty(points.shape[:2])
    _query(points, table, shapes, signed, distance=distance, closest=None, slot=None, face=None, barycentric=None)
    return distance


def _distance_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    # The forward pass keeps distances alone; the closest points are found again for those who want gradients.
    points, *table, shapes, signed = ctx.saved_tensors
    distance, closest, _, barycentric, slot = _closest_point_op(points, *table, shapes, False)
    corners = _corners_op(table[0], table[_TABLE.index("triangles")], shapes, slot)
    feature = ClosestFeature.of(corners.to(points.dtype), barycentric)
    uphill = (gradient * torch.where(signed < 0, -1.0, 1.0)).unsqueeze(-1)
    return (feature.away(points, distance, closest) * uphill, *[None] * (len(_TABLE) + 2))


_distance_op = register(
    "surface_batch_distance",
    f"({_SCHEMA}, bool signed) -> Tensor",
    _distance_kernel,
    lambda points, *_: points.new_empty(points.shape[:2]),
    _distance_backward,
    lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:-1], output),
)


def _corners_kernel(entries: Tensor, triangles: Tensor, shapes: Tensor, slot: Tensor) -> Tensor:
    corners = triangles.new_empty((*slot.shape, 9))
    _native.call(
        "gather_batch_corners", slot.device, entries=entries, triangles=triangles, shapes=shapes, slot=slot,
        batch=slot.shape[0], each=slot.shape[1], corners=corners,
    )  # fmt: skip
    return corners


_corners_op = register(
    "surface_batch_corners",
    "(Tensor entries, Tensor triangles, Tensor shapes, Tensor slot) -> Tensor",
    _corners_kernel,
    lambda entries, triangles, shapes, slot: triangles.new_empty((*slot.shape, 9)),
)
