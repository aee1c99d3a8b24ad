"""Vector attention by kernels against torch's operators in double precision."""

from __future__ import annotations

import pytest
import torch

from pyimplicit import _native
from pyimplicit.networks import vector_attention
from pyimplicit.networks.vector_attention import attend, pair_sums
from pyimplicit.ops import vector_attention as kernels
from tests.helpers import randn

LANES = [lanes for lanes in (4, 8, 16) if lanes <= _native.vector_lanes()]
# Shapes, points, others, others looked at, channels; channels leave parts of vectors and of chunks of them.
SIZES = [(1, 1, 1, 1, 1), (2, 5, 7, 3, 37), (3, 4, 9, 9, 64), (2, 6, 5, 4, 200)]


def case(size, every=False, own=True, others=True, extra=True):
    shapes, points, count, each, channels = size
    count = each if every else count
    index = torch.randint(count, (shapes, points, each), generator=torch.Generator().manual_seed(0))
    return {
        "own": randn(shapes, points, channels) if own else None,
        "others": randn(shapes, count, channels, seed=1) if others else None,
        "neighbours": None if every else index,
        "pairs": randn(shapes, points, each, channels, seed=2),
        "weights": 4 * randn(shapes, points, each, channels, seed=3),
        "extra": (randn(shapes, channels, seed=4), randn(shapes, channels, seed=5)) if extra else None,
        "slope": randn(shapes, points, channels, seed=6),
    }


def double(given):
    as_double = [None if of is None or not of.is_floating_point() else of.double().requires_grad_() for of in given]
    return [of if new is None else new for of, new in zip(given, as_double, strict=True)]


def compare(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-6 * max(float(other.detach().abs().max()), 1.0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("lanes", LANES)
def test_pair_sums_and_their_gradients(size, every, own, lanes):
    of = case(size, every, own=own)
    given = [of["own"], of["others"], of["neighbours"], of["pairs"]]
    doubles = double(given)
    expected = vector_attention._pair_sums(*doubles)
    compare([kernels.pair_sums(*given, lanes)], [expected])
    wanted = [doubles[k] for k in (0, 1) if doubles[k] is not None]
    slopes = torch.autograd.grad(expected, wanted, of["weights"].double())
    found = kernels.pair_sum_gradients(of["weights"], of["others"], of["neighbours"], own, lanes)
    compare([one for one in found if one is not None], slopes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize(("others", "extra"), [(True, False), (True, True), (False, False), (False, True)])
@pytest.mark.parametrize("lanes", LANES)
def test_attention_and_its_gradients(size, every, others, extra, lanes):
    of = case(size, every, others=others, extra=extra)
    neighbours = of["neighbours"] if others else None
    given = [of["weights"], of["others"], neighbours, of["pairs"], *(of["extra"] or (None, None))]
    doubles = double(given)
    expected = vector_attention._attend(*doubles)
    found = kernels.attend(*given[:4], of["extra"], lanes)
    compare([found[0]], [expected])
    wanted = [one for one in doubles if one is not None and one.is_floating_point()]
    slopes = torch.autograd.grad(expected, wanted, of["slope"].double())
    gradients = kernels.attend_gradients(of["slope"], *given[:4], of["extra"], found, lanes)
    compare([one for one in gradients if one is not None], slopes)


def test_functions_and_second_derivatives():
    of = case((2, 5, 7, 3, 20))
    results = []
    for dtype in (torch.float32, torch.float64):
        own, others, pairs, weights = (of[k].to(dtype).requires_grad_() for k in ("own", "others", "pairs", "weights"))
        extra = tuple(one.to(dtype).requires_grad_() for one in of["extra"])
        inputs = [own, others, pairs, weights, *extra]
        sums = pair_sums(own, others, of["neighbours"], pairs)
        value = attend(weights + sums.sin(), others, of["neighbours"], pairs, extra)
        slopes = torch.autograd.grad(value.square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(slope.square().sum() for slope in slopes), inputs)
        results.append((value, *slopes, *second))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.detach().abs().max()))


def test_first_derivatives_of_the_functions_when_one_tensor_is_given_twice():
    of = case((2, 5, 7, 3, 20))
    found = []
    for dtype in (torch.float32, torch.float64):
        pairs = of["pairs"].to(dtype).requires_grad_()
        found.append(torch.autograd.grad(attend(pairs, None, None, pairs).sin().sum(), pairs)[0])
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-5, atol=1e-6)


