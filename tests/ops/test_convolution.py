"""Convolution of grids against its twin and torch's, by every kind of vector that the processor has."""

from __future__ import annotations

import pytest
import torch

from pyimplicit import _native, ops
from pyimplicit.networks.layers import GridConvolution
from pyimplicit.ops import convolution, reference
from tests.helpers import randn

LANES = [lanes for lanes in (4, 8, 16) if lanes <= _native.vector_lanes()]
# Odd sizes leave tiles that stick out; the last ones are larger than a piece of tiles.
SIZES = [(1, 1, 1, 1), (1, 1, 2, 5), (2, 4, 4, 4), (1, 3, 7, 9), (2, 8, 9, 13), (3, 6, 8, 10)]


@pytest.fixture
def all_filtered(monkeypatch):
    """Small ones too, on any processor."""
    monkeypatch.setattr(convolution, "_LEAST_PRODUCTS", 0)
    monkeypatch.setattr(convolution, "_LEAST_LANES", 0)


def case(size, channels, out, dtype=torch.float32):
    batch, *cells = size
    grids, weight = randn(batch, channels, *cells, dtype=dtype), randn(out, channels, 3, 3, 3, seed=1, dtype=dtype)
    return grids, weight, randn(out, seed=2, dtype=dtype)


def gradients_by_torch(grids, gradients, weight):
    """In double precision."""
    inputs = [grids.double().requires_grad_(), weight.double().requires_grad_()]
    return torch.autograd.grad(torch.conv3d(*inputs, padding=1), inputs, gradients.double())


@pytest.mark.usefixtures("all_filtered")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "out"), [(16, 16), (16, 32), (32, 16), (48, 64), (32, 80)])
@pytest.mark.parametrize("lanes", LANES)
def test_equals_twin_and_torchs_gradients(size, channels, out, lanes):
    grids, weight, bias = case(size, channels, out)
    results = convolution._convolve_kernel(grids, weight, bias, lanes)
    expected = reference.convolve_grids(grids.double(), weight.double(), bias.double())
    assert results.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(results.double(), expected, rtol=0, atol=2e-6 * float(expected.abs().max()))
    slopes = randn(*results.shape, seed=3)
    of_weight, of_bias = convolution._gradients_kernel(grids, slopes, lanes)
    _, expected = gradients_by_torch(grids, slopes, weight)
    torch.testing.assert_close(of_weight.double(), expected, rtol=0, atol=3e-6 * float(expected.abs().max()))
    sums = slopes.double().sum((0, 2, 3, 4))
    torch.testing.assert_close(of_bias.double(), sums, rtol=0, atol=1e-6 * slopes.numel() ** 0.5)


@pytest.mark.usefixtures("all_filtered")
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_gradients_through_the_operator(device, with_bias, channels_last):
    grids, weight, bias = case((2, 5, 6, 7), 16, 32)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    inputs = [grids.to(device).contiguous(memory_format=layout), weight.to(device), bias.to(device)][: 2 + with_bias]
    inputs = [values.requires_grad_() for values in inputs]
    doubles = [values.detach().double().requires_grad_() for values in inputs]
    results, expected = ops.convolve_grids(*inputs), torch.conv3d(*doubles, padding=1)
    slopes = torch.autograd.grad(results.sin().sum(), inputs)
    wanted = torch.autograd.grad(expected.sin().sum(), doubles)
    share = 1e-5 if device.type == "cpu" else 1e-2  # torch's convolutions on a GPU round to TF32
    for one, other in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=share * float(other.abs().max()))


@pytest.mark.usefixtures("all_filtered")
def test_derivatives_of_derivatives():
    """Against torch's own in double precision, through gradients along everything."""
    given, found = case((1, 3, 4, 5), 16, 16), []
    for convolve, dtype in ((ops.convolve_grids, torch.float32), (torch.conv3d, torch.float64)):
        inputs = [values.to(dtype).requires_grad_() for values in given]
        padding = {} if convolve is ops.convolve_grids else {"padding": 1}
        slopes = torch.autograd.grad(convolve(*inputs, **padding).square().sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(slope.square().sum() for slope in slopes), inputs))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))


def test_gradcheck():
    grids, weight, bias = case((1, 2, 3, 2), 2, 3, torch.float64)
    inputs = [values.requires_grad_() for values in (grids, weight, bias)]
    assert torch.autograd.gradcheck(ops.convolve_grids, inputs)
    assert torch.autograd.gradgradcheck(ops.convolve_grids, inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("channels", "out"), [(3, 5), (16, 16)])
def test_everything_else_is_torchs(device, dtype, channels, out):
    grids, weight, bias = (values.to(device) for values in case((2, 4, 5, 6), channels, out, dtype))
    last = weight.contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(ops.convolve_grids(grids, weight, bias), torch.conv3d(grids, last, bias, padding=1))


