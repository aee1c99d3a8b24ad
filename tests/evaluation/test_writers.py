"""The CSV of scores and their means."""

from __future__ import annotations

import csv

import pytest

from pyimplicit.evaluation import Scores, mean_scores, write_scores_csv


def scores(iou: float, **changes: object) -> Scores:
    values = {
        "iou": iou,
        "chamfer_l1": 0.1,
        "chamfer_l2": 0.01,
        "f_score": {0.015: iou / 2},
        "precision": {0.015: 0.5},
        "recall": {0.015: 0.5},
        "normal_consistency": 0.9,
        "completeness": 0.1,
        "accuracy": 0.1,
        "completeness_squared": 0.01,
        "accuracy_squared": 0.01,
        "samples": 10,
        "iou_points": 20,
        "seed": 0,
    }
    return Scores(**values | changes)


WORST = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=20, seed=0)


def test_csv_holds_every_number_exactly(tmp_path):
    path = tmp_path / "scores.csv"
    rows = [{"shape": 'car "a", b', **scores(1 / 3).as_dict()}, {"shape": "car c", **WORST.as_dict()}]
    write_scores_csv(path, rows)
    with open(path, newline="", encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    assert [row["shape"] for row in read] == ['car "a", b', "car c"]
    assert list(read[0]) == list(rows[0])
    assert float(read[0]["iou"]) == 1 / 3
    assert (read[0]["valid"], read[0]["reason"], read[1]["reason"]) == ("True", "", "no prediction")


def test_csv_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores_csv(str(path), [{"shape": "a", "iou": 1.0}])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="got NaN in"):
        write_scores_csv(path, [{"shape": "a", "iou": float("nan")}])
    with pytest.raises(ValueError, match="rows: expected at least one"):
        write_scores_csv(path, [])

    class Unwritable:
        def __str__(self) -> str:
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_scores_csv(path, [{"shape": "a"}, {"shape": Unwritable()}])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_scores_csv(path, [{"shape": "a", "iou": 1.0}, {"shape": "b", "f_score": 0.5}])
    assert path.read_text() == "shape,iou,f_score\na,1.0,\nb,,0.5\n"


def test_means_count_failures():
    mean = mean_scores([scores(0.9), scores(0.6), WORST])
    assert mean["iou"] == pytest.approx(0.5)
    assert mean["f_score"] == mean["f_score@0.015"] == pytest.approx(0.25)
    assert mean["chamfer_l2"] == pytest.approx((0.01 + 0.01 + 3) / 3)
    assert (mean["shapes"], mean["valid"], mean["samples"], mean["iou_points"], mean["seed"]) == (3, 2, 10, 20, 0)
    rows = [{"shape": "a", **score.as_dict()} for score in (scores(0.9), scores(0.6), WORST)]
    assert mean_scores(rows) == mean


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ([], "scores: expected at least one"),
        ([scores(0.5), scores(0.5, samples=11)], "the same samples for every shape, got 10 and 11"),
        ([scores(0.5), scores(0.5, seed=1)], "the same seed for every shape, got 0 and 1"),
        ([scores(0.5), scores(0.5, f_score={0.02: 0.1})], "got f_score@0.015, f_score@0.02 for some only"),
    ],
)
def test_means_refuse_what_was_measured_differently(group, words):
    with pytest.raises(ValueError, match=words):
        mean_scores(group)
