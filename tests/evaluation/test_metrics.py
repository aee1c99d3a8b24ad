"""Metrics against brute force, against formulas, and on what cannot be measured."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from pyimplicit.evaluation import Protocol, Reference, Scores, evaluate
from pyimplicit.evaluation.samples import Samples
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface


def ball(radius: float, subdivisions: int = 4, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions, radius)
    return Mesh(np.asarray(sphere.vertices) + centre, np.asarray(sphere.faces))


def box(*sides: float) -> Mesh:
    cuboid = trimesh.creation.box(sides)
    return Mesh(np.asarray(cuboid.vertices), np.asarray(cuboid.faces))


def torus() -> Mesh:
    ring = trimesh.creation.torus(0.3, 0.12, major_sections=48, minor_sections=24)
    return Mesh(np.asarray(ring.vertices), np.asarray(ring.faces))


def brute_force(predicted: Mesh, reference: Mesh, samples: int, seed: int, threshold: float) -> dict[str, float]:
    """The metrics by a full matrix of distances."""
    drawn = [Surface(mesh).sample_surface(samples, seed=seed) for mesh in (predicted, reference)]
    points = [cloud.points.double().numpy() for cloud in drawn]
    normals = [torch.nn.functional.normalize(cloud.normals.double(), dim=1).numpy() for cloud in drawn]
    distances = cdist(*points)
    cosines = np.abs(normals[0] @ normals[1].T)
    forward, backward = distances.min(axis=1), distances.min(axis=0)
    precision, recall = (forward <= threshold).mean(), (backward <= threshold).mean()
    return {
        "accuracy": forward.mean(),
        "completeness": backward.mean(),
        "accuracy_squared": (forward**2).mean(),
        "completeness_squared": (backward**2).mean(),
        "chamfer_l1": (forward.mean() + backward.mean()) / 2,
        "chamfer_l2": ((forward**2).mean() + (backward**2).mean()) / 2,
        f"precision@{threshold}": precision,
        f"recall@{threshold}": recall,
        "f_score": 2 * precision * recall / (precision + recall),
        "normal_consistency": (
            cosines[np.arange(samples), distances.argmin(axis=1)].mean()
            + cosines[distances.argmin(axis=0), np.arange(samples)].mean()
        )
        / 2,
    }


@pytest.mark.parametrize(("predicted", "reference"), [(ball(0.4), box(0.7, 0.5, 0.6)), (torus(), ball(0.35))])
def test_against_a_matrix_of_distances(predicted, reference):
    protocol = Protocol(samples=700, iou_points=2_000, thresholds=(0.05, 0.1), nearest="samples")
    scores = evaluate(predicted, reference, seed=3, preset=protocol).as_dict()
    for name, value in brute_force(predicted, reference, 700, seed=3, threshold=0.05).items():
        assert scores[name] == pytest.approx(value, abs=1e-9), name


def test_iou_of_boxes_against_their_volumes():
    """Half-width overlap of shifted boxes, and a box in a box; five standard deviations of the estimate."""
    reference = box(0.6, 0.6, 0.6)
    for predicted, expected in (
        (Mesh(reference.vertices + torch.tensor([0.2, 0.0, 0.0]), reference.faces), 0.4 / 0.8),
        (box(0.6, 0.3, 0.6), 0.5),
        (Mesh(box(0.1, 0.1, 0.1).vertices + 0.4, box(0.1, 0.1, 0.1).faces), 0.0),
    ):
        iou = evaluate(predicted, reference, samples=100, iou_points=40_000).iou
        assert iou == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(40_000 * 0.2))


def test_two_balls_against_the_formulas():
    """Concentric balls: every distance is the difference of radii, IoU the cube of their ratio, normals agree."""
    small, large = 0.36, 0.4
    scores = evaluate(ball(small), ball(large), samples=20_000, iou_points=20_000, thresholds=(0.03, 0.05))
    for name in ("chamfer_l1", "accuracy", "completeness"):
        assert getattr(scores, name) == pytest.approx(0.04, rel=0.02)
    assert scores.chamfer_l2 == pytest.approx(0.04**2, rel=0.03)
    assert scores.iou == pytest.approx((small / large) ** 3, abs=0.025)
    assert scores.f_score == {0.03: 0.0, 0.05: 1.0}
    assert scores.normal_consistency > 0.998


@pytest.mark.parametrize("mesh", [ball(0.4), box(1.0, 0.4, 0.6), torus()])
def test_a_mesh_against_itself_is_perfect(mesh):
    scores = evaluate(mesh, mesh, samples=5_000, iou_points=5_000)
    assert (scores.iou, scores.f_score, scores.valid, scores.reason) == (1.0, {0.015: 1.0}, True, None)
    assert scores.normal_consistency >= 0.999
    assert scores.chamfer_l1 < 1e-7
    to_samples = evaluate(mesh, mesh, preset=Protocol(samples=5_000, iou_points=5_000, nearest="samples"))
    assert to_samples.chamfer_l1 == to_samples.chamfer_l2 == 0


def test_another_triangulation_of_the_same_ball_leaves_sampling_noise():
    """With n independent samples on an area A the mean distance to the nearest is about sqrt(A / n) / 2."""
    turned = Mesh(ball(0.4).vertices[:, [1, 2, 0]], ball(0.4).faces.flip(0))
    scores = evaluate(turned, ball(0.4), preset=Protocol(samples=20_000, iou_points=20_000, nearest="samples"))
    spacing = math.sqrt(4 * math.pi * 0.4**2 / 20_000)
    assert scores.chamfer_l1 == pytest.approx(spacing / 2, rel=0.1)
    assert scores.f_score[0.015] > 0.999
    assert scores.normal_consistency >= 0.999
    assert scores.iou > 0.99


def test_normals_count_in_both_directions_of_a_face():
    inside_out = Mesh(ball(0.4).vertices, ball(0.4).faces[:, [0, 2, 1]])
    scores = evaluate(inside_out, ball(0.4), samples=2_000, iou_points=2_000)
    assert scores.normal_consistency >= 0.999


def test_an_open_prediction_is_measured():
    half = box(0.6, 0.6, 0.6)
    half = Mesh(half.vertices, half.faces[:-2])
    scores = evaluate(half, box(0.6, 0.6, 0.6), samples=2_000, iou_points=2_000)
    assert scores.valid
    assert scores.iou > 0.8
    assert scores.accuracy < scores.completeness


def test_a_missing_prediction_gets_the_worst_scores():
    flat = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), np.array([[0, 1, 2]]))
    for predicted, reason in ((None, "no prediction"), (flat, "a predicted mesh without area")):
        scores = evaluate(predicted, ball(0.4), samples=50, iou_points=500, thresholds=(0.01, 0.02), seed=4)
        assert not scores.valid
        assert scores.reason == reason
        assert scores.iou == scores.normal_consistency == 0
        assert scores.f_score == scores.precision == scores.recall == {0.01: 0, 0.02: 0}
        assert scores.chamfer_l1 == scores.accuracy == scores.completeness == pytest.approx(math.sqrt(3))
        assert scores.chamfer_l2 == scores.accuracy_squared == scores.completeness_squared == 3
        assert (scores.samples, scores.iou_points, scores.seed) == (50, 500, 4)


def test_the_worst_is_worse_than_any_prediction_in_the_cube():
    corner = Mesh(box(0.01, 0.01, 0.01).vertices - 0.495, box(0.01, 0.01, 0.01).faces)
    other = Mesh(-corner.vertices, corner.faces[:, [0, 2, 1]])
    both = Mesh(torch.cat([other.vertices, ball(0.1).vertices]), torch.cat([other.faces, ball(0.1).faces + 8]))
    scores = evaluate(corner, both, samples=200, iou_points=20_000)
    worst = evaluate(None, both, samples=200, iou_points=20_000)
    for name in ("chamfer_l1", "chamfer_l2", "accuracy", "completeness"):
        assert getattr(scores, name) < getattr(worst, name)


def test_a_prepared_reference_gives_the_same_scores():
    reference = Reference.from_mesh(ball(0.4), samples=300, iou_points=1_000, seed=5)
    for predicted in (box(0.6, 0.6, 0.6), Surface(torus()), None):
        fresh = evaluate(predicted, Surface(ball(0.4)), samples=300, iou_points=1_000, seed=5)
        assert evaluate(predicted, reference) == fresh
        assert evaluate(predicted, reference, samples=300, seed=5) == fresh
    assert evaluate(torus(), ball(0.4), samples=300, iou_points=1_000, seed=6) != evaluate(torus(), reference)


def test_every_number_has_a_definition():
    scores = evaluate(torus(), ball(0.4), samples=100, iou_points=2_000, thresholds=(0.01, 0.015), seed=7)
    row, definitions = scores.as_dict(), scores.definitions()
    assert set(row) - set(definitions) == {
        *("samples", "iou_points", "seed", "nearest", "sampling", "iou_box", "cloud_points", "valid", "reason", "note")
    }
    assert set(definitions) < set(row)
    for name, text in definitions.items():
        assert "seed 7" in text
        assert ("2000 points" if name == "iou" else "100 area-uniform samples") in text
        assert any(unit in text for unit in ("no unit", "mesh units"))
        assert ("squared mesh units" in text) == (name in ("chamfer_l2", "accuracy_squared", "completeness_squared"))
    assert row["f_score"] == row["f_score@0.01"] == scores.f_score[0.01]
    assert all(math.isfinite(value) for value in row.values() if isinstance(value, int | float))
    names = {field.name for field in dataclasses.fields(Scores)}
    assert names - {"precision", "recall", "hausdorff"} <= set(row)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"predicted": "mesh.obj"}, TypeError, "predicted: expected a Mesh or a Surface, got str"),
        ({"reference": None}, TypeError, "reference: expected a Mesh or a Surface, got NoneType"),
        ({"thresholds": ()}, ValueError, "thresholds: expected at least one"),
        ({"thresholds": (0.1, 0.1)}, ValueError, "thresholds: expected at least one, all different"),
        ({"thresholds": (0.0,)}, ValueError, "thresholds: expected a finite number above 0"),
        ({"samples": 0}, ValueError, "samples: expected at least 1"),
        ({"iou_points": 1.5}, TypeError, "iou_points: expected a whole number"),
        ({"seed": -1}, ValueError, "seed: expected at least 0"),
        (
            {"reference": Mesh(box(0.6, 0.6, 0.6).vertices, box(0.6, 0.6, 0.6).faces[:1]), "iou_points": 90},
            ValueError,
            "fills some of the cube of side 1, got none of 90 points inside",
        ),
        ({"reference": Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))}, ValueError, "reference: expected a mesh with"),
        (
            {"reference": Reference.from_mesh(ball(0.4, 1), samples=10, iou_points=100), "samples": 20},
            ValueError,
            "samples: expected the reference's 10, got 20",
        ),
    ],
)
def test_refusals(arguments, error, words):
    with pytest.raises(error, match=words):
        evaluate(**{"predicted": ball(0.3, 1), "reference": ball(0.4, 1)} | arguments)


@pytest.mark.parametrize("kind", ["ball", "plane", "line", "lattice", "one", "far"])
def test_nearest_samples_are_those_of_a_tree(kind):
    """Samples are looked up as triangles without extent: also where they are flat, on a line, or on each other."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(4_000, 3, generator=generator, dtype=torch.float64) - 0.5
    points = {
        "ball": torch.nn.functional.normalize(points, dim=1),
        "plane": points * torch.tensor([1.0, 1.0, 0.0]),
        "line": points[:, :1].expand(-1, 3),
        "lattice": (points * 10).round() / 10,
        "one": points[:1].expand(50, -1),
        "far": points + 1e6,
    }[kind]
    asked = points[: len(points) // 2] + 0.01 * torch.randn(len(points) // 2, 3, generator=generator).double()
    scale = float((points.amax(0) - points.amin(0)).max()) + 1e-9
    for queries in (asked, points):
        distances = Samples.of_cloud(queries).to_samples(Samples.of_cloud(points))
        expected, _ = cKDTree(points.numpy()).query(queries.numpy())
        np.testing.assert_allclose(distances.length.numpy(), expected, rtol=0, atol=1e-7 * scale)
