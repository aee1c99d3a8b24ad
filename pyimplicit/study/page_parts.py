"""Parts of the report as HTML: summary, tables, claims, recommendations, figures, and what the study was made with."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from pyimplicit.errors import ConfigError
from pyimplicit.study.claims import judge_claims
from pyimplicit.study.numbered_tables import d_scores, paper_tables
from pyimplicit.study.paper_figures import PaperFigure
from pyimplicit.study.published import D_SCORES
from pyimplicit.study.recommendation import recommend
from pyimplicit.study.records import METRICS, Record
from pyimplicit.study.results import Results, RowKey
from pyimplicit.study.tables import (
    SCORED,
    StudyTable,
    best_d_scores,
    density_tells,
    format_cell,
    headings,
    symbol,
    timing_rows,
)
from pyimplicit.study.text_table import TextTable
from pyimplicit.study.verdicts import Claim, row_name

_MARKS = {1: ("supports", "+"), -1: ("contradicts", "−"), 0: ("within", "○")}


def html_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    names: int = 1,
    notes: Sequence[str] = (),
    best: Iterable[tuple[int, int]] = (),
) -> str:
    """Return a table whose first columns are of names; the cells in `best`, as (row, column), stand out.

    Example:
        >>> html_table(["a", "b"], [["x", "1 < 2"]]).partition("<tbody>")[2]
        '<tr><th class="name">x</th><td>1 &lt; 2</td></tr></tbody></table></div>'
    """
    bold = set(best)
    head = "".join(
        f'<th class="name">{escape(column)}</th>' if place < names else f"<th>{escape(column)}</th>"
        for place, column in enumerate(columns)
    )
    lines = []
    for number, row in enumerate(rows):
        cells = [f'<th class="name">{_text(cell)}</th>' for cell in row[:names]]
        for place, cell in enumerate(row[names:], names):
            cells.append(
                f'<td class="best">{_text(cell)}</td>' if (number, place) in bold else f"<td>{_text(cell)}</td>"
            )
        # With several columns of names the first one is given where a group of rows begins.
        start = "<tr class='group'>" if names > 1 and row[0] else "<tr>"
        lines.append(f"{start}{''.join(cells)}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    remarks = f"<ul class='notes'>{''.join(f'<li>{_text(note)}</li>' for note in notes)}</ul>" if notes else ""
    return f'<div class="wide">{table}</div>{remarks}'


def _text(text: str) -> str:
    return escape(text).replace("\n", "<br>")


class Scores:
    """D-Scores of a study: over all networks on their own fields, and on each network by itself."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.results = results = Results(records)
        self.rows = results.sparse_rows()
        own = results.own_rows()
        shared = [s for s in results.strategies(own) if all(results.records(row, s) for row in own)]
        self.whole = (d_scores(results, own, shared) if shared else None) or {}
        self.own = own
        self.by_row: dict[RowKey, dict[str, float]] = {}
        for row in self.rows:
            found = d_scores(results, [row], results.strategies([row]))
            if found is not None:
                self.by_row[row] = found

    @property
    def strategies(self) -> list[str]:
        """All strategies, from uniform towards the surface."""
        return self.results.strategies(self.rows)

    def charts(self) -> dict[str, Any]:
        """Return what the page's two charts show."""
        return {
            "whole": {
                "symbols": [symbol(s) for s in self.whole],
                "ours": list(self.whole.values()),
                "paper": [D_SCORES.get(s) for s in self.whole],
            },
            "by_row": {
                "rows": [row_name(row) for row in self.by_row],
                "symbols": [symbol(s) for s in self.strategies],
                "values": [[scores.get(s) for s in self.strategies] for scores in self.by_row.values()],
            },
        }


