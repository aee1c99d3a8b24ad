"""Charts of a study as PNG files: bars of a metric by network and strategy, IoU lines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from pyimplicit.study.figure_style import STYLE, legend_below, legend_text, save_figure, style_of
from pyimplicit.study.tables import Row, StudyTable, density_tells, headings

# Networks side by side in one line of bars; more go into further lines.
_GROUPS_A_LINE = 6
_Groups = dict[str, dict[str, Row]]


def metric_bars(
    table: StudyTable, metric: str | Sequence[str], path: str | os.PathLike[str], title: str | Sequence[str]
) -> Path:
    """Draw metrics as bars grouped by network, one bar per strategy (the paper's Figure 4).

    Args:
        table: The main table.
        metric: "f_score", "normal_consistency" or "iou"; or several, one below the other.
        path: The PNG file; written in one go.
        title: Heading of the figure, or one for each metric.

    Returns:
        The path.
    """
    metrics, titles = ([given] if isinstance(given, str) else list(given) for given in (metric, title))
    strategies = list(table.d_scores)
    panels: list[tuple[str, str, _Groups]] = []
    for name, heading in zip(metrics, titles, strict=True):
        groups = _grouped(table, name)
        names = list(groups)
        for start in range(0, max(1, len(names)), _GROUPS_A_LINE):
            line = {group: groups[group] for group in names[start : start + _GROUPS_A_LINE]}
            panels.append((name, heading if start == 0 else "", line))
    broadest = max(len(groups) for _, _, groups in panels)
    width = max(7.5, 1.2 + 0.21 * broadest * (len(strategies) + 1))
    with rc_context(STYLE):
        figure = Figure(figsize=(width, 3.1 * len(panels) + 0.9), layout="constrained")
        column = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (name, heading, groups) in zip(column, panels, strict=True):
            _bars(axes, groups, strategies, name)
            _network_axis(axes, list(groups), broadest)
            axes.tick_params(axis="x", length=0)
            axes.set(ylim=(0, 1.12), yticks=(0, 0.2, 0.4, 0.6, 0.8, 1))
            axes.set_ylabel(headings(table)[name].removesuffix(" ↑") + " (higher is better)", fontsize=9)
            axes.set_title(heading, pad=12)
        keys = [
            column[0].bar(
                *(0, 0),
                color=style_of(strategy).colour,
                hatch=style_of(strategy).hatch,
                edgecolor="white",
                label=legend_text(strategy),
            )
            for strategy in strategies
        ]
        legend_below(figure, keys)
        return save_figure(figure, path)


def _bars(axes: Any, groups: _Groups, strategies: Sequence[str], metric: str) -> None:
    width = 0.86 / max(1, len(strategies))
    failed = False
    for index, strategy in enumerate(strategies):
        style = style_of(strategy)
        offset = (index - (len(strategies) - 1) / 2) * width
        for place, rows in enumerate(groups.values()):
            row = rows.get(strategy)
            if row is None:
                continue
            cell = row.cells[metric]
            x = place + offset
            if cell.mean is None:
                failed = True
                axes.text(x, 0.01, "/", ha="center", va="bottom", fontweight="bold", color=style.colour)
                continue
            axes.bar(x, cell.mean, 0.94 * width, color=style.colour, hatch=style.hatch, edgecolor="white")
            if cell.deviation is not None:
                axes.errorbar(x, cell.mean, cell.deviation, color="#333333", capsize=1.5, linewidth=1)
            top = cell.mean + (cell.deviation or 0.0) + 0.015
            text = f"{cell.mean:.2f}".lstrip("0")
            label = axes.text(x, top, text, ha="center", va="bottom", fontsize=6.5, rotation=90)
            label.set_in_layout(False)  # hundreds of them: measuring each takes longer than all the rest
    if failed:
        axes.text(1.0, 1.02, "/ marks a failed run", ha="right", transform=axes.transAxes, fontsize=9)


def iou_lines(
    table: StudyTable, path: str | os.PathLike[str], title: str, strategies: Sequence[str] | None = None
) -> Path:
    """Draw IoU as one line per strategy over the networks (the paper's Figure 7).

    Args:
        table: The main table.
        path: The PNG file; written in one go.
        title: Heading of the figure.
        strategies: Only these; None draws all of the table.

    Returns:
        The path.
    """
    groups = _grouped(table, "iou")
    strategies = list(table.d_scores) if strategies is None else list(strategies)
    with rc_context(STYLE):
        figure = Figure(figsize=(min(16.0, max(7.5, 2.0 + 1.5 * len(groups))), 4.6), layout="constrained")
        axes = figure.add_subplot()
        known = []
        keys = []
        for index, strategy in enumerate(strategies):
            rows = [group.get(strategy) for group in groups.values()]
            values = [np.nan if row is None or row.cells["iou"].mean is None else row.cells["iou"].mean for row in rows]
            known += [value for value in values if not np.isnan(value)]
            # A small shift keeps markers of equal values apart.
            x = np.arange(len(values)) + 0.03 * (index - (len(strategies) - 1) / 2)
            keys += axes.plot(
                *(x, values),
                color=style_of(strategy).colour,
                marker=style_of(strategy).marker,
                linewidth=1.8,
                markersize=7,
                markeredgecolor="white",
                label=legend_text(strategy),
            )
        _network_axis(axes, list(groups), len(groups))
        if known:
            low, high = min(known), max(known)
            margin = max(0.02, 0.12 * (high - low))
            axes.set_ylim(max(0.0, low - margin), min(1.0, high + margin))
        axes.set_ylabel("IoU (higher is better)")
        axes.set_title(title, pad=12)
        legend_below(figure, keys)
        return save_figure(figure, path)


def _grouped(table: StudyTable, metric: str) -> _Groups:
    """Rows by network and strategy, without those of fields that do not have the metric."""
    densities = density_tells(table)
    groups: _Groups = {}
    for row in table.rows:
        if row.cells[metric].exists:
            name = f"{row.network}\n{row.field.upper()}" + (f", {row.density} points" if densities else "")
            groups.setdefault(name, {})[row.strategy] = row
    return groups


def _network_axis(axes: Any, names: list[str], places: int) -> None:
    size = 10 if places <= _GROUPS_A_LINE else 8
    axes.set_xticks(range(len(names)), names, fontsize=size)
    axes.set_xlim(-0.55, max(places, 1) - 0.45)
