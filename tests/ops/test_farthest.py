"""Farthest point sampling against its twin, the plain body and its defining property."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit import ops
from pyimplicit.ops import reference
from pyimplicit.ops.farthest import AUTHORS_SKIP, _farthest_points_kernel
from tests.helpers import rand, sphere

DTYPES = [torch.float32, torch.float64]
# Sizes around a block of 64 points and around 1,024, from which on they are sorted; more to choose than there are.
SIZES = [(1, 3), (5, 9), (64, 64), (65, 20), (300, 200), (1023, 40), (1024, 40), (3000, 300)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("each", "count"), SIZES)
@pytest.mark.parametrize("skip", [None, AUTHORS_SKIP, 0.05, 10.0])
def test_equals_twin_and_plain_body(device, dtype, each, count, skip):
    points = rand(2, each, 3, low=-0.5, high=0.5, dtype=dtype).to(device)
    options = {"start": each // 2, "skip_squared_length": skip}
    chosen = ops.farthest_points(points, count, **options)
    assert chosen.dtype == torch.int64
    assert torch.equal(chosen, reference.farthest_points(points, count, **options))
    plain = _farthest_points_kernel(points, count, each // 2, -1.0 if skip is None else skip, plain=True)
    assert torch.equal(chosen, plain)


@pytest.mark.parametrize("each", [200, 4000])
def test_ties_go_to_the_lowest_index(device, each):
    """Points on a lattice: many are equally far, many coincide."""
    points = rand(2, each, 3, low=-0.5, high=0.5).mul(8).round().div(8).to(device)
    chosen = ops.farthest_points(points, 300)
    assert torch.equal(chosen, reference.farthest_points(points, 300))


@pytest.mark.parametrize("each", [400, 3000])
def test_each_point_is_the_farthest_from_those_before(device, each):
    points = rand(1, each, 3, seed=3).double().to(device)
    chosen = ops.farthest_points(points, 100)[0]
    distance = torch.cdist(points[0], points[0, chosen], compute_mode="donot_use_mm_for_euclid_dist")
    for j in range(1, 100):
        to_chosen = distance[:, :j].amin(1)
        assert float(to_chosen[chosen[j]]) >= float(to_chosen.max()) * (1 - 1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 1000), st.booleans())
def test_all_different_before_any_is_repeated(each, count, seed, doubled):
    points = rand(1, each, 3, seed=seed)
    cloud = torch.cat([points, points], 1) if doubled else points
    chosen = ops.farthest_points(cloud, count)[0]
    fresh = min(count, each)
    assert chosen[:fresh].remainder(each).unique().numel() == fresh
    assert (chosen[fresh:] == 0).all()


@pytest.mark.parametrize("each", [40, 2000])
def test_skip_around_the_origin(device, each):
    points = rand(1, each, 3, low=-0.2, high=0.2).to(device)
    near = (points[0].square().sum(1) <= 0.01).nonzero()[:, 0]
    assert len(near) > 0
    start = int(near[0])
    chosen = ops.farthest_points(points, each, start=start, skip_squared_length=0.01)[0]
    assert int(chosen[0]) == start  # the start may lie in the hole
    assert not torch.isin(chosen[1:], near).any()
    all_skipped = ops.farthest_points(points, 4, start=start, skip_squared_length=1.0)
    assert all_skipped.tolist() == [[start] * 4]


@pytest.mark.parametrize("each", [300, 5000])
def test_huge_and_tiny_clouds(device, each):
    """Squared distances that overflow or vanish compare as the twin's do."""
    for scale in (1e25, 1e-30):
        points = rand(2, each, 3, low=-scale, high=scale).to(device)
        assert torch.equal(ops.farthest_points(points, 20), reference.farthest_points(points, 20))


def test_a_sphere_is_covered_evenly():
    vertices = sphere(0.4, 4)[0][None]
    chosen = vertices[0, ops.farthest_points(vertices, 100)[0]]
    gap = torch.cdist(vertices[0], chosen).amin(1).max()
    apart = torch.cdist(chosen, chosen).fill_diagonal_(1).min()
    assert float(gap) <= float(apart) * (1 + 1e-12)


def test_strides_and_no_clouds(device):
    points = rand(3, 500, 2).to(device).permute(2, 1, 0)
    assert torch.equal(ops.farthest_points(points, 9), ops.farthest_points(points.contiguous(), 9))
    assert ops.farthest_points(points[:0], 9).shape == (0, 9)


POINTS = torch.zeros(1, 2, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.farthest_points(POINTS[0], 1), ValueError, r"points: expected shape \[B, N, 3\]"),
        (lambda: ops.farthest_points(POINTS[:, :0], 1), ValueError, "points: expected at least one point"),
        (lambda: ops.farthest_points(POINTS.half(), 1), TypeError, "points: expected dtype float32 or float64"),
        (lambda: ops.farthest_points(POINTS * math.nan, 1), ValueError, "points: expected finite"),
        (lambda: ops.farthest_points(POINTS, 0), ValueError, "count: expected at least 1"),
        (lambda: ops.farthest_points(POINTS, 1.0), TypeError, "count: expected a whole number"),
        (lambda: ops.farthest_points(POINTS, 1, start=2), ValueError, "start: expected an index in 0..1, got 2"),
        (lambda: ops.farthest_points(POINTS, 1, start=-1), ValueError, "start: expected at least 0"),
        (lambda: ops.farthest_points(POINTS, 1, skip_squared_length=-1), ValueError, "skip_squared_length"),
        (lambda: ops.farthest_points(POINTS, 1, skip_squared_length="a"), TypeError, "skip_squared_length"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
