from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pyimplicit.data import Shape
from pyimplicit.fields import SDF, Occ
from pyimplicit.networks import create
from pyimplicit.training import (
    CodeSearch,
    TrainResult,
    observe_cloud,
    observe_points,
    reconstruct,
    reconstruct_shapes,
    train,
)
from tests.training.shapes import CONVONET, DEEPSDF, ONET, sphere, tiny_config

SHAPES = [sphere(0.25), sphere(0.4)]


def radius_error(trained: TrainResult, shape: Shape, radius: float) -> float:
    """Mean difference between `radius` and the distance of a reconstructed vertex from the origin."""
    search = CodeSearch(steps=100, points_per_step=300, learning_rate=2e-2)
    (found,) = reconstruct_shapes(trained, [shape], resolution=24, search=search, search_points=1_000)
    assert found.mesh is not None, found.reason
    return float((found.mesh.vertices.norm(dim=1) - radius).abs().mean())


@pytest.mark.parametrize(
    ("network", "sizes"), [("onet", ONET), ("convonet", CONVONET), ("deepsdf", DEEPSDF | {"dropout": 0.0})]
)
def test_networks_learn_two_balls(tmp_path: Path, network: str, sizes: dict[str, Any]) -> None:
    config = tiny_config(
        network,
        network_config=sizes,
        field="occ" if network != "deepsdf" else "sdf",
        strategy="uniform",
        steps=500,
        points_per_step=200,
        pool_size=2_000,
        learning_rate=1e-2,
        code_learning_rate=2e-2,
        schedule="cosine",
    )
    trained = train(config, SHAPES, tmp_path)
    assert sum(trained.losses[-20:]) < 0.5 * sum(trained.losses[:20])
    for shape, radius in zip(SHAPES, (0.25, 0.4), strict=True):
        assert radius_error(trained, shape, radius) < 0.04


def test_a_field_without_a_surface_is_a_reason_not_an_error(tmp_path: Path) -> None:
    trained = train(tiny_config("deepsdf", steps=1), SHAPES, tmp_path)
    with torch.no_grad():
        trained.network.get_parameter("lin4.bias").fill_(5.0)
    (found,) = reconstruct_shapes(trained, SHAPES[:1], resolution=8, search=CodeSearch(steps=1))
    assert found.mesh is None
    assert found.reason
    assert found.name == SHAPES[0].name
    assert reconstruct_shapes(trained, []) == []


def test_what_is_seen_of_a_shape_depends_on_it_and_the_seed_only() -> None:
    one, other = SHAPES
    assert observe_cloud(one, 30).shape == (30, 3)
    assert torch.equal(observe_cloud(one, 30), observe_cloud(one, 30))
    assert not torch.equal(observe_cloud(one, 30), observe_cloud(one, 30, seed=1))
    noise = observe_cloud(one, 3_000, noise=0.005) - observe_cloud(one, 3_000)
    assert float(noise.std()) == pytest.approx(0.005, rel=0.03)  # five standard deviations of its estimate
    assert float(noise.mean(dim=0).abs().max()) < 5 * 0.005 / 3_000**0.5
    assert torch.equal(observe_cloud(one, 30, noise=0.005), observe_cloud(one, 30, noise=0.005))
    with pytest.raises(ValueError, match="noise: expected at least 0"):
        observe_cloud(one, 30, noise=-0.1)
    points, signed_distance = observe_points(other, "uniform", 50)
    assert points.shape == (50, 3)
    assert (signed_distance - (points.norm(dim=1) - 0.4)).abs().max() < 0.0025


def test_the_wrong_input_is_refused() -> None:
    encoder, decoder = create("onet", **ONET), create("deepsdf", **DEEPSDF)
    cloud, code = torch.rand(20, 3) - 0.5, torch.zeros(8)
    with pytest.raises(ValueError, match="cloud: onet needs a cloud and nothing else"):
        reconstruct(encoder, Occ(), code=code)
    with pytest.raises(ValueError, match="code: deepsdf needs a code and nothing else"):
        reconstruct(decoder, SDF(), cloud=cloud, code=code)
