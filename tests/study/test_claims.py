from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from pyimplicit.study import published
from pyimplicit.study.claims import claims_json, claims_markdown, claims_table, judge_claims
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.records import Record, failure
from pyimplicit.study.results import Results
from pyimplicit.study.run_spec import RunSpec
from pyimplicit.study.verdicts import Claim, Comparison, Judge
from tests.study.helpers import FACTS, done_record

ALL = list(published.D_SCORES)


def records_of(value: Callable[[RunSpec], float | None], **changes: Any) -> list[Record]:
    """Records with one value for all metrics; None is a collapse."""
    values = {"networks": ["onet"], "strategies": ALL, "device": "cpu", **changes}
    found = []
    for run in StudyConfig.at_scale("tiny", **values).runs():
        score = value(run)
        if score is None:
            found.append(failure(run, "collapsed", "no surface", **FACTS))
        else:
            found.append(done_record(run, iou=score, f_score=score, normal_consistency=score))
    return found


def verdict(records: list[Record], number: int) -> str:
    claims = judge_claims(records)
    assert [claim.number for claim in claims] == list(range(1, 10))
    return claims[number - 1].verdict


def test_without_records_nothing_is_decided() -> None:
    claims = judge_claims([])
    assert {claim.verdict for claim in claims} == {"undecided"}
    assert all("it takes" in claim.reason for claim in claims)


def test_the_papers_own_figures() -> None:
    """What the rule makes of Table I itself, entered as records with one seed; claim 5 is not what its figures say."""

    def value(run: RunSpec) -> float | None:
        return published.F_SCORES[run.network, run.field][run.strategy]

    networks = ["onet", "ifnet", "deepsdf"]
    records = records_of(value, networks=networks, fields=["occ", "sdf", "tsdf"], strategies=ALL[:-1])
    verdicts = {claim.number: claim.verdict for claim in judge_claims(records)}
    assert verdicts == {
        **{1: "undecided", 2: "confirmed", 3: "confirmed", 4: "confirmed", 5: "undecided"},
        **{6: "undecided", 7: "confirmed", 8: "undecided", 9: "undecided"},
    }


def test_auto_decoders_need_the_surface() -> None:
    rising = {strategy: 0.5 + 0.05 * place for place, strategy in enumerate(ALL)}
    rising |= {"uniform": 0.2, "hybrid_far_surface": 0.4, "near_surface": 0.9}
    assert verdict(records_of(lambda run: rising[run.strategy], networks=["deepsdf"]), 1) == "confirmed"
    falling = {strategy: 1 - value for strategy, value in rising.items()}
    assert verdict(records_of(lambda run: falling[run.strategy], networks=["deepsdf"]), 1) == "refuted"
    assert verdict(records_of(lambda run: 0.7, networks=["deepsdf"]), 1) == "undecided"


def test_a_spread_between_seeds_widens_the_margin() -> None:
    def value(run: RunSpec) -> float:
        base = 0.5 if run.strategy == "near_surface" else 0.6
        return base + run.seed * wobble

    wobble = 0.01
    assert verdict(records_of(value, networks=["ifnet"], seeds=[0, 1]), 3) == "confirmed"
    wobble = 0.2
    assert verdict(records_of(value, networks=["ifnet"], seeds=[0, 1]), 3) == "undecided"


def test_collapse_is_a_claim_about_all_seeds() -> None:
    def some(run: RunSpec) -> float | None:
        return None if run.seed == 0 and run.strategy in ("uniform", "hybrid_far_surface") else 0.5

    fields = {"networks": ["deepsdf"], "fields": ["occ"]}
    assert verdict(records_of(some, **fields), 2) == "confirmed"
    assert verdict(records_of(some, **fields, seeds=[0, 1]), 2) == "undecided"
    assert verdict(records_of(lambda run: 0.5, **fields), 2) == "refuted"


def test_dense_sampling() -> None:
    def timed(ratio: float, gain: float) -> list[Record]:
        records = records_of(
            lambda run: 0.7 + gain * (run.density > 2000), densities=[2000, 20000], strategies=["balanced_surface"]
        )
        seconds = {2000: 0.1, 20000: 0.1 * ratio}
        return [dataclasses.replace(r, timings={"train_step_processor": seconds[r.density]}) for r in records]

    assert verdict(timed(5.0, 0.0), 6) == "confirmed"
    assert verdict(timed(5.0, 0.2), 6) == "undecided"
    assert verdict(timed(1.1, 0.2), 6) == "refuted"


def test_balanced_surface_and_linear() -> None:
    best = records_of(lambda run: {"balanced_surface": 0.8, "linear": 0.9}.get(run.strategy, 0.5), seeds=[0, 1])
    assert verdict(best, 7) == "refuted"
    assert verdict(best, 8) == "confirmed"
    beaten = records_of(lambda run: {"balanced_surface": 0.9, "linear": 0.8}.get(run.strategy, 0.5), seeds=[0, 1])
    assert verdict(beaten, 7) == "confirmed"
    assert verdict(beaten, 8) == "refuted"


def test_the_mask() -> None:
    def both(plain: dict[str, float], masked: dict[str, float]) -> list[Record]:
        strategies = ["near_surface", "uniform"]
        changes: dict[str, Any] = {"networks": ["convonet"], "fields": ["udf"], "strategies": strategies}
        without = records_of(lambda run: plain[run.strategy], **changes)
        found = []
        for record in records_of(lambda run: masked[run.strategy], **changes):
            training = {**record.config["training"], "mask_distance": 0.1}
            found.append(dataclasses.replace(record, config={**record.config, "training": training}))
        return without + found

    assert (
        verdict(both({"near_surface": 0.6, "uniform": 0.5}, {"near_surface": 0.95, "uniform": 0.7}), 9) == "confirmed"
    )
    assert verdict(both({"near_surface": 0.6, "uniform": 0.5}, {"near_surface": 0.3, "uniform": 0.4}), 9) == "refuted"


def test_failed_seeds_count_as_zero() -> None:
    records = records_of(lambda run: None if run.seed else 0.8, strategies=["uniform"], seeds=[0, 1])
    judge = Judge(Results(records))
    row = judge.results.rows[0]
    assert judge.value(row, "uniform") == pytest.approx(0.4)
    assert judge.value(row, "linear") is None


@pytest.mark.parametrize(
    ("signs", "expected"),
    [([1, 1, 0], "confirmed"), ([1, 0, 0], "undecided"), ([-1, -1, 1], "refuted"), ([1, -1], "undecided")],
)
def test_the_rule(signs: list[int], expected: str) -> None:
    comparisons = tuple(Comparison("x", sign) for sign in signs)
    assert Claim(1, "It is so.", comparisons, "runs", "Table I").verdict == expected


def test_forms() -> None:
    claims = judge_claims(records_of(lambda run: 0.5 if run.strategy == "near_surface" else 0.9, networks=["ifnet"]))
    text = claims_markdown(claims)
    assert "IF-Net OCC S_NS against S_FUNS: F-Score 0.500 against 0.900 (margin 0.085): supports" in text
    loaded = json.loads(claims_json(claims))
    assert loaded[2]["verdict"] == "confirmed"
    assert [row[1] for row in claims_table(claims).rows] == [claim.verdict for claim in claims]
