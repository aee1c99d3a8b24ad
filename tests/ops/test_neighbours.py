"""Nearest neighbours against their twin, the plain body and a KD-tree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pyimplicit import ops
from pyimplicit.ops import reference
from pyimplicit.ops.neighbours import _nearest_neighbours_kernel
from tests.helpers import rand

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("each", "count"), [(1, 1), (7, 7), (64, 10), (65, 65), (300, 16), (1500, 16), (1500, 70)])
def test_equals_twin_and_plain_body(device, dtype, each, count):
    cloud = rand(2, each, 3, low=-0.5, high=0.5, dtype=dtype).to(device)
    queries = rand(2, 150, 3, seed=1, low=-0.7, high=0.7, dtype=dtype).to(device)
    queries[:, : min(each, 50)] = cloud[:, :50]
    index = ops.nearest_neighbours(queries, cloud, count)
    assert index.dtype == torch.int64
    assert torch.equal(index, reference.nearest_neighbours(queries, cloud, count))
    assert torch.equal(index, _nearest_neighbours_kernel(queries, cloud, count, plain=True))


@pytest.mark.parametrize("each", [300, 2000])
def test_ties_go_to_the_lowest_index(device, each):
    """Points on a lattice: many are equally near, many coincide."""
    cloud = rand(2, each, 3, low=-0.5, high=0.5).mul(8).round().div(8).to(device)
    index = ops.nearest_neighbours(cloud, cloud, 20)
    assert torch.equal(index, reference.nearest_neighbours(cloud, cloud, 20))


@pytest.mark.parametrize(("each", "queries"), [(500, 5000), (20_000, 3000)])
def test_equals_tree(device, each, queries):
    cloud, points = rand(1, each, 3, dtype=torch.float64), rand(1, queries, 3, seed=1, dtype=torch.float64)
    _, expected = cKDTree(cloud[0].numpy()).query(points[0].numpy(), 8)
    for dtype in DTYPES:
        index = ops.nearest_neighbours(points.to(device, dtype), cloud.to(device, dtype), 8)[0].cpu().numpy()
        wrong = np.mean((index != expected).any(1))
        assert wrong <= (0 if dtype == torch.float64 else 2e-3)  # float32 moves points by half a unit


@pytest.mark.parametrize("each", [300, 3000])
def test_huge_and_tiny_clouds(device, each):
    """Squared distances that overflow or vanish compare as the twin's do."""
    for scale in (1e25, 1e-30):
        cloud = rand(2, each, 3, low=-scale, high=scale).to(device)
        index = ops.nearest_neighbours(cloud[:, :50], cloud, 5)
        assert torch.equal(index, reference.nearest_neighbours(cloud[:, :50], cloud, 5))


def test_strides_and_nothing(device):
    cloud = rand(3, 500, 2).to(device).permute(2, 1, 0)
    index = ops.nearest_neighbours(cloud, cloud, 3)
    assert torch.equal(index, ops.nearest_neighbours(cloud.contiguous(), cloud.contiguous(), 3))
    assert ops.nearest_neighbours(cloud[:0], cloud[:0], 3).shape == (0, 500, 3)
    assert ops.nearest_neighbours(cloud[:, :0], cloud, 3).shape == (2, 0, 3)


QUERIES, CLOUD = torch.zeros(2, 4, 3), torch.zeros(2, 5, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.nearest_neighbours(QUERIES[0], CLOUD, 1), ValueError, r"queries: expected shape \[B, M, 3\]"),
        (lambda: ops.nearest_neighbours(QUERIES, CLOUD[:1], 1), ValueError, r"cloud: expected shape \[2, N, 3\]"),
        (lambda: ops.nearest_neighbours(QUERIES, CLOUD.double(), 1), TypeError, "cloud: expected dtype float32"),
        (lambda: ops.nearest_neighbours(QUERIES.int(), CLOUD, 1), TypeError, "queries: expected dtype"),
        (lambda: ops.nearest_neighbours(QUERIES, CLOUD.to("meta"), 1), ValueError, "cloud: expected a tensor on cpu"),
        (lambda: ops.nearest_neighbours(QUERIES * math.nan, CLOUD, 1), ValueError, "queries: expected finite"),
        (lambda: ops.nearest_neighbours(QUERIES, CLOUD + math.inf, 1), ValueError, "cloud: expected finite"),
        (lambda: ops.nearest_neighbours(QUERIES, CLOUD, 6), ValueError, "count: expected at most 5"),
        (lambda: ops.nearest_neighbours(QUERIES, CLOUD, 0), ValueError, "count: expected at least 1"),
        (lambda: ops.nearest_neighbours(QUERIES, CLOUD, 1.5), TypeError, "count: expected a whole number"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
