"""Extraction with a distance mask: the same surface from the nodes near the input, and refusals where that fails."""

from __future__ import annotations

import pytest
import torch

from pyimplicit.fields import SDF, TSDF, UDF, Field, Occ, surface_field
from pyimplicit.generation import extract_mesh, extract_mesh_with_report
from pyimplicit.geometry import Surface
from pyimplicit.sampling import DistanceMask
from tests.helpers import sphere, torus

TORUS = Surface(*torus())
CLOUD = TORUS.sample_surface(3000).points


def same(one, other):
    return torch.equal(one.vertices, other.vertices) and torch.equal(one.faces, other.faces)


@pytest.mark.parametrize("kind", ["sdf", "tsdf", "occ"])
def test_signed_fields_come_out_the_same(kind):
    mask = DistanceMask.from_cloud(CLOUD, 0.06)
    field = surface_field(TORUS, kind)
    masked, report = extract_mesh_with_report(field, 96, mask=mask)
    assert same(masked, extract_mesh(field, 96, method="dense"))
    assert report.method == "masked"
    assert report.share < 0.3
    assert not report.note


def test_enclosed_regions_are_inside():
    """The middle of a ball lies beyond a thin mask, and is not hollow."""
    surface = Surface(*sphere(0.4, 4))
    mask = DistanceMask.from_cloud(surface.sample_surface(20_000).points, 0.05)
    field = surface_field(surface, "sdf")
    masked = extract_mesh(field, 64, mask=mask)
    assert same(masked, extract_mesh(field, 64, method="dense"))


def test_unsigned_distances():
    """The shell at a level above 0, from at most a quarter of the nodes at 128 cells."""
    mask = DistanceMask.from_cloud(CLOUD, 0.05)
    field = Field(lambda points: TORUS.unsigned_distance(points) - 0.02, UDF())
    masked, report = extract_mesh_with_report(field, 128, mask=mask)
    assert same(masked, extract_mesh(field, 128, method="dense"))
    assert report.share < 0.25


def test_what_a_network_imagines_far_away_is_left_out():
    """A field that is wrong beyond 0.15 of the surface: the mask gives the true mesh."""
    truth = surface_field(TORUS, "sdf")

    def imagining(points):
        distance = TORUS.signed_distance(points)
        return torch.where(distance > 0.15, -distance, distance)

    masked = extract_mesh(Field(imagining, SDF()), 96, mask=DistanceMask.from_cloud(CLOUD, 0.08))
    assert same(masked, extract_mesh(truth, 96))
    assert not same(extract_mesh(Field(imagining, SDF()), 96), masked)


def test_holes_in_the_cloud_fall_back():
    """Half of the ball's points are missing: inside and outside meet beyond the mask, which is noticed."""
    surface = Surface(*sphere(0.4, 4))
    cloud = surface.sample_surface(20_000).points
    half = DistanceMask.from_cloud(cloud[cloud[:, 0] < 0.1].contiguous(), 0.05)
    field = surface_field(surface, "sdf")
    masked, report = extract_mesh_with_report(field, 64, mask=half)
    assert same(masked, extract_mesh(field, 64, method="dense"))
    assert "evaluated after all" in report.note


def test_errors():
    mask = DistanceMask.from_cloud(CLOUD, 0.01)
    shell = Field(lambda points: TORUS.unsigned_distance(points), UDF())
    for call, error, words in (
        (lambda: extract_mesh(shell, 16, mask=CLOUD), TypeError, "mask: expected a DistanceMask, got Tensor"),
    ):
        with pytest.raises(error, match=words):
            call()
    assert TSDF(0.1).level == Occ().level == 0
    assert mask.distance == 0.01
