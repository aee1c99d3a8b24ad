"""The report as one HTML file that needs nothing else: tables, claims, figures and interactive 3D views.

The file holds plotly's script, its styles, its pictures and the arrays of its views; it asks no network for anything,
which its content security policy enforces.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from pyimplicit.errors import ExtraError
from pyimplicit.info import machine, versions
from pyimplicit.study import page_parts
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.figure_style import DISTANCE_RANGE, DISTANCES
from pyimplicit.study.files import write_text
from pyimplicit.study.page_views import FAILURES, MOST_FACES, QUERY_POINTS, SHAPES, build_views
from pyimplicit.study.paper_figures import PaperFigure
from pyimplicit.study.reconstructions import FAR, Reconstructions
from pyimplicit.study.records import Record
from pyimplicit.study.tables import StudyTable

PAGE_FILE = "report.html"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:"
)
_FAR_KEY = (
    '<span class="keyed"><span class="key" style="background:#d64d1a"></span>'
    f"farther than {FAR:g} from the true surface</span>"
)
_NOTHING = '<p class="notice">Not shown: {}.</p>'


def plotly_script() -> str:
    """Return plotly.js as the Python package carries it.

    Raises:
        ExtraError: plotly, or fast-simplification that the page's meshes need, is not installed.
    """
    try:
        import fast_simplification  # noqa: F401  (asked here, before anything is drawn)
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        name = "plotly" if (error.name or "").startswith("plotly") else "fast-simplification"
        raise ExtraError(f"report.html: needs {name}; install pyimplicit[report]") from error
    script: str = get_plotlyjs()
    return script


def write_page(
    folder: Path,
    config: StudyConfig,
    records: Sequence[Record],
    table: StudyTable,
    figures: Sequence[PaperFigure],
    shapes: Reconstructions,
    *,
    config_text: str,
    caveats: Sequence[str],
) -> Path:
    """Write `report.html` into a study's folder.

    Args:
        folder: The study's folder.
        config: The study.
        records: Its records.
        table: Its main table.
        figures: Its figures, drawn or not.
        shapes: Its test shapes and reconstructions.
        config_text: The configuration as people read it.
        caveats: What its results are worth, one line each.

    Returns:
        The path of the page.

    Raises:
        ExtraError: plotly or fast-simplification is not installed.
    """
    script = plotly_script()
    scores = page_parts.Scores(records)
    views = build_views(records, config.strategies, shapes)
    arrays = views.pop("arrays")
    low, high = DISTANCE_RANGE
    data = {
        "charts": scores.charts(),
        "views": views,
        "distances": {"low": low, "high": high, "scale": [[_linear(place), colour] for place, colour in DISTANCES]},
    }
    wrote = {**versions(), "plotly": metadata.version("plotly"), "system": str(machine()["system"])}
    sections = {
        "summary": ("Summary", page_parts.summary(records, scores, caveats)),
        "tables": ("Tables", page_parts.tables(records, table)),
        "claims": ("Claims", page_parts.claims(records)),
        "recommendations": ("Recommendations", page_parts.recommendations(records)),
        "figures": ("Figures", page_parts.figures(figures)),
        "queries": ("Query points", _queries_text(views)),
        "reconstructions": ("Reconstructions", _reconstructions_text(views, shapes)),
        "failures": ("Failures", _failures_text(views, shapes)),
        "setup": ("Setup", page_parts.setup(config_text, records, wrote)),
    }
    used = config.data
    planned = len(config.runs())
    about = f"{len(records)} of {planned} runs at scale {config.scale}: {used.train} shapes to train on and {used.test}"
    about += f" to test on from {used.source}"
    text = _assembled(sections, about, script, _embedded(data), arrays)
    write_text(folder / PAGE_FILE, text)
    return folder / PAGE_FILE


def _assembled(sections: dict[str, tuple[str, str]], about: str, script: str, data: str, arrays: str) -> str:
    files = resources.files("pyimplicit.study")
    style, behaviour = ((files / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, (title, _) in sections.items())
    parts = "".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>' for name, (title, body) in sections.items()
    )
    title = "Sampling strategies for implicit 3D reconstruction"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: a study</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header><div class="inner"><h1>{title}</h1><p>{escape(about)}</p></div></header>
<nav><div class="inner">{links}</div></nav>
<main class="inner">{parts}</main>
<footer>Written by pyimplicit. Lengths are in mesh units: the longest side of every shape is 1.</footer>
<script type="application/json" id="data">{data}</script>
<script type="text/plain" id="arrays">{arrays}</script>
<script>{script}</script>
<script>{behaviour}</script>
</body>
</html>
"""


def _queries_text(views: dict[str, Any]) -> str:
    names = ", ".join(escape(shape["name"]) for shape in views["shapes"])
    return (
        f"<p>{QUERY_POINTS:,} query points of each strategy, coloured by signed distance: "
        '<span class="keyed"><span class="key" style="background:#4FA3E0"></span>inside</span>'
        '<span class="keyed"><span class="key" style="background:#F5A623"></span>outside</span>, darker with distance. '
        f"Drag to turn, scroll to come nearer; both sides turn together. Shapes: {names}.</p>"
        '<div id="view-queries"></div>'
    )


def _reconstructions_text(views: dict[str, Any], shapes: Reconstructions) -> str:
    if not views["rows"]:
        reason = shapes.missing or "the folder holds no reconstruction of a run"
        return _NOTHING.format(escape(reason)) + '<div id="view-reconstructions"></div>'
    return (
        f"<p>Two strategies beside what the network saw and the true shape, of the first {SHAPES} test shapes and the "
        "first seed that has a result. Meshes are simplified for display (at most "
        f"{MOST_FACES:,} faces); scores are of the full ones. "
        f"{_FAR_KEY}</p>"
        '<div id="view-reconstructions"></div>'
    )


def _failures_text(views: dict[str, Any], shapes: Reconstructions) -> str:
    if not views["failures"]:
        reason = shapes.missing or f"no stored reconstruction has a part farther than {FAR:g} from the true surface"
        return _NOTHING.format(escape(reason)) + '<div id="view-failures"></div>'
    return (
        f"<p>The surfaces farthest from the true one, at most {FAILURES}, one of each network, field and strategy. "
        f"{_FAR_KEY}</p>"
        '<div id="view-failures"></div>'
    )


def _linear(place: float) -> float:
    """Turn a place on the colour scale, whose middle is distance 0, into one on a scale with equal steps."""
    low, high = DISTANCE_RANGE
    value = low * (1 - 2 * place) if place < 0.5 else high * (2 * place - 1)
    return (value - low) / (high - low)


def _embedded(data: dict[str, Any]) -> str:
    """Return JSON that may stand within a script element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/").replace("<!--", "<\\!--")
