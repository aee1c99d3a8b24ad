"""Every network, at reduced width, learns one shape: what its layers can represent, its loss and loop can find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh

from pyimplicit.data import Shape
from pyimplicit.fields import network_field
from pyimplicit.geometry import Mesh, Surface
from pyimplicit.training import TrainConfig, train
from pyimplicit.training.examples import build_training_set

AUTO_DECODER = {"points_per_step": 1_024, "strategy": "balanced_surface", "learning_rate": 3e-3, "batch_size": 1}
RUNS: dict[str, dict[str, Any]] = {
    "onet": {
        "network_config": {
            "code_size": 8,
            "hidden_size": 8,
            "decoder_size": 32,
            "encoder_blocks": 2,
            "decoder_blocks": 3,
        },
        "steps": 250,
    },
    "convonet": {
        "network_config": {
            "resolution": 16,
            "feature_size": 16,
            "hidden_size": 16,
            "decoder_size": 32,
            "unet_width": 8,
            "unet_depth": 2,
            "decoder_blocks": 2,
        },
        "steps": 400,
    },
    # Clouds of its own for each step: two copies of one cloud have no variance at the coarsest level, of one cell.
    "ifnet": {
        "network_config": {"resolution": 16, "width": 4, "hidden_size": 32},
        "steps": 150,
        "fresh_clouds": True,
    },
    "airnet": {
        "network_config": {
            "first_points": 48,
            "anchors": 32,
            "first_size": 16,
            "hidden_size": 32,
            "first_neighbours": 8,
            "neighbours": 8,
            "encoder_blocks": 1,
            "attention_size": 64,
            "decoder_size": 64,
            "decoder_blocks": 2,
        },
        "steps": 400,
        "cloud_size": 100,
    },
    "deepsdf": AUTO_DECODER
    | {
        "network_config": {"code_size": 8, "hidden_size": 64, "hidden_layers": 4, "skip_layer": 2, "dropout": 0.0},
        "steps": 400,
    },
    "curriculum_deepsdf": AUTO_DECODER
    | {
        "network_config": {"code_size": 8, "hidden_size": 64, "hidden_layers": 5, "skip_layer": 1, "dropout": 0.0},
        "steps": 400,
    },
    "ndf": {
        "network_config": {"resolution": 32, "width": 2, "hidden_size": 16},
        "steps": 150,
        "fresh_clouds": True,
        "strategy": "hybrid_far_surface",
    },
}


def test_no_network_is_forgotten() -> None:
    from pyimplicit.networks import NETWORKS

    assert set(RUNS) == set(NETWORKS)


@pytest.mark.parametrize("name", RUNS)
def test_one_shape_is_learnt(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "strategy": "hybrid_far_surface",
        "points_per_step": 512,
        "pool_size": 8_192,
        "cloud_size": 1_000,
        "cloud_pool": 8_192,
        "fresh_clouds": False,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "schedule": "cosine",
        "save_every": 1_000,
        "threads": 1,
    }
    ball = trimesh.creation.icosphere(subdivisions=3)
    ball.apply_scale([0.42, 0.3, 0.22])
    shape = Shape(name="ellipsoid", group="ellipsoid", mesh=Mesh(ball.vertices, ball.faces), report={})
    config = TrainConfig(network=name, **(settings | RUNS[name]))
    trained = train(config, [shape], tmp_path)
    clouds = build_training_set(config, [shape]).clouds[:, : config.cloud_size]
    code = trained.network.encode(clouds) if trained.codes is None else trained.codes

    surface = Surface(shape.mesh)
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    field = network_field(trained.network, code, trained.kind)
    values = field(points)
    if trained.kind.name == "udf":
        assert (values - surface.unsigned_distance(points)).abs().mean() < 0.01  # 1% of the cube's edge
        return
    truth = surface.contains(points)
    inside = values > field.level if field.inside_is_positive else values < field.level
    assert (inside & truth).sum() / (inside | truth).sum() >= 0.95
