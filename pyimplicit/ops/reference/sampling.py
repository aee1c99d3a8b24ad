"""Twins of the points drawn on and around surfaces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pyimplicit.ops.distance_sampling import WeightCells
from pyimplicit.ops.query_points import PointSource
from pyimplicit.ops.random import RandomStream, RowStreams
from pyimplicit.ops.reference.random import WORD, Words, normal, open_uniform, uniform, uniform53, words_at, words_of
from pyimplicit.ops.reference.surface import batch_distance, signed_distance, unsigned_distance


def sample_surface(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    count: int,
    seed: int | RandomStream,
    table: Tensor,  # [F, 2]
) -> tuple[Tensor, Tensor]:
    """Twin of `pyimplicit.ops.sample_surface`, from the same table of areas."""
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    words = words_of(count, stream, vertices.device)
    face = _alias(table[:, 0].view(torch.float32), table[:, 1], words)
    return _even_points(words, vertices.double()[faces.long()][face]).to(vertices.dtype), face


def _even_points(words: Words, corners: Tensor) -> Tensor:
    root, second = open_uniform(words[2]).sqrt().unsqueeze(1), open_uniform(words[3]).unsqueeze(1)
    a, b, c = corners.unbind(1)
    return (1 - root) * a + root * (1 - second) * b + root * second * c


def query_points(
    meshes: Sequence[tuple[Tensor, Tensor, Tensor]],  # of each: corners [F, 3, 3], their faces [F], area table [F, 2]
    shapes: Tensor,  # [B]
    streams: RowStreams,
    sources: Sequence[PointSource],
    half_side: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Twin of `pyimplicit.ops.query_points`, one source of one row after the other."""
    rows = []
    for shape, (key, step) in zip(shapes.tolist(), streams.keys.tolist(), strict=True):
        corners, face, table = meshes[shape]
        parts = []
        for source in sources:
            stream = RandomStream(streams.seed, key, step, source.purpose)
            if source.sigma is None:
                points = uniform(source.count, stream, -half_side, half_side, device=shapes.device)
                parts.append((points, torch.full((source.count,), -1, device=shapes.device)))
                continue
            words = words_of(source.count, stream, shapes.device)
            slot = _alias(table[:, 0].view(torch.float32), table[:, 1], words)
            points = _even_points(words, corners.double()[slot])
            noise = normal(source.count, stream.for_purpose(source.purpose + 1), torch.float64, shapes.device)
            parts.append(((points + source.sigma * noise).float(), face.long()[slot]))
        rows.append([torch.cat(held) for held in zip(*parts, strict=True)])
    return torch.stack([points for points, _ in rows]), torch.stack([face for _, face in rows])


def labelled_query_points(
    meshes: Sequence[tuple[Tensor, Tensor, Tensor]],  # as for `query_points`
    surfaces: Sequence[tuple[Tensor, Tensor]],  # vertices and faces of each surface
    shapes: Tensor,  # [B]
    streams: RowStreams,
    sources: Sequence[PointSource],
    half_side: float = 0.5,
    *,
    signed: bool,
) -> tuple[Tensor, Tensor]:
    """Twin of `pyimplicit.ops.labelled_query_points`: drawn, then measured."""
    points, _ = query_points(meshes, shapes, streams, sources, half_side)
    return points, batch_distance(points, surfaces, shapes, signed=signed)


def sample_by_distance(
    meshes: Sequence[tuple[Tensor, Tensor]],  # vertices and faces of each surface
    cells: WeightCells,
    shapes: Tensor,  # [B]
    streams: RowStreams,
    count: int,
    *,
    purpose: int = 0,
    signed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Twin of `pyimplicit.ops.sample_by_distance`: every attempt's distance is computed, by brute force."""
    rows = []
    weight = cells.weight
    for shape, (key, step) in zip(shapes.tolist(), streams.keys.tolist(), strict=True):
        held = cells.cells[int(cells.first[shape]) : int(cells.first[shape + 1])]
        numbers, other = held.view(torch.float32), held[:, 7]
        stream = RandomStream(streams.seed, key, step, purpose)
        points = torch.full((count, 3), math.nan, device=shapes.device)
        distance = torch.full((count,), math.nan, device=shapes.device)
        waiting, attempt = torch.arange(count, device=shapes.device), 0
        while len(waiting):
            choice = words_at(waiting | (2 * attempt << 32), stream)
            place = words_at(waiting | (2 * attempt + 1 << 32), stream)
            cell = numbers[_alias(numbers[:, 6], other, choice)].double()
            t = uniform53(choice[2], choice[3]) * cell[:, 5]
            limit = -t.log() / weight.slope if weight.reach is None else weight.reach - t / weight.slope
            spread = torch.stack([2 * open_uniform(word) - 1 for word in place[:3]], 1)
            tried = (cell[:, :3] + spread * cell[:, 3:4]).float()
            found = (signed_distance if signed else unsigned_distance)(tried, *meshes[shape])
            kept = found.abs() < limit
            points[waiting[kept]], distance[waiting[kept]] = tried[kept], found[kept]
            waiting, attempt = waiting[~kept], attempt + 1
        rows.append((points, distance))
    return torch.stack([points for points, _ in rows]), torch.stack([distance for _, distance in rows])


def _alias(share: Tensor, other: Tensor, words: Words) -> Tensor:
    """Indices chosen by an alias table from two words of each draw."""
    product = words[0] * len(share) + (words[1] * len(share) >> 32)
    index, within = product >> 32, ((product & WORD) >> 8).float() * 2.0**-24
    return torch.where(within < share[index], index, other[index].long())
