"""Figures of a study as PNG files: the strategies on a shape, F-Score and Normal Consistency bars, IoU lines.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; bars carry hatches and lines carry markers
besides. The style belongs to each figure alone: nothing global is changed, and no window is opened.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure

from pyimplicit.atomic import write_atomically
from pyimplicit.geometry import Surface
from pyimplicit.sampling import Strategy, sample_queries
from pyimplicit.study.tables import Row, StudyTable, density_tells, headings, symbol


@dataclass(frozen=True)
class Style:
    """How a strategy looks in every figure."""

    colour: str
    hatch: str
    marker: str


# Okabe and Ito, "Color Universal Design", the eight colours with grey for yellow, which is too pale on white.
STYLES = {
    "uniform": Style("#0072B2", "", "o"),
    "hybrid_far_surface": Style("#56B4E9", "--", "P"),
    "hybrid_near_surface": Style("#CC79A7", "xx", "v"),
    "balanced_surface": Style("#E69F00", "//", "s"),
    "few_uniform_near_surface": Style("#009E73", "..", "^"),
    "few_surface_near_surface": Style("#7F7F7F", "oo", "p"),
    "near_surface": Style("#D55E00", "\\\\", "D"),
    "linear": Style("#000000", "++", "X"),
}
# Inside blue, outside orange to brown, darker with distance; vivid at the surface, where most points are.
_DISTANCES = LinearSegmentedColormap.from_list(
    "signed distance",
    [(0.0, "#03254C"), (0.499, "#4FA3E0"), (0.501, "#F5A623"), (0.7, "#C4511A"), (1.0, "#4A1A08")],
)

_STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#D9D9D9",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
}
_DPI = 150


def metric_bars(table: StudyTable, metric: str, path: str | os.PathLike[str], title: str) -> Path:
    """Draw one metric as bars grouped by network, one bar per strategy (the paper's Figure 4).

    Args:
        table: The main table.
        metric: "f_score", "normal_consistency" or "iou".
        path: The PNG file; written in one go.
        title: Heading of the figure.

    Returns:
        The path.
    """
    groups, strategies = _grouped(table)
    with rc_context(_STYLE):
        figure = Figure(figsize=(max(7.5, 1.6 + 0.42 * len(groups) * (len(strategies) + 1)), 4.2), layout="constrained")
        axes = figure.add_subplot()
        width = 0.86 / len(strategies)
        failed = False
        for index, strategy in enumerate(strategies):
            style = STYLES[strategy]
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
                    axes.errorbar(x, cell.mean, cell.deviation, color="#333333", capsize=2, linewidth=1)
                top = cell.mean + (cell.deviation or 0.0) + 0.012
                axes.text(x, top, f"{cell.mean:.2f}".lstrip("0"), ha="center", va="bottom", fontsize=7.5)
        _network_axis(axes, list(groups))
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 1.1)
        if failed:
            axes.text(1.0, 1.02, "/ marks a failed run", ha="right", transform=axes.transAxes, fontsize=9)
        axes.set_ylabel(headings(table)[metric].removesuffix(" ↑") + " (higher is better)")
        axes.set_title(title, pad=12)
        keys = [
            axes.bar(
                *(0, 0),
                color=STYLES[strategy].colour,
                hatch=STYLES[strategy].hatch,
                edgecolor="white",
                label=_legend(strategy),
            )
            for strategy in strategies
        ]
        _legend_below(figure, keys)
        return _save(figure, path)


def iou_lines(table: StudyTable, path: str | os.PathLike[str], title: str) -> Path:
    """Draw IoU as one line per strategy over the networks (the paper's Figure 7).

    Args:
        table: The main table.
        path: The PNG file; written in one go.
        title: Heading of the figure.

    Returns:
        The path.
    """
    groups, strategies = _grouped(table)
    with rc_context(_STYLE):
        figure = Figure(figsize=(max(7.5, 2.0 + 1.5 * len(groups)), 4.6), layout="constrained")
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
                color=STYLES[strategy].colour,
                marker=STYLES[strategy].marker,
                linewidth=1.8,
                markersize=7,
                markeredgecolor="white",
                label=_legend(strategy),
            )
        _network_axis(axes, list(groups))
        if known:
            low, high = min(known), max(known)
            margin = max(0.02, 0.12 * (high - low))
            axes.set_ylim(max(0.0, low - margin), min(1.0, high + margin))
        axes.set_ylabel("IoU (higher is better)")
        axes.set_title(title, pad=12)
        _legend_below(figure, keys)
        return _save(figure, path)


def strategy_slabs(
    surface: Surface,
    strategies: Sequence[str],
    path: str | os.PathLike[str],
    title: str,
    *,
    count: int = 60_000,
    thickness: float = 0.04,
    seed: int = 0,
) -> Path:
    """Draw where each strategy puts its query points: a slab of the cube, coloured by signed distance (Figure 2).

    Args:
        surface: The shape.
        strategies: Strategies, one panel each.
        path: The PNG file; written in one go.
        title: Heading of the figure.
        count: Query points drawn for each strategy; only those in the slab are shown.
        thickness: Thickness of the slab around z = 0, in mesh units.
        seed: Seed of the points.

    Returns:
        The path.
    """
    columns = min(len(strategies), 3 if len(strategies) > 4 else 2)
    lines = -(-len(strategies) // columns)
    with rc_context({**_STYLE, "axes.grid": False, "axes.titlesize": 9.5, "axes.titleweight": "normal"}):
        figure = Figure(figsize=(3.1 * columns + 1.2, 3.3 * lines + 0.9), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        norm = TwoSlopeNorm(0.0, -0.1, 0.3)
        dots: Any = None
        for panel, strategy in zip(panels, strategies, strict=False):
            queries = sample_queries(surface, strategy, count, seed=seed)
            points, distance = queries.points.cpu().numpy(), queries.signed_distance.cpu().numpy()
            dots, shown = _slab(panel, points, distance, thickness, norm)
            panel.set_title(f"{symbol(strategy)}  {strategy}")
            panel.text(0, 0.6, f"{shown:,} points", ha="center", va="top", fontsize=8)
            panel.set_aspect("equal")
            panel.set_xlim(-0.55, 0.55)
            panel.set_ylim(-0.55, 0.62)
            panel.set_xticks([-0.5, 0, 0.5])
            panel.set_yticks([-0.5, 0, 0.5])
        for panel in panels[len(strategies) :]:
            panel.set_visible(False)
        for panel in panels[: len(strategies)]:
            panel.tick_params(labelleft=panel in panels[::columns], labelbottom=True)
        pause = " " if columns > 1 else "\n"
        about = f"{count:,} points a strategy;{pause}shown: those within {thickness / 2:g} of z = 0"
        figure.supxlabel(f"x [mesh units]\n\n{about}", fontsize=10)
        figure.supylabel("y [mesh units]", fontsize=10)
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold")
        bar = figure.colorbar(
            dots, ax=panels.tolist(), shrink=0.8, extend="both", ticks=[-0.1, -0.05, 0, 0.1, 0.2, 0.3]
        )
        bar.set_label("signed distance [mesh units], negative inside")
        return _save(figure, path)


def strategy_picture(
    surface: Surface,
    strategy: str | Strategy,
    path: str | os.PathLike[str],
    title: str,
    *,
    count: int = 20_000,
    thickness: float = 0.04,
    seed: int = 0,
) -> Path:
    """Draw one strategy's query points in space, in a slab, and the histogram of their distances (Figures 1, 2, 6).

    Args:
        surface: The shape.
        strategy: Name, symbol or object.
        path: The PNG file; written in one go.
        title: Heading of the figure.
        count: Query points drawn; the histogram is of all, the pictures show at most 8,000 and those in the slab.
        thickness: Thickness of the slab around z = 0, in mesh units.
        seed: Seed of the points.

    Returns:
        The path.
    """
    queries = sample_queries(surface, strategy, count, seed=seed)
    points, distance = queries.points.cpu().numpy(), queries.signed_distance.cpu().numpy()
    norm = TwoSlopeNorm(0.0, -0.1, 0.3)
    with rc_context({**_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(12.5, 4.4), layout="constrained")
        space = figure.add_subplot(1, 3, 1, projection="3d")
        # The picture's z is up; meshes have y up.
        x, y, z = points[:8000].T
        dots = space.scatter(x, -z, y, c=distance[:8000], s=1.5, cmap=_DISTANCES, norm=norm, linewidths=0)
        space.set_box_aspect((1, 1, 1))
        space.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), zlim=(-0.5, 0.5), xlabel="x", ylabel="-z", zlabel="y")
        space.set_title(f"{min(count, 8000):,} of {count:,} points")
        slab = figure.add_subplot(1, 3, 2)
        _, shown = _slab(slab, points, distance, thickness, norm)
        slab.set(aspect="equal", xlim=(-0.55, 0.55), ylim=(-0.55, 0.55))
        slab.set(xlabel="x [mesh units]", ylabel="y [mesh units]")
        slab.set_title(f"{shown:,} points within {thickness / 2:g} of z = 0")
        bar = figure.colorbar(dots, ax=[space, slab], shrink=0.75, extend="both", ticks=[-0.1, 0, 0.1, 0.2, 0.3])
        bar.set_label("signed distance [mesh units]")
        histogram = figure.add_subplot(1, 3, 3)
        histogram.hist(distance, bins=100, density=True, color="#4878a8")
        histogram.axvline(0, color="black", linewidth=0.8)
        histogram.set(xlabel="signed distance [mesh units], negative inside", ylabel="density")
        inside = 100 * float((distance < 0).mean())
        histogram.set_title(f"{inside:.1f}% inside, mean distance {float(np.abs(distance).mean()):.3f}")
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold")
        return _save(figure, path)


def _slab(panel: Any, points: Any, distance: Any, thickness: float, norm: Any) -> tuple[Any, int]:
    """Dots of the points near z = 0, and how many they are. Those nearest to the surface come last: none hides them."""
    shown = np.abs(points[:, 2]) <= thickness / 2
    order = np.argsort(-np.abs(distance[shown]))
    x, y, value = (column[shown][order] for column in (points[:, 0], points[:, 1], distance))
    return panel.scatter(x, y, c=value, s=2.5, cmap=_DISTANCES, norm=norm, linewidths=0, rasterized=True), len(x)


def _grouped(table: StudyTable) -> tuple[dict[str, dict[str, Row]], list[str]]:
    """Rows by network and strategy, and the strategies in order."""
    densities = density_tells(table)
    groups: dict[str, dict[str, Row]] = {}
    for row in table.rows:
        name = f"{row.network}\n{row.field.upper()}" + (f", {row.density} points" if densities else "")
        groups.setdefault(name, {})[row.strategy] = row
    return groups, list(table.d_scores)


def _network_axis(axes: Any, names: list[str]) -> None:
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.55, len(names) - 0.45)


def _legend(strategy: str) -> str:
    return f"{symbol(strategy)}  {strategy}"


def _legend_below(figure: Figure, keys: list[Any]) -> None:
    figure.legend(handles=keys, loc="outside lower center", ncols=3 if figure.get_figwidth() > 8.5 else 2, fontsize=9)


def _save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    # No software tag and no date: equal results give equal files.
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})
    write_atomically(target, content.getvalue())
    return target
