from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from pyimplicit.study.config import StudyConfig
from pyimplicit.study.records import Record, failure
from pyimplicit.study.run_spec import RunSpec
from pyimplicit.study.tables import (
    build_table,
    csv_d_scores,
    csv_table,
    markdown_table,
    rich_tables,
    shape_rows,
    timing_table,
)
from tests.study.helpers import FACTS, done_record


def specs(strategies: Sequence[str] = ("uniform", "linear"), seeds: Sequence[int] = (0,)) -> list[RunSpec]:
    return StudyConfig.at_scale(
        "tiny", networks=["onet", "deepsdf"], strategies=list(strategies), seeds=list(seeds)
    ).runs()


def by_hand() -> list[Record]:
    """ONet: linear is better on all metrics but Normal Consistency; DeepSDF: uniform fails."""
    onet_uniform, onet_linear, deepsdf_uniform, deepsdf_linear = specs()
    return [
        done_record(onet_uniform, iou=0.4, chamfer_l2=2e-4, f_score=0.6, normal_consistency=0.9),
        done_record(onet_linear, iou=0.8, chamfer_l2=1e-4, f_score=0.8, normal_consistency=0.72),
        failure(deepsdf_uniform, "collapsed", "no surface in any of 2 test shapes", **FACTS),
        done_record(deepsdf_linear, iou=0.5, chamfer_l2=3e-4, f_score=0.5, normal_consistency=0.5),
    ]


def test_best_values_and_failures() -> None:
    table = build_table(by_hand())
    best = [[metric for metric, cell in row.cells.items() if cell.best] for row in table.rows]
    everything = ["iou", "chamfer_l2", "f_score", "normal_consistency"]
    assert best == [["normal_consistency"], ["iou", "chamfer_l2", "f_score"], [], everything]
    assert table.rows[2].failures == ("collapsed: no surface in any of 2 test shapes",)
    assert table.threshold == 0.015


def test_d_score_against_a_sum_by_hand() -> None:
    scores = build_table(by_hand()).d_scores
    # uniform: IoU (0.5 + 1) / 2, F-Score (0.25 + 1) / 2, Normal Consistency (0 + 1) / 2, each with weight 1/3
    assert scores["uniform"] == pytest.approx((0.75 + 0.625 + 0.5) / 3)
    assert scores["linear"] == pytest.approx(((0.9 - 0.72) / 0.9 / 2) / 3)


def test_markdown() -> None:
    text = markdown_table(build_table(by_hand()))
    assert text.splitlines()[0] == (
        "| Network | Strategy | IoU ↑ | Chamfer-L2 ↓ | F-Score(1.5%) ↑ | Normal Consistency ↑ |"
    )
    assert "| ONet OCC | uniform (S_UNI) | 0.400 | 2.00e-04 | 0.600 | **0.900** |" in text
    assert "| ONet OCC | linear (S_Linear) | **0.800** | **1.00e-04** | **0.800** | 0.720 |" in text
    assert "| DeepSDF SDF | uniform (S_UNI) | / | / | / | / |" in text
    assert "| linear (S_Linear) | **0.033** |" in text
    assert "- DeepSDF SDF, uniform: collapsed: no surface in any of 2 test shapes" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| ONet") or "IoU" in line}) == 1


def test_csv_keeps_every_digit() -> None:
    records = by_hand()
    rows = list(csv.DictReader(io.StringIO(csv_table(build_table(records)))))
    assert float(rows[1]["iou"]) == records[1].means["iou"]
    assert (rows[0]["symbol"], rows[0]["normal_consistency_best"], rows[2]["iou"], rows[2]["failed"]) == (
        *("S_UNI", "1", "", "1"),
    )
    assert [row["strategy"] for row in csv.DictReader(io.StringIO(csv_d_scores(build_table(records))))] == [
        *("uniform", "linear"),
    ]


def test_terminal() -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    for part in rich_tables(build_table(by_hand())):
        console.print(part)
    text = console.export_text()
    assert "0.800 *" in text
    assert "S_Linear" in text
    assert "D-Score" in text
    assert max(map(len, text.splitlines())) <= 120


def test_seeds_are_averaged_and_a_failed_one_counts_as_zero_in_the_d_score() -> None:
    runs = [spec for spec in specs(seeds=(0, 1)) if spec.network == "onet"]
    records = [
        done_record(runs[0], iou=0.4, f_score=0.5, normal_consistency=0.5),
        done_record(runs[1], iou=0.6, f_score=0.5, normal_consistency=0.5),
        done_record(runs[2], iou=0.8, f_score=0.5, normal_consistency=0.5),
        failure(runs[3], "diverged", "the loss is NaN", **FACTS),
    ]
    table = build_table(records)
    cell = table.rows[0].cells["iou"]
    assert cell.mean == pytest.approx(0.5)
    assert cell.deviation == pytest.approx(0.02**0.5)  # n - 1
    assert table.rows[1].cells["iou"].mean == 0.8
    # linear: IoU 0.4 of 0.5, the others 0.25 of 0.5
    assert table.d_scores["linear"] == pytest.approx((0.2 + 0.5 + 0.5) / 3)
    assert "linear (S_Linear) (1 of 2 failed)" in markdown_table(table)
    assert "± 0.141" in markdown_table(table)


def test_equal_values_are_all_best() -> None:
    records = [done_record(spec, iou=0.5) for spec in specs()]
    assert all(row.cells["iou"].best for row in build_table(records).rows)


def test_a_strategy_without_all_its_runs_has_no_d_score_yet() -> None:
    table = build_table(by_hand()[:3])
    assert table.d_scores["linear"] is None
    assert table.d_scores["uniform"] == 0.0 or table.d_scores["uniform"] is None
    assert "not defined" in markdown_table(table)


def test_nothing_but_failures_and_nothing_at_all() -> None:
    table = build_table([failure(spec, "error", "ValueError: no", **FACTS) for spec in specs()])
    assert set(table.d_scores.values()) == {None}
    assert "/" in markdown_table(table)
    assert build_table([]).rows == ()
    assert markdown_table(build_table([])).startswith("| Network")


def test_densities_are_shown_where_they_tell_rows_apart() -> None:
    runs = StudyConfig.at_scale("tiny", networks=["onet"], strategies=["linear"], densities=[100, 200]).runs()
    text = markdown_table(build_table([done_record(spec) for spec in runs]))
    assert "ONet OCC, 100 points" in text
    assert "ONet OCC, 200 points" in text


def test_the_main_table_has_no_timings() -> None:
    records = by_hand()
    slower = [dataclasses.replace(record, timings={"train": 1e9}, memory={}) for record in records]
    assert markdown_table(build_table(slower)) == markdown_table(build_table(records))
    assert csv_table(build_table(slower)) == csv_table(build_table(records))
    assert "1000000000.0" in timing_table(slower)


def test_shape_rows_name_run_and_shape() -> None:
    rows = shape_rows(by_hand())
    assert len(rows) == 6  # two shapes of each of three runs with scores
    assert rows[0]["network"] == "ONet"
    assert rows[0]["shape"] == "shape 0"
