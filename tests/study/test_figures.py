from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from pyimplicit.geometry import Surface
from pyimplicit.sampling import STRATEGIES
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.figure_style import STYLES, style_of
from pyimplicit.study.figures import iou_lines, metric_bars
from pyimplicit.study.records import failure
from pyimplicit.study.strategy_figures import strategy_slabs, weight_function
from pyimplicit.study.tables import StudyTable, build_table
from tests.study.helpers import FACTS, box, done_record

EVERY_STRATEGY = list(STRATEGIES)


@pytest.fixture(scope="module")
def table() -> StudyTable:
    runs = StudyConfig.at_scale("tiny", strategies=EVERY_STRATEGY).runs()
    return build_table(
        [
            failure(run, "collapsed", "no surface", **FACTS)
            if (run.network, run.strategy) == ("deepsdf", "uniform")
            else done_record(run)
            for run in runs
        ]
    )


def test_styles_suffice_for_every_strategy() -> None:
    assert set(STYLES) == set(STRATEGIES)
    for attribute in ("colour", "hatch", "marker"):
        assert len({getattr(style, attribute) for style in STYLES.values()}) == len(STRATEGIES)


def test_a_strategy_with_parameters_has_a_style_too() -> None:
    assert style_of("linear(tau=0.2)") not in STYLES.values()
    assert style_of("linear") is STYLES["linear"]


def test_bars(table: StudyTable, tmp_path: Path) -> None:
    _check(metric_bars(table, "f_score", tmp_path / "bars.png", "F-Score by network and strategy"))


def test_lines(table: StudyTable, tmp_path: Path) -> None:
    _check(iou_lines(table, tmp_path / "lines.png", "IoU by strategy over the networks"))


def test_slabs(tmp_path: Path) -> None:
    _check(weight_function(tmp_path / "weight.png", "Weight"))
    _check(strategy_slabs(Surface(box()), EVERY_STRATEGY[-3:], tmp_path / "slabs.png", "Strategies", count=5_000))


def test_equal_tables_give_equal_files(table: StudyTable, tmp_path: Path) -> None:
    one = metric_bars(table, "iou", tmp_path / "one.png", "IoU").read_bytes()
    assert metric_bars(table, "iou", tmp_path / "two.png", "IoU").read_bytes() == one


def test_a_table_of_failures_alone(tmp_path: Path) -> None:
    runs = StudyConfig.at_scale("tiny", networks=["onet"]).runs()
    table = build_table([failure(run, "error", "ValueError: no", **FACTS) for run in runs])
    _check(metric_bars(table, "f_score", tmp_path / "bars.png", "F-Score"))
    _check(iou_lines(table, tmp_path / "lines.png", "IoU"))


def _check(path: Path) -> None:
    """The picture is large enough to read and not blank."""
    picture = imread(path)
    assert picture.shape[0] >= 400
    assert picture.shape[1] >= 600
    assert len(np.unique((picture[..., :3] * 255).astype(int).reshape(-1, 3), axis=0)) > 20
    assert not list(path.parent.glob(".*.tmp"))
