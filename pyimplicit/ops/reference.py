"""A plain-torch twin of every public operator: slow, short, and sharing no code with the kernels.

A twin has its operator's name and argument order. Surface queries take the mesh where the operator takes a hierarchy,
and the mask takes the cloud and the distance where the operator takes a grid. Twins run on any device torch has, in
double precision inside, and check nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from pyimplicit.ops.depth_maps import DepthViews
from pyimplicit.ops.distance_sampling import WeightCells
from pyimplicit.ops.query_points import PointSource
from pyimplicit.ops.random import RandomStream, RowStreams
from pyimplicit.ops.rays import RayHits
from pyimplicit.ops.scatter import CellGroups
from pyimplicit.ops.surface import ClosestPoint

# Pairs of a point and a triangle (or cloud point) looked at in one go: bounds the memory of brute force.
PAIRS = 1 << 16

_WORD = 0xFFFFFFFF
_Words = tuple[Tensor, Tensor, Tensor, Tensor]  # each int64, 0 to 2**32 - 1


# ---- surface queries


def closest_point(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> ClosestPoint:
    """Twin of `pyimplicit.ops.closest_point`, over all faces."""
    triangles = vertices.double()[faces.long()]  # [F, 3, 3]
    exact = points.double()
    with torch.no_grad():
        pairs = (_closest_on_triangles(some.T.unsqueeze(2), triangles) for some in _chunks(exact, triangles))
        face = torch.cat([squared.argmin(1) for squared, _ in pairs])
    corners = triangles[face]
    barycentric = _closest_on_triangles(exact.T, corners)[1].T
    closest = (barycentric.unsqueeze(2) * corners).sum(1)
    distance = torch.linalg.vector_norm(exact - closest, dim=1)
    return ClosestPoint(distance.to(points.dtype), closest.to(points.dtype), face, barycentric.to(points.dtype))


def unsigned_distance(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.unsigned_distance`."""
    return closest_point(points, vertices, faces).distance