def summary(records: Sequence[Record], scores: Scores, caveats: Sequence[str]) -> str:
    """Return the answer: the best strategy over all networks and of each network, and what it is worth."""
    failed = sum(record.failed for record in records)
    if scores.whole:
        order = sorted(scores.whole, key=scores.whole.__getitem__)
        best = order[0]
        names = ", ".join(dict.fromkeys(row.label for row in scores.own))
        lead = f"<strong>{escape(symbol(best))}</strong> ({escape(best)}) does best over all networks together"
        others = ", ".join(f"{symbol(s)} {scores.whole[s]:.3f}" for s in order[1:3])
        lead += f": its D-Score is <strong>{scores.whole[best]:.3f}</strong>."
        if others:
            lead += f" Next are {escape(others)}; last is {escape(symbol(order[-1]))} {scores.whole[order[-1]]:.3f}."
        about = (
            "The D-Score is how far a strategy stays behind the best one, as a share, averaged over "
            f"{escape(names)}, each on the field it was published with, and over IoU, F-Score and Normal Consistency: "
            "0 is always best; a failed run counts as 0 in every metric."
        )
    else:
        lead, about = "No strategy has results on every network yet: there is no D-Score over all of them.", ""
    verdicts = [claim.verdict for claim in judge_claims(records)]
    counts = "".join(
        f'<div class="number"><b>{number}</b><span>{escape(text)}</span></div>'
        for number, text in (
            (len(records), "runs"),
            (failed, "failed runs"),
            *((verdicts.count(verdict), f"claims {verdict}") for verdict in ("confirmed", "refuted", "undecided")),
        )
    )
    worth = "".join(f"<li>{escape(line)}</li>" for line in caveats)
    return (
        f'<p class="lead">{lead}</p><p>{about}</p><div class="numbers">{counts}</div>'
        f"<h3>Best strategy of each network</h3>{_best_by_row(scores)}"
        '<div class="charts"><div id="chart-whole" class="chart"></div><div id="chart-rows" class="chart"></div></div>'
        f"<h3>What these numbers are worth</h3><ul>{worth}</ul>"
    )


def _best_by_row(scores: Scores) -> str:
    lines = []
    for row, found in scores.by_row.items():
        order = sorted(found, key=found.__getitem__)
        cells = []
        for metric in SCORED:
            value = scores.results.measured(row, order[0], metric)
            cells.append("" if value is None else value.text("{:.3f}"))
        second = f"{symbol(order[1])} ({found[order[1]]:.3f})" if len(order) > 1 else ""
        worst = f"{symbol(order[-1])} ({found[order[-1]]:.3f})" if len(order) > 2 else ""
        lines.append((row_name(row), f"{symbol(order[0])} ({found[order[0]]:.3f})", *cells, second, worst))
    columns = ("Network", "Best strategy (D-Score)", "IoU", "F-Score", "Normal Consistency", "Second", "Last")
    return html_table(columns, lines, best=[(number, 1) for number in range(len(lines))])


def tables(records: Sequence[Record], table: StudyTable) -> str:
    """Return the main table, the D-Scores and the paper's tables I to IV."""
    parts = ["<h3>All metrics by network and strategy</h3>", _main_table(table)]
    best = best_d_scores(table)
    rows = [(f"{s} ({symbol(s)})", "not defined" if v is None else f"{v:.3f}") for s, v in table.d_scores.items()]
    bold = [(number, 1) for number, strategy in enumerate(table.d_scores) if strategy in best]
    parts += ["<h3>D-Score over all networks and fields</h3>", html_table(("Strategy", "D-Score ↓"), rows, best=bold)]
    for one in paper_tables(records):
        parts += [f"<h3>{escape(one.title)}</h3>", _text_table(one)]
    return "".join(parts)


def _text_table(table: TextTable) -> str:
    return html_table(table.columns, table.rows, notes=table.notes)


def _main_table(table: StudyTable) -> str:
    densities, rows, best, notes, previous = density_tells(table), [], [], [], ""
    for number, row in enumerate(table.rows):
        name = f"{row.network} {row.field.upper()}" + (f", {row.density} points" if densities else "")
        rows.append(
            (
                name if name != previous else "",
                f"{symbol(row.strategy)}  {row.strategy}",
                *(format_cell(metric, row.cells[metric]) for metric in METRICS),
            )
        )
        best += [(number, place) for place, metric in enumerate(METRICS, 2) if row.cells[metric].best]
        notes += [f"{name}, {symbol(row.strategy)}: {reason}" for reason in row.failures]
        previous = name
    shown = html_table(("Network", "Strategy", *headings(table).values()), rows, names=2, best=best)
    if notes:
        lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
        shown += (
            f'<details><summary>"/" marks {len(notes)} failed runs</summary><ul class="notes">{lines}</ul></details>'
        )
    return shown


