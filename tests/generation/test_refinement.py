"""Coarse-to-fine extraction against all nodes: the same mesh from a few percent of the points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pyimplicit.errors import ExtractionError
from pyimplicit.fields import SDF, UDF, Field, Occ, surface_field
from pyimplicit.generation import extract_mesh, extract_mesh_with_report
from pyimplicit.geometry import Surface, inspect_mesh
from tests.helpers import torus


def both(field, resolution, **options):
    mise, report = extract_mesh_with_report(field, resolution, method="mise", **options)
    dense, _ = extract_mesh_with_report(field, resolution, method="dense", **options)
    return mise, dense, report


def same(one, other):
    return torch.equal(one.vertices, other.vertices) and torch.equal(one.faces, other.faces)


def ball(radius=0.4, center=(0.0, 0.0, 0.0)):
    return Field(lambda points: (points - torch.tensor(center)).norm(dim=1) - radius, SDF())


def smooth(seed, waves=4):
    """A random smooth field, of features of about a fifth of the cube."""
    random = np.random.default_rng(seed)
    directions = torch.from_numpy(random.normal(size=(waves, 3)) * 9).float()
    phases = torch.from_numpy(random.uniform(0, 2 * math.pi, waves)).float()
    offset = float(random.uniform(-0.5, 0.5))
    return Field(lambda points: torch.sin(points @ directions.T + phases).sum(1) + offset, SDF())


@pytest.mark.parametrize("resolution", [64, 128, 192])
@pytest.mark.parametrize(
    "field",
    [
        ball(),
        ball(0.3, (0.31, -0.1, 0.3)),  # cut off by the cube
        Field(lambda points: 40 * (0.3 - points.abs().amax(1)), Occ(0.2)),
        surface_field(Surface(*torus()), "sdf"),
        surface_field(Surface(*torus()), "occ"),
    ],
    ids=["ball", "cut", "box", "torus", "torus occ"],
)
def test_the_mesh_is_that_of_all_nodes(field, resolution):
    mise, dense, report = both(field, resolution)
    assert same(mise, dense)
    assert report.method == "mise"
    assert report.total == (resolution + 1) ** 3
    assert report.share < (0.25 if resolution == 64 else 0.12)
    assert not report.note


@pytest.mark.parametrize("seed", range(12))
def test_smooth_fields(seed):
    mise, dense, _ = both(smooth(seed), 64)
    assert same(mise, dense)
    assert inspect_mesh(mise).is_closed


def test_a_body_leads_to_its_far_ends():
    """A bent thin tube that coarse nodes see only in places is followed from there."""

    def tube(points):
        angle = torch.atan2(points[:, 1], points[:, 0])
        height = points[:, 2] - 0.1 * torch.sin(3 * angle)
        return torch.hypot(points[:, :2].norm(dim=1) - 0.35, height) - 0.012

    mise, dense, report = both(Field(tube, SDF()), 128)
    assert same(mise, dense)
    assert report.share < 0.06


def test_a_body_between_coarse_nodes_is_not_seen_and_a_lone_one_falls_back():
    small = ball(0.012, (0.016, 0.016, 0.016))
    assert both(small, 128)[2].method == "dense"
    assert "no surface seen at 32 cells" in both(small, 128)[2].note
    assert same(*both(small, 128)[:2])
    pair = Field(lambda points: torch.minimum(small(points), ball(0.1, (-0.2, -0.2, -0.2))(points)), SDF())
    mise, dense, report = both(pair, 128)
    assert report.method == "mise"
    assert len(mise.faces) < len(dense.faces)
    finer, report = extract_mesh_with_report(pair, 128, coarsest=64)
    assert same(finer, dense)
    assert report.share < 0.2


@pytest.mark.parametrize("resolution", [20, 33, 63])
def test_without_a_coarser_grid_all_nodes(resolution):
    mise, dense, report = both(ball(), resolution)
    assert same(mise, dense)
    assert report.method == "dense"
    assert report.evaluated == report.total
    assert "no coarser grid" in report.note


def test_evaluated_points_are_counted_and_reported():
    asked = []

    def counting(points):
        asked.append(len(points))
        return points.norm(dim=1) - 0.4

    seen = []
    _, report = extract_mesh_with_report(
        Field(counting, SDF()), 128, max_points=5000, progress=lambda done, total: seen.append((done, total))
    )
    assert sum(asked) == report.evaluated == seen[-1][0]
    assert max(asked) <= 5000
    assert {total for _, total in seen} == {129**3}


def test_values_beyond_the_fine_level_only():
    """NaN where only fine nodes look is an error too."""

    def broken(points):
        distance = points.norm(dim=1) - 0.4
        return torch.where((points[:, 0] * 128 % 2 == 1) & (distance.abs() < 0.02), torch.nan, distance)

    with pytest.raises(ExtractionError, match="field: expected finite values, got nan"):
        extract_mesh(Field(broken, SDF()), 128)


def test_errors():
    with pytest.raises(ValueError, match="coarsest: expected at least 1, got 0"):
        extract_mesh(ball(), 32, coarsest=0)
    with pytest.raises(ValueError, match="method: expected one of mise, dense"):
        extract_mesh(ball(), 32, method="octree")
    with pytest.raises(ExtractionError, match="never cross the level"):
        extract_mesh(Field(lambda points: points.norm(dim=1) + 1, SDF()), 64)
    with pytest.raises(ExtractionError, match="unsigned distances only have a surface"):
        extract_mesh(Field(lambda points: points.norm(dim=1), UDF()), 64)
