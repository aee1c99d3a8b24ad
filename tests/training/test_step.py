"""A step in parts, in half precision, compiled: what changes and what does not."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import pytest
import torch

from pyimplicit.errors import CheckpointError, ConfigError
from pyimplicit.training import TrainConfig, TrainResult, load_checkpoint, train
from pyimplicit.training.examples import build_training_set, draw_batch
from pyimplicit.training.run import Run
from pyimplicit.training.team import Team
from tests.training.shapes import SIZES, sphere, tiny_config
from tests.training.test_loop import Stop, same, stop_after

SHAPES = [sphere(0.2), sphere(0.3), sphere(0.4)]
ALONE = Team(0, 1, torch.device("cpu"))
# Whose numbers depend on the shapes they share a batch with.
NORMALISING = ("onet", "ifnet", "airnet", "ndf")


def one_step(config: TrainConfig) -> tuple[Run, float]:
    run = Run(config, len(SHAPES), ALONE)
    data = build_training_set(config, SHAPES, clouds=run.codes is None)
    return run, run.step(draw_batch(data, config, 0), 0)


def gradients(run: Run) -> dict[str, torch.Tensor]:
    found = {name: value.grad for name, value in run.network.named_parameters() if value.grad is not None}
    if run.codes is not None:
        assert run.codes.weight.grad is not None
        found["codes"] = run.codes.weight.grad.to_dense()
    return found


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("network", ["convonet", "deepsdf", "curriculum_deepsdf"])
def test_gradients_in_parts_are_those_of_the_whole_batch(network: str, reduction: str) -> None:
    sizes = SIZES[network] | ({} if network == "convonet" else {"dropout": 0.0})
    config = tiny_config(network, network_config=sizes, batch_size=3, loss_reduction=reduction, code_warmup_epochs=1)
    whole, loss = one_step(config)
    for parts in (2, 3):
        split, split_loss = one_step(dataclasses.replace(config, accumulation=parts))
        assert split_loss == pytest.approx(loss, rel=1e-5)
        assert gradients(split).keys() == gradients(whole).keys()
        for name, gradient in gradients(whole).items():
            scale = gradient.abs().max()
            torch.testing.assert_close(gradients(split)[name], gradient, rtol=1e-4, atol=float(1e-5 * scale))


def test_parts_change_what_batch_normalisation_sees() -> None:
    config = tiny_config("onet", batch_size=2)
    assert one_step(config)[1] != pytest.approx(one_step(dataclasses.replace(config, accumulation=2))[1], rel=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("network", list(SIZES))
def test_half_precision_is_near_float32(network: str, precision: str) -> None:
    config = tiny_config(network)
    run, loss = one_step(dataclasses.replace(config, precision=precision))
    assert loss == pytest.approx(one_step(config)[1], rel=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in run.network.parameters())
    if run.scaler.get_scale() < 2**16:  # too large at first for this processor: that step was left out
        data = build_training_set(config, SHAPES, clouds=run.codes is None)
        run.step(draw_batch(data, config, 1), 1)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients(run).values())


def test_the_grid_variant_works_in_half_precision() -> None:
    config = tiny_config("convonet", variant="grid32", precision="bfloat16")
    assert math.isfinite(one_step(config)[1])


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"precision": "float16"}, {"accumulation": 2}])
@pytest.mark.parametrize("network", ["convonet", "deepsdf"])
def test_such_runs_resume_exactly(tmp_path: Path, network: str, changes: dict[str, object]) -> None:
    config = tiny_config(network, **changes)
    whole = train(config, SHAPES, tmp_path / "whole")
    with pytest.raises(Stop):
        train(config, SHAPES, tmp_path / "parts", progress=stop_after(13))  # type: ignore[arg-type]
    parts: TrainResult = train(config, SHAPES, tmp_path / "parts")
    assert same(whole, parts)


def test_the_gradient_scale_is_kept_and_needed(tmp_path: Path) -> None:
    config = tiny_config("convonet", steps=5, precision="float16")
    run, _ = one_step(config)
    run.scaler.update(1234.0)
    checkpoint = run.checkpoint([0.5], 1.0, "", ("a", "b", "c"))
    other = Run(config, len(SHAPES), ALONE)
    other.restore(checkpoint)
    assert other.scaler.get_scale() == 1234.0
    without = {name: value for name, value in checkpoint.optimizer.items() if not name.startswith("scaler.")}
    with pytest.raises(CheckpointError, match="scale"):
        other.restore(dataclasses.replace(checkpoint, optimizer=without))


def test_a_wrong_key_or_shape_is_refused_by_name() -> None:
    config = tiny_config("deepsdf")
    run, _ = one_step(config)
    checkpoint = run.checkpoint([0.5], 1.0, "", ("a", "b", "c"))
    weights, codes = dict(checkpoint.network), dict(checkpoint.codes)
    cases = [
        ({"network": {**weights, "wings": torch.zeros(2)}}, "wings"),
        ({"network": {name: value for name, value in weights.items() if name != "lin0.bias"}}, r"lin0\.bias"),
        ({"network": {**weights, "lin0.bias": torch.zeros(3)}}, r"lin0\.bias"),
        ({"codes": {"weight": codes["weight"][:2]}}, "weight"),
        ({"optimizer": {**checkpoint.optimizer, "momentum.0.step": torch.tensor(1.0)}}, "momentum"),
        ({"optimizer": {**checkpoint.optimizer, "network.0.exp_avg": torch.zeros(3)}}, r"network\.0\.exp_avg"),
        ({"optimizer": {**checkpoint.optimizer, "codes.0.exp_avg": torch.zeros(3)}}, r"codes\.0\.exp_avg"),
        ({"optimizer": {**checkpoint.optimizer, "network.99.exp_avg": torch.zeros(3)}}, r"network\.99\.exp_avg"),
    ]
    for changes, name in cases:
        with pytest.raises(CheckpointError, match=name):
            Run(config, len(SHAPES), ALONE).restore(dataclasses.replace(checkpoint, **changes))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_network_takes_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The graph and its derivative are traced as for the default backend, which then takes minutes to compile them.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    config = tiny_config("deepsdf", network_config=SIZES["deepsdf"] | {"dropout": 0.0}, steps=3)
    plain = train(config, SHAPES, tmp_path / "plain")
    compiled = train(dataclasses.replace(config, compile=True), SHAPES, tmp_path / "compiled")
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-4)
    assert load_checkpoint(tmp_path / "compiled").network.keys() == load_checkpoint(tmp_path / "plain").network.keys()


def test_settings_of_a_step_are_checked() -> None:
    for changes, message in [
        ({"accumulation": 3}, "accumulation: expected at most batch_size = 2, got 3"),
        ({"accumulation": 0}, "accumulation: expected at least 1"),
        ({"precision": "float8"}, "precision: expected one of float32, bfloat16, float16"),
        ({"compile": 1}, "compile: expected true or false"),
    ]:
        with pytest.raises(ConfigError, match=message):
            tiny_config("onet", **changes)
    with pytest.raises(ConfigError, match="compile: expected false"):
        tiny_config("curriculum_deepsdf", compile=True)
    tiny_config("curriculum_deepsdf", compile=True, curriculum=False)


def test_settings_of_a_step_are_in_the_digest_unless_neutral() -> None:
    config = tiny_config("deepsdf")
    digests = {dataclasses.replace(config, **changes).digest() for changes in (
        {}, {"accumulation": 2}, {"precision": "bfloat16"}, {"precision": "float16"}, {"compile": True},
    )}  # fmt: skip
    assert len(digests) == 5
