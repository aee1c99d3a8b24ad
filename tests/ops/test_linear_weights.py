"""Linear weights and weighted choice against their twins and their distributions."""

from __future__ import annotations

import importlib
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit import ops
from pyimplicit.ops import RandomStream, reference
from tests.helpers import chi_square_fits, rand

# The package's name of the module is no module but the function in it.
linear_weights_module = importlib.import_module("pyimplicit.ops.linear_weights")
DTYPES = [torch.float32, torch.float64]


# ---- linear weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (1000,), (3, 5, 7)])
@pytest.mark.parametrize(("tau", "mu"), [(0.1, None), (0.5, 3.0), (1e-3, 1e3)])
def test_linear_weights_equal_twin(device, dtype, shape, tau, mu):
    distance = rand(*shape, dtype=dtype, high=2 * tau).to(device)
    weights = ops.linear_weights(distance, tau, mu)
    assert weights.shape == shape
    assert weights.dtype == dtype
    torch.testing.assert_close(weights, reference.linear_weights(distance, tau, mu))


def test_linear_weights_of_any_strides(device):
    distance = rand(6, 4, 8).to(device)
    expected = reference.linear_weights(distance, 0.5)
    torch.testing.assert_close(ops.linear_weights(distance.permute(2, 0, 1), 0.5), expected.permute(2, 0, 1))
    torch.testing.assert_close(ops.linear_weights(distance[::2, :, 1::3], 0.5), expected[::2, :, 1::3])


def test_linear_weights_at_the_ends():
    """Equation 2 by hand: 1 on the surface, half at half of tau, 0 at tau and beyond."""
    distance = torch.tensor([0.0, 0.25, 0.5, 0.75, 1e30], dtype=torch.float64)
    assert ops.linear_weights(distance, 0.5).tolist() == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert ops.linear_weights(distance, 0.5, mu=4).tolist() == [2.0, 1.0, 0.0, 0.0, 0.0]


def test_linear_weights_gradient(device):
    distance = rand(20, dtype=torch.float64, high=0.2).to(device).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: ops.linear_weights(d, 0.1, 3.0), (distance,))
    assert torch.autograd.gradgradcheck(lambda d: ops.linear_weights(d, 0.1, 3.0), (distance,))


# ---- weighted choice


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize(("size", "count"), [(1, 1), (17, 5), (1000, 1000), (5000, 300)])
@pytest.mark.parametrize("seed", [0, RandomStream(2**40 + 1, 2, 3, 4)])
def test_choice_equals_twin(device, dtype, replacement, size, count, seed):
    weights = rand(size, dtype=dtype, seed=1).to(device)
    chosen = ops.weighted_choice(weights, count, seed, replacement)
    assert chosen.dtype == torch.int64
    assert chosen.device == device
    assert torch.equal(chosen.cpu(), reference.weighted_choice(weights.cpu(), count, seed, replacement))


@settings(deadline=None, max_examples=50)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-12, 0.5, 1.0, 3.0, 1e12]), min_size=1, max_size=30).filter(any),
    seed=st.integers(0, 1000),
    replacement=st.booleans(),
)
def test_choice_properties(weights, seed, replacement):
    """Never one of weight 0; without replacement never one twice, and all if all are asked for."""
    values = torch.tensor(weights, dtype=torch.float64)
    positive = (values > 0).nonzero()[:, 0]
    chosen = ops.weighted_choice(values, len(positive), seed, replacement)
    assert bool((values[chosen] > 0).all())
    if not replacement:
        assert torch.equal(chosen.sort().values, positive)


def test_choice_of_tiny_weights():
    """The smallest weights there are still come before none at all."""
    weights = torch.tensor([0.0, 5e-324, 0.0, 1e-320, 0.0, 1.0], dtype=torch.float64)
    assert ops.weighted_choice(weights, 3).sort().values.tolist() == [1, 3, 5]


def test_choice_with_replacement_distribution(device):
    weights = torch.tensor([0.0, 1.0, 2.0, 0.0, 5.0, 0.5, 0.0])
    chosen = ops.weighted_choice(weights.to(device), 100_000, 11, replacement=True).cpu()
    counts = torch.bincount(chosen, minlength=7).double()
    assert counts[weights == 0].sum() == 0
    kept = weights > 0
    assert chi_square_fits(counts[kept], 100_000 * weights[kept].double() / weights.sum())


