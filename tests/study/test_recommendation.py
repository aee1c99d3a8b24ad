from __future__ import annotations

import dataclasses

import pytest

from pyimplicit.errors import ConfigError
from pyimplicit.study import published
from pyimplicit.study.recommendation import recommend
from tests.study.test_claims import records_of


def test_from_the_paper() -> None:
    found = recommend("ifnet", "sdf")
    assert (found.strategy, found.density) == ("few_surface_near_surface", 2000)
    assert "S_NS 0.16" in "\n".join(found.lines())
    assert recommend("airnet").evidence[0] == "no figures for this network: ONet stands in, of the same type (MLP)"
    assert recommend("deepsdf", budget=20_000).density == 20_000  # Table II: IoU .88 to .92
    assert recommend("ifnet", budget=20_000).density == 2_000  # .94 to .87
    assert recommend("onet", budget=100).density == 100


def test_from_records() -> None:
    records = records_of(lambda run: {"uniform": 0.9, "linear": 0.6}.get(run.strategy, 0.5), seeds=[0, 1])
    found = recommend("onet", records=records)
    assert (found.strategy, found.source) == ("uniform", "your records")
    assert recommend("convonet:grid32", records=records).source != "your records"


def test_what_cannot_be_told_apart_is_decided_by_the_d_score() -> None:
    """On ONet uniform is ahead within the margin; on IF-Net it is far behind."""
    values = {("onet", "uniform"): 0.81, ("onet", "linear"): 0.80, ("ifnet", "uniform"): 0.4, ("ifnet", "linear"): 0.9}
    records = records_of(
        lambda run: values[run.network, run.strategy], networks=["onet", "ifnet"], strategies=["uniform", "linear"]
    )
    assert recommend("onet", records=records).strategy == "linear"


def test_a_density_must_be_worth_it_and_within_the_budget() -> None:
    records = records_of(lambda run: {2000: 0.6, 5000: 0.61, 20000: 0.9}[run.density], densities=[2000, 5000, 20000])
    timed = [dataclasses.replace(r, timings={"train_step_processor": r.density / 1e4}) for r in records]
    assert recommend("onet", records=timed, budget=10_000).density == 2000
    found = recommend("onet", records=timed, budget=20_000)
    assert found.density == 20_000
    assert any("10.0 times the time of a step: taken" in line for line in found.evidence)


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match=r"networks: .*'onett'"):
        recommend("onett")
    with pytest.raises(ConfigError, match=r"field: .*'gifs'"):
        recommend("onet", "gifs")
    with pytest.raises(ConfigError, match="field: the paper compares"):
        recommend("onet", "udf")
    with pytest.raises(ValueError, match="budget"):
        recommend("onet", budget=0)


def test_the_published_tables_are_whole() -> None:
    assert all(len(row) == 7 for row in published.F_SCORES.values())
    assert min(published.D_SCORES, key=published.D_SCORES.__getitem__) == "linear"
    assert {published.network_type(network) for network, _ in published.F_SCORES} == set(published.TYPES)
