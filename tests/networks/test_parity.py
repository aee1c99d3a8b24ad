"""Our networks against figures of the original authors' implementations, made with weights that a formula gives."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyimplicit import networks
from pyimplicit.fields import TSDF, UDF, ImplicitFunction, Occ
from pyimplicit.networks.base import Network
from pyimplicit.ops import matrix_products
from pyimplicit.training.curriculum import Curriculum

FIGURES = Path(__file__).parent / "parity"
KEYS = json.loads((FIGURES / "state_dict_keys.json").read_text())
# The same layers and keys as another: IF-Net's variants for points and voxels differ in the padding of the gather
# alone, Curriculum-DeepSDF is DeepSDF once trained, NDF has the layers of IF-Net's single-view network.
KEYS |= {
    name: KEYS[other]
    for name, other in (
        ("ifnet_128vox", "ifnet_points"),
        ("ndf", "ifnet_svr"),
        ("ndf_128", "ifnet_svr"),
        ("curriculum_deepsdf", "deepsdf"),
    )
}
MEANS = json.loads((FIGURES / "initial_means.json").read_text())
EPOCH = 700  # of the figures of Curriculum-DeepSDF

OCC, CLAMPED, UNSIGNED = Occ(), TSDF(0.1), UDF(0.1)
# file: (network, variant, config, its authors' loss and how they reduce it, their penalty of codes)
CASES: dict[str, tuple[str, str | None, dict[str, Any], ImplicitFunction, str]] = {
    "onet": ("onet", None, {}, OCC, "sum"),
    "convonet_3plane": ("convonet", "3plane", {}, OCC, "sum"),
    "convonet_grid32": ("convonet", "grid32", {}, OCC, "sum"),
    "ifnet_points": ("ifnet", "points", {}, OCC, "sum"),
    "airnet_300": ("airnet", "300", {}, OCC, "mean"),
    "ndf_128": ("ndf", None, {"resolution": 128}, UNSIGNED, "sum"),
    "deepsdf": ("deepsdf", None, {}, CLAMPED, "mean"),
    "curriculum_deepsdf": ("curriculum_deepsdf", None, {}, Curriculum().kind(CLAMPED, EPOCH), "mean"),
}


def author_value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight that the fixtures give the parameter or buffer `key`: normal draws seeded by the key, rescaled."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    draws = generator.standard_normal(shape)
    ending = key.rsplit(".", 1)[-1]
    if ending == "running_var":
        return generator.random(shape) + 0.5
    offset, scale = 0.0, 0.05  # biases and whatever else is a vector
    if ending == "running_mean":
        scale = 0.1
    elif ending == "weight_g":
        offset, scale = 1.5, 0.1
    elif ending == "weight_v":
        scale = 1.0
    elif len(shape) > 1:
        # IF-Net's and NDF's layers are at the top level
        scale = math.sqrt((2 if key.startswith(("conv_", "fc_")) else 1) / math.prod(shape[1:]))
    elif ending == "weight" or key.endswith("gamma.bias"):
        offset, scale = 1.0, 0.1
    elif key == "fc_out.bias":
        offset = 1.0
    return offset + scale * draws


def author_state(case: str) -> dict[str, Tensor]:
    state = {}
    for key, (shape, dtype) in KEYS[case].items():
        shape = (2, *shape[1:]) if key == "codes" else tuple(shape)
        integer = dtype == "int64"
        state[key] = torch.tensor(1) if integer else torch.tensor(author_value(key, shape), dtype=torch.float32)
    return state


@dataclass
class Passed:
    """What one network gave: forwards and backwards run once for all tests of it."""

    name: str
    network: Network
    code: Any  # what the network decodes
    figures: dict[str, np.ndarray]
    values: Tensor  # [B, T]
    point_gradients: Tensor  # [B, T, 3]
    loss: float
    gradient_norms: dict[str, float | None]  # by our names; "codes" for an auto-decoder's


@pytest.fixture(params=["as sizes have it", "by kernels"], scope="module", autouse=True)
def linear_layers(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of them by the kernels too, where the processor has them: these shapes are mostly too small for them."""
    least = matrix_products.LEAST_PRODUCTS
    if request.param == "by kernels":
        matrix_products.LEAST_PRODUCTS = 0
    yield
    matrix_products.LEAST_PRODUCTS = least


@pytest.fixture(params=CASES, scope="module")
def passed(request: pytest.FixtureRequest) -> Passed:
    name, variant, config, kind, reduction = CASES[request.param]
    network = networks.create(name, variant, **config)
    networks.load_author_state(network, author_state(request.param))
    network.eval()
    if isinstance(network, networks.CurriculumDeepSDF):
        network.epoch = EPOCH
    with np.load(FIGURES / f"{request.param}.npz") as arrays:
        figures = dict(arrays)
    points = torch.tensor(figures["points"], requires_grad=True)
    if network.kind == "encoder":
        code = network.encode(torch.tensor(figures["cloud"]))
    else:
        code = author_state(request.param)["codes"].requires_grad_()
    values = network.decode(points, code)
    (point_gradients,) = torch.autograd.grad(values.sum(), points, retain_graph=True)
    label = {"occ": "occ", "tsdf": "sdf", "udf": "df"}[kind.name]
    loss = kind.loss(values, torch.tensor(figures[label]), reduction)
    if isinstance(code, Tensor) and network.kind == "auto_decoder":
        penalty = code.norm(dim=1) if name == "deepsdf" else code.square().mean(1)
        loss = loss + 1e-4 * penalty.mean()
    loss.backward()
    norms = {
        key: None if parameter.grad is None else parameter.grad.norm().item()
        for key, parameter in network.named_parameters()
    }
    if isinstance(code, Tensor) and code.is_leaf:
        assert code.grad is not None
        norms["codes"] = code.grad.norm().item()
    return Passed(request.param, network, code, figures, values.detach(), point_gradients, loss.item(), norms)


