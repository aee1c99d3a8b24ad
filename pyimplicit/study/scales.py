"""How large a study is: its matrix, shapes, evaluation and training, per scale."""

from __future__ import annotations

import dataclasses
from typing import Any

from pyimplicit.sampling import STRATEGIES
from pyimplicit.training import TrainConfig

NETWORKS = ("onet", "convonet:3plane", "ifnet:points", "airnet:300", "deepsdf", "curriculum_deepsdf")
_AUTO_DECODERS = ("deepsdf", "curriculum_deepsdf")
_ALL = tuple(STRATEGIES)
# Whether training knows the distance mask.
_MASKS = (None, 0.1) if any(f.name == "mask_distance" for f in dataclasses.fields(TrainConfig)) else (None,)


def _parts(dense: int, seeds: tuple[int, ...], signed: tuple[str, ...] = ("onet", "ifnet")) -> list[dict[str, Any]]:
    """Return the paper's experiments in the order of their weight: Figure 4 and Table III, then tables I, II and IV.

    `signed` are the encoder networks that Table I also trains on signed distances.
    """
    return [
        {},
        {"networks": list(signed), "fields": ["sdf", "tsdf"]},
        {"networks": ["deepsdf"], "fields": ["occ", "tsdf"]},
        {"strategies": ["balanced_surface", "near_surface"], "seeds": seeds},
        {"networks": ["onet", "ifnet", "deepsdf"], "strategies": ["balanced_surface"], "densities": [dense]},
        {"networks": ["convonet"], "fields": ["udf"], "strategies": ["near_surface", "uniform"], "masks": list(_MASKS)},
    ]


# What each scale sets, everything else being StudyConfig's own defaults. "tiny" shows in minutes on two cores that
# everything works. "small" is the paper's whole programme at the least cost that says something: every table and claim.
# "gpu" has the authors' widths and a tenth of the steps or less; "paper" the amounts
# of the paper: days of one GPU.
SCALES: dict[str, dict[str, Any]] = {
    "tiny": {
        "recipe": "tiny",
        "data": {"train": 16, "test": 5},
        "evaluation": {"resolution": 48, "samples": 10_000, "iou_points": 10_000},
    },
    "small": {
        "recipe": "tiny",
        "networks": NETWORKS,
        "strategies": _ALL,
        "parts": _parts(dense=5_000, seeds=(0, 1), signed=("onet",)),
        "data": {"train": 16, "test": 4},
        "evaluation": {"resolution": 48, "samples": 10_000, "iou_points": 10_000, "cloud_points": 20_000},
    },
    "gpu": {
        "recipe": "paper",
        "networks": NETWORKS,
        "strategies": _ALL,
        "parts": _parts(dense=20_000, seeds=(0, 1, 2)),
        "data": {"train": 400, "test": 50},
        "evaluation": {"resolution": 128, "samples": 100_000, "iou_points": 100_000, "cloud_points": 1_000_000},
        "training": {"steps": 10_000},
        "processes": 1,
    },
    "paper": {
        "recipe": "paper",
        "networks": NETWORKS,
        "strategies": _ALL,
        "parts": _parts(dense=20_000, seeds=(0, 1, 2)),
        "data": {"train": 2_400, "test": 600},
        "evaluation": {"resolution": 128, "samples": 100_000, "iou_points": 100_000, "cloud_points": 1_000_000},
        "processes": 1,
    },
}
