"""The strategies: exact counts, shares and noise as defined, the same points for the same seed."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from pyimplicit import ops, sampling
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream, reference
from pyimplicit.sampling import (
    STRATEGIES,
    Component,
    Exponential,
    Linear,
    Mixture,
    SurfaceNoise,
    Uniform,
    resolve_strategy,
    sample_queries,
)
from tests.helpers import chi_square_fits, rounded, sphere, torus

# Section III-C of the paper: shares of uniform points and of points at each standard deviation from the surface.
SHARES = {
    "uniform": {None: 1.0},
    "hybrid_far_surface": {None: 0.5, 0.1: 0.5},
    "hybrid_near_surface": {None: 0.5, 0.01: 0.5},
    "balanced_surface": {0.1: 0.5, 0.01: 0.5},
    "near_surface": {0.01: 0.5, 0.001: 0.5},
    "few_uniform_near_surface": {0.01: 0.495, 0.001: 0.495, None: 0.01},
    "few_surface_near_surface": {0.01: 0.495, 0.001: 0.495, 0.1: 0.01},
}
SYMBOLS = {
    "uniform": "UNI",
    "hybrid_far_surface": "HFS",
    "hybrid_near_surface": "HNS",
    "balanced_surface": "BS",
    "near_surface": "NS",
    "few_uniform_near_surface": "FUNS",
    "few_surface_near_surface": "FSNS",
    "linear": "Linear",
}
SURFACE = Surface(*torus())
SQUARE_VERTICES = torch.tensor([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
SQUARE = Surface(SQUARE_VERTICES, torch.tensor([[0, 1, 2], [0, 2, 3]]))


def sigma_of(component: Component) -> float | None:
    return component.source.sigma if isinstance(component.source, SurfaceNoise) else None


# ---- names


def test_the_names_and_symbols():
    assert {name: strategy.symbol for name, strategy in STRATEGIES.items()} == SYMBOLS
    assert all(strategy.name == name for name, strategy in STRATEGIES.items())


@pytest.mark.parametrize("name", SYMBOLS)
def test_every_way_to_name_a_strategy(name):
    strategy, symbol = STRATEGIES[name], SYMBOLS[name]
    for way in (name, name.upper(), symbol, symbol.lower(), f"S_{symbol}", f"s_{symbol.lower()}", strategy):
        assert resolve_strategy(way) is strategy


@pytest.mark.parametrize("way", ["", "S_", "XYZ", "near", "uniform "])
def test_unknown_names_are_refused(way):
    with pytest.raises(
        ValueError, match=r"strategy: expected one of uniform \(S_UNI\), .* linear \(S_Linear\), .*, got"
    ):
        resolve_strategy(way)


@pytest.mark.parametrize("way", [None, 3, object(), Uniform()])
def test_what_is_no_strategy_is_refused(way):
    with pytest.raises(TypeError, match="strategy: expected a name or a Strategy, got"):
        resolve_strategy(way)


# ---- counts and shares


@pytest.mark.parametrize("name", SYMBOLS)
@pytest.mark.parametrize("count", [1, 2, 7, 99, 101, 2000])
def test_exact_count(device, name, count):
    queries = sample_queries(SURFACE.to(device), name, count, seed=3)
    assert queries.points.shape == (count, 3)
    assert queries.signed_distance.shape == queries.occupancy.shape == (count,)
    assert queries.points.dtype == queries.signed_distance.dtype == torch.float32
    assert queries.points.device == queries.signed_distance.device == device
    assert queries.points.isfinite().all()
    assert queries.strategy is STRATEGIES[name]
    assert queries.stream == RandomStream(3)


@pytest.mark.parametrize("name", SHARES)
def test_shares_and_sigmas_are_the_papers(name):
    components = STRATEGIES[name].components
    assert {sigma_of(component): component.share for component in components} == pytest.approx(SHARES[name])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(1, 100_000))
def test_counts_follow_the_shares(weights, count):
    """They sum to the count, and none is off its exact share by a whole point."""
    shares = [weight / sum(weights) for weight in weights]
    counts = Mixture("m", "M", tuple(Component(share, Uniform()) for share in shares)).counts(count)
    assert sum(counts) == count
    assert all(abs(have - share * count) < 1 + 1e-6 for have, share in zip(counts, shares, strict=True))


def test_sparse_and_dense_counts_of_the_paper():
    assert STRATEGIES["few_uniform_near_surface"].counts(2000) == [990, 990, 20]
    assert STRATEGIES["few_surface_near_surface"].counts(20_000) == [9900, 9900, 200]
    assert STRATEGIES["balanced_surface"].counts(2001) == [1001, 1000]


# ---- distributions


def test_uniform_is_uniform_in_the_cube(device):
    points = sample_queries(SURFACE.to(device), "uniform", 40_000).points.cpu()
    assert float(points.abs().max()) <= 0.5
    cells = ((points + 0.5) * 5).long().clamp(max=4) @ torch.tensor([25, 5, 1])
    assert chi_square_fits(torch.bincount(cells, minlength=125).double(), torch.full((125,), 320.0).double())


@pytest.mark.parametrize("name", [name for name in SHARES if name != "uniform"])
def test_noise_has_the_stated_sigma(device, name):
    """Along the normal of a wide plane the offset of a component's points is its noise: normal, with its sigma."""
    strategy, count = STRATEGIES[name], 40_000
    points = strategy.draw(SQUARE.to(device), count, RandomStream(8)).cpu().double()
    start = 0
    for component, part in zip(strategy.components, strategy.counts(count), strict=True):
        offset, start = points[start : start + part, 2], start + part
        sigma = sigma_of(component)
        if sigma is None:
            assert kstest(offset, "uniform", args=(-0.5, 1.0)).pvalue > 1e-4
        else:
            assert kstest(offset / sigma, "norm").pvalue > 1e-4


