"""Our networks against figures of the original authors' implementations, made with weights that a formula gives."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pyimplicit import networks
from pyimplicit.networks.base import Network

FIGURES = Path(__file__).parent / "parity"
KEYS = json.loads((FIGURES / "state_dict_keys.json").read_text())
CASES = {
    "onet": ("onet", None),
    "convonet_3plane": ("convonet", "3plane"),
    "convonet_grid32": ("convonet", "grid32"),
    "deepsdf": ("deepsdf", None),
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
        scale = math.sqrt(1 / math.prod(shape[1:]))
    elif ending == "weight" or key.endswith("gamma.bias"):
        offset, scale = 1.0, 0.1
    return offset + scale * draws


def author_state(case: str) -> dict[str, torch.Tensor]:
    state = {}
    for key, (shape, dtype) in KEYS[case].items():
        shape = (2, *shape[1:]) if key == "codes" else tuple(shape)
        integer = dtype == "int64"
        state[key] = torch.tensor(1) if integer else torch.tensor(author_value(key, shape), dtype=torch.float32)
    return state


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[str, Network, dict[str, np.ndarray]]:
    name, variant = CASES[request.param]
    network = networks.create(name, variant)
    networks.load_author_state(network, author_state(request.param))
    with np.load(FIGURES / f"{request.param}.npz") as arrays:
        return request.param, network.eval(), dict(arrays)


def run(case: tuple[str, Network, dict[str, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    name, network, figures = case
    points = torch.tensor(figures["points"], requires_grad=True)
    if network.kind == "encoder":
        code = network.encode(torch.tensor(figures["cloud"]))
    else:
        code = author_state(name)["codes"].requires_grad_()
    return points, code, network.decode(points, code)


def test_outputs_and_point_gradients(case: tuple[str, Network, dict[str, np.ndarray]]) -> None:
    points, _, values = run(case)
    expected = torch.tensor(case[2]["out_eval"])
    assert (values - expected).abs().max() <= 1e-5 * expected.abs().max()
    (gradient,) = torch.autograd.grad(values.sum(), points)
    expected = torch.tensor(case[2]["dout_dpoints"])
    off = (gradient - expected).abs().amax(-1) / expected.abs().max()
    if case[0] != "deepsdf":
        assert off.max() <= 1e-4
        return
    # Where one of its many ReLU units is within rounding of its kink the derivative jumps, and the processor's order of
    # summation decides which side it is on: one point in some hundreds, and by the share of one unit.
    assert (off <= 1e-4).double().mean() >= 0.99
    assert off.max() <= 1e-3


def test_loss_and_gradient_norms(case: tuple[str, Network, dict[str, np.ndarray]]) -> None:
    name, network, figures = case
    _, code, values = run(case)
    if network.kind == "encoder":
        loss = F.binary_cross_entropy_with_logits(values, torch.tensor(figures["occ"]), reduction="none").sum(1).mean()
    else:
        error = values.clamp(-0.1, 0.1) - torch.tensor(figures["sdf"]).clamp(-0.1, 0.1)
        loss = error.abs().mean() + 1e-4 * code.norm(dim=1).mean()
    assert loss.item() == pytest.approx(float(figures["loss_eval"]), rel=1e-5)

    network.zero_grad()
    loss.backward()
    ours = {key: parameter.grad.norm().item() for key, parameter in network.named_parameters()}
    norms = dict(zip(figures["grad_keys"].tolist(), figures["grad_norms"].tolist(), strict=True))
    if (codes_norm := norms.pop("codes", None)) is not None:
        assert code.grad.norm().item() == pytest.approx(codes_norm, rel=1e-2)
    assert {network.own_key(key) for key in norms} == set(ours)
    for key, norm in norms.items():
        assert ours[network.own_key(key)] == pytest.approx(norm, rel=1e-2), f"{name} {key}"


@pytest.mark.parametrize("case_name", KEYS)
def test_state_has_the_authors_keys_shapes_and_dtypes(case_name: str) -> None:
    with torch.device("meta"):
        network = networks.create(*case_name.split("_"))
    ours = {
        key: (list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in network.state_dict().items()
    }
    authors = {key: tuple(entry) for key, entry in KEYS[case_name].items() if key != "codes"}
    assert ours == {network.own_key(key): entry for key, entry in authors.items()}
    if network.name != "deepsdf":
        assert set(ours) == set(authors)
