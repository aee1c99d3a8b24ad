"""Scatters of features to cells against their twins, loops and properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit import ops
from pyimplicit.ops import reference
from pyimplicit.ops._scatter_operators import group_by_sorting
from tests.helpers import rand, randn

DTYPES = [torch.float32, torch.float64]
OPERATORS = ["scatter_mean", "scatter_max", "pool_local"]


def random_cells(*shape: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


def first_of(result):
    return result[0] if isinstance(result, tuple) else result


# ---- against the twins


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 8, 32, 40, 64])
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("shape", "count"), [((2, 200), 50), ((3, 2, 200), 700), ((1, 1, 1), 1)])
def test_equals_twin(device, dtype, channels, name, shape, count):
    groups = ops.build_cell_groups(random_cells(*shape, count=count).to(device), count)
    features = randn(shape[-2], shape[-1], channels, dtype=dtype).mul(3).round().to(device)  # rounded: many ties
    mine, theirs = (getattr(where, name)(features, groups) for where in (ops, reference))
    for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (mine, theirs)), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("threads", [1, 3])
def test_few_clouds_for_many_threads(device, threads):
    """Channels are then shared out in smaller blocks; the answer stays the same to the last bit."""
    torch.set_num_threads(threads)
    groups = ops.build_cell_groups(random_cells(2, 1, 300, count=90).to(device), 90)
    features = randn(1, 300, 32).to(device)
    torch.testing.assert_close(ops.pool_local(features, groups), reference.pool_local(features, groups))


@pytest.mark.parametrize("several", [False, True])
def test_channels_first(device, several):
    cells = random_cells(*((3, 2, 100) if several else (2, 100)), count=600).to(device)
    groups, features = ops.build_cell_groups(cells, 600), randn(2, 100, 5).to(device).requires_grad_()
    last, first = ops.scatter_mean(features, groups), ops.scatter_mean(features, groups, channels_first=True)
    assert torch.equal(first, last.transpose(-1, -2))
    upstream = randn(*first.shape).to(device)
    (from_first,) = torch.autograd.grad(first, features, upstream)
    (from_last,) = torch.autograd.grad(last, features, upstream.transpose(-1, -2))
    assert torch.equal(from_first, from_last)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 30), st.integers(1, 9), st.integers(0, 1000))
def test_values_and_gradients_against_loops(partitions, batch, count, cell_count, seed):
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(cell_count, (partitions, batch, count), generator=generator)
    features = torch.randint(-4, 4, (batch, count, 2), generator=generator).double()  # integers: many ties
    upstream = torch.randn(batch, count, 2, generator=generator, dtype=torch.float64)
    above = torch.randn(partitions, batch, cell_count, 2, generator=generator, dtype=torch.float64)
    own_max, gradient = torch.zeros_like(features), torch.zeros_like(features)
    max_gradient, mean_gradient = torch.zeros_like(features), torch.zeros_like(features)
    means, maxima = torch.zeros_like(above), torch.zeros_like(above)
    points = torch.full(above.shape, -1)
    for k in range(partitions):
        for b in range(batch):
            for cell in set(cells[k, b].tolist()):
                members = (cells[k, b] == cell).nonzero()[:, 0]
                means[k, b, cell] = features[b, members].mean(0)
                mean_gradient[b, members] += above[k, b, cell] / len(members)
                for channel in range(2):
                    best = max(members.tolist(), key=lambda i: features[b, i, channel].item())
                    maxima[k, b, cell, channel], points[k, b, cell, channel] = features[b, best, channel], best
                    own_max[b, members, channel] += features[b, best, channel]
                    gradient[b, best, channel] += upstream[b, members, channel].sum()
                    max_gradient[b, best, channel] += above[k, b, cell, channel]
    groups, leaf = ops.build_cell_groups(cells, cell_count), features.requires_grad_()
    pooled, mean, (value, point) = (getattr(ops, name)(leaf, groups) for name in ("pool_local", *OPERATORS[:2]))
    torch.testing.assert_close(pooled, own_max)
    torch.testing.assert_close(mean, means)
    assert torch.equal(value, maxima)
    assert torch.equal(point, points)
    torch.testing.assert_close(torch.autograd.grad(pooled, leaf, upstream)[0], gradient)
    torch.testing.assert_close(torch.autograd.grad(mean, leaf, above)[0], mean_gradient)
    torch.testing.assert_close(torch.autograd.grad(value, leaf, above)[0], max_gradient)


@pytest.mark.parametrize("channels", [1, 5, 8, 32])
@pytest.mark.parametrize("name", OPERATORS)
def test_gradcheck(device, name, channels):
    groups = ops.build_cell_groups(random_cells(2, 2, 12, count=6).to(device), 6)
    features = randn(2, 12, channels, dtype=torch.float64).to(device).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: first_of(getattr(ops, name)(f, groups)), (features,))


def test_gradient_of_a_concatenation(device):
    """The gradient then comes as a part of a wider tensor."""
    groups = ops.build_cell_groups(random_cells(3, 2, 60, count=20).to(device), 20)
    features = randn(2, 60, 32).to(device).requires_grad_()
    upstream = randn(2, 60, 64, seed=1).to(device)
    (joined,) = torch.autograd.grad(torch.cat([features, ops.pool_local(features, groups)], 2), features, upstream)
    (alone,) = torch.autograd.grad(ops.pool_local(features, groups), features, upstream[..., 32:].contiguous())
    torch.testing.assert_close(joined, alone + upstream[..., :32])
    (turned,) = torch.autograd.grad(ops.pool_local(features, groups), features, upstream[..., 32:].mT.contiguous().mT)
    assert torch.equal(turned, alone)


def test_second_derivatives_are_refused():
    groups = ops.build_cell_groups(torch.zeros(1, 4, dtype=torch.int64), 2)
    features = randn(1, 4, 3).requires_grad_()
    for name in OPERATORS:
        result = first_of(getattr(ops, name)(features, groups))
        (slope,) = torch.autograd.grad(result.square().sum(), features, create_graph=True)
        with pytest.raises(NotImplementedError, match=f"pyimplicit::{name} cannot be differentiated a second time"):
            slope.sum().backward()


# ---- properties


def test_duplicates_give_the_gradient_to_the_first(device):
    features = torch.tensor([[[2.0], [7.0], [7.0], [7.0]]], device=device, requires_grad=True)
    groups = ops.build_cell_groups(torch.tensor([[1, 1, 1, 1]], device=device), 3)
    ops.pool_local(features, groups).sum().backward()
    assert features.grad.flatten().tolist() == [0, 4, 0, 0]
    assert ops.scatter_max(features, groups)[1].flatten().tolist() == [-1, 1, -1]


def test_groups_keep_the_order_of_the_cloud(device):
    cells = random_cells(3, 2, 500, count=40).to(device)
    groups = ops.build_cell_groups(cells, 40)
    assert torch.equal(groups.order.long(), cells.sort(dim=2, stable=True).indices)
    for k in range(3):
        for b in range(2):
            assert torch.equal(groups.start[k, b].diff().long(), cells[k, b].bincount(minlength=40))


@pytest.mark.parametrize("shape", [(3, 2, 500), (1, 1, 1), (2, 2, 0), (0, 2, 3)])
def test_groups_by_sorting_are_the_same(shape):
    """What a GPU does, on any device."""
    cells = random_cells(*shape, count=40).int()
    groups = ops.build_cell_groups(cells, 40)
    order, start = group_by_sorting(cells, 40)
    assert order.dtype == start.dtype == torch.int32
    assert torch.equal(order, groups.order)
    assert torch.equal(start, groups.start)


def test_negative_maxima_are_not_empty_cells(device):
    groups = ops.build_cell_groups(torch.tensor([[0, 0, 2]], device=device), 3)
    values, _ = ops.scatter_max(torch.tensor([[[-3.0], [-2.0], [-math.inf]]], device=device), groups)
    assert values.flatten().tolist() == [-2, 0, -math.inf]


def test_nan_stays_visible_in_its_cell(device):
    groups = ops.build_cell_groups(torch.tensor([[0, 0, 0, 1]], device=device), 2)
    features = torch.tensor([[[1.0], [math.nan], [5.0], [4.0]]], device=device)
    values, points = ops.scatter_max(features, groups)
    assert values.isnan().flatten().tolist() == [True, False]
    assert points.flatten().tolist() == [1, 3]
    assert ops.pool_local(features, groups).isnan().flatten().tolist() == [True, True, True, False]
    assert ops.scatter_mean(features, groups).isnan().flatten().tolist() == [True, False]


@pytest.mark.parametrize("shape", [(2, 0), (0, 5), (0, 2, 5), (2, 1, 0)])
def test_nothing_to_scatter(device, shape):
    groups = ops.build_cell_groups(torch.zeros(shape, dtype=torch.int64, device=device), 4)
    features = torch.zeros(*shape[-2:], 3, device=device, requires_grad=True)
    for name in OPERATORS:
        result = first_of(getattr(ops, name)(features, groups))
        assert not result.any()
        assert torch.autograd.grad(result.sum(), features)[0].shape == features.shape
    assert ops.scatter_mean(features, groups).shape == (*shape[:-1], 4, 3)


def test_any_strides(device):
    cells = random_cells(60, 3, count=9).to(device).T
    features = rand(4, 60, 3).to(device).permute(2, 1, 0)
    groups = ops.build_cell_groups(cells, 9)
    for name in OPERATORS:
        one, other = (first_of(getattr(ops, name)(f, groups)) for f in (features, features.contiguous()))
        assert torch.equal(one, other)


def test_groups_move_between_devices(device):
    groups, features = ops.build_cell_groups(random_cells(2, 30, count=9), 9), randn(2, 30, 4)
    moved = ops.pool_local(features.to(device), groups.to(device))
    assert torch.equal(moved.cpu(), ops.pool_local(features, groups))


# ---- errors

CELLS, FEATURES = torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, 3)
GROUPS = ops.build_cell_groups(CELLS, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.build_cell_groups(CELLS.tolist(), 4), TypeError, "cells: expected a torch tensor, got list"),
        (lambda: ops.build_cell_groups(CELLS.float(), 4), TypeError, "cells: expected dtype int64 or int32"),
        (lambda: ops.build_cell_groups(CELLS[0], 4), ValueError, r"cells: expected shape \[B, N\]"),
        (lambda: ops.build_cell_groups(CELLS + 4, 4), ValueError, r"cells: expected indices in 0..3, got 4..4"),
        (lambda: ops.build_cell_groups(CELLS - 1, 4), ValueError, r"cells: expected indices in 0..3, got -1..-1"),
        (lambda: ops.build_cell_groups(CELLS, 0), ValueError, "cell_count: expected at least 1"),
        (lambda: ops.build_cell_groups(CELLS, 2**31), ValueError, "cell_count: expected at most"),
        (lambda: ops.build_cell_groups(CELLS, 4.0), TypeError, "cell_count: expected a whole number"),
        *[
            entry
            for operator in (ops.scatter_mean, ops.scatter_max, ops.pool_local)
            for entry in (
                (lambda f=operator: f(FEATURES, CELLS), TypeError, "groups: expected CellGroups, got Tensor"),
                (lambda f=operator: f(FEATURES.int(), GROUPS), TypeError, "features: expected dtype"),
                (lambda f=operator: f(FEATURES[:, :4], GROUPS), ValueError, r"features: expected shape \[2, 5, C\]"),
                (lambda f=operator: f(FEATURES[:1], GROUPS), ValueError, "features: expected shape"),
                (lambda f=operator: f(FEATURES.to("meta"), GROUPS), ValueError, "features: expected a tensor on cpu"),
            )
        ],
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
