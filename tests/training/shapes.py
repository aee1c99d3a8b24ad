"""Tiny networks and shapes for the tests of this folder."""

from __future__ import annotations

from typing import Any

import trimesh

from pyimplicit.data import Shape
from pyimplicit.geometry import Mesh
from pyimplicit.training import TrainConfig

ONET = {"code_size": 16, "hidden_size": 16, "decoder_size": 16, "encoder_blocks": 2, "decoder_blocks": 2}
CONVONET = {"resolution": 8, "feature_size": 4, "hidden_size": 4, "decoder_size": 8, "unet_width": 4, "unet_depth": 2}
DEEPSDF = {"code_size": 8, "hidden_size": 32, "hidden_layers": 4, "skip_layer": 2}
IFNET = {"resolution": 16, "width": 2, "hidden_size": 16}
AIRNET = {
    "first_points": 24,
    "anchors": 12,
    "first_size": 8,
    "hidden_size": 16,
    "first_neighbours": 6,
    "neighbours": 6,
    "encoder_blocks": 1,
    "attention_size": 16,
    "decoder_size": 16,
    "decoder_blocks": 2,
    "decoder_neighbours": 4,
}
CURRICULUM = {"code_size": 8, "hidden_size": 32, "hidden_layers": 5, "skip_layer": 1}
NDF = {"resolution": 32, "width": 2, "hidden_size": 16}
SIZES: dict[str, dict[str, Any]] = {
    "onet": ONET,
    "convonet": CONVONET,
    "ifnet": IFNET,
    "airnet": AIRNET,
    "deepsdf": DEEPSDF,
    "curriculum_deepsdf": CURRICULUM,
    "ndf": NDF,
}


def sphere(radius: float, name: str | None = None) -> Shape:
    """A ball of `radius`: the exact distance to it is a formula."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    name = name or f"ball-{radius}"
    return Shape(name=name, group=name, mesh=Mesh(ball.vertices, ball.faces), report={})


def tiny_config(network: str, **changes: Any) -> TrainConfig:
    """Settings under which a step takes a few milliseconds."""
    settings: dict[str, Any] = {
        "network_config": SIZES[network],
        "points_per_step": 64,
        "pool_size": 512,
        "cloud_size": 50,
        "cloud_pool": 256,
        "batch_size": 2,
        "steps": 20,
        "learning_rate": 1e-3,
        "save_every": 5,
        "threads": 1,
    }
    return TrainConfig(network=network, **(settings | changes))
