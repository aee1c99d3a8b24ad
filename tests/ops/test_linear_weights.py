"""Linear weights, weighted choice and surface sampling against their twins and their distributions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit import ops
from pyimplicit.ops import RandomStream, reference
from tests.helpers import box, chi_square_fits, rand, soup, sphere, torus

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


def test_choice_ignores_gradients():
    weights = torch.ones(4, requires_grad=True)
    assert not ops.weighted_choice(weights, 2).requires_grad


# ---- surface sampling


@pytest.mark.parametrize("mesh", [box(), torus(), soup(50)], ids=["box", "torus", "soup"])
@pytest.mark.parametrize("count", [1, 1000])
def test_samples_equal_twin(device, mesh, count):
    vertices, faces = mesh[0].float().to(device), mesh[1].int().to(device)
    stream = RandomStream(5, 4, 3, 2)
    points, face = ops.sample_surface(vertices, faces, count, stream)
    expected_points, expected_face = reference.sample_surface(vertices.cpu(), faces.cpu(), count, stream)
    assert torch.equal(face.cpu(), expected_face)
    torch.testing.assert_close(points.cpu(), expected_points, rtol=1e-6, atol=1e-6)


def test_samples_of_strided_arrays(device):
    vertices, faces = torus()
    vertices, faces = vertices.float().to(device), faces.int().to(device)
    wide = torch.cat([vertices, vertices], 1)[:, :3]
    turned = faces.T.contiguous().T
    assert not wide.is_contiguous()
    for one, other in zip(ops.sample_surface(wide, turned, 100), ops.sample_surface(vertices, faces, 100), strict=True):
        assert torch.equal(one, other)


def test_samples_are_area_uniform(device):
    """Counts over faces of very different areas, and the mean place within a face."""
    vertices, faces = sphere()
    stretched = vertices * torch.tensor([1.0, 0.3, 2.0], dtype=torch.float64)
    points, face = ops.sample_surface(stretched.float().to(device), faces.int().to(device), 100_000, 9)
    corners = stretched.float().double()[faces]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1) / 2
    assert chi_square_fits(torch.bincount(face.cpu(), minlength=len(faces)).double(), 100_000 * areas / areas.sum())

    triangle = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], device=device)
    points, _ = ops.sample_surface(triangle, torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device), 60_000)
    x, y = points[:, 0].double().cpu(), points[:, 1].double().cpu()
    assert bool(((x >= 0) & (y >= 0) & (x + y <= 1 + 1e-6)).all())
    cells = (x * 6).long().clamp(max=5) * 6 + (y * 6).long().clamp(max=5)
    counts = torch.bincount(cells, minlength=36).double().reshape(6, 6)
    i, j = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    below, cut = i + j < 5, i + j == 5
    observed = torch.cat([counts[below], counts[cut]])
    expected = torch.cat([torch.full((15,), 2 / 36), torch.full((6,), 1 / 36)]).double() * 60_000
    assert chi_square_fits(observed, expected)


def test_no_samples_on_faces_without_area(device):
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0]], device=device)
    faces = torch.tensor([[0, 1, 3], [0, 0, 1], [0, 1, 2], [0, 1, 3]], dtype=torch.int32, device=device)
    _, face = ops.sample_surface(vertices, faces, 1000)
    assert bool((face == 2).all())


# ---- errors

WEIGHTS = torch.ones(4)
TRIANGLE = torch.eye(3)
FACE = torch.tensor([[0, 1, 2]], dtype=torch.int32)


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
        (
            lambda: ops.weighted_choice(torch.full((3,), 1e308, dtype=torch.float64), 1, replacement=True),
            ValueError,
            "weights: expected a finite sum",
        ),
        (lambda: ops.sample_surface(TRIANGLE.double(), FACE, 1), TypeError, "vertices: expected dtype float32"),
        (lambda: ops.sample_surface(TRIANGLE[:, :2], FACE, 1), ValueError, r"vertices: expected shape \[V, 3\]"),
        (lambda: ops.sample_surface(TRIANGLE, FACE.long(), 1), TypeError, "faces: expected dtype int32"),
        (lambda: ops.sample_surface(TRIANGLE, FACE[:, :2], 1), ValueError, r"faces: expected shape \[F, 3\]"),
        (lambda: ops.sample_surface(TRIANGLE, FACE + 1, 1), ValueError, r"faces: expected indices in 0..2, got 1..3"),
        (lambda: ops.sample_surface(TRIANGLE, FACE - 1, 1), ValueError, r"faces: expected indices in 0..2, got -1..1"),
        (lambda: ops.sample_surface(TRIANGLE, FACE[:0], 1), ValueError, "faces: expected a mesh of positive"),
        (lambda: ops.sample_surface(torch.ones(3, 3), FACE, 1), ValueError, "faces: expected a mesh of positive"),
        (lambda: ops.sample_surface(TRIANGLE * math.nan, FACE, 1), ValueError, "faces: expected a mesh of positive"),
        (lambda: ops.sample_surface(TRIANGLE, FACE, 0), ValueError, "count: expected at least 1"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
