"""The authors' conventions, restated from their definitions on the very samples that were drawn."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pyimplicit.data import ProceduralCars
from pyimplicit.evaluation import PRESETS, Protocol, Reference, evaluate
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream
from tests.evaluation.test_metrics import ball, box, torus

SAMPLES, POINTS, SEED = 3_000, 5_000, 5


def small(name: str) -> Protocol:
    return dataclasses.replace(PRESETS[name], samples=SAMPLES, iou_points=POINTS)


def restated(name: str, predicted: Surface, reference: Surface) -> dict[str, float]:
    """What the authors' evaluation computes, under their names."""
    # Their two meshes are drawn one after the other: never with the same random numbers.
    drawn = predicted.sample_surface(SAMPLES, RandomStream(SEED, purpose=1)), reference.sample_surface(SAMPLES, SEED)
    (p, n_p), (r, n_r) = ((one.points.double().numpy(), one.normals.double().numpy()) for one in drawn)
    to_predicted, nearest_predicted = cKDTree(p).query(r)  # completeness
    to_reference, nearest_reference = cKDTree(r).query(p)  # accuracy
    if name == "deepsdf":  # the sum of the mean squares, not half of it
        return {"chamfer_dist": np.square(to_predicted).mean() + np.square(to_reference).mean()}
    n_p, n_r = (n / np.linalg.norm(n, axis=1, keepdims=True) for n in (n_p, n_r))
    normals_complete = np.abs((n_r * n_p[nearest_predicted]).sum(axis=1)).mean()
    normals_accurate = np.abs((n_p * n_r[nearest_reference]).sum(axis=1)).mean()
    side = 1.1 if name in ("onet", "convonet") else 1.0
    space = (torch.rand(POINTS, 3, generator=torch.Generator().manual_seed(SEED)) - 0.5) * np.float32(side)
    a, b = predicted.contains(space).numpy(), reference.contains(space).numpy()
    found = {
        "iou": (a & b).sum() / (a | b).sum(),
        "completeness": to_predicted.mean(),
        "accuracy": to_reference.mean(),
        "completeness2": np.square(to_predicted).mean(),
        "accuracy2": np.square(to_reference).mean(),
        "normals": 0.5 * normals_complete + 0.5 * normals_accurate,
        "normals completeness": normals_complete,
        "normals accuracy": normals_accurate,
    }
    one = 0.5 * (to_predicted.mean() + to_reference.mean())
    two = 0.5 * (np.square(to_predicted).mean() + np.square(to_reference).mean())
    names = {"onet": "chamfer-L1 chamfer-L2", "convonet": "chamfer-L1 chamfer-L2", "airnets": "chamfer_l1 chamfer_l2"}
    found |= dict(zip(names.get(name, " chamfer_l2").split(" "), (one, two), strict=True))
    thresholds = {
        "convonet": {"f-score": 0.01, "f-score-15": 0.015, "f-score-20": 0.02},
        "airnets": {"f_score_05": 0.005, "f_score_10": 0.01, "f_score_15": 0.015, "f_score_20": 0.02},
    }
    for key, threshold in thresholds.get(name, {}).items():
        precision, recall = (to_reference <= threshold).mean(), (to_predicted <= threshold).mean()
        # Theirs is NaN where both are 0.
        found[key] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    found.pop("", None)
    return found


@pytest.mark.parametrize("name", ["onet", "convonet", "ifnet", "airnets", "deepsdf"])
def test_presets_are_the_authors_definitions(name):
    for predicted, reference in ((torus(), ball(0.35)), (ball(0.41), ball(0.4)), (box(0.9, 0.5, 0.6), torus())):
        predicted, reference = Surface(predicted), Surface(reference)
        scores = evaluate(predicted, reference, seed=SEED, preset=small(name))
        ours = PRESETS[name].authors_scores(scores)
        theirs = restated(name, predicted, reference)
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, abs=1e-6), key
        definitions = PRESETS[name].authors_definitions(scores)
        assert set(definitions) == set(ours)
        assert all("seed 5" in text for text in definitions.values())


def test_sample_counts_are_the_authors():
    counts = {name: (p.samples, p.iou_points, p.iou_side, p.thresholds) for name, p in PRESETS.items()}
    assert counts["onet"] == (100_000, 100_000, 1.1, (0.015,))
    assert counts["convonet"] == (100_000, 100_000, 1.1, (0.01, 0.015, 0.02))
    assert counts["ifnet"] == (100_000, 1_000_000, 1.0, (0.015,))
    assert counts["airnets"] == (100_000, 1_000_000, 1.0, (0.005, 0.01, 0.015, 0.02))
    assert counts["deepsdf"][0] == 30_000