NEIGHBOURS, REACH = 256, 1e-5  # points, mesh units


def test_outputs_and_point_gradients(passed: Passed) -> None:
    expected = torch.tensor(passed.figures["out_eval"])
    assert (passed.values - expected).abs().max() <= 1e-5 * expected.abs().max()
    expected = torch.tensor(passed.figures["dout_dpoints"])
    off = (passed.point_gradients - expected).abs().amax(-1) / expected.abs().max()
    kinks = off > 1e-4
    assert kinks.double().mean() <= 0.01
    # Where a ReLU unit is within rounding of its kink the derivative jumps, and the processor's order of summation
    # decides which side it is on. Then the authors' derivative is that of a point next to it.
    generator = torch.Generator().manual_seed(0)
    for item, point in kinks.nonzero().tolist():
        around = torch.tensor(passed.figures["points"])[:, point : point + 1].repeat(1, NEIGHBOURS, 1)
        around += REACH * (2 * torch.rand(around.shape, generator=generator) - 1)
        around.requires_grad_()
        (nearby,) = torch.autograd.grad(passed.network.decode(around, passed.code).sum(), around)
        nearest = (nearby[item] - expected[item, point]).abs().amax(-1).min()
        assert nearest <= 1e-4 * expected.abs().max()


def test_loss_and_gradient_norms(passed: Passed) -> None:
    assert passed.loss == pytest.approx(float(passed.figures["loss_eval"]), rel=1e-5)
    own_key = passed.network.own_key
    norms = dict(zip(passed.figures["grad_keys"].tolist(), passed.figures["grad_norms"].tolist(), strict=True))
    assert {own_key(key) for key in norms} == {key for key, norm in passed.gradient_norms.items() if norm is not None}
    # A bias that all weights of a softmax share changes nothing: AIR-Net's gradients for it are rounding.
    idle = {key for key in norms if passed.name == "airnet_300" and ".fc_gamma" in key and key.endswith(".2.bias")}
    largest = max(norms.values())
    for key, norm in norms.items():
        ours = passed.gradient_norms[own_key(key)]
        if key in idle:
            assert norm <= 1e-5 * largest, key
            assert ours <= 1e-5 * largest, key
        else:
            assert ours == pytest.approx(norm, rel=1e-2), key


# Passes in training mode, and whose clouds, points and labels they took.
TRAINED = {
    "onet": "onet",
    "ifnet_points": "ifnet_points",
    "airnet_300": "airnet_300",
    "convonet_1plane": "convonet_3plane",
}


@pytest.mark.parametrize("case_name", TRAINED)
def test_training_mode(case_name: str) -> None:
    """Outputs, loss, gradients and running statistics of the authors' networks in training mode, in one pass.

    Made as the other figures: the authors' modules on a CPU under torch 2, with the weights of `author_value`.
    """
    source = TRAINED[case_name]
    name, variant, config = arguments(case_name)
    _, _, _, kind, reduction = CASES[source]
    network = networks.create(name, variant, **config)
    networks.load_author_state(network, author_state(case_name))
    network.train()
    with np.load(FIGURES / f"{source}.npz") as arrays:
        points, cloud = torch.tensor(arrays["points"]), torch.tensor(arrays["cloud"])
        target = torch.tensor(arrays["df" if kind.name == "udf" else "occ"])
    with np.load(FIGURES / f"train_{case_name}.npz") as arrays:
        figures = dict(arrays)
    values = network(points, cloud)
    loss = kind.loss(values, target, reduction)
    loss.backward()
    expected = torch.tensor(figures["out"])
    assert (values - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert loss.item() == pytest.approx(float(figures["loss"]), rel=1e-5)
    largest = float(figures["grad_norms"].max())
    parameters = dict(network.named_parameters())
    for key, norm in zip(figures["grad_keys"].tolist(), figures["grad_norms"].tolist(), strict=True):
        gradient = parameters[network.own_key(key)].grad
        assert gradient is not None, key
        # a bias before a normalisation changes nothing: its gradient is rounding
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-2, abs=1e-6 * largest), key
    buffers = dict(network.named_buffers())
    for key, norm in zip(figures["statistic_keys"].tolist(), figures["statistic_norms"].tolist(), strict=True):
        assert buffers[network.own_key(key)].double().norm().item() == pytest.approx(norm, rel=1e-5), key


def arguments(case_name: str) -> tuple[str, str | None, dict[str, Any]]:
    """What `create` takes for a case: as its entry says, or network and variant as its name does."""
    if case_name in CASES:
        return CASES[case_name][:3]
    name, _, variant = case_name.partition("_")
    return name, variant or None, {}


@pytest.mark.parametrize("case_name", KEYS)
def test_state_has_the_authors_keys_shapes_and_dtypes(case_name: str) -> None:
    name, variant, config = arguments(case_name)
    with torch.device("meta"):
        network = networks.create(name, variant, **config)
    ours = {
        key: (list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in network.state_dict().items()
    }
    authors = {key: tuple(entry) for key, entry in KEYS[case_name].items() if key != "codes"}
    assert ours == {network.own_key(key): entry for key, entry in authors.items()}
    if network.kind == "encoder":
        assert set(ours) == set(authors)


@pytest.mark.parametrize("case_name", MEANS)
def test_equal_seeds_give_the_weights_of_the_authors(case_name: str) -> None:
    torch.manual_seed(0)
    name, variant, config = arguments(case_name)
    network = networks.create(name, variant, **config)
    state = network.state_dict()
    for key, mean in MEANS[case_name].items():
        assert state[network.own_key(key)].mean().item() == pytest.approx(mean, abs=2e-6), key