def test_noise_is_isotropic_and_its_feet_are_even():
    noise = SurfaceNoise(0.05)
    stream = RandomStream(2, 1, 5, 4)
    points = noise.draw(SURFACE, 20_000, stream).double()
    offset = points - SURFACE.sample_surface(20_000, stream).points.double()
    covariance = torch.cov(offset.T) / 0.05**2
    assert float((covariance - torch.eye(3)).abs().max()) < 0.05
    assert float(offset.mean(0).abs().max()) < 5 * 0.05 / math.sqrt(20_000)


def test_components_draw_apart():
    """Two components of the same kind and seed are independent, not copies."""
    twice = Mixture("m", "M", (Component(0.5, SurfaceNoise(0.01)), Component(0.5, SurfaceNoise(0.01))))
    one, other = twice.draw(SQUARE, 4000, RandomStream(1)).chunk(2)
    assert float(torch.corrcoef(torch.stack([one[:, 0], other[:, 0]]))[0, 1].abs()) < 0.1
    assert not (one == other).any(1).any()


def test_a_mixture_draws_the_same_whatever_it_drew_before():
    """What it keeps between draws is for one number of points and one purpose, and copies do without."""
    parts = (Component(0.6, SurfaceNoise(0.1)), Component(0.3, Linear()), Component(0.1, Uniform()))
    used = Mixture("m", "M", parts)
    for count in range(1, 200):
        used.draw(SURFACE, count, RandomStream(count))
    for count, purpose in ((150, 0), (150, 3), (10, 0)):
        stream = RandomStream(5, purpose=purpose)
        expected = Mixture("m", "M", parts).draw(SURFACE, count, stream)
        for mixture in (used, used, pickle.loads(pickle.dumps(used)), copy.deepcopy(used)):
            assert torch.equal(mixture.draw(SURFACE, count, stream), expected)
    with pytest.raises(TypeError, match="count: expected a whole number, got float"):
        used.draw(SURFACE, 150.0, RandomStream(5))
    assert used == Mixture("m", "M", parts)
    assert hash(used) == hash(Mixture("m", "M", parts))


# ---- seeds


@pytest.mark.parametrize("name", SYMBOLS)
def test_points_depend_on_the_seed_alone(device, name):
    surface = SURFACE.to(device)
    first = sample_queries(surface, name, 500, seed=4)
    for threads in (1, 16):
        torch.set_num_threads(threads)
        again = sample_queries(surface, name, 500, seed=RandomStream(4))
        assert torch.equal(again.points, first.points)
        assert torch.equal(again.signed_distance, first.signed_distance)
    for other in (5, RandomStream(4, shape=1), RandomStream(4, step=1)):
        assert not torch.equal(sample_queries(surface, name, 500, seed=other).points, first.points)
    torch.testing.assert_close(first.points.cpu(), sample_queries(SURFACE, name, 500, seed=4).points, rtol=0, atol=1e-6)