@pytest.mark.parametrize("name", ["onet", "convonet"])
def test_a_mesh_without_faces_has_onets_values_and_no_gaps(name):
    ours = PRESETS[name].authors_scores(evaluate(None, ball(0.4), preset=small(name)))
    far = math.sqrt(3)
    assert (ours["completeness"], ours["accuracy"], ours["completeness2"], ours["accuracy2"]) == (far, far, 3, 3)
    assert (ours["normals"], ours["normals completeness"], ours["normals accuracy"], ours["iou"]) == (-1, -1, -1, 0)
    assert (ours["chamfer-L1"], ours["chamfer-L2"]) == (far, 3)
    assert all(ours[key] == 0 for key in ours if key.startswith("f-score"))


def test_an_authors_number_that_was_not_measured_is_refused():
    scores = evaluate(torus(), ball(0.4), samples=50, iou_points=500)
    with pytest.raises(ValueError, match=r"expected f_score@0.01 for 'f-score' of convonet, got none"):
        PRESETS["convonet"].authors_scores(scores)


def test_stored_samples_give_what_the_mesh_gives():
    mesh, predicted = Surface(ball(0.4)), torus()
    reference = Reference.from_mesh(mesh, seed=SEED, preset=small("convonet"))
    drawn = mesh.sample_surface(SAMPLES, SEED)
    stored = Reference.from_samples(
        drawn.points, drawn.normals, reference._points, reference._inside, SEED, preset=small("convonet")
    )
    expected, found = evaluate(predicted, reference).as_dict(), evaluate(predicted, stored).as_dict()
    assert found.pop("iou_box") == "the box they were stored for"
    for name in ("iou_box", "note"):  # stored samples do not tell their mesh's size
        expected.pop(name)
    assert found.pop("note") is None
    assert found == expected


def parts() -> dict[str, Mesh]:
    """Meshes whose normals are hard: a sheet thinner than the samples are apart, faces that lie on each other, cars."""
    sheet, inner = box(1.0, 0.5, 0.002), box(0.5, 0.5, 0.5)
    double = Mesh(torch.cat([inner.vertices, inner.vertices]), torch.cat([inner.faces, inner.faces + 8]))
    cars = ProceduralCars(count=3, seed=4, resolution=64)
    found = {"ball": ball(0.4), "torus": torus(), "sheet": sheet, "double": double}
    return found | {name: cars.load(index) for index, name in enumerate(cars.names())}


@pytest.mark.parametrize("name", list(parts()))
def test_truth_against_itself_in_another_order_of_faces(name):
    """Distances to the surface do not profit from equal samples: other faces first, other samples, same scores."""
    mesh = parts()[name]
    order = torch.randperm(len(mesh.faces), generator=torch.Generator().manual_seed(1))
    turned = Mesh(mesh.vertices, mesh.faces[order])
    for preset in (None, Protocol(sampling="independent")):
        scores = evaluate(turned, mesh, samples=5_000, iou_points=20_000, preset=preset)
        assert scores.iou == 1
        assert scores.f_score == {0.015: 1.0}
        assert scores.normal_consistency >= 0.999
        assert scores.hausdorff[1.0] < 1e-6
    assert scores.nearest == "surface"


def test_the_authors_way_keeps_the_floor_in_normals():
    """On a sheet thinner than the samples are apart the nearest sample is as often on the other side as not."""
    scores = evaluate(parts()["sheet"], parts()["sheet"], samples=2_000, iou_points=100_000, preset="onet")
    assert scores.nearest == "samples"
    assert scores.normal_consistency < 0.999
    assert scores.chamfer_l1 > 1e-3


def test_the_floor_is_what_the_spacing_of_samples_leaves():
    protocol = Protocol(samples=20_000, iou_points=5_000, nearest="samples")
    reference = Reference.from_mesh(ball(0.4), preset=protocol)
    floor = reference.floor()
    spacing = math.sqrt(4 * math.pi * 0.4**2 / 20_000)
    assert floor.chamfer_l1 == pytest.approx(spacing / 2, rel=0.05)
    assert (floor.iou, floor.sampling) == (1.0, "independent")
    assert evaluate(ball(0.4), reference).chamfer_l1 == 0
    to_surface = Reference.from_mesh(ball(0.4), preset=dataclasses.replace(protocol, nearest="surface"))
    assert to_surface.floor().chamfer_l1 < 1e-7
    with pytest.raises(ValueError, match="reference: expected one made from a mesh, got stored samples"):
        Reference.from_samples(torch.rand(3, 3), None, torch.rand(3, 3), torch.ones(3, dtype=torch.bool)).floor()


def test_distances_to_the_surface_against_formulas():
    protocol = Protocol(samples=5_000, iou_points=5_000, nearest="surface", thresholds=(0.03, 0.05))
    scores = evaluate(ball(0.36, 5), ball(0.4, 5), preset=protocol)
    assert scores.accuracy == pytest.approx(0.04, rel=2e-3)
    assert scores.chamfer_l2 == pytest.approx(0.04**2, rel=4e-3)
    assert scores.hausdorff == pytest.approx({0.9: 0.04, 0.95: 0.04, 1.0: 0.04}, rel=0.02)
    assert (scores.f_score, scores.nearest) == ({0.03: 0.0, 0.05: 1.0}, "surface")
    assert "predicted samples to the reference surface" in scores.definitions()["accuracy"]