def test_layouts_do_not_matter():
    of = case((2, 5, 7, 3, 20), extra=False)
    given = [of["weights"], of["others"], of["neighbours"], of["pairs"]]
    turned = [one.transpose(-1, -2).contiguous().transpose(-1, -2) for one in given]
    assert torch.equal(attend(*turned), attend(*given))
    repeated = of["own"][:, :1].expand(-1, 5, -1)
    assert torch.equal(pair_sums(repeated, *turned[1:]), pair_sums(repeated.contiguous(), *given[1:]))


def test_second_derivatives_through_views():
    of = case((2, 5, 7, 3, 40), extra=False)
    found = []
    for dtype in (torch.float32, torch.float64):
        wide, others = of["pairs"].to(dtype).requires_grad_(), of["others"].to(dtype).requires_grad_()
        value = attend(wide[..., ::2], others[..., 1::2], of["neighbours"], wide[..., 1::2])
        slope = torch.autograd.grad(value.square().sum(), wide, create_graph=True)[0]
        found.append(torch.autograd.grad(slope.square().sum(), (wide, others)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_what_the_kernels_cannot_read_is_torchs():
    of = case((2, 5, 7, 3, 20), extra=False)
    weights, others, neighbours, pairs = (of[k] for k in ("weights", "others", "neighbours", "pairs"))
    expected = attend(weights, others, neighbours, pairs)
    torch.testing.assert_close(attend(weights, others, neighbours.int(), pairs), expected)
    few = attend(weights, others, neighbours, pairs[:, :1])
    torch.testing.assert_close(few, attend(weights, others, neighbours, pairs[:, :1].expand_as(pairs)))
    for wrong in (neighbours + 7, neighbours - 7):
        with pytest.raises(IndexError):
            attend(weights, others, wrong + 7 * torch.tensor([[[0]], [[1]]]), pairs)
        with pytest.raises(IndexError):
            pair_sums(of["own"], others, wrong + 7 * torch.tensor([[[0]], [[1]]]), pairs)
    nothing = attend(weights[:, :, :0], others, neighbours[:, :, :0], pairs[:, :, :0])
    assert torch.equal(nothing, torch.zeros(2, 5, 20))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_do_as_in_torch(bad):
    of = case((2, 5, 7, 3, 20), extra=False)
    of["weights"][0, 1, 2, 3] = bad
    of["weights"][1, 2, 0, 4] = 3e38
    of["weights"][1, 3, :, 5] = -3e38
    given = [of["weights"], of["others"], of["neighbours"], of["pairs"]]
    expected = vector_attention._attend(*given, None, None)
    torch.testing.assert_close(attend(*given), expected, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_bits_do_not_depend_on_threads():
    of = case((3, 50, 20, 6, 200))
    given = [of["weights"], of["others"], of["neighbours"], of["pairs"]]
    found = []
    for threads in (1, 2, 3, 16):
        torch.set_num_threads(threads)
        results = kernels.attend(*given, of["extra"])
        slopes = kernels.attend_gradients(of["slope"], *given, of["extra"], results)
        found.append((*results, *slopes, *kernels.pair_sum_gradients(of["weights"], of["others"], given[2], True)))
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_on_the_device(device):
    of = case((2, 5, 7, 3, 20))
    own, others, neighbours, pairs, weights = (
        of[k].to(device) for k in ("own", "others", "neighbours", "pairs", "weights")
    )
    extra = tuple(one.to(device) for one in of["extra"])
    expected = vector_attention._pair_sums(own, others, neighbours, pairs)
    torch.testing.assert_close(pair_sums(own, others, neighbours, pairs), expected)
    expected = vector_attention._attend(weights, others, neighbours, pairs, *extra)
    torch.testing.assert_close(attend(weights, others, neighbours, pairs, extra), expected, rtol=1e-5, atol=1e-5)
