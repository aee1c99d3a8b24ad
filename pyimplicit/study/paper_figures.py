"""The paper's Figures 1, 2, 4, 5, 6, 7, 8 and 10 from a study: each drawn, or named with the reason why it is not.

Source: Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction". Its Figures 3 and 9 are diagrams
of networks and of the mask, which no study changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyimplicit.sampling import STRATEGIES
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.figures import iou_lines, metric_bars
from pyimplicit.study.numbered_tables import d_scores
from pyimplicit.study.reconstructions import FAR, Case, Reconstructions
from pyimplicit.study.records import Record
from pyimplicit.study.results import Results
from pyimplicit.study.shape_figures import draw_cases, draw_clouds
from pyimplicit.study.strategy_figures import strategy_slabs, strategy_spaces, weight_function
from pyimplicit.study.tables import build_table

# Strategies with the lowest D-Score that Figure 7 compares; the paper's does with four of its eight.
_LOWEST = 4
_CASES = 4
_NEAR = "near_surface"
#: Folder of the figures in a study's folder.
FIGURES_FOLDER = "figures"


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a study.

    Args:
        name: "Figure 4", or a name of its own for what the paper does not have.
        caption: What it shows.
        path: The PNG file; None where it could not be drawn.
        missing: Why it could not be drawn; empty where it was.
    """

    name: str
    caption: str
    path: Path | None
    missing: str = ""


class _Missing(Exception):
    """Why a figure cannot be drawn."""


_Drawer = Callable[["_Study", Path, str], Path]


class _Study:
    """What the figures are drawn from."""

    def __init__(self, config: StudyConfig, records: Sequence[Record], shapes: Reconstructions) -> None:
        self.config, self.records, self.shapes = config, list(records), shapes
        self.results = Results(records)
        self.surface, self.example = shapes.example()
        rows = set(self.results.own_rows())
        self.own = [record for record in records if _row(record) in {_key(row) for row in rows}]

    def need_reconstructions(self) -> None:
        if not self.shapes.shapes:
            raise _Missing(self.shapes.missing)
        if not self.shapes.folders:
            raise _Missing("the folder holds records alone: no folder of a run with its reconstructions")


def draw_figures(
    folder: Path, config: StudyConfig, records: Sequence[Record], shapes: Reconstructions
) -> list[PaperFigure]:
    """Draw every figure that a study has the data for into `folder/figures`.

    Args:
        folder: The study's folder.
        config: The study.
        records: Its records.
        shapes: Its test shapes and reconstructions.

    Returns:
        One entry for each figure, drawn or not; the file of one that is not drawn is removed.
    """
    (folder / FIGURES_FOLDER).mkdir(parents=True, exist_ok=True)
    study = _Study(config, records, shapes)
    found = []
    for name, (caption, draw) in _FIGURES.items():
        path = folder / FIGURES_FOLDER / f"{name.lower().replace(' ', '_')}.png"
        caption = caption.format(shape=study.example, far=f"{FAR:g}")
        number = f"{name}. " if name.startswith("Figure") else ""
        try:
            found.append(PaperFigure(name, caption, draw(study, path, number + caption.partition(";")[0])))
        except _Missing as reason:
            path.unlink(missing_ok=True)
            found.append(PaperFigure(name, caption, None, str(reason)))
    return found


def _figure_1(study: _Study, path: Path, title: str) -> Path:
    return strategy_spaces(study.surface, ["uniform", _NEAR, "hybrid_near_surface"], path, title)


def _figure_2(study: _Study, path: Path, title: str) -> Path:
    others = [s for s in study.config.strategies if s not in STRATEGIES]
    return strategy_slabs(study.surface, [*STRATEGIES, *others], path, title)


def _figure_4(study: _Study, path: Path, title: str) -> Path:
    if not study.own:
        raise _Missing("no run of a network on the field it was published with is finished")
    titles = [f"{title.partition(' by ')[0]}\n(a) F-Score", "(b) Normal Consistency"]
    return metric_bars(build_table(study.own), ["f_score", "normal_consistency"], path, titles)


def _figure_5(study: _Study, path: Path, title: str) -> Path:
    study.need_reconstructions()
    by_row: dict[tuple[object, ...], list[Record]] = {}
    for record in study.own:
        if record.strategy == _NEAR:
            by_row.setdefault(_row(record), []).append(record)
    cases = [case for group in by_row.values() if (case := study.shapes.worst(group)) is not None]
    if not cases:
        raise _Missing("no run under S_NS on a network's own field has left a mesh")
    return draw_cases(study.shapes, cases, path, title)


