"""Training settings that are known to work: the paper's protocol, and two reductions of it for a CPU."""

from __future__ import annotations

from typing import Any

from pyimplicit.checks import check_choice
from pyimplicit.training.config import PAPER_DEFAULTS, TrainConfig
from pyimplicit.training.latent import CodeSearch
from pyimplicit.training.recipes import recipe

SCALES = ("tiny", "small", "full")

# Widths at which the networks still learn a family of cars and a step takes about 0.1 s on one thread of a CPU.
_REDUCED_NETWORKS: dict[str, dict[str, Any]] = {
    "onet": {"code_size": 64, "hidden_size": 32, "decoder_size": 64, "encoder_blocks": 4, "decoder_blocks": 4},
    "convonet": {
        "resolution": 32,
        "feature_size": 16,
        "hidden_size": 16,
        "decoder_size": 32,
        "unet_width": 16,
        "unet_depth": 3,
    },
    "ifnet": {"resolution": 32, "width": 4, "hidden_size": 64},
    "airnet": {
        "first_points": 96,
        "anchors": 48,
        "first_size": 32,
        "hidden_size": 48,
        "first_neighbours": 8,
        "neighbours": 8,
        "encoder_blocks": 1,
        "attention_size": 32,
        "decoder_size": 48,
        "decoder_blocks": 3,
        "decoder_neighbours": 5,
    },
    "deepsdf": {"code_size": 32, "hidden_size": 64, "hidden_layers": 6, "skip_layer": 3, "dropout": 0.0},
    "curriculum_deepsdf": {"code_size": 32, "hidden_size": 64, "hidden_layers": 6, "skip_layer": 2, "dropout": 0.0},
    "ndf": {"resolution": 32, "width": 4, "hidden_size": 48},
}


def _reduced(network: str, **settings: Any) -> dict[str, Any]:
    """Return settings on a CPU; with few steps, a high learning rate that falls to 0 learns most."""
    return {
        "network_config": _REDUCED_NETWORKS[network],
        "pool_size": 8_192,
        "cloud_pool": 8_192,
        "learning_rate": 3e-3,
        "code_learning_rate": 1e-2,
        "schedule": "cosine",
        "save_every": 100,
        **settings,
    }


_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "onet": _reduced("onet", steps=100, batch_size=8, points_per_step=256, cloud_size=300),
        "convonet": _reduced("convonet", steps=60, batch_size=4, points_per_step=512, cloud_size=1_000),
        "ifnet": _reduced("ifnet", steps=60, batch_size=4, points_per_step=512, cloud_size=1_000),
        "airnet": _reduced("airnet", steps=80, batch_size=4, points_per_step=256, cloud_size=300),
        "deepsdf": _reduced("deepsdf", steps=300, batch_size=8, points_per_step=256),
        "curriculum_deepsdf": _reduced("curriculum_deepsdf", steps=300, batch_size=8, points_per_step=256),
        "ndf": _reduced("ndf", steps=60, batch_size=4, points_per_step=512, cloud_size=1_000),
    },
    "small": {
        "onet": _reduced("onet", steps=260, batch_size=16, points_per_step=512, cloud_size=300),
        "convonet": _reduced("convonet", steps=190, batch_size=8, points_per_step=512, cloud_size=1_000),
        "ifnet": _reduced("ifnet", steps=190, batch_size=8, points_per_step=512, cloud_size=1_000),
        "airnet": _reduced("airnet", steps=200, batch_size=8, points_per_step=256, cloud_size=300),
        "deepsdf": _reduced("deepsdf", steps=900, batch_size=32, points_per_step=256),
        "curriculum_deepsdf": _reduced("curriculum_deepsdf", steps=900, batch_size=32, points_per_step=256),
        "ndf": _reduced("ndf", steps=190, batch_size=8, points_per_step=512, cloud_size=1_000),
    },
}

# Shapes that the lengths of the paper's protocol are for: its cars.
_FULL_SHAPES = 3_000

_SEARCHES = {
    "tiny": CodeSearch(steps=100, points_per_step=256, learning_rate=2e-2),
    "small": CodeSearch(steps=150, points_per_step=400, learning_rate=2e-2),
    "full": CodeSearch(),
}


def preset(network: str, scale: str) -> TrainConfig:
    """Return the settings of `network` at `scale`; vary them with `dataclasses.replace`.

    Args:
        network: One of the networks' names.
        scale: "tiny" (seconds on one thread), "small" (about half a minute on one thread), or "full" (the paper's
            recipe, see `recipe`, on 3,000 shapes, for a GPU).

    Raises:
        ValueError: An unknown network or scale.

    Example:
        >>> preset("convonet", "full").batch_size
        32
    """
    check_choice("network", network, tuple(PAPER_DEFAULTS))
    check_choice("scale", scale, SCALES)
    if scale == "full":
        return recipe(network, "paper").train_config(_FULL_SHAPES)
    return TrainConfig(network=network, **_PRESETS[scale][network])


def search_preset(scale: str) -> CodeSearch:
    """Return how the codes of unseen shapes are searched at `scale` (auto-decoders).

    Raises:
        ValueError: An unknown scale.

    Example:
        >>> search_preset("full").steps
        800
    """
    return _SEARCHES[check_choice("scale", scale, SCALES)]
