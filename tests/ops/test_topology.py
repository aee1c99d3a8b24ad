"""Vertices, edges, bodies and normals against sorting, loops and the plain-torch twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from pyimplicit.ops import reference, topology
from pyimplicit.ops.topology import (
    MOST_FACES,
    label_bodies,
    match_edges,
    measure_bodies,
    measure_faces,
    pseudonormals,
    weld_corners,
)
from tests.helpers import Mesh, box, join, moved, rand, randn, sphere, tetrahedron, torus, unwelded

TRIANGLES = torch.tensor([[0, 1, 2], [2, 1, 3]], dtype=torch.int32)


def normals_of(mesh: Mesh) -> topology.Pseudonormals:
    corners = mesh[0].float()[mesh[1]].reshape(-1, 9)
    vertex, first = weld_corners(corners.reshape(-1, 3))
    vertex = vertex.reshape(-1, 3)
    return pseudonormals(corners, vertex, match_edges(vertex, len(first)).ring, len(first), sums=True)


# ---- vertices


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 400), st.sampled_from([1, 2, 5, 1000]))
def test_welding_against_sorting(seed, count, steps):
    """On a grid of few or many positions, with zeros of both signs."""
    corners = (rand(count, 3, seed=seed, low=-1, high=1) * steps).round() / steps
    vertex, first = weld_corners(corners)
    expected, inverse = (corners + 0.0).unique(dim=0, return_inverse=True)
    assert len(first) == len(expected)
    assert torch.equal(corners[first][vertex] == corners, torch.ones_like(corners, dtype=torch.bool))
    assert len(torch.stack([vertex, inverse.int()]).unique(dim=1).T) == len(expected)
    # In the order of first corners.
    assert torch.equal(vertex[first], torch.arange(len(first), dtype=torch.int32))
    assert torch.equal(first, first.sort().values)


def test_a_table_that_must_grow():
    corners = randn(30_000, 3)
    vertex, first = weld_corners(torch.cat([corners, corners.flip(0)]))
    assert torch.equal(vertex[:30_000], torch.arange(30_000, dtype=torch.int32))
    assert torch.equal(vertex[30_000:], vertex[:30_000].flip(0))
    assert len(first) == 30_000


def test_strides_do_not_matter():
    corners = rand(50, 6)[:, ::2]
    assert torch.equal(weld_corners(corners)[0], weld_corners(corners.clone())[0])


# ---- edges and bodies


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 80), st.integers(1, 12), st.integers(0, 10_000))
def test_rings_and_counts_against_a_loop(count, vertices, seed):
    faces = torch.randint(vertices, (count, 3), generator=torch.Generator().manual_seed(seed)).int()
    edges = match_edges(faces, vertices)
    along: dict[tuple[int, int], list[int]] = {}
    for half, (start, end) in enumerate(
        zip(faces.flatten().tolist(), faces.roll(-1, 1).flatten().tolist(), strict=True)
    ):
        along.setdefault((min(start, end), max(start, end)), []).append(half)
    ring = edges.ring.flatten().tolist()
    for halves in along.values():
        assert [ring[half] for half in halves] == halves[1:] + halves[:1]
    covering = {face for face, corners in enumerate(faces.tolist()) if len(set(corners)) == 3}
    uses = [[half for half in halves if half // 3 in covering] for halves in along.values()]
    start = faces.flatten().tolist()
    forward = [sum(start[half] == min(start[h] for h in halves) for half in halves) for halves in uses]
    assert edges.edges == sum(len(halves) > 0 for halves in uses)
    assert edges.boundary == sum(len(halves) == 1 for halves in uses)
    assert edges.odd == sum(len(halves) % 2 for halves in uses)
    assert edges.non_manifold == sum(len(halves) > 2 for halves in uses)
    assert edges.inconsistent == sum(
        abs(2 * ahead - len(halves)) > len(halves) % 2 for ahead, halves in zip(forward, uses, strict=True)
    )
    sets = [tuple(sorted(face)) for face in faces.tolist()]
    assert edges.duplicate_faces == len(sets) - len(set(sets))


def test_a_vertex_of_many_faces():
    """More edges at a vertex than are sorted by insertion."""
    count = 500
    rim = torch.arange(1, count + 1)
    faces = torch.stack([torch.zeros(count), rim, rim.roll(-1)], 1).int()
    edges = match_edges(torch.cat([faces, faces.flip(1)]), count + 1)
    assert (edges.is_closed, edges.is_oriented, edges.non_manifold) == (True, True, count)
    assert edges.duplicate_faces == count


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(3, 60), st.integers(0, 10_000), st.booleans())
def test_bodies_against_a_search(count, vertices, seed, some_blocked):
    faces = torch.randint(vertices, (count, 3), generator=torch.Generator().manual_seed(seed)).int()
    blocked = (rand(count, seed=seed) < 0.2).to(torch.uint8) if some_blocked else None
    ring = match_edges(faces, vertices).ring
    body, bodies = label_bodies(ring, blocked)
    expected, found = [-1] * count, 0
    out = [] if blocked is None else blocked.nonzero()[:, 0].tolist()
    following = (ring // 3).tolist()
    beside: list[set[int]] = [set() for _ in range(count)]
    for face in range(count):
        for other in following[face]:
            if face not in out and other not in out:
                beside[face].add(other)
                beside[other].add(face)
    for face in range(count):
        if expected[face] < 0 and face not in out:
            waiting = [face]
            while waiting:
                here = waiting.pop()
                if expected[here] < 0:
                    expected[here] = found
                    waiting += beside[here]
            found += 1
    if blocked is None:  # a ring through a blocked face may part its neighbours or not
        assert body.tolist() == expected
        assert bodies == found
    assert (body < 0).nonzero()[:, 0].tolist() == out


def test_bodies_are_measured():
    mesh = join(sphere(0.3, 1), moved(box(), (2, 0, 0)), moved(tetrahedron(), (9, 0, 0)))
    vertices, faces = mesh[0].float(), mesh[1].int()
    corners = vertices[faces].reshape(-1, 9)
    body, bodies = label_bodies(match_edges(faces, len(vertices)).ring)
    largest, counts = measure_bodies(corners, body, bodies)
    assert counts.tolist() == [32, 12, 4]
    area, _ = measure_faces(vertices, faces, (0.0, 0.0, 0.0))
    for number in range(bodies):
        assert body[largest[number]] == number
        assert area[largest[number]] >= area[body == number].max() * (1 - 1e-6)


def test_areas_and_volumes():
    vertices, faces = box((0, 0, 0), (1, 2, 3))
    area, volume = measure_faces(vertices.float(), faces.int(), (5.0, -3.0, 0.5))
    assert float(area.sum()) == pytest.approx(22)
    assert float(volume.sum()) == pytest.approx(6)


# ---- normals


@pytest.mark.parametrize(
    "mesh",
    [tetrahedron(), box(), sphere(0.4, 3), torus(), unwelded(torus()), join(sphere(), moved(torus(), (2.0, 0, 0)))],
)
def test_sums_equal_the_twin(mesh):
    torch.testing.assert_close(normals_of(mesh).sums, reference.pseudonormals(*mesh), rtol=1e-5, atol=1e-5)


def unpacked(packed: Tensor) -> Tensor:
    """The directions [..., 3] that were packed, straight from the paper."""
    u = ((packed & 0xFFFF) ^ 0x8000) - 0x8000
    folded = torch.stack([u, packed >> 16], -1).double() / 32767
    height = 1 - folded.abs().sum(-1, keepdim=True)
    side = torch.where(folded < 0, -1.0, 1.0)
    flat = torch.where(height < 0, (1 - folded.abs().flip(-1)) * side, folded)
    return torch.nn.functional.normalize(torch.cat([flat, height], -1), dim=-1)


@pytest.mark.parametrize("turn", range(4))
def test_packed_directions_are_those_of_the_sums(turn):
    rotation = torch.linalg.qr(randn(3, 3, seed=turn, dtype=torch.float64))[0]
    vertices, faces = sphere(0.4, 4)
    normals = normals_of((vertices @ (rotation * torch.linalg.det(rotation)), faces))
    expected = torch.nn.functional.normalize(normals.sums[:, 1:].double(), dim=2)
    assert float((unpacked(normals.packed) - expected).norm(dim=2).max()) < 1e-4
    assert not normals.crossed.any()
    assert not normals.close.any()


def test_axes_are_packed_exactly():
    normals = normals_of(box((-1, -1, -1), (1, 1, 1)))
    expected = torch.nn.functional.normalize(normals.sums[:, 1:].double(), dim=2)
    torch.testing.assert_close(unpacked(normals.packed), expected, rtol=0, atol=5e-5)


def bipyramid(rim: Tensor, low: float = -3.0, high: float = 0.0) -> Mesh:
    """Two vertices above each other, joined by triangles to a closed path between them."""
    count = len(rim)
    vertices = torch.cat([rim, torch.tensor([[0.0, 0, high], [0, 0, low]]).double()])
    ahead = torch.arange(count).roll(-1)
    upper = torch.stack([torch.full((count,), count), torch.arange(count), ahead], 1)
    lower = torch.stack([torch.full((count,), count + 1), ahead, torch.arange(count)], 1)
    return vertices, torch.cat([upper, lower])


def wedges_meet(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> bool:
    """Whether the infinite wedges between a and b and between c and d have a ray in common, by linear programming."""
    columns = np.stack([a, b, -c, -d], 1)
    found = linprog(np.zeros(4), A_eq=np.concatenate([columns, [[1, 1, 0, 0]]]), b_eq=[0, 0, 0, 1], method="highs")
    return bool(found.status == 0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(4, 9), st.sampled_from([0.2, 1.0, 5.0]), st.booleans())
def test_faces_that_cross_at_a_vertex_are_found(seed, count, height, sorted_rim):
    """A path around the apex that crosses itself, as seen from there, or not."""
    rim = randn(count, 3, seed=seed, dtype=torch.float64)
    if sorted_rim:
        rim = rim[torch.atan2(rim[:, 1], rim[:, 0]).argsort()]
    rim[:, 2] = rim[:, 2] * height - 0.5
    vertices, faces = bipyramid(rim.float().double())
    crossed = normals_of((vertices, faces)).crossed
    arms = vertices[:count] - vertices[count]
    for i in range(count):
        for k in range(i + 2, count - (i == 0)):
            if wedges_meet(arms[i], arms[(i + 1) % count], arms[k], arms[(k + 1) % count]):
                assert crossed[i]
                assert crossed[k]


@pytest.mark.parametrize("sides", [3, 5, 12, 40])
@pytest.mark.parametrize("height", [-2.9, 0.0, 3.0, 100.0])
def test_faces_of_plain_fans_are_not(sides, height):
    """Seen from the apex: flat, blunt or a needle, from outside or from within."""
    angle = 2 * math.pi * torch.arange(sides, dtype=torch.float64) / sides
    rim = torch.stack([angle.cos(), angle.sin(), torch.zeros(sides).double()], 1)
    normals = normals_of(bipyramid(rim, high=height))
    assert not normals.crossed.any()


def test_a_path_that_goes_around_twice_crosses():
    angle = 4 * math.pi * (torch.arange(9, dtype=torch.float64)) / 9
    rim = torch.stack([angle.cos(), angle.sin(), 0.01 * torch.arange(9) - 1], 1)
    assert normals_of(bipyramid(rim, high=0.0)).crossed[:9].all()


def test_sharp_wedges_are_close():
    """At the tip of a needle, at the rim of a lens; not at a right angle."""
    angle = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    rim = torch.stack([angle.cos(), angle.sin(), torch.zeros(8).double()], 1)
    needle = normals_of(bipyramid(rim, low=-1, high=9)).close
    assert needle[:8].all()
    assert not needle[8:].any()
    assert normals_of(bipyramid(rim, low=-0.1, high=0.1)).close.all()
    assert not normals_of(box()).close.any()


def test_sheets_on_top_of_each_other_cross():
    vertices, faces = box((0, 0, 0), (1, 1, 0))
    normals = normals_of((vertices, faces))
    assert normals.crossed.all()


def test_bodies_that_meet_in_a_vertex_cross():
    mesh = join(box((0, 0, 0), (1, 1, 1)), box((1, 1, 1), (2, 2, 2)))
    corners = mesh[0][mesh[1]]
    at_corner = (corners == 1).all(2).any(1)
    assert torch.equal(normals_of(mesh).crossed.bool(), at_corner)


def test_threads_change_nothing():
    """More faces than one thread takes at once."""
    mesh = sphere(0.4, 5)
    faces = mesh[1].int()
    torch.set_num_threads(1)
    alone = normals_of(mesh), match_edges(faces, len(mesh[0]))
    torch.set_num_threads(3)
    together = normals_of(mesh), match_edges(faces, len(mesh[0]))
    assert torch.equal(alone[0].packed, together[0].packed)
    assert torch.equal(alone[0].sums, together[0].sums)
    assert torch.equal(alone[1].ring, together[1].ring)
    assert vars(alone[1]).keys() == vars(together[1]).keys()


# ---- errors

CORNERS = torch.zeros(2, 9)
INTS = torch.zeros(2, 3, dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: weld_corners(torch.zeros(2, 2)), ValueError, r"corners: expected shape \[N, 3\], got \[2, 2\]"),
        (lambda: weld_corners(torch.zeros(2, 3).double()), TypeError, "corners: expected dtype float32"),
        (lambda: weld_corners([[0.0, 0, 0]]), TypeError, "corners: expected a torch tensor, got list"),
        (lambda: weld_corners(torch.zeros(2, 3, device="meta")), ValueError, "corners: expected a tensor on cpu"),
        (lambda: match_edges(TRIANGLES, 3), ValueError, r"faces: expected indices in 0\.\.2, got 0\.\.3"),
        (lambda: match_edges(TRIANGLES - 1, 4), ValueError, r"faces: expected indices in 0\.\.3, got -1\.\.2"),
        (lambda: match_edges(TRIANGLES, 0), ValueError, "vertices: expected at least 1, got 0"),
        (lambda: match_edges(TRIANGLES.long(), 4), TypeError, "faces: expected dtype int32"),
        (lambda: match_edges(TRIANGLES[:, :2], 4), ValueError, r"faces: expected shape \[F, 3\]"),
        (
            lambda: match_edges(torch.zeros(1, 3, dtype=torch.int32).expand(MOST_FACES + 1, 3), 4),
            ValueError,
            "faces: expected at most 715827882 faces, got 715827883",
        ),
        (lambda: label_bodies(INTS.long()), TypeError, "ring: expected dtype int32"),
        (lambda: label_bodies(INTS, torch.zeros(3, dtype=torch.uint8)), ValueError, r"blocked: expected shape \[2\]"),
        (lambda: label_bodies(INTS, torch.zeros(2)), TypeError, "blocked: expected dtype uint8"),
        (lambda: measure_bodies(CORNERS[:, :8], INTS[:, 0], 1), ValueError, r"corners: expected shape \[F, 9\]"),
        (lambda: measure_bodies(CORNERS, INTS[:1, 0], 1), ValueError, r"body: expected shape \[2\]"),
        (
            lambda: measure_faces(CORNERS[:, :3].double(), INTS, (0, 0, 0)),
            TypeError,
            "vertices: expected dtype float32",
        ),
        (lambda: pseudonormals(CORNERS, INTS[:1], INTS, 1), ValueError, r"vertex: expected shape \[2, 3\]"),
        (lambda: pseudonormals(CORNERS, INTS, INTS.long(), 1), TypeError, "ring: expected dtype int32"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_no_faces():
    none = torch.zeros(0, 3, dtype=torch.int32)
    edges = match_edges(none, 1)
    assert (edges.edges, edges.is_closed) == (0, False)
    assert label_bodies(edges.ring)[1] == 0
    assert weld_corners(torch.zeros(0, 3))[1].shape == (0,)
    assert pseudonormals(torch.zeros(0, 9), none, none, 0).packed.shape == (0, 6)
