"""Linear layers by kernels and by torch: results, every derivative, and what must be left to torch."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from pyimplicit import _native
from pyimplicit.networks.linear import Linear, pointwise
from pyimplicit.ops import matrix_products
from pyimplicit.ops.linear import linear
from tests.helpers import randn


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch):
    monkeypatch.setattr(matrix_products, "LEAST_PRODUCTS", 0)


def inputs(shape=(3, 7, 20), out=18, dtype=torch.float32):
    x, weight = randn(*shape, dtype=dtype), randn(out, shape[-1], seed=1, dtype=dtype)
    return [of.requires_grad_() for of in (x, weight, randn(out, seed=2, dtype=dtype))]


def by_torch(x, weight, bias, relu):
    result = F.linear(x, weight, bias)
    return result.relu() if relu else result


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shape", [(20,), (5, 20), (3, 7, 20), (2, 3, 4, 20), (2, 0, 20)])
def test_results_and_gradients(shape, with_bias, relu):
    given = inputs(shape)[: 2 + with_bias]
    doubles = [of.detach().double().requires_grad_() for of in given]
    result = linear(*given, relu=relu)
    expected = by_torch(*doubles, *([] if with_bias else [None]), relu)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)
    slope = randn(*result.shape, seed=4)
    found = torch.autograd.grad(result, given, slope)
    for one, other in zip(found, torch.autograd.grad(expected, doubles, slope.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", [[0], [1], [2], [0, 2], [1, 2]])
def test_some_gradients(wanted):
    given = inputs()
    for index, of in enumerate(given):
        of.requires_grad_(index in wanted)
    found = torch.autograd.grad(linear(*given, relu=True).sin().sum(), [given[k] for k in wanted])
    expected = torch.autograd.grad(by_torch(*given, True).sin().sum(), [given[k] for k in wanted])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("relu", [False, True])
def test_second_derivatives(relu):
    found = []
    for call, dtype in ((linear, torch.float32), (by_torch, torch.float64)):
        given = [of.detach().to(dtype).requires_grad_() for of in inputs()]
        slopes = torch.autograd.grad(call(*given, relu).square().sum(), given, create_graph=True)
        found.append(torch.autograd.grad(sum(slope.square().sum() for slope in slopes), given))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("autocast", [False, True])
def test_second_derivatives_through_parts_of_a_weight(autocast):
    if autocast and not _native.have_matrix_unit():
        pytest.skip("without a matrix unit it is torch's own layer, whose derivatives autocast takes in halves")
    found = []
    for call, dtype in ((linear, torch.float32), (by_torch, torch.float64)):
        x, weight, bias = (of.detach().to(dtype).requires_grad_() for of in inputs((3, 7, 40)))
        result = call(x[..., 4:24], weight[:, ::2], bias, True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast and dtype == torch.float32):
            slopes = torch.autograd.grad(result.square().sum(), (x, weight), create_graph=True)
        found.append(torch.autograd.grad(sum(slope.square().sum() for slope in slopes), (x, weight, bias)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_a_bias_of_another_kind_is_torchs_to_judge():
    x, weight, _ = (of.detach() for of in inputs())
    with pytest.raises(RuntimeError):
        linear(x, weight, torch.ones(7))
    with pytest.raises(RuntimeError):
        linear(x, weight, torch.ones(18, dtype=torch.float64))
    one = torch.ones(1)
    torch.testing.assert_close(linear(x, weight, one), F.linear(x, weight, one))
    negated = torch._neg_view(torch.rand(18))
    torch.testing.assert_close(linear(x, weight, negated), F.linear(x, weight, negated))


def test_many_gradients_at_once():
    given = inputs()
    result = linear(*given, relu=True)
    slopes = randn(4, *result.shape, seed=5)
    together = torch.autograd.grad(result, given, slopes, is_grads_batched=True, retain_graph=True)
    for k, slope in enumerate(slopes):
        for one, other in zip(together, torch.autograd.grad(result, given, slope, retain_graph=True), strict=True):
            torch.testing.assert_close(one[k], other, rtol=1e-5, atol=1e-5)


def test_layouts_do_not_matter():
    x, weight, bias = (of.detach() for of in inputs((6, 5, 20)))
    expected = by_torch(x, weight, bias, True)
    turned = weight.t().contiguous().t()
    torch.testing.assert_close(linear(x.transpose(0, 1), turned, bias, relu=True), expected.transpose(0, 1))
    wide = torch.cat([weight, weight], 1)
    torch.testing.assert_close(linear(x, wide[:, :20], bias.expand(2, -1)[0], relu=True), expected)


def test_a_result_may_be_changed_in_place_but_for_a_relus():
    given = inputs()
    expected = torch.autograd.grad(by_torch(*given, True).square().sum(), given)
    for one, other in zip(torch.autograd.grad(linear(*given).relu_().square().sum(), given), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    if _native.have_matrix_unit():
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            linear(*given, relu=True).mul_(2).sum().backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torch_where_a_transform_autocast_or_another_type_needs_it(monkeypatch):
    monkeypatch.setattr(matrix_products, "times_weight", None)  # must not be called
    x, weight, bias = (of.detach() for of in inputs())
    doubles = [of.double() for of in (x, weight, bias)]
    assert torch.equal(linear(*doubles), F.linear(*doubles))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    mapped = torch.func.vmap(lambda rows: linear(rows, weight, bias))(x)
    torch.testing.assert_close(mapped, F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)
    _, tangent = torch.func.jvp(lambda rows: linear(rows, weight, bias, relu=True), (x,), (x,))
    assert tangent.shape == (3, 7, 18)
    with torch.device("meta"):
        assert linear(torch.empty(3, 20), torch.empty(18, 20)).shape == (3, 18)


def test_modules(device):
    layer = Linear(20, 18, relu=True).to(device)
    x = randn(3, 7, 20).to(device)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias).relu(), rtol=1e-4, atol=1e-4)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    convolution = torch.nn.Conv1d(20, 18, 1).to(device)
    expected = convolution(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(pointwise(convolution, x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pointwise(convolution, x, relu=True), expected.relu(), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_traced_layers_give_the_same():
    layer, x = Linear(20, 18, relu=True), randn(3, 7, 20)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.jit.trace(layer, x)(2 * x), layer(2 * x), rtol=1e-5, atol=1e-5)
