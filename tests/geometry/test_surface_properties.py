"""What holds for every surface and every point."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import reference
from tests import helpers
from tests.geometry.bodies import flipped
from tests.geometry.surface_queries import ANY_MESH, QUERIES, tolerance
from tests.helpers import around, box, diagonal, join, moved, rand, randn, rounded, soup, sphere, tetrahedron, torus

POINTS = around(box(), 60)


# ---- what holds for every surface


def spun(mesh: helpers.Mesh, seed: int) -> tuple[helpers.Mesh, Tensor]:
    """The mesh turned at random, and the turn."""
    turn = torch.linalg.qr(randn(3, 3, seed=seed, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn).sign()
    return (mesh[0] @ turn, mesh[1]), turn


KINDS: dict[str, Callable[[int], helpers.Mesh]] = {
    "tetrahedron": lambda seed: tetrahedron(),
    "box": lambda seed: box(),
    "sphere": lambda seed: sphere(0.4, 1 + seed % 2),
    "torus": lambda seed: torus(rings=5 + seed % 9, sides=3 + seed % 5),
    "star": lambda seed: (
        sphere(0.4, 2)[0] * rand(66, 1, seed=seed, low=0.4, high=1, dtype=torch.float64),
        sphere(0.4, 2)[1],
    ),
    "crossing itself": lambda seed: (
        sphere(0.4, 1)[0] + 0.2 * randn(18, 3, seed=seed, dtype=torch.float64),
        sphere(0.4, 1)[1],
    ),
}


@st.composite
def closed_bodies(draw: st.DrawFn) -> helpers.Mesh:
    """One to three bodies of all kinds, stretched, turned and moved; some inside others, inside out or crossing."""
    parts = []
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        seed = draw(st.integers(0, 10_000))
        vertices, faces = KINDS[draw(st.sampled_from(sorted(KINDS)))](seed)
        scale = torch.tensor(draw(st.tuples(*[st.sampled_from([0.05, 0.5, 1.0, 2.0])] * 3)), dtype=torch.float64)
        part, _ = spun((vertices * scale, faces), seed)
        parts.append(moved(part, draw(st.sampled_from([(0.0, 0.0, 0.0), (0.2, -0.1, 0.1), (0.7, 0.5, -0.4)]))))
        if draw(st.integers(0, 5)) == 0:
            parts[-1] = flipped(parts[-1])
    return rounded(join(*parts))


@st.composite
def any_mesh(draw: st.DrawFn) -> helpers.Mesh:
    """Closed bodies, some with holes, and soups."""
    if draw(st.booleans()):
        return rounded(soup(draw(st.integers(1, 60)), draw(st.integers(0, 10_000)), draw(st.sampled_from([0.01, 0.3]))))
    vertices, faces = draw(closed_bodies())
    return vertices, faces[draw(st.sampled_from([0, 0, 1, 3])) :]


seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=40)
@given(mesh=any_mesh(), seed=seeds)
def test_distance_changes_no_faster_than_the_point(mesh, seed):
    """|d(p) - d(q)| <= |p - q|, for near and far pairs."""
    surface, p = Surface(*mesh), around(mesh, 300, seed=seed)
    steps = diagonal(mesh) * torch.tensor([1e-5, 1e-3, 0.1, 1.0])[torch.arange(300) % 4, None]
    q = p + steps * randn(300, 3, seed=seed + 1)
    apart = (p.double() - q.double()).norm(dim=1)
    change = (surface.unsigned_distance(p).double() - surface.unsigned_distance(q).double()).abs()
    assert bool((change <= apart + tolerance(mesh, p) + tolerance(mesh, q)).all())


@settings(deadline=None, max_examples=30)
@given(mesh=closed_bodies(), seed=seeds)
def test_signed_distance_changes_no_faster_than_the_point(mesh, seed):
    """Across the surface too, where it passes 0; where bodies cross, its magnitude does while the sign stays."""
    surface, p = Surface(*mesh), around(mesh, 300, seed=seed)
    q = p + 0.01 * diagonal(mesh) * randn(300, 3, seed=seed + 1)
    apart = (p.double() - q.double()).norm(dim=1)
    for sign in ("auto", "winding"):
        one, other = (surface.signed_distance(points, sign).double() for points in (p, q))
        change = torch.where(one.sign() == other.sign(), (one.abs() - other.abs()).abs(), one.abs() + other.abs())
        assert bool((change <= apart + tolerance(mesh, p) + tolerance(mesh, q)).all())


@settings(deadline=None, max_examples=40)
@given(mesh=any_mesh(), seed=seeds)
def test_no_point_of_the_surface_is_nearer_than_the_closest(mesh, seed):
    """d(q) <= |q - c(p)| for all p and q, and the closest point of a closest point is itself."""
    surface, p = Surface(*mesh), around(mesh, 100, seed=seed, dtype=torch.float64)
    hit = surface.closest_point(p)
    off = 3e-6 * diagonal(mesh)
    assert bool((hit.distance[:, None] <= torch.cdist(p, hit.point) + off).all())
    corners = torch.cdist(p, mesh[0][mesh[1].unique()])
    assert bool((hit.distance[:, None] <= corners + off).all())
    assert float(surface.unsigned_distance(hit.point).max()) <= off


@settings(deadline=None, max_examples=30)
@given(mesh=any_mesh(), seed=seeds, away=st.sampled_from([0.0, 1.0, 100.0]))
def test_turning_and_moving_everything_changes_nothing(mesh, seed, away):
    points = around(mesh, 300, seed=seed, dtype=torch.float64)
    (vertices, faces), turn = spun(mesh, seed)
    shift = away * diagonal(mesh) * randn(3, seed=seed, dtype=torch.float64)
    one, other = Surface(*mesh), Surface(vertices + shift, faces)
    there = points @ turn + shift
    off = 2e-6 * diagonal(mesh)
    distance = one.unsigned_distance(points)
    assert float((other.unsigned_distance(there) - distance).abs().max()) <= off
    back = (other.closest_point(there).point - shift) @ turn.T
    assert float(((back - points).norm(dim=1) - distance).abs().max()) <= 2 * off
    winding = one.winding_number(points)
    clear = (distance > off) & ((winding - 0.5).abs() > 0.03)
    assert torch.equal(
        (other.signed_distance(there, "winding") < 0)[clear], (one.signed_distance(points, "winding") < 0)[clear]
    )


@settings(deadline=None, max_examples=60)
@given(mesh=closed_bodies(), seed=seeds, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_signs_are_those_of_the_winding_number(mesh, seed, dtype):
    """Also where a single body crosses itself, and its normals say nothing of inside and outside."""
    surface, points = Surface(*mesh), around(mesh, 300, seed=seed, dtype=dtype)
    clear = reference.unsigned_distance(points.double(), *mesh) > 1e-6 * diagonal(mesh)
    inside = reference.winding_number(points.double(), *mesh) > 0.5
    for sign in ("auto", "winding"):
        assert torch.equal((surface.signed_distance(points, sign) < 0)[clear], inside[clear]), sign
        assert torch.equal(surface.contains(points, sign)[clear], inside[clear]), sign


# ---- an answer depends on its point alone, bit by bit


MANY = {
    "torus": torus(rings=40, sides=20),
    "bodies": join(sphere(0.3, 2), moved(torus(), (0.1, 0.0, 0.1)), box()),
    "open": (sphere(0.4, 4)[0], sphere(0.4, 4)[1][7:]),
    "soup": soup(700, size=0.05),
}


@pytest.fixture(params=MANY)
def many(request: pytest.FixtureRequest) -> tuple[Surface, Tensor]:
    mesh = rounded(MANY[request.param])
    return Surface(*mesh), around(mesh, 6000)


def queries_of(surface: Surface) -> dict[str, Callable[[Surface, Any], Any]]:
    closed = surface.sign_method == "pseudonormal"
    return {name: QUERIES[name] for name in QUERIES if closed or name in ANY_MESH}


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_do_not_depend_on_the_other_points(many, dtype, threads):
    """Any part of a batch in any order, on any number of threads, gets the bits that the whole gets on one thread."""
    surface, points = many[0], many[1].to(dtype)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(3))
    parts = {
        "all again": torch.arange(6000),
        "shuffled": order,
        "backwards": torch.arange(6000).flip(0),
        "a third": torch.arange(0, 6000, 3),
        "two thousand": order[:2000],
        "a few": order[:19],
    }
    for name, query in queries_of(surface).items():
        torch.set_num_threads(1)
        whole = query(surface, points)
        torch.set_num_threads(threads)
        for part, chosen in parts.items():
            assert torch.equal(query(surface, points[chosen]), whole[chosen]), f"{name}, {part}"
        for i in range(0, 6000, 600):
            assert torch.equal(query(surface, points[i : i + 1]), whole[i : i + 1]), f"{name}, point {i}"


@settings(deadline=None, max_examples=25)
@given(mesh=any_mesh(), seed=seeds, count=st.sampled_from([2, 9, 100, 700]), threads=st.sampled_from([1, 2, 16]))
def test_any_part_of_any_batch(mesh, seed, count, threads):
    surface, points = Surface(*mesh), around(mesh, count, seed=seed)
    chosen = torch.randint(count, (count // 2,), generator=torch.Generator().manual_seed(seed))
    for name, query in queries_of(surface).items():
        torch.set_num_threads(1)
        whole = query(surface, points)
        torch.set_num_threads(threads)
        assert torch.equal(query(surface, points[chosen]), whole[chosen]), name


def test_results_do_not_depend_on_what_was_asked_before(many):
    """Nor on what a surface may have prepared for the many points it was asked about."""
    surface, points = many
    fresh = {name: query(surface, points[:500]) for name, query in queries_of(surface).items()}
    bounds = surface.mesh.bounds
    crowd = bounds[0] + (bounds[1] - bounds[0]) * rand(150_000, 3)
    surface.unsigned_distance(crowd)
    surface.signed_distance(crowd[:50_000])
    for name, query in queries_of(surface).items():
        assert torch.equal(query(surface, points[:500]), fresh[name]), name


def test_several_python_threads_may_ask_at_once(many):
    """Whatever a surface makes at its first query, it makes safely."""
    other, points = many
    expected = {name: query(other, points) for name, query in queries_of(other).items()}
    for _ in range(3):
        surface = Surface(other.mesh)
        with ThreadPoolExecutor(4) as pool:
            jobs = {name: pool.submit(query, surface, points) for name, query in queries_of(other).items()}
            for name, job in jobs.items():
                assert torch.equal(job.result(), expected[name]), name


def test_copies_answer_alike(many):
    surface, points = many
    for other in (copy.copy(surface), copy.deepcopy(surface), pickle.loads(pickle.dumps(surface)), surface.to("cpu")):
        for name, query in queries_of(surface).items():
            assert torch.equal(query(other, points[:500]), query(surface, points[:500])), name


def test_a_surface_outlives_its_mesh_and_its_arrays():
    vertices, faces = (array.clone() for array in torus())
    surface = Surface(Mesh(vertices, faces))
    expected = Surface(*torus()).signed_distance(POINTS)
    vertices.fill_(math.nan)
    faces.fill_(-1)
    del vertices, faces
    assert torch.equal(surface.signed_distance(POINTS), expected)
