"""Philox against its published vectors, the kernels against the twin, and the numbers against their distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit import ops
from pyimplicit.ops import RandomStream, reference
from tests.helpers import chi_square_fits

# Random123, tests/kat_vectors, philox4x32 with 10 rounds: counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
STREAMS = [
    RandomStream(),
    RandomStream(seed=7, shape=3, step=5, purpose=2),
    RandomStream(seed=2**63 - 1, shape=2**32 - 1, step=2**32 - 1, purpose=2**16 - 1),
    RandomStream(seed=2**32, shape=2**31, step=1, purpose=2**15),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_twin_known_answers(counter, key, result):
    words = reference.philox(
        tuple(torch.tensor([int(word, 16)]) for word in counter.split()),
        tuple(torch.tensor([int(word, 16)]) for word in key.split()),
    )
    assert [int(word) for word in words] == [int(word, 16) for word in result.split()]


def test_kernel_known_answer(device):
    """The kernel shows the 24 leading bits of the first three words of counter 0, key 0."""
    words = ops.uniform(1, RandomStream(), device=device).double() * 2**24
    assert words.tolist() == [[0x6627E8, 0xE169C5, 0xBC57AC]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stream", STREAMS)
def test_uniform_equals_twin(device, dtype, stream):
    drawn = ops.uniform(1000, stream, -0.5, 0.5, dtype, device)
    assert drawn.dtype == dtype
    assert drawn.device == device
    assert torch.equal(drawn.cpu(), reference.uniform(1000, stream, -0.5, 0.5, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stream", STREAMS)
def test_normal_equals_twin(device, dtype, stream):
    drawn = ops.normal(1000, stream, dtype, device)
    assert drawn.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(drawn.cpu(), reference.normal(1000, stream, dtype), rtol=tolerance, atol=tolerance)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**63 - 1),
    shape=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    purpose=st.integers(0, 2**16 - 1),
)
def test_any_stream_equals_twin(seed, shape, step, purpose):
    stream = RandomStream(seed, shape, step, purpose)
    assert torch.equal(ops.uniform(9, stream), reference.uniform(9, stream))


@pytest.mark.parametrize("draw", [ops.uniform, ops.normal])
def test_each_part_of_the_stream_matters(device, draw):
    streams = [RandomStream(1), RandomStream(2), RandomStream(1, 1), RandomStream(1, 0, 1), RandomStream(1, 0, 0, 1)]
    drawn = torch.stack([draw(50, stream, device=device) for stream in streams])
    assert len(drawn.reshape(len(streams), -1).unique(dim=0)) == len(streams)
    assert torch.equal(draw(50, streams[0], device=device), drawn[0])


@pytest.mark.parametrize("draw", [ops.uniform, ops.normal])
def test_no_points(device, draw):
    assert draw(0, RandomStream(), device=device).shape == (0, 3)


def test_uniform_distribution(device):
    """Mean, variance, and an even spread over 8 x 8 x 8 cells."""
    drawn = ops.uniform(200_000, RandomStream(3), device=device).double().cpu()
    assert torch.allclose(drawn.mean(0), torch.full((3,), 0.5, dtype=torch.float64), atol=5 / math.sqrt(12 * 200_000))
    assert torch.allclose(drawn.var(0), torch.full((3,), 1 / 12, dtype=torch.float64), rtol=0.01)
    cells = (drawn * 8).long() @ torch.tensor([64, 8, 1])
    counts = torch.bincount(cells, minlength=512).double()
    assert chi_square_fits(counts, torch.full_like(counts, 200_000 / 512))


def test_normal_distribution(device):
    """Moments to the fourth, no correlation, and Kolmogorov's distance to the normal distribution."""
    drawn = ops.normal(200_000, RandomStream(3), torch.float64, device).cpu()
    bound = 5 / math.sqrt(200_000)
    assert drawn.mean(0).abs().max() < bound
    assert (drawn.var(0) - 1).abs().max() < math.sqrt(2) * bound
    assert drawn.pow(3).mean(0).abs().max() < math.sqrt(15) * bound
    assert (drawn.pow(4).mean(0) - 3).abs().max() < math.sqrt(96) * bound
    assert (torch.corrcoef(drawn.T) - torch.eye(3)).abs().max() < bound
    ordered = drawn.reshape(-1).sort().values
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    assert (torch.special.ndtr(ordered) - steps).abs().max() < 2.2 / math.sqrt(len(ordered))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), [(1000.0, 1001.0), (-3.0, -1.0), (0.0, 1e-30)])
def test_upper_end_is_not_reached(device, dtype, low, high):
    drawn = ops.uniform(200_000, RandomStream(5), low, high, dtype, device)
    ends = torch.tensor([low, high], dtype=dtype)
    assert drawn.min() >= ends[0]
    assert drawn.max() < ends[1]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
        ({"seed": 2**63}, ValueError, "seed: expected less than 2"),
        ({"seed": 1.5}, TypeError, "seed: expected a whole number, got float"),
        ({"seed": True}, TypeError, "seed: expected a whole number, got bool"),
        ({"shape": 2**32}, ValueError, "shape: expected less than 2"),
        ({"step": -1}, ValueError, "step: expected at least 0"),
        ({"purpose": 2**16}, ValueError, "purpose: expected less than 2"),
    ],
)
def test_bad_streams(arguments, error, words):
    with pytest.raises(error, match=words):
        RandomStream(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.uniform(-1, RandomStream()), ValueError, "count: expected at least 0"),
        (lambda: ops.uniform(2.0, RandomStream()), TypeError, "count: expected a whole number"),
        (lambda: ops.uniform(2, RandomStream(), 1, 1), ValueError, "low below high"),
        (lambda: ops.uniform(2, RandomStream(), 0, math.inf), ValueError, "finite"),
        (lambda: ops.uniform(2, RandomStream(), math.nan, 1), ValueError, "finite"),
        (lambda: ops.uniform(2, RandomStream(), dtype=torch.float16), TypeError, "dtype: expected float32 or float64"),
        (lambda: ops.normal(-3, RandomStream()), ValueError, "count: expected at least 0"),
        (lambda: ops.normal(2, RandomStream(), torch.int64), TypeError, "dtype: expected float32 or float64"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_numpy_numbers_are_numbers():
    stream = RandomStream(np.int64(7), np.uint32(3))
    assert torch.equal(ops.uniform(np.int32(4), stream), ops.uniform(4, RandomStream(7, 3)))
    weights = torch.ones(9)
    assert torch.equal(ops.weighted_choice(weights, 4, np.int64(7)), ops.weighted_choice(weights, 4, 7))