def signed_distance(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.signed_distance`, whose sign is always that of the winding number."""
    distance = unsigned_distance(points, vertices, faces)
    return torch.where(winding_number(points.detach(), vertices, faces) > 0.5, -distance, distance)


def batch_closest_point(
    points: Tensor,  # [B, N, 3]
    meshes: Sequence[tuple[Tensor, Tensor]],  # vertices and faces of each surface
    shapes: Tensor,  # [B]
    *,
    signed: bool = False,
) -> ClosestPoint:
    """Twin of `pyimplicit.ops.batch_closest_point`: one row after the other."""
    rows = [closest_point(row, *meshes[shape]) for row, shape in zip(points, shapes.tolist(), strict=True)]
    parts = [torch.stack([getattr(row, part) for row in rows]) for part in ClosestPoint.__annotations__]
    if signed:
        parts[0] = batch_distance(points, meshes, shapes, signed=True)
    return ClosestPoint(*parts)


def batch_distance(
    points: Tensor,  # [B, N, 3]
    meshes: Sequence[tuple[Tensor, Tensor]],  # vertices and faces of each surface
    shapes: Tensor,  # [B]
    *,
    signed: bool,
) -> Tensor:
    """Twin of `pyimplicit.ops.batch_distance`: one row after the other."""
    of_row = signed_distance if signed else unsigned_distance
    return torch.stack([of_row(row, *meshes[shape]) for row, shape in zip(points, shapes.tolist(), strict=True)])


def pseudonormals(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.topology.pseudonormals`, the sums alone: [F, 7, 3] float32."""
    positions, vertex = torch.unique(vertices.float() + 0.0, dim=0, return_inverse=True)
    faces = vertex[faces.long()]
    corners = positions.double()[faces]  # [F, 3, 3]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1)
    normals = torch.nn.functional.normalize(normals, dim=1, eps=0.0).nan_to_num(0.0)

    along = corners.roll(-1, dims=1) - corners  # edges ab, bc, ca
    back = -along.roll(1, dims=1)
    # atan2 of cross and dot: the angle of a sliver keeps its digits where acos would lose them.
    sine = torch.linalg.cross(along, back, dim=2).norm(dim=2)
    angles = torch.atan2(sine, (along * back).sum(2))  # [F, 3]
    at_vertices = torch.zeros(len(positions), 3, dtype=torch.float64)
    at_vertices.index_add_(0, faces.reshape(-1), (angles.unsqueeze(2) * normals.unsqueeze(1)).reshape(-1, 3))

    ends = torch.stack((faces, faces.roll(-1, dims=1)), dim=2)  # [F, 3, 2] vertices of ab, bc, ca
    keys = ends.amin(2) * len(positions) + ends.amax(2)
    _, edge = torch.unique(keys.reshape(-1), return_inverse=True)
    at_edges = torch.zeros(int(edge.max()) + 1, 3, dtype=torch.float64)
    at_edges.index_add_(0, edge, normals.repeat_interleave(3, dim=0))
    return torch.cat((normals.unsqueeze(1), at_edges[edge].reshape(-1, 3, 3), at_vertices[faces]), dim=1).float()


def cast_rays(
    origins: Tensor,  # [N, 3]
    directions: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> RayHits:
    """Twin of `pyimplicit.ops.cast_rays`, by Cramer's rule over all pairs: a ray along an edge may slip through."""
    a, b, c = vertices.double()[faces.long()].unbind(1)  # [F, 3] each
    e1, e2 = b - a, c - a
    o, d = origins.double().unsqueeze(1), directions.double().unsqueeze(1)  # [N, 1, 3]
    across = torch.linalg.cross(d, e2.unsqueeze(0).expand(len(origins), -1, -1), dim=2)
    determinant = (across * e1).sum(2)
    arm = o - a
    v = (arm * across).sum(2) / determinant
    turned = torch.linalg.cross(arm, e1.unsqueeze(0).expand(len(origins), -1, -1), dim=2)
    w = (d * turned).sum(2) / determinant
    t = (e2 * turned).sum(2) / determinant
    met = (determinant != 0) & (v >= 0) & (w >= 0) & (v + w <= 1) & (t >= 0)
    first, face = torch.where(met, t, torch.inf).min(1)
    rows = torch.arange(len(origins))
    weights = torch.stack((1 - v - w, v, w), 2)[rows, face]
    hit = first.isfinite()
    return RayHits(
        first.to(origins.dtype), torch.where(hit, face, -1), torch.where(hit.unsqueeze(1), weights, 0).to(origins.dtype)
    )


def winding_number(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.winding_number`: the sum of all solid angles."""
    corners = vertices.double()[faces.long()].permute(1, 2, 0).unsqueeze(2)  # [3 corners, 3 axes, 1, F]
    sums = []
    for some in _chunks(points.double(), faces):
        a, b, c = corners - some.T.unsqueeze(2)  # [3, n, F] each
        la, lb, lc = _dot(a, a).sqrt(), _dot(b, b).sqrt(), _dot(c, c).sqrt()
        determinant = _dot(a, _cross(b, c))
        denominator = la * lb * lc + _dot(a, b) * lc + _dot(b, c) * la + _dot(c, a) * lb
        # In the plane of a face the angle is 0 or, on the face itself, undecided between +2 pi and -2 pi: 0 again.
        angles = torch.where(determinant == 0, 0.0, 2 * torch.atan2(determinant, denominator))
        sums.append(angles.sum(1) / (4 * math.pi))
    return torch.cat(sums).to(points.dtype)


def contains(
    points: Tensor,  # [N, 3]
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Twin of `pyimplicit.ops.contains`."""
    return winding_number(points.double(), vertices, faces) > 0.5


def _chunks(points: Tensor, others: Tensor) -> Sequence[Tensor]:
    return torch.split(points, max(1, PAIRS // len(others)))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _closest_on_triangles(
    points: Tensor,  # [3, n] or [3, n, 1]
    triangles: Tensor,  # [F, 3, 3]
) -> tuple[Tensor, Tensor]:
    """Squared distances [...] of points to triangles and barycentric coordinates [3, ...] of the closest points.

    Points [3, n] pair up with as many triangles, points [3, n, 1] meet all of them. The best of four candidates: the
    closest point of each edge, and the projection on the plane where it falls inside.
    """
    a, b, c = triangles.permute(1, 2, 0)  # [3, F] each, axis by axis: rows of numbers are what torch adds fastest
    if points.dim() == 3:
        a, b, c = a.unsqueeze(1), b.unsqueeze(1), c.unsqueeze(1)
    arm, normal = points - a, _cross(b - a, c - a)
    area = _dot(normal, normal)
    flat = torch.where(area > 0, area, 1.0)
    v, w = _dot(arm, _cross(c - a, normal)) / flat, _dot(arm, _cross(normal, b - a)) / flat
    inside = (area > 0) & (v > 0) & (w > 0) & (v + w < 1)
    best = torch.where(inside, _dot(arm, normal).square() / flat, math.inf)
    barycentric = torch.stack([1 - v - w, v, w])
    for start, end, order in ((a, b, (0, 1, 2)), (b, c, (2, 0, 1)), (c, a, (1, 2, 0))):
        arm, along = points - start, end - start
        length = _dot(along, along)
        t = (_dot(arm, along) / torch.where(length > 0, length, 1.0)).clamp(0, 1)
        off = arm - t * along
        squared = _dot(off, off)
        weights = torch.stack([1 - t, t, torch.zeros_like(t)])[list(order)]
        barycentric = torch.where(squared < best, weights, barycentric)
        best = torch.minimum(squared, best)
    return best, barycentric


# ---- depth maps


def draw_depth(vertices: Tensor, faces: Tensor, views: DepthViews) -> Tensor:
    """Twin of `pyimplicit.ops.draw_depth`, every pixel against every face."""
    axis = (torch.arange(views.size, device=vertices.device) + 0.5 - views.size / 2).double() * views.pixel
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    at = torch.stack((column, row), -1)[:, :, None]  # [size, size, 1, 2]
    maps = []
    for rotation in views.rotations.double():
        corners = (vertices.double() @ rotation.T)[faces.long()]  # [F, 3, 3]
        a, b, c = corners[..., :2].unbind(1)

        def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
            return (q - p)[..., 0] * (r - p)[..., 1] - (q - p)[..., 1] * (r - p)[..., 0]

        weights = torch.stack((area(b, c, at), area(c, a, at), area(a, b, at)), -1)
        total = area(a, b, c)
        inside = ((weights >= 0).all(-1) | (weights <= 0).all(-1)) & (total != 0)
        depth = (weights * corners[..., 2]).sum(-1) / total
        maps.append(torch.where(inside, depth, math.inf).amin(-1))
    return torch.stack(maps).float()


def count_views(points: Tensor, depth: Tensor, views: DepthViews, enough: int = 1) -> Tensor:
    """Twin of `pyimplicit.ops.count_views`."""
    seen = torch.zeros(len(points), dtype=torch.int32, device=points.device)
    for rotation, image in zip(views.rotations.double(), depth.double(), strict=True):
        across, down, along = (points.double() @ rotation.T).unbind(1)
        column, row = ((place / views.pixel + views.size / 2).floor().long() for place in (across, down))
        beside = (column < 0) | (column >= views.size) | (row < 0) | (row >= views.size)
        before = image[row.clamp(0, views.size - 1), column.clamp(0, views.size - 1)]
        seen += beside | (along < before)
    return seen.clamp(max=enough)


# ---- random numbers


def philox(counter: _Words, key: tuple[Tensor, Tensor]) -> _Words:
    """Philox4x32-10 in int64 arithmetic: four words from a counter of four and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The products wrap modulo 2**64, which leaves all their 64 bits in place.
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32 & _WORD) ^ c1 ^ k0, p1 & _WORD, (p0 >> 32 & _WORD) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


def uniform(
    count: int,
    stream: RandomStream,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Twin of `pyimplicit.ops.uniform`."""
    words = torch.stack(_words(count, stream, device)[:3], 1)
    ends = torch.tensor([low, high], dtype=dtype, device=device)
    values = ends[0] + (words >> 8).to(dtype) * 2.0**-24 * (ends[1] - ends[0])
    return torch.minimum(values, torch.nextafter(ends[1], ends[0]))


def normal(
    count: int, stream: RandomStream, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Twin of `pyimplicit.ops.normal`."""
    units = [_open_uniform(word) for word in _words(count, stream, device)]
    radius = [(-2 * units[i].log()).sqrt() for i in (0, 2)]
    angle = [2 * math.pi * units[i] for i in (1, 3)]
    values = (radius[0] * angle[0].cos(), radius[0] * angle[0].sin(), radius[1] * angle[1].cos())
    return torch.stack(values, 1).to(dtype)


def _words(count: int, stream: RandomStream, device: torch.device | str) -> _Words:
    return _words_at(torch.arange(count, device=device), stream)


def _words_at(index: Tensor, stream: RandomStream) -> _Words:
    def constant(value: int) -> Tensor:
        return torch.full_like(index, value & _WORD)

    counter = (index & _WORD, (index >> 32) | (stream.purpose << 16), constant(stream.shape), constant(stream.step))
    return philox(counter, (constant(stream.seed), constant(stream.seed >> 32)))


def _open_uniform(word: Tensor) -> Tensor:
    return (word.double() + 0.5) * 2.0**-32


def _uniform53(high: Tensor, low: Tensor) -> Tensor:
    return ((high << 21) | (low >> 11)).double() * 2.0**-53


# ---- weights and choices


def linear_weights(
    distance: Tensor,  # [...]
    tau: float = 0.1,
    mu: float | None = None,
) -> Tensor:
    """Twin of `pyimplicit.ops.linear_weights`."""
    return (1 / tau if mu is None else mu) * (tau - distance).clamp(min=0)


def weighted_choice(
    weights: Tensor,  # [N]
    count: int,
    seed: int | RandomStream = 0,
    replacement: bool = False,
) -> Tensor:
    """Twin of `pyimplicit.ops.weighted_choice`: without replacement, one draw after the other."""
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    left = weights.double().clone()
    if replacement:
        return _draw_from_tree(left, _words(count, stream, weights.device))
    chosen: list[Tensor] = []
    found = drawn = 0
    while found < count:
        candidates = _draw_from_tree(
            left, _words_at(drawn + torch.arange(count - found, device=weights.device), stream)
        )
        drawn += count - found
        for candidate in candidates.tolist():
            if left[candidate] > 0:
                left[candidate] = 0
                chosen.append(torch.tensor([candidate], device=weights.device))
                found += 1
    return torch.cat(chosen)


def _draw_from_tree(weights: Tensor, words: _Words) -> Tensor:
    """Indices at uniform places of a tree of sums of 64, each made of eight interleaved sums."""
    levels = [weights]
    while len(levels) == 1 or len(levels[-1]) > 1:
        padded = torch.nn.functional.pad(levels[-1], (0, -len(levels[-1]) % 64)).reshape(-1, 8, 8)
        lanes = [_add_up(padded[:, :, lane])[:, -1] for lane in range(8)]
        odd, even = (((lanes[i] + lanes[i + 4]) + (lanes[i + 2] + lanes[i + 6])) for i in (1, 0))
        levels.append(even + odd)
    target = _uniform53(words[0], words[1]) * levels[-1]
    place = torch.zeros_like(words[0])
    for level in levels[-2::-1]:
        values = torch.nn.functional.pad(level, (0, -len(level) % 64)).reshape(-1, 64)[place]
        running = _add_up(values)
        passed = (running > target.unsqueeze(1)) & (values > 0)
        last = 63 - (values > 0).flip(1).long().argmax(1)
        child = torch.where(passed.any(1), passed.long().argmax(1), last).unsqueeze(1)
        before = torch.nn.functional.pad(running, (1, 0)).gather(1, child)
        target = target - before[:, 0]
        place = 64 * place + child[:, 0]
    return place


def _add_up(values: Tensor) -> Tensor:
    """Running sums along axis 1, added one after the other."""
    sums = [values[:, 0]]
    for column in values.unbind(1)[1:]:
        sums.append(sums[-1] + column)
    return torch.stack(sums, 1)


def sample_surface(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    count: int,
    seed: int | RandomStream,
    table: Tensor,  # [F, 2]
) -> tuple[Tensor, Tensor]:
    """Twin of `pyimplicit.ops.sample_surface`, from the same table of areas."""
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    words = _words(count, stream, vertices.device)
    face = _alias(table[:, 0].view(torch.float32), table[:, 1], words)
    return _even_points(words, vertices.double()[faces.long()][face]).to(vertices.dtype), face


def _even_points(words: _Words, corners: Tensor) -> Tensor:
    root, second = _open_uniform(words[2]).sqrt().unsqueeze(1), _open_uniform(words[3]).unsqueeze(1)
    a, b, c = corners.unbind(1)
    return (1 - root) * a + root * (1 - second) * b + root * second * c


# ---- query points


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
            words = _words(source.count, stream, shapes.device)
            slot = _alias(table[:, 0].view(torch.float32), table[:, 1], words)
            points = _even_points(words, corners.double()[slot])
            noise = normal(source.count, stream.for_purpose(source.purpose + 1), torch.float64, shapes.device)
            parts.append(((points + source.sigma * noise).float(), face.long()[slot]))
        rows.append([torch.cat(held) for held in zip(*parts, strict=True)])
    return torch.stack([points for points, _ in rows]), torch.stack([face for _, face in rows])


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
            choice = _words_at(waiting | (2 * attempt << 32), stream)
            place = _words_at(waiting | (2 * attempt + 1 << 32), stream)
            cell = numbers[_alias(numbers[:, 6], other, choice)].double()
            t = _uniform53(choice[2], choice[3]) * cell[:, 5]
            limit = -t.log() / weight.slope if weight.reach is None else weight.reach - t / weight.slope
            spread = torch.stack([2 * _open_uniform(word) - 1 for word in place[:3]], 1)
            tried = (cell[:, :3] + spread * cell[:, 3:4]).float()
            found = (signed_distance if signed else unsigned_distance)(tried, *meshes[shape])
            kept = found.abs() < limit
            points[waiting[kept]], distance[waiting[kept]] = tried[kept], found[kept]
            waiting, attempt = waiting[~kept], attempt + 1
        rows.append((points, distance))
    return torch.stack([points for points, _ in rows]), torch.stack([distance for _, distance in rows])


def _alias(share: Tensor, other: Tensor, words: _Words) -> Tensor:
    """Indices chosen by an alias table from two words of each draw."""
    product = words[0] * len(share) + (words[1] * len(share) >> 32)
    index, within = product >> 32, ((product & _WORD) >> 8).float() * 2.0**-24
    return torch.where(within < share[index], index, other[index].long())


# ---- interpolation


def sample_grids(
    grids: Tensor | Sequence[Tensor],  # [B, C, D, H, W] each
    points: Tensor,  # [B, N, 3]
    offsets: Tensor | None = None,  # [K, 3]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
    layout: str = "channel_fastest",
    sum_grids: bool = False,
) -> Tensor:
    """Twin of `pyimplicit.ops.sample_grids`, by `torch.nn.functional.grid_sample`."""
    volumes = [grids] if isinstance(grids, Tensor) else list(grids)
    copies = points.unsqueeze(2) if offsets is None else points.unsqueeze(2) + offsets  # [B, N, K, 3]
    sampled = [
        grid_sample(volume, copies.unsqueeze(2), "bilinear", padding_mode, align_corners).squeeze(3)
        for volume in volumes
    ]
    features = torch.stack(sampled).sum(0) if sum_grids else torch.cat(sampled, 1)  # [B, S, N, K]
    order = (0, 2, 3, 1) if layout == "channel_fastest" else (0, 2, 1, 3)
    return features.permute(order).flatten(2)


def sample_grids_linear(
    grids: Tensor | Sequence[Tensor],  # [B, C, D, H, W] each
    points: Tensor,  # [B, N, 3]
    weight: Tensor,  # [O, K S]
    bias: Tensor | None = None,  # [O]
    offsets: Tensor | None = None,  # [K, 3]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
    layout: str = "channel_fastest",
) -> Tensor:
    """Twin of `pyimplicit.ops.sample_grids_linear`: the layer after the gather."""
    options = {"align_corners": align_corners, "padding_mode": padding_mode, "layout": layout}
    features = sample_grids(grids, points, offsets, **options)  # type: ignore[arg-type]
    return features @ weight.T if bias is None else features @ weight.T + bias


def sample_planes(
    planes: Tensor,  # [B, K, C, H, W]
    points: Tensor,  # [B, K, N, 2] or [B, N, 2]
    *,
    align_corners: bool = True,
    padding_mode: str = "border",
) -> Tensor:
    """Twin of `pyimplicit.ops.sample_planes`, by `torch.nn.functional.grid_sample`."""
    batch, count = planes.shape[:2]
    if points.dim() == 3:
        points = points.unsqueeze(1).expand(-1, count, -1, -1)
    sampled = grid_sample(
        planes.flatten(0, 1), points.flatten(0, 1).unsqueeze(2), "bilinear", padding_mode, align_corners
    )  # [B K, C, N, 1]
    return sampled.reshape(batch, count, *sampled.shape[1:3]).sum(1).transpose(1, 2)


# ---- mask


def distance_mask(
    points: Tensor,  # [..., 3]
    cloud: Tensor,  # [M, 3], or [B, M, 3] for points [B, ..., 3]
    distance: float,
) -> Tensor:
    """Twin of `pyimplicit.ops.distance_mask`, over all cloud points."""
    if cloud.dim() == 3:
        return torch.stack([distance_mask(rows, own, distance) for rows, own in zip(points, cloud, strict=True)])
    exact = cloud.double()
    near = [
        torch.cdist(some, exact, compute_mode="donot_use_mm_for_euclid_dist").amin(1) <= distance
        for some in _chunks(points.double().reshape(-1, 3), exact)
    ]
    return torch.cat(near).reshape(points.shape[:-1])


def distance_mask_grid(
    x: Tensor,  # [X]
    y: Tensor,  # [Y]
    z: Tensor,  # [Z]
    cloud: Tensor,  # [M, 3] or [B, M, 3]
    distance: float,
) -> Tensor:
    """Twin of `pyimplicit.ops.distance_mask_grid`, over all cloud points."""
    nodes = torch.stack(torch.meshgrid(x.double(), y.double(), z.double(), indexing="ij"), -1)
    if cloud.dim() == 3:
        nodes = nodes.expand(cloud.shape[0], -1, -1, -1, -1)
    return distance_mask(nodes, cloud, distance)


# ---- points in cells


def scatter_mean(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
    *,
    channels_first: bool = False,
) -> Tensor:
    """Twin of `pyimplicit.ops.scatter_mean`, by `torch.Tensor.index_add`; it looks at `groups.cells` only."""
    maps: list[Tensor] = []
    for cells in groups.cells.long().flatten(0, 1):  # cloud after cloud, for each partition
        cloud = features[len(maps) % features.shape[0]].double()
        sums = cloud.new_zeros(groups.cell_count, cloud.shape[1]).index_add(0, cells, cloud)
        maps.append(sums / torch.bincount(cells, minlength=groups.cell_count).clamp(min=1)[:, None])
    means = torch.stack(maps).to(features.dtype).view(*groups.cells.shape[:2], groups.cell_count, -1)
    means = means.transpose(2, 3) if channels_first else means
    return means if groups.several else means[0]


def scatter_max(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
) -> tuple[Tensor, Tensor]:
    """Twin of `pyimplicit.ops.scatter_max`, by `torch.max` over the points of each cell."""
    batch, _, channels = features.shape
    shape = (*groups.cells.shape[:2], groups.cell_count, channels)
    values, points = features.new_zeros(shape), torch.full(shape, -1, device=features.device)
    for k, b in itertools.product(range(shape[0]), range(batch)):
        for cell in set(groups.cells[k, b].tolist()):
            members = (groups.cells[k, b] == cell).nonzero()[:, 0]
            highest = features[b, members].max(0).values
            equal = (features[b, members] == highest) | features[b, members].isnan()
            first = members[equal.to(torch.uint8).argmax(0)]
            values[k, b, cell] = features[b].gather(0, first[None])[0]
            points[k, b, cell] = first
    return (values, points) if groups.several else (values[0], points[0])


def pool_local(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
) -> Tensor:
    """Twin of `pyimplicit.ops.pool_local`: `scatter_max`, gathered back."""
    values = scatter_max(features, groups)[0].reshape(*groups.cells.shape[:2], groups.cell_count, features.shape[2])
    own = groups.cells.long()[..., None].expand(-1, -1, -1, features.shape[2])
    return values.gather(2, own).sum(0)


# ---- clouds


def voxelise(
    points: Tensor,  # [B, N, 3]
    resolution: int,
    *,
    low: float = -0.5,
    high: float = 0.5,
) -> Tensor:
    """Twin of `pyimplicit.ops.voxelise`, by the distances of each coordinate to all nodes of its axis."""
    nodes = torch.linspace(low, high, resolution, dtype=torch.float64, device=points.device).flip(0)
    x, y, z = (resolution - 1 - (points.double()[..., None] - nodes).abs().argmin(-1)).unbind(-1)  # the upper of two
    grid = points.new_zeros(points.shape[0], resolution, resolution, resolution)
    grid[torch.arange(points.shape[0], device=points.device)[:, None], x, y, z] = 1
    return grid


def farthest_points(
    points: Tensor,  # [B, N, 3]
    count: int,
    *,
    start: int = 0,
    skip_squared_length: float | None = None,
) -> Tensor:
    """Twin of `pyimplicit.ops.farthest_points`, step by step; unlike other twins in the points' own precision."""
    clouds = torch.arange(points.shape[0], device=points.device)
    distance = torch.full_like(points[..., 0], math.inf)
    if skip_squared_length is not None:
        distance[_squared(points) <= skip_squared_length] = -1
    chosen = [torch.full_like(clouds, start)]
    for _ in range(count - 1):
        distance = torch.minimum(distance, _squared(points - points[clouds, chosen[-1], None]))
        farthest = distance.amax(1, keepdim=True)
        first = (distance == farthest).to(torch.uint8).argmax(1)
        chosen.append(torch.where(farthest[:, 0] < 0, start, first))
    return torch.stack(chosen, 1)


def nearest_neighbours(
    queries: Tensor,  # [B, M, 3]
    cloud: Tensor,  # [B, N, 3]
    count: int,
) -> Tensor:
    """Twin of `pyimplicit.ops.nearest_neighbours`, by sorting; unlike other twins in the points' own precision."""
    return _squared(queries[:, :, None] - cloud[:, None]).sort(dim=2, stable=True).indices[:, :, :count]


def _squared(vectors: Tensor) -> Tensor:
    x, y, z = vectors.unbind(-1)
    return x * x + y * y + z * z
