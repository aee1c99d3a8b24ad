"""Every network on each device: trained, continued, read back and asked for a shape."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from pyimplicit.training import CodeSearch, load_trained, reconstruct_shapes, train
from tests.training.shapes import SIZES, sphere, tiny_config
from tests.training.test_loop import Stop, stop_after

SHAPES = [sphere(0.2), sphere(0.3), sphere(0.4)]


def sizes_of(network: str) -> dict[str, object]:
    """Without dropout, whose random numbers are the device's own."""
    return SIZES[network] | ({"dropout": 0.0} if "deepsdf" in network else {})


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("network", list(SIZES))
def test_training_continues_and_gives_shapes(
    device: torch.device, tmp_path: Path, network: str, precision: str
) -> None:
    config = tiny_config(
        network, network_config=sizes_of(network), device=device.type, precision=precision, steps=4, save_every=2
    )
    with pytest.raises(Stop):
        train(config, SHAPES, tmp_path, progress=stop_after(3))
    trained = train(config, SHAPES, tmp_path)
    assert trained.network.device == device
    assert all(math.isfinite(loss) for loss in trained.losses)
    again = load_trained(tmp_path, device=device.type)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    (found,) = reconstruct_shapes(again, SHAPES[:1], resolution=8, search=CodeSearch(steps=2), search_points=50)
    assert found.mesh is not None or found.reason
    if device.type != "cpu" and precision == "float32":
        on_cpu = train(tiny_config(network, network_config=sizes_of(network), steps=1), SHAPES, tmp_path / "cpu")
        assert trained.losses[0] == pytest.approx(on_cpu.losses[0], rel=1e-2)  # convolutions in TF32


@pytest.mark.parametrize("network", ["onet", "convonet", "deepsdf"])
def test_points_drawn_anew_where_the_training_runs(device: torch.device, tmp_path: Path, network: str) -> None:
    changes = {"network_config": sizes_of(network), "pool_size": 0, "strategy": "linear", "steps": 2}
    if network != "deepsdf":
        changes |= {"mask_distance": 0.1}
    trained = train(tiny_config(network, device=device.type, **changes), SHAPES, tmp_path)
    assert all(math.isfinite(loss) for loss in trained.losses)