def _figure_6(study: _Study, path: Path, title: str) -> Path:
    return weight_function(path, title, surface=study.surface)


def _figure_7(study: _Study, path: Path, title: str) -> Path:
    rows = study.results.own_rows()
    strategies = [s for s in study.results.strategies(rows) if all(study.results.records(row, s) for row in rows)]
    scores = d_scores(study.results, rows, strategies) if strategies else None
    if scores is None:
        raise _Missing("there is no D-Score: no strategy has results on every network")
    lowest = sorted(strategies, key=scores.__getitem__)[:_LOWEST]
    return iou_lines(build_table(study.own), path, title, [s for s in strategies if s in lowest])


def _figure_8(study: _Study, path: Path, title: str) -> Path:
    study.need_reconstructions()
    cases = study.shapes.failures(study.records, _CASES)
    if not cases:
        raise _Missing(f"no stored reconstruction has more than 1% of its area farther than {FAR:g} from the true one")
    return draw_cases(study.shapes, cases, path, title)


def _figure_10(study: _Study, path: Path, title: str) -> Path:
    if not any(record.field == "udf" for record in study.records):
        raise _Missing("the study has no run on unsigned distances")
    study.need_reconstructions()
    pairs = [
        (Case(plain, 0), Case(masked, 0))
        for plain in study.records
        for masked in study.records
        if plain.mask is None and masked.mask is not None and _but_mask(plain) == _but_mask(masked)
    ]
    seeds: dict[tuple[object, ...], tuple[Case, Case]] = {}
    for pair in pairs:
        if all(isinstance(study.shapes.found(case), np.ndarray) for case in pair):
            seeds.setdefault(_but_mask(pair[0].record)[:-1], pair)
    if not seeds:
        raise _Missing("no network on unsigned distances has left clouds both with and without a mask")
    return draw_clouds(study.shapes, list(seeds.values()), path, title)


def _all_rows(metric: str) -> _Drawer:
    def draw(study: _Study, path: Path, title: str) -> Path:
        table = build_table(study.records)
        if not any(row.cells[metric].exists for row in table.rows):
            raise _Missing("no finished run has this metric")
        if metric == "iou":
            return iou_lines(table, path, title)
        return metric_bars(table, metric, path, title)

    return draw


# Each figure's caption and how it is drawn; the heading of the picture is the caption up to the semicolon.
_FIGURES: dict[str, tuple[str, _Drawer]] = {
    "Figure 1": (
        "Query points in space, uniform, near the surface and mixed; coloured by signed distance, on {shape}",
        _figure_1,
    ),
    "Figure 2": ("Query points of every strategy near the plane z = 0; on {shape}", _figure_2),
    "Figure 4": (
        "F-Score and Normal Consistency by network and strategy; each network on the field it was published with, "
        "means over seeds with their standard deviations",
        _figure_4,
    ),
    "Figure 5": (
        "Networks trained on points near the surface alone (S_NS); of each network the test shape that came out worst, "
        "in orange what lies farther than {far} from the true surface",
        _figure_5,
    ),
    "Figure 6": ("Weight by which S_Linear draws points; beside it points drawn on {shape}", _figure_6),
    "Figure 7": ("IoU of the strategies with the lowest D-Score; each network on its own field", _figure_7),
    "Figure 8": (
        "Failures far from the surface; the runs whose surface is farthest off, of any field and strategy",
        _figure_8,
    ),
    "Figure 10": ("Dense clouds of unsigned distances before and after the mask; first test shape", _figure_10),
    "F score": ("F-Score by network and strategy; all runs of the study", _all_rows("f_score")),
    "Normal consistency": (
        "Normal Consistency by network and strategy; all runs of the study",
        _all_rows("normal_consistency"),
    ),
    "IoU": ("IoU by strategy over the networks; all runs of the study", _all_rows("iou")),
}


def _row(record: Record) -> tuple[object, ...]:
    return (record.network, record.variant, record.field, record.density, record.mask)


def _key(row: object) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in ("network", "variant", "field", "density", "mask"))


def _but_mask(record: Record) -> tuple[object, ...]:
    return (record.network, record.variant, record.field, record.density, record.strategy, record.seed)