# ---- labels


@pytest.mark.parametrize("name", SYMBOLS)
def test_labels_are_exact(device, name):
    mesh = rounded(torus())
    queries = sample_queries(SURFACE.to(device), name, 700, seed=6)
    expected = reference.signed_distance(queries.points.double().cpu(), *mesh)
    found = queries.signed_distance.cpu().double()
    assert float((found - expected).abs().max()) < 3e-6
    away = expected.abs() > 1e-5
    assert torch.equal((queries.occupancy.cpu() == 1)[away], (expected < 0)[away])
    assert set(queries.occupancy.unique().tolist()) <= {0.0, 1.0}


def test_labels_of_an_open_mesh_by_winding_number():
    vertices, faces = torus()
    queries = sample_queries(Surface(vertices, faces[1:]), "balanced_surface", 500)
    torch.testing.assert_close(
        queries.signed_distance.abs(), Surface(vertices, faces[1:]).unsigned_distance(queries.points)
    )


# ---- S_Linear


@pytest.mark.parametrize(("tau", "mu"), [(0.1, None), (0.02, None), (0.3, 20.0)])
def test_linear_points_lie_within_tau_and_the_cube(device, tau, mu):
    queries = sample_queries(SURFACE.to(device), Linear(tau, mu), 3000)
    assert float(queries.signed_distance.abs().max()) < tau
    assert float(queries.points.abs().max()) <= 0.5


@pytest.mark.parametrize(("tau", "mu"), [(0.1, None), (0.25, None), (0.1, 40.0), (0.1, 4.0)])
def test_linear_density_beside_a_plane(device, tau, mu):
    """A square that fills a section of the cube: at height z the density is min(1, mu (tau - |z|)), exactly."""
    heights = Linear(tau, mu).draw(SQUARE.to(device), 30_000, RandomStream(3))[:, 2].double().cpu()
    edges = torch.linspace(-tau, tau, 41, dtype=torch.float64)
    fine = torch.linspace(-tau, tau, 40_001, dtype=torch.float64)
    density = ((1 / tau if mu is None else mu) * (tau - fine.abs())).clamp(max=1)
    shares = density[:-1].reshape(40, -1).sum(1) + density[1:].reshape(40, -1).sum(1)
    counts = torch.histogram(heights, edges).hist
    assert int(counts.sum()) == 30_000
    assert chi_square_fits(counts, 30_000 * shares / shares.sum())


def test_linear_density_around_a_sphere(device):
    """Distances from a sphere inside the cube: density (tau - g) times the area of the spheres at g."""
    radius, tau = 0.35, 0.1
    surface = Surface(*sphere(radius, 5), device=device)
    points = sample_queries(surface, Linear(tau), 30_000, seed=2).points.double().cpu()
    reach = points.norm(dim=1)
    edges = torch.linspace(radius - tau + 0.002, radius + tau - 0.002, 31, dtype=torch.float64)
    kept = (reach > edges[0]) & (reach < edges[-1])
    fine = torch.linspace(float(edges[0]), float(edges[-1]), 30_001, dtype=torch.float64)
    density = (tau - (fine - radius).abs()) * fine.square()
    shares = (density[:-1] + density[1:]).reshape(30, -1).sum(1)
    counts = torch.histogram(reach[kept], edges).hist
    assert chi_square_fits(counts, float(kept.sum()) * shares / shares.sum())
    octants = (points > 0).long() @ torch.tensor([4, 2, 1])
    assert chi_square_fits(torch.bincount(octants, minlength=8).double(), torch.full((8,), 3750.0).double())


def test_larger_mu_draws_farther_away():
    """mu flattens the density: the mean distance grows from tau / 3 towards tau / 2."""
    means = [
        float(SQUARE.unsigned_distance(Linear(0.1, mu).draw(SQUARE, 20_000, RandomStream(1))).mean())
        for mu in (10.0, 30.0, 1000.0)
    ]
    assert means[0] == pytest.approx(0.1 / 3, rel=0.03)
    assert means[0] < means[1] < means[2]
    assert means[2] == pytest.approx(0.05, rel=0.03)


def test_small_mu_changes_nothing_but_the_patience():
    for mu in (10.0, 1.0):
        distance = SQUARE.unsigned_distance(Linear(0.1, mu).draw(SQUARE, 10_000, RandomStream(1)))
        assert float(distance.mean()) == pytest.approx(0.1 / 3, rel=0.05)


