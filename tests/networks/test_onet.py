"""ONet against a plain restatement that forms every concatenation and runs convolutions over [B, C, T]."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.networks.small import build, inputs

State = dict[str, Tensor]


def residual_block(state: State, x: Tensor) -> Tensor:
    hidden = F.linear(F.relu(x), state["fc_0.weight"], state["fc_0.bias"])
    return F.linear(F.relu(hidden), state["fc_1.weight"], state["fc_1.bias"]) + F.linear(x, state["shortcut.weight"])


def encode(state: State, clouds: Tensor) -> Tensor:
    x = F.linear(clouds, state["encoder.fc_pos.weight"], state["encoder.fc_pos.bias"])
    for index in range(5):
        prefix = f"encoder.block_{index}."
        x = residual_block({key.removeprefix(prefix): value for key, value in state.items()}, x)
        if index < 4:
            x = torch.cat([x, x.amax(1, keepdim=True).expand_as(x)], 2)
    return F.linear(F.relu(x.amax(1)), state["encoder.fc_c.weight"], state["encoder.fc_c.bias"])


def decode(state: State, points: Tensor, code: Tensor, training: bool) -> Tensor:
    def convolve(name: str, x: Tensor) -> Tensor:
        return F.conv1d(x, state[f"decoder.{name}.weight"], state[f"decoder.{name}.bias"])

    def normalise(name: str, x: Tensor) -> Tensor:
        mean, variance = (state[f"decoder.{name}.bn.running_{what}"] for what in ("mean", "var"))
        x = F.batch_norm(x, mean, variance, training=training)  # updates the running statistics in training
        return convolve(f"{name}.conv_gamma", code[..., None]) * x + convolve(f"{name}.conv_beta", code[..., None])

    x = convolve("fc_p", points.transpose(1, 2))
    for index in range(5):
        hidden = convolve(f"block{index}.fc_0", F.relu(normalise(f"block{index}.bn_0", x)))
        x = x + convolve(f"block{index}.fc_1", F.relu(normalise(f"block{index}.bn_1", hidden)))
    return convolve("fc_out", F.relu(normalise("bn", x)))[:, 0]


@pytest.mark.parametrize("training", [False, True])
def test_against_the_plain_restatement(training: bool) -> None:
    network = build("onet", dtype=torch.float64).train(training)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    points, clouds = inputs(network, 3, 50)
    code = network.encode(clouds)
    torch.testing.assert_close(code, encode(state, clouds))
    values = network.decode(points, code)
    torch.testing.assert_close(values, decode(state, points, code, training))
    for key, value in network.state_dict().items():  # running statistics; in training both have moved once
        if key.endswith("num_batches_tracked"):
            assert value.item() == int(training)
        else:
            torch.testing.assert_close(value, state[key])


def test_a_tie_in_the_pooling_has_one_winner() -> None:
    network = build("onet", dtype=torch.float64, encoder_blocks=1)
    clouds = torch.full((1, 4, 3), 0.2, dtype=torch.float64, requires_grad=True)  # four times the same point
    network.encode(clouds).sum().backward()
    assert clouds.grad is not None
    per_point = clouds.grad.norm(dim=2)[0]
    assert (per_point > 0).sum() == 1


def test_fresh_decoder_ignores_the_code_and_starts_as_the_identity() -> None:
    from pyimplicit import networks

    network = networks.create("onet", code_size=6, hidden_size=8, decoder_size=8).eval()
    points, clouds = inputs(network, 2, 5)
    code = network.encode(clouds)
    assert torch.equal(network.decode(points, code), network.decode(points, -7 * code))
    for key, value in network.state_dict().items():
        if key.startswith("decoder") and "conv_" in key:
            assert (value == (1.0 if key.endswith("conv_gamma.bias") else 0.0)).all()


def test_one_point_cannot_be_normalised_in_training() -> None:
    network = build("onet").train()
    points, clouds = inputs(network, 1, 1)
    with pytest.raises(ValueError, match="points: expected at least 2 in training mode"):
        network(points, clouds)
