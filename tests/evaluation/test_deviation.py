"""The deviation score against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from pyimplicit.evaluation import d_score


def run(iou: float | None, f_score: float | None, normal_consistency: float | None) -> dict[str, float | None]:
    return {"iou": iou, "f_score": f_score, "normal_consistency": normal_consistency}


RESULTS = {
    "onet": {"uniform": run(0.8, 0.9, 1.0), "linear": run(1.0, 0.9, 0.8)},
    "deepsdf": {"uniform": None, "linear": run(0.5, 0.4, 0.9)},
}


def test_by_hand():
    """Uniform: IoU (0.2 + 1) / 2, F-Score (0 + 1) / 2, normals (0 + 1) / 2. Linear: normals (0.2 + 0) / 2."""
    scores = d_score(RESULTS)
    assert list(scores) == ["uniform", "linear"]
    assert scores["uniform"] == pytest.approx((0.6 + 0.5 + 0.5) / 3)
    assert scores["linear"] == pytest.approx(0.1 / 3)
    assert scores.skipped == ()


def test_the_best_everywhere_has_zero_and_a_total_failure_has_the_sum_of_the_weights():
    scores = d_score({"onet": {"good": run(0.9, 0.8, 0.7), "bad": None, "worse": run(None, 0, None)}})
    assert scores == {"good": 0.0, "bad": pytest.approx(1.0), "worse": pytest.approx(1.0)}


def test_weights_are_used_as_given():
    weights = {"iou": 1.0, "f_score": 2.0, "normal_consistency": 0.5}
    assert d_score(RESULTS, weights)["uniform"] == pytest.approx(0.6 + 2 * 0.5 + 0.5 * 0.5)


def test_scale_of_a_metric_does_not_matter():
    scaled = {n: {s: r and {m: v and 7 * v for m, v in r.items()} for s, r in b.items()} for n, b in RESULTS.items()}
    assert d_score(scaled) == pytest.approx(d_score(RESULTS))


def test_a_pair_that_is_zero_for_all_is_left_out_and_named():
    results = {**RESULTS, "dead": {"uniform": None, "linear": run(0, 0, 0.5)}}
    scores = d_score(results)
    assert scores.skipped == (("dead", "iou"), ("dead", "f_score"))
    assert scores["uniform"] == pytest.approx((0.6 + 0.5 + (0 + 1 + 1) / 3) / 3)


def test_lower_is_better_enters_through_a_transform_only():
    results = {"onet": {"near": {"chamfer_l2": 0.0}, "far": {"chamfer_l2": 1.0}, "failed": {"chamfer_l2": None}}}
    with pytest.raises(ValueError, match="'chamfer_l2' is not known to be better when higher: give a transform"):
        d_score(results, metrics=["chamfer_l2"])
    scores = d_score(results, metrics=["chamfer_l2"], transforms={"chamfer_l2": lambda value: 1 / (1 + value)})
    assert scores == {"near": 0.0, "far": 0.5, "failed": 1.0}


def test_a_threshold_may_be_part_of_the_name():
    assert d_score({"onet": {"a": {"f_score@0.01": 1.0}}}, metrics=["f_score@0.01"]) == {"a": 0.0}


@pytest.mark.parametrize(
    ("results", "options", "words"),
    [
        ({}, {}, "results: expected at least one network with one strategy"),
        ({"onet": {}}, {}, "results: expected at least one network with one strategy"),
        ({**RESULTS, "x": {"linear": None}}, {}, r"results\['x'\]\['uniform'\]: expected a result, got none"),
        ({"x": {"a": {"iou": 1.0}}}, {}, r"results\['x'\]\['a'\]: expected a value for 'f_score', got only iou"),
        ({"x": {"a": run(math.nan, 1, 1)}}, {}, r"results\['x'\]\['a'\]\['iou'\]: expected a finite number"),
        ({"x": {"a": run(-0.1, 1, 1)}}, {}, r"expected a finite number of at least 0, got -0.1"),
        ({"x": {"a": None}}, {}, "iou is 0 for every network and strategy"),
        (RESULTS, {"weights": {"iou": 1.0}}, "weights: expected one for each of iou, f_score, normal_consistency"),
        (RESULTS, {"metrics": ["iou"], "weights": {"iou": 0.0}}, r"weights\['iou'\]: expected a finite number above 0"),
        (RESULTS, {"metrics": []}, "metrics: expected at least one"),
        (RESULTS, {"metrics": ["iou", "iou"]}, "metrics: expected at least one, all different"),
        (RESULTS, {"metrics": ["accuracy"]}, "'accuracy' is not known to be better when higher"),
    ],
)
def test_refusals(results, options, words):
    with pytest.raises(ValueError, match=words):
        d_score(results, **options)
