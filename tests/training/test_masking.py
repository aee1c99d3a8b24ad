"""Training with the distance mask: which points the network sees, and that the others teach it nothing."""

from __future__ import annotations

import pytest
import torch

from pyimplicit.errors import ConfigError
from pyimplicit.fields import implicit_function, network_field
from pyimplicit.generation import extract_mesh
from pyimplicit.sampling import DistanceMask
from pyimplicit.training import observe_cloud, reconstruct_shapes, train
from pyimplicit.training.masking import predict_near
from tests.training.shapes import sphere, tiny_config


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two shapes with different numbers of near points, one without any; points, clouds, near by brute force."""
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(3, 40, 3, generator=generator) - 0.5
    clouds = torch.rand(3, 20, 3, generator=generator) - 0.5
    clouds[1] = 0.1 * clouds[1]
    clouds[2] += 5
    near = torch.cdist(points.double(), clouds.double()).amin(dim=2) <= 0.15
    return points, clouds, near


@pytest.mark.parametrize("field", ["occ", "sdf", "tsdf", "udf"])
def test_near_points_alone_are_predicted(field):
    points, clouds, near = rows()
    kind = implicit_function(field)
    distance = points.norm(dim=2) - 0.3
    weight = torch.tensor(2.0, requires_grad=True)
    seen = []

    def network(at, _):
        seen.append(at)
        return weight * at.sum(dim=2)

    prediction = predict_near(network, points, clouds, distance, kind, 0.15)
    assert 0 < near.sum() < near.numel()
    assert not near[2].any()
    torch.testing.assert_close(prediction[near], 2 * points.sum(dim=2)[near])
    assert seen[0].shape == (3, int(near.sum(dim=1).max()), 3)
    for row in range(2):  # the network of the first two shapes meets near points only, every one of them
        assert {tuple(point) for point in seen[0][row].tolist()} == {tuple(p) for p in points[row][near[row]].tolist()}
    far = prediction[~near]
    if field == "udf":
        assert (far == torch.tensor(0.15)).all()
    else:
        inside = far > kind.level if kind.inside_is_positive else far < kind.level
        assert torch.equal(inside, distance[~near] < 0)
    (whole,) = torch.autograd.grad(kind.loss(prediction, kind.target(distance), "sum"), weight, retain_graph=True)
    kept = prediction[near]
    (alone,) = torch.autograd.grad(kind.loss(kept, kind.target(distance)[near], "sum") / len(points), weight)
    torch.testing.assert_close(whole, alone)


def test_nothing_near_still_takes_a_step():
    points, clouds, _ = rows()
    weight = torch.ones((), requires_grad=True)
    found = predict_near(
        lambda at, _: weight * at[..., 0], points, clouds + 9, points[..., 0], implicit_function("udf"), 0.1
    )
    assert (found == torch.tensor(0.1)).all()
    (slope,) = torch.autograd.grad(found.sum(), weight)
    assert slope == 0


def test_training_and_reconstruction_with_a_mask(tmp_path):
    shapes = [sphere(0.25), sphere(0.4)]
    changes = {"field": "sdf", "cloud_size": 400, "cloud_pool": 2000, "steps": 30, "strategy": "near_surface"}
    masked = train(tiny_config("convonet", mask_distance=0.1, **changes), shapes, tmp_path / "masked")
    plain = train(tiny_config("convonet", **changes), shapes, tmp_path / "plain")
    assert masked.config.mask_distance == 0.1
    assert masked.losses != plain.losses
    assert sum(masked.losses[-10:]) < sum(masked.losses[:10])
    (found,) = reconstruct_shapes(masked, shapes[:1], resolution=24)
    cloud = observe_cloud(shapes[0], 400)
    with torch.no_grad():
        field = network_field(masked.network, masked.network.encode(cloud[None]), masked.kind)
    expected = extract_mesh(field, 24, mask=DistanceMask.from_cloud(cloud, 0.1))
    assert torch.equal(found.mesh.vertices, expected.vertices)


def test_refusals():
    with pytest.raises(ConfigError, match="mask_distance: expected None, as deepsdf has no input cloud"):
        tiny_config("deepsdf", mask_distance=0.1)
    with pytest.raises(ConfigError, match="mask_distance"):
        tiny_config("onet", mask_distance=0.0)