def test_hausdorff_is_the_larger_direction():
    """A bump on one side of a box is far from the other box, whose every point is near."""
    low, high = box(0.6, 0.6, 0.6), box(0.05, 0.05, 0.05)
    bump = Mesh(torch.cat([low.vertices, high.vertices + 0.4]), torch.cat([low.faces, high.faces + 8]))
    scores = evaluate(bump, low, samples=20_000, iou_points=2_000, quantiles=(0.5, 1.0))
    back = evaluate(low, bump, samples=20_000, iou_points=2_000, quantiles=(0.5, 1.0))
    assert scores.hausdorff[1.0] == pytest.approx(math.sqrt(3) * 0.125, rel=0.03)  # the bump's farthest corner
    assert back.hausdorff[1.0] == pytest.approx(scores.hausdorff[1.0], rel=0.03)
    assert scores.hausdorff[0.5] < 0.02


def test_a_cloud_has_distances_and_nothing_else():
    protocol = Protocol(samples=4_000, iou_points=1_000, nearest="surface")
    reference = Reference.from_mesh(ball(0.4), preset=protocol)
    cloud = Surface(ball(0.42)).sample_surface(6_000, seed=9).points
    scores = evaluate(cloud, reference)
    assert scores.iou is scores.normal_consistency is scores.normal_accuracy is None
    assert (scores.cloud_points, scores.valid) == (4_000, True)
    assert scores.accuracy == pytest.approx(0.02, rel=0.03)
    assert {"iou", "normal_consistency"}.isdisjoint(scores.definitions())
    assert evaluate(cloud[:10], reference).cloud_points == 10
    for bad, words in ((cloud[:0], "at least one point"), (cloud * math.nan, "finite"), (cloud[:, :2], "shape")):
        with pytest.raises(ValueError, match=words):
            evaluate(bad, reference)


def test_what_to_know_of_a_measurement_is_noted():
    closed = box(0.6, 0.6, 0.6)
    half = Mesh(closed.vertices, closed.faces[:-2])
    scores = evaluate(half, closed, samples=100, iou_points=1_000)
    assert scores.note == (
        "the prediction is open: inside where its winding number is above one half; "
        "the reference's longest side is 0.6, not 1: all lengths are in its units"
    )
    assert evaluate(half, closed, samples=100, iou_points=1_000, closed_only=True).iou == 0
    large = evaluate(box(3.0, 1.0, 1.0), box(2.0, 1.0, 1.0), samples=100, iou_points=1_000)
    assert large.note is not None
    assert "the prediction leaves the reference's box of 2 x 1 x 1" in large.note
    assert large.iou == 1  # the points lie in the reference alone, and the note says so


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "onnet"}, "preset: expected one of pyimplicit, onet, convonet"),
        ({"quantiles": (0.5, 1.5)}, "quantiles: expected at most 1"),
        ({"quantiles": (0.0,)}, "quantiles: expected a finite number above 0"),
        ({"reference": Reference.from_mesh(ball(0.4), 10, 100), "preset": "onet"}, "expected the reference's pyimpl"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(ValueError, match=words):
        evaluate(**{"predicted": ball(0.3), "reference": ball(0.4), "samples": 10, "iou_points": 100} | options)


def test_stored_samples_that_cannot_be_measured_against():
    points, inside = torch.rand(4, 3), torch.tensor([True, False, False, True])
    for arguments, words in (
        ((points[:0], None, points, inside), "points: expected at least one"),
        ((points, points[:2], points, inside), "normals: expected shape"),
        ((points, None, points, inside[:2]), "inside: expected shape"),
        ((points, None, points, inside & False), "inside: expected at least one point inside"),
    ):
        with pytest.raises(ValueError, match=words):
            Reference.from_samples(*arguments)
    assert Reference.from_samples(points, None, points, inside).protocol.nearest == "samples"
    with pytest.raises(ValueError, match="preset: expected distances to samples"):
        Reference.from_samples(points, None, points, inside, preset=Protocol(nearest="surface"))


def test_the_documentation_names_every_number():
    text = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    for name in evaluate(torus(), ball(0.4), samples=50, iou_points=500).definitions():
        base, at, _ = name.partition("@")
        assert f"`{base}@{'q' if base == 'hausdorff' else 't'}`" in text if at else f"`{base}`" in text, name
    for protocol in PRESETS.values():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{protocol.name}` | "))
        cells = [cell.strip(" ()") for cell in row.split("|")[2:]]
        assert cells[:2] == [f"{protocol.samples:,}", f"{protocol.iou_points:,}"]
        assert cells[3] == ", ".join(f"{threshold:g}" for threshold in protocol.thresholds)
        for name in protocol.columns:
            assert f"`{name}`" in text, name
