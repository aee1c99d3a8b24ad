"""Curriculum-DeepSDF at every kind of epoch, against the authors' schedule written out for their eight layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit import networks
from pyimplicit.networks import CurriculumDeepSDF, load_network, save_network

SMALL = {"code_size": 5, "hidden_size": 16, "dropout": 0.3}


def authors_schedule(epoch: int) -> tuple[int, float]:
    """Hidden layers in use, and what the last of them leaves to its input."""
    if epoch <= 200:
        return 5, 0.0
    if epoch <= 600:
        return 6, (400 - epoch) / 200 if epoch < 400 else 0.0
    if epoch <= 1000:
        return 7, (800 - epoch) / 200 if epoch < 800 else 0.0
    return 8, (1200 - epoch) / 200 if epoch < 1200 else 0.0


def decode_rows(network: CurriculumDeepSDF, points: Tensor, code: Tensor, epoch: int) -> Tensor:
    rows = torch.cat([code[:, None].expand(-1, points.shape[1], -1), points], 2).flatten(0, 1)
    layers, bypass = authors_schedule(epoch)
    x = rows
    for index in range(layers):
        before = x
        x = network.get_submodule(f"lin{index}")(torch.cat([x, rows], 1) if index == 4 else x)
        if bypass and index == layers - 1:
            x = before * bypass + x * (1 - bypass)
        x = F.dropout(F.relu(x), 0.3, network.training)
    return torch.tanh(network.get_submodule("lin8")(x)).view(points.shape[:2])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "epoch", [1, 199, 200, 201, 300, 399, 400, 401, 600, 601, 700, 800, 1000, 1001, 1199, 1200, 2001]
)
def test_against_the_authors_schedule(epoch: int, training: bool) -> None:
    torch.manual_seed(0)
    network = networks.create("curriculum_deepsdf", **SMALL).double().train(training)
    assert isinstance(network, CurriculumDeepSDF)
    points = torch.rand(2, 20, 3, dtype=torch.float64) - 0.5
    code = torch.randn(2, 5, dtype=torch.float64)
    network.epoch = epoch
    assert network.depth() == pytest.approx(authors_schedule(epoch))
    torch.manual_seed(7)
    values = network.decode(points, code)
    torch.manual_seed(7)  # the masks of dropout are drawn in the same order
    torch.testing.assert_close(values, decode_rows(network, points, code, epoch))


def test_layers_not_yet_in_use_get_no_gradient() -> None:
    network = networks.create("curriculum_deepsdf", **SMALL)
    assert isinstance(network, CurriculumDeepSDF)
    network.epoch = 601
    network.decode(torch.rand(1, 4, 3), torch.zeros(1, 5)).sum().backward()
    idle = {key.split(".")[0] for key, parameter in network.named_parameters() if parameter.grad is None}
    assert idle == {"lin7"}


def test_the_whole_network_is_deepsdf_and_the_epoch_is_not_saved(tmp_path: Path) -> None:
    network = networks.create("curriculum_deepsdf", **SMALL).eval()
    assert isinstance(network, CurriculumDeepSDF)
    plain = networks.create("deepsdf", **SMALL).eval()
    plain.load_state_dict(network.state_dict())
    points, code = torch.rand(2, 9, 3), torch.randn(2, 5)
    assert torch.equal(network.decode(points, code), plain.decode(points, code))
    network.epoch = 1
    assert not torch.equal(network.decode(points, code), plain.decode(points, code))
    save_network(network, tmp_path / "network.safetensors")
    assert torch.equal(load_network(tmp_path / "network.safetensors").decode(points, code), plain.decode(points, code))
    network.epoch = None
    assert torch.equal(network.decode(points, code), plain.decode(points, code))
    with pytest.raises(TypeError, match="epoch: expected a number, got str"):
        network.epoch = "last"  # type: ignore[assignment]