def test_linear_refuses_a_surface_outside_the_cube():
    vertices, faces = sphere(0.1, 1)
    far = Surface(vertices + 5.0, faces)
    with pytest.raises(ValueError, match=r"surface: expected one that comes within tau = 0.1 of the cube"):
        sample_queries(far, "linear", 100)


def test_weighted_choice_agrees_with_linear():
    """The paper's way, a weighted choice from a large pool, draws the same distribution."""
    pool = ops.uniform(400_000, RandomStream(1), -0.5, 0.5)
    chosen = ops.weighted_choice(ops.linear_weights(SQUARE.unsigned_distance(pool), 0.1), 5000, 1)
    direct = Linear(0.1).draw(SQUARE, 20_000, RandomStream(9))
    edges = torch.linspace(-0.1, 0.1, 21)
    drawn, exact = (
        torch.histogram(points[:, 2].contiguous(), edges).hist.double() for points in (pool[chosen], direct)
    )
    assert chi_square_fits(drawn, exact / 4)


# ---- errors


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sample_queries(SURFACE, "linear", 0), ValueError, "count: expected at least 1"),
        (lambda: sample_queries(SURFACE, "linear", 2.5), TypeError, "count: expected a whole number"),
        (lambda: sample_queries(SURFACE, "linear", 5, seed=-1), ValueError, "seed: expected at least 0"),
        (lambda: sample_queries(SURFACE, "linear", 5, sign="ray"), ValueError, "sign: expected one of"),
        (lambda: sample_queries(SURFACE, "nearest", 5), ValueError, "strategy: expected one of"),
        (lambda: Linear(0.0), ValueError, "tau: expected a finite number above 0"),
        (lambda: Linear(math.nan), ValueError, "tau"),
        (lambda: Linear(0.1, -1.0), ValueError, "mu: expected a finite number above 0"),
        (lambda: SurfaceNoise(0.0), ValueError, "sigma: expected a finite number above 0"),
        (lambda: SurfaceNoise("0.1"), TypeError, "sigma: expected a number"),
        (lambda: Mixture("m", "M", ()), ValueError, "components: expected at least one"),
        (lambda: Mixture("m", "M", (Component(0.5, Uniform()),)), ValueError, "shares that sum to 1, got 0.5"),
        (lambda: Mixture("m", "M", (Component(-1.0, Uniform()), Component(2.0, Uniform()))), ValueError, "share"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_strategy_of_ones_own():
    """Anything with a name, a symbol and a draw is a strategy."""

    class Corner:
        name, symbol = "corner", "C"

        def draw(self, surface: Surface, count: int, stream: RandomStream) -> torch.Tensor:
            return torch.full((count, 3), 0.5)

    queries = sample_queries(SURFACE, Corner(), 4)
    assert queries.points.tolist() == [[0.5] * 3] * 4
    mixed = Mixture("mine", "M", (Component(0.25, Uniform()), Component(0.75, SurfaceNoise(0.3))))
    assert sample_queries(SURFACE, mixed, 10).points.shape == (10, 3)


def test_public_names():
    assert set(sampling.__all__) >= {"STRATEGIES", "DistanceMask", "QuerySet", "resolve_strategy", "sample_queries"}


@pytest.mark.parametrize(
    ("given", "name", "strategy"),
    [
        ("linear(tau=0.2,mu=5)", "linear(tau=0.2,mu=5)", Linear(tau=0.2, mu=5.0)),
        ("S_Linear(mu=2.5)", "linear(mu=2.5)", Linear(mu=2.5)),
        ("linear(tau=0.1)", "linear", Linear()),
        ("exp(beta=40)", "exponential(beta=40)", Exponential(beta=40.0)),
    ],
)
def test_parameters_are_part_of_the_name(given, name, strategy):
    found = resolve_strategy(given)
    assert found == strategy
    assert found.name == name
    assert resolve_strategy(name) == strategy


@pytest.mark.parametrize(
    "given", ["linear()", "linear(tau)", "linear(x=1)", "uniform(tau=1)", "linear(tau=0.1", "linear(tau=a)"]
)
def test_parameters_that_do_not_fit_are_refused(given):
    with pytest.raises(ValueError, match=r"^strategy: expected (linear|uniform) with parameters"):
        resolve_strategy(given)
