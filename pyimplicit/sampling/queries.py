"""Query points with their exact distances."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyimplicit.checks import check_choice, check_count
from pyimplicit.geometry.surface import SIGNS, Surface
from pyimplicit.geometry.surface_batch import SurfaceBatch
from pyimplicit.ops import ClosestPoint, RandomStream, RowStreams
from pyimplicit.sampling.rows import Label, Rows, Strategy, draw_rows
from pyimplicit.sampling.strategies import resolve_strategy

LABELS = ("signed", "unsigned")


@dataclass(frozen=True, eq=False)
class QuerySet:
    """Query points, their labels, and what drew them; of one shape, or of several with a leading axis B."""

    points: Tensor  # [n, 3] or [B, n, 3] float32, mesh units
    distance: Tensor  # [n] or [B, n] float32, mesh units; negative inside if signed
    label: Label
    strategy: Strategy
    stream: RandomStream | RowStreams  # the random numbers; of rows, if there are several shapes
    closest: ClosestPoint | None = None  # nearest point of the surface, its face and normal, if asked for

    @property
    def signed_distance(self) -> Tensor:
        """Distance, negative inside; ValueError if the points were labelled with unsigned distances."""
        if self.label != "signed":
            raise ValueError('label: expected "signed" to tell inside from outside, got points drawn with "unsigned"')
        return self.distance

    @property
    def unsigned_distance(self) -> Tensor:
        """Distance, not negative."""
        return self.distance.abs() if self.label == "signed" else self.distance

    @property
    def occupancy(self) -> Tensor:
        """float32: 1 inside, 0 outside and on the surface; ValueError as `signed_distance`."""
        return (self.signed_distance < 0).float()


def sample_queries(
    surface: Surface,
    strategy: str | Strategy,
    count: int = 2_000,
    seed: int | RandomStream = 0,
    sign: str = "auto",
    *,
    label: Label = "signed",
    closest: bool = False,
) -> QuerySet:
    """Draw query points of a shape and label them with their exact distance.

    Args:
        surface: The shape, normalised to the cube [-0.5, 0.5]^3.
        strategy: A name ("linear"), the paper's symbol ("S_Linear", "BS") or a strategy object.
        count: Number of points, at least 1; the paper's sparse density is 2,000, its dense one 20,000.
        seed: The same seed draws the same points on any number of threads.
        sign: How the sign of the distance is found, as in `Surface.signed_distance`.
        label: "signed" distances tell inside from outside; "unsigned" ones cost less on meshes that are not closed.
        closest: Whether to keep the nearest point of the surface too, with its face.

    Returns:
        Exactly `count` points with their distances, on the surface's device.

    Raises:
        ValueError: An unknown strategy, sign or label, `count` below 1, a surface far from the cube (S_Linear), or
            one with nothing inside (balanced strategies).

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", sections III-C and V-A.

    Example:
        >>> import torch
        >>> surface = Surface(torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0, 0.4, 0]]), torch.tensor([[0, 1, 2]]))
        >>> sample_queries(surface, "linear", 100).signed_distance.abs().max() <= 0.1
        tensor(True)
    """
    drawn = resolve_strategy(strategy)
    check_count("count", count)
    check_choice("label", label, LABELS)
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    other_sign = label == "signed" and check_choice("sign", sign, SIGNS) not in ("auto", surface.sign_method)
    rows = Rows.single(surface, stream, None if other_sign else label)
    points, distance, near = _labelled(rows, drawn, count, closest)
    if other_sign:
        distance = surface.signed_distance(points[0], sign)[None]
    assert distance is not None
    nearest = None if near is None else ClosestPoint(near.distance[0], near.point[0], near.face[0], near.barycentric[0])
    return QuerySet(points[0], distance[0], label, drawn, stream, nearest)


def sample_query_batch(
    surfaces: SurfaceBatch,
    strategy: str | Strategy,
    count: int = 2_000,
    seed: int = 0,
    *,
    shapes: Tensor | None = None,
    keys: Tensor | None = None,
    label: Label = "signed",
    closest: bool = False,
) -> QuerySet:
    """Draw and label query points of several shapes in one pass, as training makes them afresh at every step.

    Args:
        surfaces: The shapes, normalised to the cube [-0.5, 0.5]^3.
        strategy: As in `sample_queries`.
        count: Number of points of each row, at least 1.
        seed: Of the run, 0 to 2**63 - 1.
        shapes: [B] int64, which surface each row is for; by default row b is for surface b.
        keys: [B, 2] int64, number of the shape and step that each row's random numbers belong to, 0 to 2**32 - 1; by
            default the shape's index and 0. A row's points depend on the seed, its key and its surface alone.
        label: As in `sample_queries`; signs are found as each surface's `sign_method` says.
        closest: As there.

    Returns:
        Points [B, count, 3] with their distances [B, count], on the surfaces' device.

    Raises:
        TypeError: A wrong dtype.
        ValueError: As `sample_queries`; a surface that is not there, keys out of range.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", sections III-C and V-A.

    Example:
        >>> import torch
        >>> surface = Surface(torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0, 0.4, 0]]), torch.tensor([[0, 1, 2]]))
        >>> batch = SurfaceBatch([surface, surface])
        >>> sample_query_batch(batch, "balanced_surface", 100).points.shape
        torch.Size([2, 100, 3])
    """
    drawn = resolve_strategy(strategy)
    check_count("count", count)
    check_choice("label", label, LABELS)
    rows_of = surfaces.all_shapes if shapes is None else shapes
    if keys is None:
        keys = torch.stack((rows_of, torch.zeros_like(rows_of)), dim=1)
    rows = Rows(surfaces, rows_of, RowStreams.of(seed, keys, surfaces.device), 0, label)
    points, distance, near = _labelled(rows, drawn, count, closest)
    assert distance is not None
    return QuerySet(points, distance, label, drawn, rows.streams, near)


def _labelled(
    rows: Rows, strategy: Strategy, count: int, closest: bool
) -> tuple[Tensor, Tensor | None, ClosestPoint | None]:
    """Points, the distances that the rows want, and the closest points if asked for."""
    drawn = draw_rows(strategy, replace(rows, label=None) if closest else rows, count)
    if closest:
        near = rows.surfaces.closest_point(drawn.points, rows.shapes, signed=rows.label == "signed")
        return drawn.points, near.distance, near
    return drawn.points, rows.distances(drawn.points) if drawn.distance is None else drawn.distance, None
