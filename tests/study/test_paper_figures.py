from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from pyimplicit.study import paper_figures
from pyimplicit.study.paper_figures import draw_figures
from pyimplicit.study.reconstructions import Reconstructions
from tests.study.helpers import FEW_FIGURES, SHAPES, done_record, small_config, study_folder

PAPER = [f"Figure {number}" for number in (1, 2, 4, 5, 6, 7, 8, 10)]
MOST_BYTES = 200_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def test_every_figure_of_a_whole_study(folder: Path) -> None:
    config, records = study_folder(folder)
    figures = draw_figures(folder, config, records, Reconstructions.of_study(folder, SHAPES))
    assert [figure.name for figure in figures][: len(PAPER)] == PAPER
    for figure in figures:
        assert figure.missing == ""
        assert figure.path is not None
        picture = imread(figure.path)
        assert picture.shape[1] >= 600
        assert len(np.unique((picture[..., :3] * 255).astype(int).reshape(-1, 3), axis=0)) > 20
        assert figure.path.stat().st_size < MOST_BYTES
        assert "{" not in figure.caption


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_figures, "_FIGURES", {name: paper_figures._FIGURES[name] for name in FEW_FIGURES})


@pytest.mark.usefixtures("few_figures")
def test_records_alone_name_what_is_missing(tmp_path: Path) -> None:
    config = small_config()
    stale = tmp_path / "figures" / "figure_8.png"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier study")
    shapes = Reconstructions((), "the shapes went away", {})
    figures = draw_figures(tmp_path, config, [done_record(run) for run in config.runs()], shapes)
    missing = {figure.name: figure.missing for figure in figures if figure.path is None}
    assert missing == {
        "Figure 5": "the shapes went away",
        "Figure 8": "the shapes went away",
        "Figure 10": "the study has no run on unsigned distances",
    }
    assert not stale.exists()


@pytest.mark.usefixtures("few_figures")
def test_shapes_without_reconstructions(tmp_path: Path) -> None:
    config, records = study_folder(tmp_path)
    figures = draw_figures(tmp_path, config, records, Reconstructions(SHAPES, "", {}))
    missing = {figure.name: figure.missing for figure in figures if figure.path is None}
    assert list(missing) == ["Figure 5", "Figure 8", "Figure 10"]
    assert all("records alone" in reason for reason in missing.values())
