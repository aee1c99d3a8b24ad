"""Checkpoints in the forms in which the original authors' code writes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pyimplicit.errors import CheckpointError
from pyimplicit.networks import author_codes, load_author_state
from tests.networks.small import AUTO_DECODERS, build, inputs

OLD_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for new, old in OLD_NAMES.items():
            key = key.replace(new, old)
        renamed[key] = value
    return renamed


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("names", ["old", "new"])
@pytest.mark.parametrize("prefix", ["", "module.", "decoder.", "module.decoder."])
@pytest.mark.parametrize("wrapper", [None, "model", "model_state_dict"])
@pytest.mark.parametrize("case", AUTO_DECODERS)
def test_auto_decoder_forms(case: str, names: str, prefix: str, wrapper: str | None) -> None:
    source, target = build(case, seed=1).eval(), build(case, seed=2).eval()
    state = dict(source.state_dict())
    state = prefixed(prefix, old_names(state) if names == "old" else state)
    load_author_state(target, state if wrapper is None else {"epoch": 2001, wrapper: state})
    points, code = inputs(source, 2, 5)
    assert torch.equal(source.decode(points, code), target.decode(points, code))


@pytest.mark.parametrize("case", ["onet", "3plane", "grid32", "points", "svr", "ndf", "300", "3000"])
@pytest.mark.parametrize("form", ["plain", "checkpoint", "tar", "parallel", "parts", "two files", "float64"])
def test_encoder_network_forms(case: str, form: str) -> None:
    source, target = build(case, seed=1).eval(), build(case, seed=2).eval()
    state: dict[str, Any] = dict(source.state_dict())
    if form == "checkpoint":
        state = {"model": state, "optimizer": {"state": {}}, "epoch_it": 3, "it": 9000, "loss_val_best": 0.7}
    elif form == "tar":  # IF-Net's and NDF's
        state = {"epoch": 3, "training_time": 7.5, "model_state_dict": state, "optimizer_state_dict": {"state": {}}}
    elif form == "parallel":
        state = prefixed("module.", state)
    elif form in ("parts", "two files"):
        parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            if part not in parts:  # as AIR-Nets' authors split IF-Net
                part, rest = "decoder" if key.startswith("fc_") else "encoder", key
            parts[part][rest] = value
        endings = {"parts": "_state_dict", "two files": ""}
        state = {part + endings[form]: prefixed("module.", values) for part, values in parts.items()} | {"epoch": 1}
    elif form == "float64":
        state = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    load_author_state(target, state)
    assert target.dtype == torch.float32
    points, clouds = inputs(source, 2, 5)
    assert torch.equal(source(points, clouds), target(points, clouds))


def test_a_copy_is_made() -> None:
    source, target = build("onet", seed=1), build("onet", seed=2)
    state = source.state_dict()
    load_author_state(target, state)
    state["encoder.fc_c.bias"].add_(1)
    assert not torch.equal(target.state_dict()["encoder.fc_c.bias"], state["encoder.fc_c.bias"])


def test_latent_table_beside_the_weights_is_not_part_of_the_network() -> None:
    network = build("deepsdf")
    load_author_state(network, {"codes": torch.zeros(9, 5), **prefixed("decoder.", dict(network.state_dict()))})


def test_wrong_keys_and_shapes_are_named_and_nothing_is_loaded() -> None:
    network = build("deepsdf")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = old_names(dict(build("deepsdf", seed=3).state_dict()))
    bad: list[tuple[dict[str, Any], str]] = [
        ({key: value for key, value in state.items() if key != "lin1.bias"}, r"missing lin1\.bias"),
        ({**state, "bn1.weight": torch.zeros(3)}, r"unknown bn1\.weight"),
        ({**state, "lin0.bias": torch.zeros(3)}, r"unfit lin0\.bias \(expected \[16\] float32, got \[3\] float32\)"),
        ({**state, "lin0.bias": torch.zeros(16, dtype=torch.int64)}, r"unfit lin0\.bias .* got \[16\] int64"),
        ({**state, "lin0.bias": [0.0] * 16}, r"unfit lin0\.bias .* got list"),
        ({**state, "decoder.lin0.bias": torch.zeros(16)}, r"decoder\.lin0\.bias is a second name of lin0\.bias"),
        ({}, "missing lin0.bias"),
    ]
    for wrong, message in bad:
        with pytest.raises(CheckpointError, match=message):
            load_author_state(network, wrong)
    with pytest.raises(TypeError, match="state_dict: expected a mapping"):
        load_author_state(network, [torch.zeros(3)])  # type: ignore[arg-type]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_codes_of_another_network_are_not_ignored() -> None:
    network = build("onet")
    with pytest.raises(CheckpointError, match="unknown codes"):
        load_author_state(network, {**network.state_dict(), "codes": torch.zeros(2, 5)})


def test_author_codes_in_every_form() -> None:
    table = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for form in (
        table,
        table[:, None],
        {"epoch": 3, "latent_codes": {"weight": table}},
        {"epoch": 3, "latent_codes": table[:, None]},
        {"codes": table, "decoder.lin0.bias": torch.zeros(3)},
    ):
        assert torch.equal(author_codes(form), table)
    with pytest.raises(CheckpointError, match="expected a table of latent codes, found epoch"):
        author_codes({"epoch": 3})
    with pytest.raises(CheckpointError, match=r"expected float codes \[n, size\], got \[6\]"):
        author_codes(table[0])
