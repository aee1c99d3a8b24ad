"""Which faces cross or nearly touch, against linear programming over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from pyimplicit.ops.overlap import find_overlap, winding_at_faces
from pyimplicit.ops.topology import weld_corners
from tests.geometry.bodies import flipped, heap, knot, sliver_box
from tests.helpers import Mesh, box, bvh_of, join, moved, randn, soup, sphere, torus


def overlap(mesh: Mesh, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, bool]:
    """Flags by face, and whether they are complete."""
    bvh = bvh_of(mesh)
    vertex = weld_corners(bvh.triangles.reshape(-1, 3))[0].reshape(-1, 3)
    count = len(vertex)
    flags = torch.zeros(2, count, dtype=torch.uint8, device=device)
    complete = find_overlap(bvh.to(device), vertex.to(device), *flags)
    by_face = torch.zeros(2, count, dtype=torch.bool)
    by_face[:, bvh.triangle_face.long()] = flags.cpu().bool()
    return by_face[0], by_face[1], complete


def meet(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two triangles have a point in common, by linear programming."""
    columns = np.concatenate([one.T, -other.T], 1)
    sums = np.kron(np.eye(2), np.ones(3))
    found = linprog(np.zeros(6), A_eq=np.concatenate([columns, sums]), b_eq=[0, 0, 0, 1, 1], method="highs")
    return bool(found.status == 0)


def crossed_by_all_pairs(mesh: Mesh) -> Tensor:
    """Faces that meet another one with which they have no corner in common."""
    corners = mesh[0].float().double()[mesh[1]]
    low, high = corners.amin(1), corners.amax(1)
    near = ((low[:, None] <= high[None]) & (high[:, None] >= low[None])).all(2)
    shared = (corners[:, None, :, None] == corners[None, :, None, :]).all(4).any(3).any(2)
    crossed = torch.zeros(len(corners), dtype=torch.bool)
    for i, k in (near & ~shared).nonzero().tolist():
        if i < k and not (crossed[i] and crossed[k]) and meet(corners[i].numpy(), corners[k].numpy()):
            crossed[i] = crossed[k] = True
    return crossed


@pytest.mark.parametrize(
    "mesh",
    [
        soup(60, seed=1, size=0.1),
        soup(60, seed=2, size=0.03),
        knot(0.2, 40, 6),
        heap(6),
        join(torus(), moved(box(), (0.31, 0.017, 0.023))),
    ],
    ids=["soup", "sparse soup", "knot", "heap", "torus and box"],
)
def test_crossed_faces_against_all_pairs(device, mesh):
    crossed, _, complete = overlap(mesh, device)
    assert complete
    assert torch.equal(crossed, crossed_by_all_pairs(mesh))


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 100_000), st.integers(2, 5), st.integers(2, 6))
def test_triangles_on_a_coarse_grid(seed, count, steps):
    """Many of them touch, lie in one plane, or have no area; none that meets another one is missed."""
    vertices = torch.randint(-steps, steps + 1, (3 * count, 3), generator=torch.Generator().manual_seed(seed)).double()
    mesh = vertices, torch.arange(3 * count).reshape(count, 3)
    crossed, _, complete = overlap(mesh)
    assert complete
    corners = vertices[mesh[1]]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    has_area = normals.norm(dim=1) > 0
    expected = crossed_by_all_pairs(mesh)
    assert bool((crossed | ~expected).all())
    if bool(has_area.all()):  # where one has none, no plane may be found that parts it from its neighbour
        assert torch.equal(crossed, expected)


@pytest.mark.parametrize("mesh", [sphere(0.4, 4), torus(), box(), sliver_box(), knot(0.1)])
def test_nothing_is_found_on_simple_bodies(device, mesh):
    crossed, close, complete = overlap(mesh, device)
    assert complete
    assert not crossed.any()
    assert not close.any()


