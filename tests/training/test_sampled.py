"""Training on stored samples instead of meshes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyimplicit.data import LabelledPoints, PrepareConfig, SampledShape, ShapeSamples, StoredSet, prepare_set
from pyimplicit.engines import LocalEngine
from pyimplicit.errors import ConfigError, DataError
from pyimplicit.training import train
from pyimplicit.training.examples import build_training_set, digest_shapes, draw_batch
from tests.training.shapes import tiny_config


def points(count: int, labels: str = "distance", shift: float = 0.0) -> LabelledPoints:
    where = torch.rand(count, 3, generator=torch.Generator().manual_seed(count)) - 0.5 + shift
    distance = where.norm(dim=1) - 0.3
    return LabelledPoints(where, distance) if labels == "distance" else LabelledPoints(where, occupancy=distance < 0)


def shape(name: str, pools: dict[str, LabelledPoints], cloud: int = 90) -> SampledShape:
    return SampledShape(name, name, ShapeSamples(cloud=torch.rand(cloud, 3) if cloud else None, pools=pools))


def test_the_pool_of_the_strategy_is_taken_and_no_other() -> None:
    pools = {"linear-300": points(300), "uniform-500": points(500), "uniform-40": points(40)}
    config = tiny_config("onet", strategy="uniform", pool_size=400, field="occ")
    data = build_training_set(config, [shape("a", pools), shape("b", {"uniform-350": points(350)})])
    assert data.points.shape == (2, 350, 3)  # the smallest
    stored = {tuple(row) for row in pools["uniform-500"].points.tolist()}
    taken = {tuple(row) for row in data.points[0].tolist()}
    assert taken < stored
    assert len(taken) == 350
    assert torch.allclose(data.signed_distance, data.points.norm(dim=2) - 0.3, atol=1e-6)
    assert draw_batch(data, config, 0).points.shape == (2, 64, 3)
    with pytest.raises(DataError, match="no points of balanced_surface are stored"):
        build_training_set(tiny_config("onet", strategy="balanced_surface", field="occ"), [shape("a", pools)])


def test_other_peoples_pools_come_in_equal_shares() -> None:
    far = LabelledPoints(torch.full((100, 3), 0.5), occupancy=torch.zeros(100) > 0)
    pools = {"boundary_0.01": points(80, "inside", shift=-0.01), "boundary_0.1": far}
    data = build_training_set(tiny_config("onet", pool_size=60, field="occ"), [shape("a", pools)])
    assert int((data.points[0] == 0.5).all(dim=1).sum()) == 30
    assert set(data.signed_distance.unique().tolist()) == {-1.0, 1.0}
    with pytest.raises(ConfigError, match="field: expected occ"):
        build_training_set(tiny_config("onet", field="sdf"), [shape("a", pools)])


def test_what_is_missing_is_named() -> None:
    good = {"sdf": points(99)}
    with pytest.raises(DataError, match="shape a: stored without the cloud"):
        build_training_set(tiny_config("onet"), [shape("a", good, cloud=0)])
    with pytest.raises(ConfigError, match="pool_size"):
        build_training_set(tiny_config("onet", pool_size=0), [shape("a", good)])
    with pytest.raises(DataError, match="no points of linear are stored, only no pool"):
        build_training_set(tiny_config("onet", strategy="linear"), [shape("a", {})])


@pytest.mark.parametrize("network", ["onet", "deepsdf"])
def test_a_stored_set_trains_a_network(tmp_path: Path, network: str) -> None:
    from pyimplicit.data import ProceduralCars

    config = PrepareConfig(cloud=80, evaluation=0, pools=(("balanced_surface", 200),), mesh=False)
    stored = prepare_set(ProceduralCars(2, resolution=16), tmp_path / "set", config, engine=LocalEngine(0))
    assert digest_shapes(stored.sampled_shapes()) == digest_shapes(StoredSet(tmp_path / "set").sampled_shapes())
    training = tiny_config(network, strategy="balanced_surface", pool_size=150)
    result = train(training, stored.sampled_shapes(), tmp_path / "run")
    assert len(result.losses) == training.steps
