"""DeepSDF against a restatement on rows of cat[code, xyz], as the paper draws it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit import networks
from pyimplicit.networks.base import Network
from pyimplicit.networks.layers import relu_dropout
from tests.networks.small import build, inputs


def decode_rows(network: Network, points: Tensor, code: Tensor, training: bool) -> Tensor:
    state = network.state_dict()
    rows = torch.cat([code[:, None].expand(-1, points.shape[1], -1), points], 2).flatten(0, 1)
    x = rows
    layers = network.config["hidden_layers"]
    for index in range(layers):
        length, direction = (state[f"lin{index}.parametrizations.weight.original{i}"] for i in (0, 1))
        if index == network.config["skip_layer"]:
            x = torch.cat([x, rows], 1)
        x = F.linear(x, length * direction / direction.norm(dim=1, keepdim=True), state[f"lin{index}.bias"])
        x = F.dropout(F.relu(x), network.config["dropout"], training)
    x = torch.tanh(F.linear(x, state[f"lin{layers}.weight"], state[f"lin{layers}.bias"]))
    return x.view(points.shape[:2])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("skip_layer", [1, 2, 3])
def test_against_the_restatement_with_the_same_dropout(training: bool, skip_layer: int) -> None:
    network = build("deepsdf", dtype=torch.float64, skip_layer=skip_layer).train(training)
    points, code = inputs(network, 3, 20)
    torch.manual_seed(11)
    values = network.decode(points, code)
    torch.manual_seed(11)  # the masks are drawn in the same order, so even the dropped features agree
    torch.testing.assert_close(values, decode_rows(network, points, code, training))


def test_dropout_acts_in_training_only() -> None:
    network = build("deepsdf")
    points, code = inputs(network, 1, 50)
    assert not torch.equal(network.decode(points, code), network.decode(points, code))
    network.eval()
    assert torch.equal(network.decode(points, code), network.decode(points, code))


def test_size_of_the_authors_network() -> None:
    with torch.device("meta"):
        network = networks.create("deepsdf")
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_843_195
    assert network.get_submodule("lin3").weight.shape == (512 - 259, 512)
    assert network.code_size == 256


@pytest.mark.parametrize("probability", [0.2, 1.0])
def test_relu_and_dropout_are_torchs_for_equal_seeds(probability: float) -> None:
    features = torch.randn(50, 40, requires_grad=True)
    probe = torch.randn(50, 40)
    results = []
    for layer in (
        lambda x: relu_dropout(x, probability, True),
        lambda x: F.dropout(x.relu(), probability),
    ):
        torch.manual_seed(1)
        value = layer(features * 1)
        results.append((value, *torch.autograd.grad((value * probe).sum(), features)))
    for ours, torchs in zip(*results, strict=True):
        assert torch.equal(ours, torchs)
