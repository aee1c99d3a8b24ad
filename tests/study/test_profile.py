"""The cost of dense query points: phases, memory, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pyimplicit.data import Shape
from pyimplicit.study.profile import PHASES, profile_training
from pyimplicit.training import TrainConfig
from pyimplicit.training.examples import build_training_set, draw_batch
from pyimplicit.training.run import Run
from pyimplicit.training.team import Team
from tests.study.helpers import box
from tests.training.shapes import tiny_config


@pytest.mark.parametrize("network", ["convonet", "deepsdf"])
def test_phases_memory_and_files(device: torch.device, network: str, tmp_path: Path) -> None:
    config = TrainConfig(network=network, batch_size=1, pool_size=1_000, cloud_pool=1_000, device=device.type)
    shapes = [Shape("box", "box", box(), {})]
    costs = profile_training(config, shapes, [50, 2_000], tmp_path, steps=2, warm_up=1)
    found = json.loads((tmp_path / "profile.json").read_text())
    assert [cost["density"] for cost in found["costs"]] == [50, 2_000]
    assert found["parameters"] > 100_000
    for cost in costs:
        assert set(cost.phases) == set(PHASES)
        assert min(cost.phases.values()) > 0
        assert 0 < cost.data_share < 1
        assert cost.memory["resident" if device.type == "cpu" else "cuda_allocated"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *("profile.json", "table.md", "cost.png", "trace-50.json.gz", "trace-2000.json.gz")
    }
    assert len((tmp_path / "table.md").read_text().splitlines()) == 6


def test_the_step_is_that_of_training(tmp_path: Path) -> None:
    """Every part of a step of training falls into a phase, and watching it changes no number."""
    config = tiny_config("convonet", batch_size=4, accumulation=2, mask_distance=0.2)
    shapes = [Shape("box", "box", box(), {})]
    data = build_training_set(config, shapes)
    seen: list[str] = []

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        seen.append(name)
        yield
        seen.append(f"end of {name}")

    team = Team(0, 1, torch.device("cpu"))
    plain, watched = Run(config, 1, team), Run(config, 1, team, phase=phase)
    losses = [[run.step(draw_batch(data, config, step), step) for step in range(3)] for run in (plain, watched)]
    assert losses[0] == losses[1]
    assert all(end == f"end of {name}" for name, end in zip(seen[::2], seen[1::2], strict=True))  # none within another
    part = ["encode", "encode", "decode", "loss", "backward"]
    assert seen[::2] == ["draw", "backward", *part, *part, "optimiser"] * 3


def test_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="densities"):
        profile_training(TrainConfig(network="onet"), [], [], tmp_path)
