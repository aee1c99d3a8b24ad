"""Products of linear layers on a matrix unit against torch's in double precision."""

from __future__ import annotations

import pytest
import torch

from pyimplicit import _native
from pyimplicit.ops import matrix_products
from tests.helpers import randn

pytestmark = pytest.mark.skipif(not _native.have_matrix_unit(), reason="this processor has no matrix unit")
# Rows, features in and out: parts of tiles, more than a block, more than a piece of rows, several parts of the sum.
SIZES = [(1, 1, 1), (5, 3, 17), (33, 40, 50), (128, 32, 32), (300, 256, 256), (129, 600, 40), (200, 40, 520)]
# The last ones' sums are made in groups.
SIZES += [(9000, 33, 31), (70, 2100, 40), (40000, 5, 33)]


def close(found, expected, share=1e-6):
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=share * max(float(expected.abs().max()), 1e-30))


@pytest.mark.parametrize(("count", "features", "out"), SIZES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_products_with_the_weight(count, features, out, relu, with_bias):
    rows, weight, bias = randn(count, features), randn(out, features, seed=1), randn(out, seed=2)
    found = matrix_products.times_weight(rows, weight, bias if with_bias else None, relu)
    expected = rows.double() @ weight.double().T + (bias.double() if with_bias else 0)
    close(found, expected.relu() if relu else expected)


@pytest.mark.parametrize(("count", "features", "out"), SIZES)
@pytest.mark.parametrize("gated", [False, True])
def test_gradients(count, features, out, gated):
    rows, weight, gradients = randn(count, features), randn(out, features, seed=1), randn(count, out, seed=2)
    gate = randn(count, out, seed=3) if gated else None
    through = gradients.double() * (gate > 0) if gated else gradients.double()
    close(matrix_products.back_through_weight(gradients, gate, weight), through @ weight.double())
    of_weight, of_bias = matrix_products.weight_gradients(gradients, gate, rows)
    close(of_weight, through.T @ rows.double())
    close(of_bias, through.sum(0), 2e-6)


def test_more_precise_than_bfloat16_allows():
    # A hundred times as near as with numbers of two bfloat16 parts, whose products lose 1 / 2^16.
    rows, weight = 1 + torch.rand(64, 32) / 3, 1 + torch.rand(32, 32) / 3
    found = matrix_products.times_weight(rows, weight, None, False).double()
    expected = rows.double() @ weight.double().T
    assert float(((found - expected) / expected).abs().max()) < 2**-21


def test_large_and_small_numbers_keep_their_precision():
    scales = torch.tensor([1e-30, 1e-15, 1.0, 1e15, 1e18])[:, None]
    rows, weight = randn(5, 64) * scales, randn(20, 64, seed=1)
    found = matrix_products.times_weight(rows, weight, None, False)
    expected = rows.double() @ weight.double().T
    for one, other in zip(found, expected, strict=True):
        close(one, other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_seen(bad):
    rows, weight = randn(70, 48), randn(40, 48, seed=1)
    rows[33, 17] = bad
    for relu in (False, True):
        found = matrix_products.times_weight(rows, weight, None, relu)
        assert bool(found[33].isnan().all())
        assert bool(found[torch.arange(70) != 33].isfinite().all())
    of_weight, of_bias = matrix_products.weight_gradients(randn(70, 40), None, rows)
    assert bool(of_weight[:, 17].isnan().all())
    assert int(of_weight.isnan().sum()) == 40
    assert bool(of_bias.isfinite().all())


def test_a_gate_that_is_nan_is_open_as_torchs():
    gradients, gate = randn(64, 32), randn(64, 32, seed=1)
    gate[5, 7] = float("nan")
    _, of_bias = matrix_products.weight_gradients(gradients, gate, randn(64, 32, seed=2))
    close(of_bias, torch.ops.aten.threshold_backward(gradients, gate, 0).double().sum(0))


def test_bits_do_not_depend_on_threads():
    rows, weight, gradients = randn(9000, 300), randn(70, 300, seed=1), randn(9000, 70, seed=2)
    found = []
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        back = matrix_products.back_through_weight(gradients, None, weight)
        found.append((matrix_products.times_weight(rows, weight, None, True), back,
                      *matrix_products.weight_gradients(gradients, rows[:, :70].contiguous(), rows)))  # fmt: skip
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_long_sums_lose_no_more_than_short_ones():
    rows, weight = torch.rand(32, 16384), torch.rand(16, 16384)
    expected = rows.double() @ weight.double().T
    close(matrix_products.times_weight(rows, weight, None, False), expected, 5e-7)
    turned, slopes = rows[:20].T.contiguous(), weight.T.contiguous()
    close(matrix_products.weight_gradients(slopes, None, turned)[0], expected[:20].T, 5e-7)


def test_no_rows():
    assert matrix_products.times_weight(randn(0, 20), randn(16, 20), None, False).shape == (0, 16)
    of_weight, of_bias = matrix_products.weight_gradients(randn(0, 16), None, randn(0, 20))
    assert not of_weight.any()
    assert not of_bias.any()
