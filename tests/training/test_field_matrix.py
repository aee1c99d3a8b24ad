"""Every implicit function with every network, by one word of the config: training, a surface, scores."""

from __future__ import annotations

import math

import pytest
import torch

from pyimplicit.errors import ExtractionError
from pyimplicit.fields import Field, network_field
from pyimplicit.generation import extract_dense_cloud, extract_mesh
from pyimplicit.geometry import Surface
from pyimplicit.training import train
from tests.training.shapes import SIZES, sphere, tiny_config

RADIUS = 0.3
SHAPE = sphere(RADIUS)
PAIRS = [(network, field) for network in SIZES if network != "ndf" for field in ("occ", "sdf", "tsdf", "udf")]
PAIRS.append(("ndf", "udf"))


@pytest.mark.parametrize(("network", "field"), PAIRS)
def test_trains_and_is_extracted(tmp_path, network, field):
    """The level of a network of few steps may lie anywhere, so the surface is taken at a value its field does pass."""
    changes = {"fresh_clouds": True} if network in ("ifnet", "ndf") else {}
    config = tiny_config(network, field=field, strategy="balanced_surface", steps=12, **changes)
    trained = train(config, [SHAPE], tmp_path)
    assert trained.kind.name == field
    assert len(trained.losses) == 12
    assert all(math.isfinite(loss) for loss in trained.losses)
    model = trained.network
    cloud = Surface(SHAPE.mesh).sample_surface(config.cloud_size, seed=1).points
    with torch.no_grad():
        code = model.encode(cloud[None]) if model.kind == "encoder" else trained.codes[:1]
    field_of = network_field(model, code, trained.kind)
    assert field_of.level == trained.kind.level
    points = (torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) - 0.5).requires_grad_()
    values = field_of(points)
    (slope,) = torch.autograd.grad(values.sum(), points)
    assert values.isfinite().all()
    assert slope.isfinite().all()
    assert slope.abs().max() > 0
    if field == "udf":
        try:
            found = extract_dense_cloud(field_of, 500, steps=2, samples=2000)
        except ExtractionError:  # nothing near 0 yet, or nearly all: a field that says so is what is asked of it
            below = float((values.detach() <= 0).double().mean())
            assert below == 0 or below > 0.5
            return
        assert found.shape == (500, 3)
    else:
        middle = float(values.detach().median())
        try:
            found = extract_mesh(network_field(model, code, trained.kind), 16).vertices
        except ExtractionError:
            found = extract_mesh(Field(field_of.function, field_of.kind, middle), 16).vertices
    assert found.isfinite().all()
    assert math.isfinite(float(Surface(SHAPE.mesh).unsigned_distance(found).mean()))
