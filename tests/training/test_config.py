from __future__ import annotations

import dataclasses
import json

import pytest

from pyimplicit.errors import ConfigError
from pyimplicit.networks import NETWORKS
from pyimplicit.training import PAPER_DEFAULTS, TrainConfig, preset, search_preset
from pyimplicit.training.config import learning_rate_factor
from pyimplicit.training.presets import SCALES

BAD = [
    ("network", "resnet"),
    ("network", None),
    ("variant", 3),
    ("network_config", {"widths": (1, 2)}),
    ("network_config", {"scale": float("nan")}),
    ("network_config", {3: 1}),
    ("network_config", "small"),
    ("field", "density"),
    ("tau", 0.0),
    ("tau", "0.1"),
    ("strategy", "everywhere"),
    ("strategy", 7),
    ("points_per_step", 0),
    ("points_per_step", 10.0),
    ("pool_size", -1),
    ("cloud_size", 0),
    ("cloud_pool", True),
    ("batch_size", 0),
    ("steps", 0),
    ("learning_rate", 0.0),
    ("learning_rate", float("inf")),
    ("code_learning_rate", -1e-3),
    ("code_regularization", -1e-4),
    ("code_warmup_epochs", 0),
    ("code_std", 0.0),
    ("mask_distance", 0.0),
    ("accumulation", 0),
    ("precision", "float8"),
    ("compile", 1),
    ("code_penalty", "cube"),
    ("cloud_noise", -0.1),
    ("fresh_clouds", "no"),
    ("curriculum", 1),
    ("curriculum_epochs", 0),
    ("schedule", "linear"),
    ("schedule_interval", 0),
    ("schedule_factor", 0),
    ("loss_reduction", "max"),
    ("seed", -1),
    ("save_every", 0),
    ("threads", 0),
    ("device", "tpu"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_by_name(name: str, value: object) -> None:
    values = {"network": "onet", "field": "tsdf"} | {name: value}
    with pytest.raises(ConfigError, match=f"^{name}: "):
        TrainConfig.from_dict(values)


def test_every_field_is_in_the_table_of_bad_values() -> None:
    assert {name for name, _ in BAD} == {field.name for field in dataclasses.fields(TrainConfig)}


def test_unknown_and_missing_fields_are_refused() -> None:
    with pytest.raises(ConfigError, match="lerning_rate: no such field"):
        TrainConfig.from_dict({"network": "onet", "lerning_rate": 1.0})
    with pytest.raises(ConfigError, match="network: missing"):
        TrainConfig.from_dict({})


def test_tau_needs_a_truncated_field() -> None:
    with pytest.raises(ConfigError, match="tau"):
        TrainConfig(network="onet", field="occ", tau=0.1)


def test_the_defaults_are_the_papers() -> None:
    assert set(PAPER_DEFAULTS) == set(NETWORKS)
    assert {name: (TrainConfig(name).field, TrainConfig(name).strategy) for name in NETWORKS} == {
        "onet": ("occ", "uniform"),
        "convonet": ("occ", "uniform"),
        "ifnet": ("occ", "balanced_surface"),
        "airnet": ("occ", "balanced_surface"),
        "deepsdf": ("sdf", "few_uniform_near_surface"),
        "curriculum_deepsdf": ("sdf", "few_uniform_near_surface"),
        "ndf": ("udf", "ndf_surface"),
    }


def test_the_defaults_of_codes_are_the_authors() -> None:
    found = {name: TrainConfig(name) for name in ("deepsdf", "curriculum_deepsdf")}
    assert [(config.code_penalty, config.code_std, config.curriculum) for config in found.values()] == [
        ("norm", None, False),
        ("square", 0.1, True),
    ]
    with pytest.raises(ConfigError, match="fresh_clouds: false takes the first cloud_size = 300"):
        TrainConfig("onet", fresh_clouds=False, cloud_pool=200)


def test_json_gives_the_same_config_back() -> None:
    config = TrainConfig("deepsdf", network_config={"code_size": 8}, field="tsdf", tau=0.05, strategy="S_Linear")
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_digest_changes_with_everything_that_determines_the_result() -> None:
    config = TrainConfig("onet", field="tsdf")
    changes = {
        "network": "convonet",
        "variant": "other",
        "network_config": {"code_size": 3},
        "field": "sdf",
        "tau": 0.2,
        "mask_distance": 0.1,
        "strategy": "near_surface",
        "schedule": "cosine",
        "loss_reduction": "sum",
        "code_std": 0.2,
        "code_penalty": "square",
        "cloud_noise": 0.01,
        "fresh_clouds": False,
        "curriculum": True,
        "precision": "bfloat16",
        "compile": True,
    }
    digests = {config.digest()}
    for field in dataclasses.fields(TrainConfig):
        if field.name in ("save_every", "threads", "device"):
            continue
        changed = changes[field.name] if field.name in changes else getattr(config, field.name) * 2 + 1
        digests.add(dataclasses.replace(config, **{field.name: changed}).digest())
    assert len(digests) == len(dataclasses.fields(TrainConfig)) - 3 + 1


def test_the_digest_ignores_how_a_run_is_carried_out() -> None:
    config = TrainConfig("onet")
    assert dataclasses.replace(config, save_every=3, threads=1, device="cuda").digest() == config.digest()


def test_schedules() -> None:
    step = TrainConfig("onet", schedule="step", schedule_interval=10, schedule_factor=0.5)
    assert [learning_rate_factor(step, at) for at in (0, 9, 10, 25)] == [1.0, 1.0, 0.5, 0.25]
    cosine = TrainConfig("onet", schedule="cosine", steps=10)
    rates = [learning_rate_factor(cosine, at) for at in range(10)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert min(rates) > 0
    assert learning_rate_factor(TrainConfig("onet"), 10**6) == 1.0


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("network", list(PAPER_DEFAULTS))
def test_presets_are_valid(network: str, scale: str) -> None:
    assert preset(network, scale).network == network
    assert search_preset(scale).steps >= 1


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="scale: expected one of tiny, small, full"):
        preset("onet", "huge")
    with pytest.raises(ValueError, match="network: expected one of"):
        preset("pointnet", "tiny")


def test_the_full_preset_is_the_papers_protocol_at_the_authors_settings() -> None:
    for network in PAPER_DEFAULTS:
        config = preset(network, "full")
        assert config.network_config == {}
        assert config.points_per_step == 2_000
        assert (config.field, config.strategy) == PAPER_DEFAULTS[network]
    # batch sizes and learning rates of the authors' configuration files
    assert (preset("onet", "full").batch_size, preset("onet", "full").learning_rate) == (64, 1e-4)
    assert (preset("convonet", "full").batch_size, preset("convonet", "full").learning_rate) == (32, 1e-4)
    deepsdf = preset("deepsdf", "full")
    assert (deepsdf.batch_size, deepsdf.learning_rate, deepsdf.code_learning_rate) == (64, 5e-4, 1e-3)