def test_choice_without_replacement_distribution(device):
    """The ordered pairs of successive sampling: w_i / W, then w_j / (W - w_i)."""
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    counts = torch.zeros(4, 4, dtype=torch.float64)
    for seed in range(2000):
        first, second = ops.weighted_choice(weights.to(device), 2, seed).tolist()
        counts[first, second] += 1
    share = weights / weights.sum()
    expected = 2000 * share[:, None] * weights[None] / (weights.sum() - weights)[:, None]
    apart = ~torch.eye(4, dtype=torch.bool)
    assert counts[~apart].sum() == 0
    assert chi_square_fits(counts[apart], expected[apart])


def inclusion_of_sets(weights, count):
    """Probability of each set of `count` indices under successive sampling, summed over all orders."""
    chances: dict[frozenset[int], float] = {}
    for order in itertools.permutations(range(len(weights)), count):
        left, chance = sum(weights), 1.0
        for index in order:
            chance *= weights[index] / left
            left -= weights[index]
        chances[frozenset(order)] = chances.get(frozenset(order), 0.0) + chance
    return chances


@pytest.mark.parametrize("weights", [[1.0, 2, 3, 4, 5, 6], [300.0, 40, 1, 2, 1, 3], [0.5, 1e-3, 1e-3, 2e-3, 0.5, 1e-3]])
def test_sets_without_replacement(device, weights):
    """Three of six, giants among them: more than one round of draws."""
    draws = 4000
    counts: dict[frozenset[int], int] = {}
    for seed in range(draws):
        found = frozenset(ops.weighted_choice(torch.tensor(weights, device=device), 3, seed).tolist())
        counts[found] = counts.get(found, 0) + 1
    expected = {key: draws * chance for key, chance in inclusion_of_sets(weights, 3).items()}
    assert abs(sum(expected.values()) - draws) < 1e-6
    common = [key for key in expected if expected[key] >= 10]
    rest = draws - sum(expected[key] for key in common)
    observed = [counts.get(key, 0) for key in common]
    if rest >= 5:
        observed.append(draws - sum(observed))
    wanted = [expected[key] for key in common] + ([rest] if rest >= 5 else [])
    assert chi_square_fits(torch.tensor(observed).double(), torch.tensor(wanted).double())


def test_inclusion_in_a_large_pool(device):
    """Which parts of 100,000 weights 20,000 draws fall into, one after the other and with replacement."""
    weights = rand(100_000, dtype=torch.float64).pow(3).to(device)
    part = torch.arange(100_000, device=device) * 64 // 100_000
    share = torch.zeros(64, dtype=torch.float64, device=device).index_add(0, part, weights) / weights.sum()
    once = ops.weighted_choice(weights, 20_000, 5, replacement=True)
    assert chi_square_fits(torch.bincount(part[once], minlength=64).double().cpu(), 20_000 * share.cpu())
    # The first draws of many streams follow the weights; so few repeat that leaving them out does not show.
    firsts = torch.cat([ops.weighted_choice(weights, 20, seed) for seed in range(1000)])
    assert chi_square_fits(torch.bincount(part[firsts], minlength=64).double().cpu(), 20_000 * share.cpu())


@pytest.mark.parametrize("base", [2.0, 1e5])
def test_weights_of_all_sizes_are_drawn_in_few_rounds(device, base):
    """Each weight outweighs all that follow: nothing stalls, and the order is nearly always that of the weights."""
    count = 1000 if base == 2.0 else 60
    weights = torch.tensor([base**-i for i in range(count)], dtype=torch.float64, device=device)
    chosen = ops.weighted_choice(weights, count, 1)
    assert torch.equal(chosen.sort().values, torch.arange(count, device=device))
    assert torch.equal(chosen.cpu(), reference.weighted_choice(weights.cpu(), count, 1))
    if base > 2:
        assert torch.equal(chosen, torch.arange(count, device=device))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounds_of_the_gpu_choose_as_the_cpu_does(dtype):
    weights = (1 - rand(50_000, dtype=torch.float64)).pow(-2).to(dtype)
    sums = linear_weights_module._sum_tree(weights, 3000)
    in_rounds = linear_weights_module._choose_in_rounds(weights, sums, ops.RandomStream(4), 3000)
    assert torch.equal(in_rounds, ops.weighted_choice(weights, 3000, 4))