@pytest.mark.parametrize(("gap", "is_close"), [(1e-5, False), (1e-6, True), (1e-7, True)])
def test_plates_that_nearly_touch_are_close(device, gap, is_close):
    """Facing each other, or back to back; in units of the largest coordinate, and anywhere in space."""
    for by in (0.0, 100.0):
        plate = box((-1, -1, -0.5), (1, 1, -0.5 * gap)), box((-0.5, -1, 0.5 * gap), (1, 1, 0.5))
        crossed, close, complete = overlap(moved(join(*plate), (by, 0, 0)), device)
        assert complete
        assert not crossed.any()
        assert bool(close.any()) == is_close
        assert int(close.sum()) == (4 if is_close else 0)


def test_side_by_side_is_not_close():
    """Two squares in one plane, both facing upwards."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1 + 1e-6, 0, 0], [2, 0, 0], [1 + 1e-6, 1, 0]]).double()
    crossed, close, _ = overlap((vertices, torch.arange(6).reshape(2, 3)))
    assert not crossed.any()
    assert not close.any()


def test_touching_is_crossing():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.25, 0.25, 0], [2, 0, 1], [0, 2, 1]]).double()
    crossed, _, _ = overlap((vertices, torch.arange(6).reshape(2, 3)))
    assert crossed.all()


def test_too_much_to_look_at_is_given_up():
    """Thousands of triangles across each other, none of them with a corner of another one."""
    assert not overlap(soup(4000, size=1.0))[2]


def test_threads_change_nothing():
    mesh = heap(40, times=2)
    torch.set_num_threads(1)
    alone = overlap(mesh)
    torch.set_num_threads(3)
    together = overlap(mesh)
    assert alone[2]
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1])


def test_winding_numbers_at_faces(device):
    """Halfway between the two sides: of a body, within another, of a cavity, inside out."""
    for mesh, expected in (
        (sphere(0.4, 3), {0.5}),
        (join(sphere(0.4, 3), sphere(0.2, 3)), {0.5, 1.5}),
        (join(sphere(0.4, 3), flipped(sphere(0.2, 3))), {0.5}),
        (flipped(torus()), {-0.5}),
    ):
        slots = torch.arange(len(mesh[1]), dtype=torch.int32, device=device)
        found = winding_at_faces(bvh_of(mesh, device), slots).cpu()
        nearest = (found - 0.5).round() + 0.5
        assert float((found - nearest).abs().max()) < 0.05
        assert set(nearest.tolist()) == expected


BVH = bvh_of(box())
VERTEX = torch.zeros(12, 3, dtype=torch.int32)
FLAGS = torch.zeros(12, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: find_overlap(BVH, VERTEX[:3], FLAGS, FLAGS), ValueError, r"vertex: expected shape \[12, 3\]"),
        (lambda: find_overlap(BVH, VERTEX.long(), FLAGS, FLAGS), TypeError, "vertex: expected dtype int32"),
        (lambda: find_overlap(BVH, VERTEX, FLAGS[:3], FLAGS), ValueError, r"crossed: expected shape \[12\]"),
        (lambda: find_overlap(BVH, VERTEX, FLAGS, FLAGS.bool()), TypeError, "close: expected dtype uint8"),
        (lambda: find_overlap(BVH, VERTEX, FLAGS, torch.zeros(24, dtype=torch.uint8)[::2]), ValueError, "contiguous"),
        (lambda: winding_at_faces(BVH, VERTEX), ValueError, r"slots: expected shape \[N\]"),
        (lambda: winding_at_faces(BVH, FLAGS), TypeError, "slots: expected dtype int32"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_no_slots():
    assert winding_at_faces(BVH, torch.zeros(0, dtype=torch.int32)).shape == (0,)


def test_random_pairs_on_every_side():
    """Pairs of triangles far from and near each other, at any angle."""
    missed = 0
    for seed in range(200):
        corners = randn(6, 3, seed=seed, dtype=torch.float64)
        corners[3:] += 1.5 * randn(1, 3, seed=seed + 1000, dtype=torch.float64)
        mesh = corners, torch.arange(6).reshape(2, 3)
        missed += int(not torch.equal(overlap(mesh)[0], crossed_by_all_pairs(mesh)))
    assert missed == 0