def foul_memory():
    """Leave NaN in memory that is given out next."""
    for size in (64, 256, 1024, 3000, 4096, 7000, 16384, 65536):
        torch.full((size,), float("nan"), dtype=torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(2, 1, 2, 2), (2, 2, 2, 2), (1, 2, 5, 3), (2, 3, 2, 2), (1, 4, 4, 4)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_in_halves(device, dtype, size, channels_last):
    """Of two cells in depth torch's are whatever the memory held, on some processors."""
    grids, weight, bias = (values.to(device) for values in case(size, 16, 16, dtype))
    if channels_last:
        grids = grids.contiguous(memory_format=torch.channels_last_3d)
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    gradients = randn(*grids.shape, seed=3, dtype=dtype).to(device)
    _, expected = gradients_by_torch(grids.detach(), gradients, weight.detach())
    for _ in range(4):
        convolved = ops.convolve_grids(grids, weight, bias)
        foul_memory()
        of_weight, of_bias = torch.autograd.grad(convolved, (weight, bias), gradients)
        torch.testing.assert_close(of_weight.double(), expected, rtol=0, atol=0.02 * float(expected.abs().max()))
        total = gradients.double().sum((0, 2, 3, 4))
        torch.testing.assert_close(of_bias.double(), total, rtol=0, atol=0.02 * float(total.abs().max()))


@pytest.mark.parametrize("depth", [2, 4])
def test_a_layers_gradients_under_autocast(depth):
    """On the CPU, where torch's own would be used."""
    grids, weight, bias = case((2, depth, 2, 2), 16, 16)
    layer = GridConvolution(16, 16)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    for _ in range(4):
        grids.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            convolved = layer(grids)
        assert convolved.dtype == torch.bfloat16
        foul_memory()
        found = torch.autograd.grad(convolved.float().square().sum(), (grids, layer.weight))
        expected = gradients_by_torch(grids.detach(), 2 * convolved.detach(), weight)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=0, atol=0.02 * float(other.abs().max()))


def test_one_bit_for_any_threads_and_a_full_size():
    """What networks ask for: large enough to be filtered without being told."""
    grids, weight, bias = case((1, 32, 32, 32), 64, 64)
    if _native.vector_lanes() < 8:
        pytest.skip("torch's convolution runs on this processor")
    assert convolution._fits(grids, 64)
    slopes, found = randn(1, 64, 32, 32, 32, seed=3), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append((ops.convolve_grids(grids, weight, bias), *convolution._gradients_op(grids, slopes)))
    for result in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, found[0], strict=True))
    expected = torch.conv3d(grids.double(), weight.double(), bias.double(), padding=1)
    torch.testing.assert_close(found[0][0].double(), expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


@pytest.mark.usefixtures("all_filtered")
def test_what_is_not_finite_stays_around_its_cell():
    grids, weight, bias = case((1, 9, 9, 9), 16, 16)
    grids[0, 3, 4, 4, 4] = torch.nan
    results = ops.convolve_grids(grids, weight, bias)
    spoilt = results.isnan().any(dim=1)[0]
    assert spoilt[3:6, 3:6, 3:6].all()
    # The inputs of a tile go into all its results, so a neighbour of those 27 cells can be spoilt too, and no other.
    assert not spoilt[:2].any()
    assert not spoilt[7:].any()


@pytest.mark.parametrize("size", [(1, 32, 32, 32), (1, 4, 4, 4)])
def test_autocast_has_no_say(size):
    """Kernels turned in halves would be read as if they were not."""
    grids, weight, _ = case(size, 64, 64)
    weight.requires_grad_()
    expected = ops.convolve_grids(grids, weight)
    (slope,) = torch.autograd.grad(expected.sin().sum(), weight, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        results = ops.convolve_grids(grids, weight)
        (found,) = torch.autograd.grad(results.float().sin().sum(), weight)
        (later,) = torch.autograd.grad(expected.sin().sum(), weight)
    assert torch.equal(results, expected)
    assert results.dtype == torch.float32
    assert torch.equal(found, slope)
    assert torch.equal(later, slope)


@pytest.mark.usefixtures("all_filtered")
@pytest.mark.parametrize(
    "asked", [(True, False, False), (False, True, False), (False, False, True), (False, True, True)]
)
def test_each_gradient_alone(asked):
    inputs = [values.requires_grad_(own) for values, own in zip(case((2, 5, 4, 3), 16, 16), asked, strict=True)]
    wanted = [values for values in inputs if values.requires_grad]
    doubles = [values.detach().double().requires_grad_(values.requires_grad) for values in inputs]
    found = torch.autograd.grad(ops.convolve_grids(*inputs).sin().sum(), wanted)
    expected = torch.conv3d(*doubles, padding=1).sin().sum()
    for one, other in zip(found, torch.autograd.grad(expected, [v for v in doubles if v.requires_grad]), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("lanes", LANES)
def test_gradients_of_many_pieces(monkeypatch, lanes):
    """Several pieces to a part of the sum."""
    grids, _, _ = case((1, 42, 41, 40), 32, 64)
    slopes = randn(1, 64, 42, 41, 40, seed=3)
    monkeypatch.setattr(convolution, "_LEAST_LANES", 0)
    assert convolution._fits(grids, 64)
    of_weight, of_bias = convolution._gradients_kernel(grids, slopes, lanes)
    _, expected = gradients_by_torch(grids, slopes, randn(64, 32, 3, 3, 3))
    torch.testing.assert_close(of_weight.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(of_bias.double(), slopes.double().sum((0, 2, 3, 4)), rtol=0, atol=1e-3)


def test_empty_batch():
    grids, weight, bias = case((1, 2, 2, 2), 16, 16)
    assert ops.convolve_grids(grids[:0], weight, bias).shape == (0, 16, 2, 2, 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda g, w, b: (g[0], w, b), ValueError, "grids: expected shape"),
        (lambda g, w, b: (g.int(), w, b), TypeError, "grids: expected dtype"),
        (lambda g, w, b: (g, w[:, :3], b), ValueError, r"weight: expected shape \[O, 16, 3, 3, 3\]"),
        (lambda g, w, b: (g, w[..., :2], b), ValueError, "weight: expected shape"),
        (lambda g, w, b: (g, w.double(), b), TypeError, "weight: expected dtype float32"),
        (lambda g, w, b: (g, w, b[:3]), ValueError, r"bias: expected shape \[16\]"),
        (lambda g, w, b: (g, w.to("meta"), b), ValueError, "weight: expected a tensor on cpu"),
    ],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        ops.convolve_grids(*change(*case((1, 2, 2, 2), 16, 16)))