def claims(records: Sequence[Record]) -> str:
    """Return the paper's claims with their verdicts; each opens to the comparisons that led to it."""
    parts = []
    for one in judge_claims(records):
        lines = "".join(
            f'<li class="{_MARKS[c.sign][0]}"><span>{_MARKS[c.sign][1]}</span> {escape(c.text)}</li>'
            for c in one.comparisons
        )
        parts.append(
            f'<details class="claim"><summary><span class="verdict {one.verdict}">{one.verdict}</span> '
            f'{one.number}. {escape(one.statement)}<span class="count">{_count(one)}</span></summary>'
            f"<p>{escape(one.reason[:1].upper() + one.reason[1:])}.</p>"
            f'<ul class="comparisons">{lines}</ul><p class="paper">In the paper: {escape(one.paper)}.</p></details>'
        )
    how = (
        "<p>A difference counts beyond twice its standard error between seeds. + supports the claim, − contradicts it, "
        "○ lies within the margin. Open a claim for its comparisons.</p>"
    )
    return how + "".join(parts)


def _count(claim: Claim) -> str:
    if not claim.comparisons:
        return "no comparison"
    return f"{claim.supporting} for, {claim.contradicting} against, of {len(claim.comparisons)}"


def recommendations(records: Sequence[Record]) -> str:
    """Return which strategy and density to train each network and field of the study with, and why."""
    parts = []
    largest = max((record.density for record in records), default=1)
    rows = dict.fromkeys((record.network, record.variant, record.field) for record in records)
    for network, variant, field in rows:
        entry = network if variant is None else f"{network}:{variant}"
        try:
            found = recommend(entry, field, budget=largest, records=records)
        except ConfigError:  # unsigned distances with masked runs alone: nothing to recommend from
            continue
        lines = "".join(f"<li>{escape(line)}</li>" for line in found.evidence)
        head = found.lines()[0]
        parts.append(
            f"<details><summary><b>{escape(head)}</b></summary><p>From {escape(found.source)}:</p><ul>{lines}</ul>"
            "</details>"
        )
    about = (
        "<p>Of the densities the lowest that is not worse than a higher one, of the strategies within the margin of "
        "the best the one that does best over all networks. Open one for its evidence.</p>"
    )
    return about + "".join(parts)


def figures(found: Sequence[PaperFigure]) -> str:
    """Return the figures with their captions; of one that could not be drawn, the reason."""
    parts = []
    for figure in found:
        number = f"<b>{escape(figure.name)}.</b> " if figure.name.startswith("Figure") else ""
        caption = f"<figcaption>{number}{escape(figure.caption)}.</figcaption>"
        if figure.path is None:
            parts.append(
                f'<figure class="missing"><p>{escape(figure.name)} is not shown: {escape(figure.missing)}.</p>'
                f"{caption}</figure>"
            )
            continue
        content = base64.b64encode(figure.path.read_bytes()).decode()
        parts.append(
            f'<figure><img alt="{escape(figure.caption)}" src="data:image/png;base64,{content}">{caption}</figure>'
        )
    return "".join(parts)


def setup(config_text: str, records: Sequence[Record], report_versions: dict[str, str]) -> str:
    """Return configuration, versions and machines of a study, and what wrote the page."""
    parts = [f"<h3>Configuration</h3><pre>{escape(config_text)}</pre>"]
    for title, kinds in (
        ("Versions that computed", [record.versions for record in records]),
        ("Machine", [record.machine for record in records]),
    ):
        for variety in _distinct(kinds):
            rows = [(str(key), str(value)) for key, value in variety.items()]
            parts += [f"<h3>{title}</h3>", html_table(("what", ""), rows)]
    parts += ["<h3>Versions that wrote this page</h3>", html_table(("what", ""), list(report_versions.items()))]
    timings = html_table(*timing_rows(records), names=2)
    parts.append(f"<h3>Time and memory</h3><details><summary>of every run</summary>{timings}</details>")
    return "".join(parts)


def _distinct(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
