"""Dense clouds of unsigned distance fields: exactly as many points, on the surface, everywhere on it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from pyimplicit import networks
from pyimplicit.errors import ExtractionError
from pyimplicit.fields import UDF, Field, network_field, surface_field
from pyimplicit.generation import extract_dense_cloud
from pyimplicit.geometry import Surface
from pyimplicit.sampling import DistanceMask
from tests.helpers import torus

TORUS = Surface(*torus())
OPEN = Surface(torus()[0], torus()[1][: len(torus()[1]) // 2])


@pytest.mark.parametrize("surface", [TORUS, OPEN], ids=["closed", "open"])
@pytest.mark.parametrize("count", [1000, 150_000])
def test_points_lie_on_the_surface_and_all_over_it(surface, count):
    cloud = extract_dense_cloud(surface_field(surface, "udf"), count)
    assert cloud.shape == (count, 3)
    assert float(surface.unsigned_distance(cloud).max()) < 1e-5
    if count > 1000:
        own = DistanceMask.from_cloud(cloud, 0.02)
        assert bool(own(surface.sample_surface(5000).points).all())


def test_the_same_seed_gives_the_same_cloud():
    field = surface_field(TORUS, "udf")
    one, again, other = (extract_dense_cloud(field, 5000, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(extract_dense_cloud(field, 5000, seed=1, max_points=33_333), one)


def test_the_authors_half_steps_end_farther_away():
    field = surface_field(TORUS, "udf")
    half = TORUS.unsigned_distance(extract_dense_cloud(field, 20_000, step_scale=0.5))
    whole = TORUS.unsigned_distance(extract_dense_cloud(field, 20_000))
    assert float(whole.mean()) < 1e-6 < float(half.mean()) < 5e-4


def test_a_mask_keeps_away_what_a_field_imagines():
    """A second zero set far from the input shape gives no points."""
    field = Field(lambda p: torch.minimum(TORUS.unsigned_distance(p), (p.norm(dim=1) - 0.7).abs()), UDF())
    cloud = TORUS.sample_surface(3000).points
    masked = extract_dense_cloud(field, 5000, mask=DistanceMask.from_cloud(cloud, 0.1))
    assert float(TORUS.unsigned_distance(masked).max()) < 1e-5
    assert float(TORUS.unsigned_distance(extract_dense_cloud(field, 5000)).max()) > 0.1


def test_networks():
    class Ball(nn.Module):
        def __init__(self):
            super().__init__()
            self.radius = nn.Parameter(torch.tensor(0.3))

        def decode(self, points, code):
            return (points.norm(dim=2) - self.radius * code).abs()

    cloud = extract_dense_cloud(network_field(Ball(), torch.tensor([[1.0]]), kind="udf"), 2000)
    assert float((cloud.norm(dim=1) - 0.3).abs().max()) < 1e-5


def test_progress_and_ends():
    seen = []
    extract_dense_cloud(surface_field(TORUS, "udf"), 250_000, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (250_000, 250_000)
    assert all(a[0] <= b[0] for a, b in pairwise(seen))


def test_fields_without_a_surface_end_in_an_error():
    high = Field(lambda p: TORUS.unsigned_distance(p) + 0.02, UDF())  # comes near, never arrives
    far = Field(lambda p: TORUS.unsigned_distance(p) + 0.2, UDF())
    for field in (high, far):
        with pytest.raises(ExtractionError, match="field: expected points to arrive where it is 0, got 0 of 1000"):
            extract_dense_cloud(field, 1000)
    broken = Field(lambda p: TORUS.unsigned_distance(p) * torch.where(p[:, :1] > 0.4, torch.nan, 1.0)[:, 0], UDF())
    with pytest.raises(ExtractionError, match="field: expected finite values"):
        extract_dense_cloud(broken, 1000)
    away = DistanceMask.from_cloud(torch.full((1, 3), 9.0), 0.1)
    with pytest.raises(ExtractionError, match="within the mask"):
        extract_dense_cloud(surface_field(TORUS, "udf"), 10, mask=away)


def test_a_dead_field_has_no_points():
    """A network whose final ReLU lets nothing through is 0 everywhere: no point may count as arrived."""
    network = networks.create("ndf", resolution=32, width=2, hidden_size=8, output_bias=-50.0)
    field = network_field(network.eval(), network.encode(torch.rand(1, 50, 3) - 0.5))
    mask = DistanceMask.from_cloud(TORUS.sample_surface(3000).points, 0.1)
    for own in (None, mask):
        with pytest.raises(ExtractionError, match=r"got 0 or less at 100% of .* ReLU"):
            extract_dense_cloud(field, 1000, samples=5000, mask=own)
    most = Field(lambda p: (p[:, 0] - 0.4).clamp(min=0), UDF())
    with pytest.raises(ExtractionError, match="got 0 or less at 7"):
        extract_dense_cloud(most, 1000)
    # Within the mask a network may well be 0 in a layer as thick as half of it.
    thick = Field(lambda p: (TORUS.unsigned_distance(p) - 0.07).clamp(min=0), UDF())
    assert len(extract_dense_cloud(thick, 1000, mask=mask)) == 1000


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"count": 0}, ValueError, "count: expected at least 1"),
        ({"steps": 0}, ValueError, "steps: expected at least 1"),
        ({"step_scale": 0.0}, ValueError, "step_scale: expected a finite number above 0"),
        ({"mask": 0.1}, TypeError, "mask: expected a DistanceMask, got float"),
    ],
)
def test_errors(options, error, words):
    with pytest.raises(error, match=words):
        extract_dense_cloud(surface_field(TORUS, "udf"), **options)


def test_values_without_a_slope_are_refused():
    field = Field(lambda p: p.detach().norm(dim=1), UDF())
    with pytest.raises(ValueError, match="differentiated"):
        extract_dense_cloud(field, 10)