def test_heavy_tails_equal_twin_on_any_number_of_threads(device):
    weights = (1 - rand(300_000, dtype=torch.float64)).pow(-2)
    weights[[7, 123_456]] = 1e15
    expected = reference.weighted_choice(weights, 2048, 3)
    for threads in (1, 2, 16):
        torch.set_num_threads(threads)
        assert torch.equal(ops.weighted_choice(weights.to(device), 2048, 3).cpu(), expected)
    assert {7, 123_456} <= set(expected[:5].tolist())
    assert len(expected.unique()) == 2048


def test_more_candidates_than_float32_can_count(device):
    """Beyond 2^24 a running sum in float32 stands still."""
    weights = torch.ones(2**24 + 2**22, device=device)
    for replacement in (False, True):
        chosen = ops.weighted_choice(weights, 5000, 2, replacement).cpu()
        assert chi_square_fits(torch.bincount(chosen >> 22, minlength=5).double(), torch.full((5,), 1000.0))


def test_choice_ignores_gradients():
    weights = torch.ones(4, requires_grad=True)
    assert not ops.weighted_choice(weights, 2).requires_grad


# ---- errors

WEIGHTS = torch.ones(4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.linear_weights([0.1]), TypeError, "distance: expected a torch tensor, got list"),
        (lambda: ops.linear_weights(torch.ones(3).half()), TypeError, "distance: expected dtype float32 or float64"),
        (lambda: ops.linear_weights(torch.ones(3).long()), TypeError, "distance: expected dtype"),
        (lambda: ops.linear_weights(torch.tensor([0.0, math.nan])), ValueError, "distance: expected finite"),
        (lambda: ops.linear_weights(torch.tensor([math.inf])), ValueError, r"distance: .* got inf at index \[0\]"),
        (lambda: ops.linear_weights(torch.tensor([-0.5])), ValueError, "distance: expected no negative values"),
        (lambda: ops.linear_weights(WEIGHTS, 0.0), ValueError, "tau: expected a finite number above 0"),
        (lambda: ops.linear_weights(WEIGHTS, -1.0), ValueError, "tau"),
        (lambda: ops.linear_weights(WEIGHTS, math.nan), ValueError, "tau"),
        (lambda: ops.linear_weights(WEIGHTS, math.inf), ValueError, "tau"),
        (lambda: ops.linear_weights(WEIGHTS, "0.1"), TypeError, "tau: expected a number, got str"),
        (lambda: ops.linear_weights(WEIGHTS, 0.1, 0), ValueError, "mu: expected a finite number above 0"),
        (lambda: ops.weighted_choice(torch.ones(2, 2), 1), ValueError, r"weights: expected shape \[N\], got \[2, 2\]"),
        (lambda: ops.weighted_choice(torch.tensor(1.0), 1), ValueError, "weights: expected shape"),
        (lambda: ops.weighted_choice(torch.ones(2, dtype=torch.int64), 1), TypeError, "weights: expected dtype"),
        (lambda: ops.weighted_choice(torch.tensor([1.0, math.nan]), 1), ValueError, "weights: expected finite"),
        (lambda: ops.weighted_choice(torch.tensor([1.0, -1.0]), 1), ValueError, "weights: expected no negative"),
        (lambda: ops.weighted_choice(torch.zeros(3), 1), ValueError, "weights: expected at least one positive"),
        (lambda: ops.weighted_choice(torch.zeros(0), 1), ValueError, "weights: expected at least one positive"),
        (lambda: ops.weighted_choice(WEIGHTS, 5), ValueError, "count: expected at most 4"),
        (lambda: ops.weighted_choice(WEIGHTS, 0), ValueError, "count: expected at least 1"),
        (lambda: ops.weighted_choice(WEIGHTS, 1.0), TypeError, "count: expected a whole number"),
        (lambda: ops.weighted_choice(WEIGHTS, 1, seed=-1), ValueError, "seed"),
        (lambda: ops.weighted_choice(WEIGHTS, 1, seed="a"), TypeError, "seed"),
        (lambda: ops.weighted_choice(torch.tensor([1.0, 0.0, 2.0]), 3), ValueError, "count: expected at most 2"),
        (lambda: ops.weighted_choice(torch.tensor([1.0, math.inf]), 1), ValueError, "weights: expected finite"),
        (
            lambda: ops.weighted_choice(torch.full((3,), 1e308, dtype=torch.float64), 1),
            ValueError,
            "weights: expected a finite sum",
        ),
        (
            lambda: ops.weighted_choice(torch.full((3,), 1e308, dtype=torch.float64), 1, replacement=True),
            ValueError,
            "weights: expected a finite sum",
        ),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
