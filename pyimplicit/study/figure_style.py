"""How the figures of a study look, and how they become PNG files.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; bars carry hatches and lines carry markers
besides. The style belongs to each figure alone: nothing global is changed, and no window is opened.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from PIL import Image

from pyimplicit.atomic import write_atomically
from pyimplicit.study.tables import symbol


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
# Strategies beyond the paper's eight: dark colours of their own, told apart by hatch and marker too.
_FURTHER = (
    Style("#5B3A8C", "**", "*"),
    Style("#8C5B3A", "OO", "h"),
    Style("#3A6B2E", "||", "<"),
    Style("#8C1D40", "xx..", ">"),
)

# Inside blue, outside orange to brown, darker with distance; vivid at the surface, where most points are.
DISTANCES = [(0.0, "#03254C"), (0.499, "#4FA3E0"), (0.501, "#F5A623"), (0.7, "#C4511A"), (1.0, "#4A1A08")]
DISTANCE_MAP = LinearSegmentedColormap.from_list("signed distance", DISTANCES)
#: Signed distances that the ends of `DISTANCES` stand for, mesh units; 0 lies in its middle.
DISTANCE_RANGE = (-0.1, 0.3)
DISTANCE_TICKS = (-0.1, -0.05, 0, 0.1, 0.2, 0.3)

STYLE: dict[Any, Any] = {
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
_DPI = 130


def style_of(strategy: str) -> Style:
    """Return the style of a strategy; one with parameters, or of related work, has one of a few others.

    Example:
        >>> style_of("balanced_surface").colour
        '#E69F00'
    """
    return STYLES.get(strategy) or _FURTHER[sum(strategy.encode()) % len(_FURTHER)]


def distance_norm() -> TwoSlopeNorm:
    """Return the scale from signed distances to colours."""
    low, high = DISTANCE_RANGE
    return TwoSlopeNorm(0.0, low, high)


def legend_text(strategy: str) -> str:
    """Return how a strategy is named in a legend: symbol and name."""
    return f"{symbol(strategy)}  {strategy}"


def legend_below(figure: Figure, keys: list[Any]) -> None:
    """Put the legend below all panels."""
    figure.legend(handles=keys, loc="outside lower center", ncols=3 if figure.get_figwidth() > 8.5 else 2, fontsize=9)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as a PNG file of at most 256 colours, which makes it several times smaller; returns the path."""
    target = Path(path)
    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(_DPI)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    content = io.BytesIO()
    # No text and no date in the file: equal results give equal files.
    Image.fromarray(np.ascontiguousarray(pixels)).quantize(256, dither=Image.Dither.NONE).save(
        content, format="PNG", optimize=True
    )
    write_atomically(target, content.getvalue())
    return target
