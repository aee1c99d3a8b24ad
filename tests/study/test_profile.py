"""The cost of dense query points: phases, memory, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyimplicit.data import Shape
from pyimplicit.study.profile import PHASES, profile_training
from pyimplicit.training import TrainConfig
from tests.study.helpers import box


@pytest.mark.parametrize("network", ["convonet", "deepsdf"])
def test_phases_memory_and_files(network: str, tmp_path: Path) -> None:
    config = TrainConfig(network=network, batch_size=1, pool_size=1_000, cloud_pool=1_000)
    shapes = [Shape("box", "box", box(), {})]
    costs = profile_training(config, shapes, [50, 2_000], tmp_path, steps=2, warm_up=1)
    found = json.loads((tmp_path / "profile.json").read_text())
    assert [cost["density"] for cost in found["costs"]] == [50, 2_000]
    assert found["parameters"] > 100_000
    for cost in costs:
        assert set(cost.phases) == set(PHASES)
        assert min(cost.phases.values()) > 0
        assert 0 < cost.data_share < 1
        assert cost.memory["resident"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *("profile.json", "table.md", "cost.png", "trace-50.json.gz", "trace-2000.json.gz")
    }
    assert len((tmp_path / "table.md").read_text().splitlines()) == 6


def test_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="densities"):
        profile_training(TrainConfig(network="onet"), [], [], tmp_path)
