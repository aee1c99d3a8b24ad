from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pyimplicit.errors import ConfigError
from pyimplicit.fields import TSDF, UDF, Occ
from pyimplicit.networks import NETWORKS
from pyimplicit.training import PAPER_DEFAULTS, CodeSearch, Recipe, TrainConfig, recipe
from pyimplicit.training.config import learning_rate_factor
from pyimplicit.training.recipes import RECIPES

VARIANTS = [
    *(("onet", None), ("convonet", "3plane"), ("convonet", "1plane"), ("convonet", "grid32"), ("convonet", "grid64")),
    *(("ifnet", "points"), ("ifnet", "128vox"), ("ifnet", "svr"), ("airnet", "300"), ("airnet", "3000")),
    *(("deepsdf", None), ("curriculum_deepsdf", None), ("ndf", None)),
]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("network", "variant"), VARIANTS)
def test_a_recipe_prints_saves_loads_and_makes_a_run(
    network: str, variant: str | None, name: str, tmp_path: Path
) -> None:
    one = recipe(network, name, variant)
    assert (one.network, one.variant, one.recipe) == (network, variant, name)
    one.save(tmp_path / "recipe.json")
    assert Recipe.load(tmp_path / "recipe.json") == one
    text = str(one)
    assert all(
        f"\n{field.name} " in f"\n{text}"
        for field in dataclasses.fields(Recipe)
        if field.name not in ("search", "notes")
    )
    assert all(note in text for note in one.notes)
    config = one.train_config(shapes=3_000)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert (config.strategy, config.batch_size, config.loss_reduction) == (
        one.strategy,
        one.batch_size,
        one.loss_reduction,
    )


def test_every_network_has_recipes() -> None:
    assert {network for network, _ in VARIANTS} == set(NETWORKS)


# network, variant: batch, query points, learning rate, reduction, strategy, cloud, noise
AUTHORS = {
    ("onet", None): (64, 2048, 1e-4, "sum", "padded_uniform", 300, 0.005),
    ("convonet", "3plane"): (32, 2048, 1e-4, "sum", "padded_uniform", 3000, 0.005),
    ("ifnet", "points"): (6, 50_000, 1e-4, "sum", "balanced_surface", 3000, 0.0),
    ("airnet", "300"): (64, 1000, 5e-4, "mean", "balanced_surface", 300, 0.0),
    ("airnet", "3000"): (55, 1000, 5e-4, "mean", "balanced_surface", 3000, 0.0),
    ("ndf", None): (4, 50_000, 1e-6, "sum", "ndf_surface", 10_000, 0.0),
}


@pytest.mark.parametrize(("network", "variant"), AUTHORS)
def test_the_authors_figures(network: str, variant: str | None) -> None:
    one = recipe(network, "author", variant)
    assert AUTHORS[network, variant] == (
        *(one.batch_size, one.points_per_step, one.learning_rate, one.loss_reduction),
        *(one.strategy, one.cloud_size, one.cloud_noise),
    )


def test_the_authors_auto_decoders() -> None:
    deepsdf, curriculum = recipe("deepsdf"), recipe("curriculum_deepsdf")
    assert (deepsdf.batch_size, curriculum.batch_size) == (64, 16)
    assert (deepsdf.code_penalty, curriculum.code_penalty) == ("norm", "square")
    assert (deepsdf.code_std, curriculum.code_std) == (None, 0.1)
    assert (deepsdf.curriculum, curriculum.curriculum) == (False, True)
    for one in (deepsdf, curriculum):
        assert (one.epochs, one.points_per_step, one.learning_rate, one.code_learning_rate) == (
            2001,
            16_384,
            5e-4,
            1e-3,
        )
        assert one.kind() == TSDF(0.1)
        assert one.search == CodeSearch(steps=800, learning_rate=5e-3, points_per_step=8_000, initial_std=0.01)
        config = one.train_config(shapes=640)
        assert config.steps == 2001 * 640 // one.batch_size
        per_epoch = 640 // one.batch_size
        assert [learning_rate_factor(config, per_epoch * epoch) for epoch in (0, 499, 500, 1000, 1999)] == [
            1,
            1,
            0.5,
            0.25,
            0.125,
        ]


def test_a_shorter_training_keeps_the_shape_of_the_decay_and_of_the_curriculum() -> None:
    config = recipe("curriculum_deepsdf").train_config(shapes=640, steps=2001)
    assert (config.schedule_interval, config.curriculum_epochs) == (500, 2001)
    assert recipe("airnet").train_config(shapes=640, steps=150).schedule_interval == 20


@pytest.mark.parametrize(("network", "variant"), VARIANTS)
def test_the_papers_protocol(network: str, variant: str | None) -> None:
    one = recipe(network, "paper", variant)
    assert (one.points_per_step, one.cloud_noise, one.threshold) == (2_000, 0.0, 0.5)
    assert (one.field, one.strategy) == PAPER_DEFAULTS[network]
    assert one.notes


def test_levels() -> None:
    assert recipe("onet").kind() == Occ(0.2)
    assert recipe("ifnet").kind() == Occ(0.5)
    assert recipe("ndf").kind() == UDF(0.1)


def test_wrong_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="network: expected one of onet, convonet"):
        recipe("pointnet")
    with pytest.raises(ValueError, match="name: expected one of author, paper, got 'authors'"):
        recipe("onet", "authors")
    with pytest.raises(ValueError, match="variant: expected one of 300, 3000, got '30'"):
        recipe("airnet", variant="30")
    with pytest.raises(ConfigError, match="momentum: no such field"):
        Recipe.from_dict({**recipe("onet").to_dict(), "momentum": 0.9})
    with pytest.raises(ConfigError, match=r"recipe: .*missing"):
        Recipe.from_dict({"network": "onet"})
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match="expected the fields of a recipe, got list"):
        Recipe.load(tmp_path / "list.json")
    with pytest.raises(ConfigError, match="cannot be read as a recipe"):
        Recipe.load(tmp_path / "absent.json")
