from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

import pytest

from pyimplicit.study import paper_tables
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.numbered_tables import table_four, table_one, table_three, table_two
from pyimplicit.study.records import Record, failure
from pyimplicit.study.run_spec import RunSpec
from pyimplicit.study.text_table import TextTable
from tests.study.helpers import FACTS, done_record


def runs(**changes: Any) -> list[RunSpec]:
    values = {"networks": ["onet"], "strategies": ["uniform", "balanced_surface"], "device": "cpu", **changes}
    return StudyConfig.at_scale("tiny", **values).runs()


def cells(table: TextTable | None) -> list[list[str]]:
    assert table is not None
    assert all(len(row) == len(table.columns) for row in table.rows)
    return [list(row[1:]) for row in table.rows]


def test_table_one_has_the_change_against_occ_and_the_spread() -> None:
    values = {("occ", "uniform"): 0.8, ("sdf", "uniform"): 0.6, ("occ", "balanced_surface"): 0.9}
    records = []
    for run in runs(fields=["occ", "sdf"], seeds=[0, 1]):
        if (run.field, run.strategy) == ("sdf", "balanced_surface"):
            records.append(failure(run, "collapsed", "no surface", **FACTS))
        else:
            value = values[run.field, run.strategy]
            records.append(done_record(run, f_score=value + 0.02 * run.seed - 0.01))
    table = table_one(records)
    assert cells(table) == [
        ["0.80 ± 0.01", "0.90 ± 0.01"],
        ["0.60 ± 0.01 (↓ 25.0%)", "/"],
    ]
    assert table is not None
    assert table.columns == ("Network & field", "S_UNI", "S_BS")
    assert table.notes[1:] == ("ONet & SDF S_BS: collapsed: no surface",) * 2


def test_table_two_compares_lowest_and_highest_density() -> None:
    records = []
    for run in runs(densities=[2000, 20000, 5000], strategies=["uniform", "balanced_surface"]):
        record = done_record(run, iou=0.8 if run.density == 2000 else 0.7)
        scale = run.density / 2000
        timings = {"train_step_processor": 0.5 * scale**0.5, "train_step": 99.0}
        records.append(dataclasses.replace(record, timings=timings, memory={"train_peak": 2.0**20 * scale}))
    table = table_two(records)
    assert cells(table) == [["0.80"], ["0.70"], ["10.00"], ["3.16"], ["2.85"], ["1.97"]]
    assert table is not None
    assert (
        "S_BS, 2,000 against 20,000 points a shape; memory 1 MiB against 10 MiB; time 500 ms against 1581 ms"
        in (table.notes[1])
    )
    assert table_two([record for record in records if record.density == 2000]) is None


def test_table_three_is_the_d_score_on_the_networks_own_fields_at_the_lowest_density() -> None:
    by_run = {("onet", "uniform"): 0.5, ("onet", "balanced_surface"): 1.0}
    by_run |= {("deepsdf", "uniform"): 0.0, ("deepsdf", "balanced_surface"): 0.8}
    records: list[Record] = []
    for run in runs(
        networks=["onet", "deepsdf"],
        parts=[
            {},
            # None of these may change the D-Score: another field, another density for one strategy only.
            {"networks": ["onet"], "fields": ["sdf"]},
            {"networks": ["onet"], "strategies": ["balanced_surface"], "densities": [20000]},
        ],
    ):
        value = by_run[run.network, run.strategy] if run.density < 20000 and run.field != "sdf" else 0.1
        if (run.network, run.field, run.strategy) == ("deepsdf", "sdf", "uniform"):
            records.append(failure(run, "diverged", "the loss is NaN", **FACTS))
        elif run.network == "deepsdf":
            records.append(done_record(run, iou=0.8, f_score=0.8, normal_consistency=0.8))
        else:
            records.append(done_record(run, iou=value, f_score=value, normal_consistency=value))
    assert cells(table_three(records)) == [["0.750", "0.000"], ["0.140", "0.059"]]


def test_table_three_has_the_spread_of_the_seeds() -> None:
    records = [
        done_record(run, iou=v, f_score=v, normal_consistency=v)
        for run in runs(seeds=[0, 1])
        for v in [1.0 if run.strategy == "balanced_surface" else 0.8 - 0.2 * run.seed]
    ]
    assert cells(table_three(records))[0] == ["0.300 ± 0.141", "0.000 ± 0.000"]


def test_table_four_has_strategies_with_and_without_a_mask() -> None:
    records = []
    for run in runs(networks=["convonet"], fields=["udf"], strategies=["near_surface"]):
        record = done_record(run, f_score=0.5, chamfer_l2=2e-3)
        masked = {**record.config, "training": {**record.config["training"], "mask_distance": 0.1}}
        records += [record, dataclasses.replace(done_record(run, f_score=0.9, chamfer_l2=1e-4), config=masked)]
    table = table_four(records)
    assert cells(table) == [["2.0e-03", "0.50", "1.2e-02", "0.67"], ["1.0e-04", "0.90", "1.4e-04", "0.92"]]
    assert table is not None
    assert [row[0] for row in table.rows] == [
        "ConvONet, 512 points: S_NS",
        "ConvONet mask 0.1, 512 points: Mask(0.1)-S_NS".replace(" mask 0.1,", ","),
    ]


def test_no_records_no_tables() -> None:
    assert paper_tables([]) == []


def test_forms() -> None:
    table = TextTable("t", "50% & more", ("a", "S_UNI"), (("x | y", "0.5 ± 0.1 (↓ 3%)"),), ("a note",))
    assert table.markdown().splitlines()[-3:] == ["| x \\| y | 0.5 ± 0.1 (↓ 3%) |", "", "- a note"]
    assert list(csv.reader(io.StringIO(table.csv()))) == [["a", "S_UNI"], ["x | y", "0.5 ± 0.1 (↓ 3%)"]]
    latex = table.latex()
    assert r"\caption{50\% \& more}" in latex
    assert r"x | y & 0.5 $\pm$ 0.1 ($\downarrow$ 3\%) \\" in latex
    assert r"a & S\_UNI \\ \hline" in latex
    assert table.rich().columns[1].justify == "right"


@pytest.mark.parametrize("metric", ["iou", "normal_consistency"])
def test_a_metric_that_clouds_do_not_have_is_left_out(metric: str) -> None:
    run = runs(fields=["udf"], strategies=["uniform"])[0]
    record = done_record(run)
    means = {name: value for name, value in record.means.items() if name != metric}
    assert table_one([dataclasses.replace(record, means=means)]) is None  # meshes only
    assert table_four([dataclasses.replace(record, means=means)]) is not None
