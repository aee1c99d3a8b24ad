"""Tables of a study: metrics by network and strategy, the D-Score of each strategy, and, apart, what it all cost.

The main table holds no timings, so that a repeated study prints the very same one.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimplicit.evaluation import d_score
from pyimplicit.sampling import resolve_strategy
from pyimplicit.study.records import METRICS, Record

if TYPE_CHECKING:
    from rich.table import Table as RichTable

HEADINGS = {
    "iou": "IoU ↑",
    "chamfer_l2": "Chamfer-L2 ↓",
    "f_score": "F-Score ↑",
    "normal_consistency": "Normal Consistency ↑",
}
# Metrics of meshes, which a cloud does not have.
_MESH_ONLY = ("iou", "normal_consistency")
# Metrics that enter the D-Score: those where more is better, with equal weights.
SCORED = tuple(metric for metric, more in METRICS.items() if more)
FAILED = "/"


@dataclass(frozen=True)
class Cell:
    """One metric of one network under one strategy, over the seeds.

    Args:
        mean: Mean over the seeds that did not fail; None if all failed.
        deviation: Standard deviation over those seeds (n - 1); None for fewer than two.
        best: Whether no other strategy does better on this row; equal values all count as best.
        exists: Whether the metric exists for this field; a cloud has neither IoU nor Normal Consistency.
    """

    mean: float | None
    deviation: float | None
    best: bool
    exists: bool = True


@dataclass(frozen=True)
class Row:
    """One network, field and density under one strategy."""

    network: str
    field: str
    density: int
    strategy: str
    cells: dict[str, Cell]
    seeds: int
    failures: tuple[str, ...]  # one reason for each failed seed


@dataclass(frozen=True)
class StudyTable:
    """The main table: rows grouped by network, and the D-Score of each strategy."""

    rows: tuple[Row, ...]
    d_scores: dict[str, float | None]  # by strategy; None where a run is missing or nothing succeeded
    threshold: float | None


def build_table(records: Sequence[Record]) -> StudyTable:
    """Gather records into the main table.

    The D-Score compares, on every network and field and on IoU, F-Score and Normal Consistency, each strategy with the
    best one; lower is better and 0 is best everywhere. A failed run counts with a metric of 0.

    Args:
        records: Any number of records, in any order; rows keep the order in which things first appear.

    Returns:
        The table; empty for no records.
    """
    groups: dict[tuple[str, str, int], dict[str, list[Record]]] = {}
    for record in records:
        groups.setdefault(record.row, {}).setdefault(record.strategy, []).append(record)
    rows = []
    for (network, field, density), by_strategy in groups.items():
        means = {strategy: _means(group) for strategy, group in by_strategy.items()}
        for strategy, group in by_strategy.items():
            cells = {}
            for metric, more_is_better in METRICS.items():
                known = [m[metric] for m in means.values() if metric in m]
                best = (max if more_is_better else min)(known) if known else None
                mean = means[strategy].get(metric)
                values = [r.means[metric] for r in group if not r.failed and metric in r.means]
                exists = field != "udf" or metric not in _MESH_ONLY
                cells[metric] = Cell(mean, deviation(values), mean is not None and mean == best, exists)
            reasons = tuple(f"{r.status}: {r.reason}" for r in group if r.failed)
            rows.append(Row(network, field, density, strategy, cells, len(group), reasons))
    thresholds = {record.config["evaluation"]["threshold"] for record in records}
    return StudyTable(tuple(rows), _d_scores(groups), thresholds.pop() if len(thresholds) == 1 else None)


def _means(group: Sequence[Record]) -> dict[str, float]:
    done = [record for record in group if not record.failed]
    known = [metric for metric in METRICS if done and metric in done[0].means]
    return {metric: math.fsum(r.means[metric] for r in done) / len(done) for metric in known}


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation (n - 1), None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _d_scores(groups: dict[tuple[str, str, int], dict[str, list[Record]]]) -> dict[str, float | None]:
    groups = _compared(groups)
    strategies = list(dict.fromkeys(strategy for group in groups.values() for strategy in group))
    complete = [s for s in strategies if all(s in by_strategy for by_strategy in groups.values())]
    results = {
        f"{network} {field} {density}": {strategy: _scored(by_strategy[strategy]) for strategy in complete}
        for (network, field, density), by_strategy in groups.items()
    }
    # Where nothing succeeded there is no best strategy to deviate from.
    known = complete and all(any(run[m] for row in results.values() for run in row.values()) for m in SCORED)
    scores = d_score(results, metrics=SCORED) if known else {}
    return {strategy: scores.get(strategy) for strategy in strategies}


def _compared(
    groups: dict[tuple[str, str, int], dict[str, list[Record]]],
) -> dict[tuple[str, str, int], dict[str, list[Record]]]:
    """Return the rows that the D-Score is about: without a mask, of fields with all its metrics, sparsely sampled.

    What is varied besides for a few strategies only (higher densities, masks) would leave the others without a score.
    """
    plain = {
        row: group
        for row, group in groups.items()
        if row[1] != "udf" and all(record.mask is None for records in group.values() for record in records)
    }
    sparse: dict[tuple[str, str], int] = {}
    for network, field, density in plain:
        sparse[network, field] = min(density, sparse.get((network, field), density))
    return {row: group for row, group in plain.items() if sparse[row[0], row[1]] == row[2]}


def _scored(group: Sequence[Record]) -> dict[str, float]:
    """Return the metrics of the D-Score, means over the seeds; a failed seed counts as 0."""
    return {m: math.fsum(0.0 if r.failed else r.means[m] for r in group) / len(group) for m in SCORED}


def headings(table: StudyTable) -> dict[str, str]:
    """Column headings by metric, the F-Score's with its threshold in percent of the longest side."""
    threshold = "" if table.threshold is None else f"({100 * table.threshold:g}%)"
    return {metric: text.replace("F-Score", f"F-Score{threshold}") for metric, text in HEADINGS.items()}


def symbol(strategy: str) -> str:
    """Return the paper's symbol of a strategy, such as S_BS."""
    text = resolve_strategy(strategy).symbol
    return text if text.startswith("S_") else f"S_{text}"


def format_cell(metric: str, cell: Cell) -> str:
    """Return a value with its deviation; "/" for a failed run, nothing for a metric that does not exist."""
    if cell.mean is None:
        return FAILED if cell.exists else ""
    pattern = "{:.2e}" if metric == "chamfer_l2" else "{:.3f}"
    text = pattern.format(cell.mean)
    return text if cell.deviation is None else f"{text} ± {pattern.format(cell.deviation)}"


def density_tells(table: StudyTable) -> bool:
    """Return whether only the density tells some rows apart, so that it must be shown."""
    with_density = {(row.network, row.field, row.density) for row in table.rows}
    return len(with_density) > len({(row.network, row.field) for row in table.rows})


def _name(row: Row, with_density: bool) -> str:
    return f"{row.network} {row.field.upper()}" + (f", {row.density} points" if with_density else "")


def _strategy_text(row: Row) -> str:
    failed = f" ({len(row.failures)} of {row.seeds} failed)" if row.failures and row.seeds > 1 else ""
    return f"{row.strategy} ({symbol(row.strategy)}){failed}"


def best_d_scores(table: StudyTable) -> set[str]:
    """Return the strategies with the lowest D-Score."""
    known = {strategy: value for strategy, value in table.d_scores.items() if value is not None}
    return {strategy for strategy, value in known.items() if value == min(known.values())}


def rich_tables(table: StudyTable) -> list[RichTable]:
    """Return the table and its D-Score lines for a terminal; the best value of each network is bold and starred."""
    from rich.table import Table as RichTable

    main = RichTable(title="Sampling strategies by network", title_justify="left")
    main.add_column("Network")
    main.add_column("Strategy", no_wrap=True)
    for heading in headings(table).values():
        main.add_column(heading, justify="right")
    with_density = density_tells(table)
    previous = ""
    for row in table.rows:
        name = _name(row, with_density)
        if previous and name != previous:
            main.add_section()
        cells = [_starred(format_cell(metric, cell), cell.best) for metric, cell in row.cells.items()]
        main.add_row(name if name != previous else "", _strategy_text(row), *cells)
        previous = name
    scores = RichTable(title="D-Score over all networks", title_justify="left")
    scores.add_column("Strategy", no_wrap=True)
    scores.add_column("D-Score ↓", justify="right")
    best = best_d_scores(table)
    for strategy, value in table.d_scores.items():
        text = "not defined" if value is None else f"{value:.3f}"
        scores.add_row(f"{strategy} ({symbol(strategy)})", _starred(text, strategy in best))
    return [main, scores]


def _starred(text: str, best: bool) -> str:
    return f"[bold green]{text} *[/]" if best else f"{text}  "


def markdown_table(table: StudyTable) -> str:
    """Return the table, its D-Score lines and the reasons of failures in Markdown; best values are bold."""
    with_density = density_tells(table)
    lines = [
        "| Network | Strategy | " + " | ".join(headings(table).values()) + " |",
        "|---|---|" + "---:|" * len(METRICS),
    ]
    for row in table.rows:
        cells = [f"**{format_cell(m, c)}**" if c.best else format_cell(m, c) for m, c in row.cells.items()]
        lines.append(f"| {_name(row, with_density)} | {_strategy_text(row)} | " + " | ".join(cells) + " |")
    lines += ["", "| Strategy | D-Score ↓ |", "|---|---:|"]
    best = best_d_scores(table)
    for strategy, value in table.d_scores.items():
        text = "not defined" if value is None else f"{value:.3f}"
        lines.append(f"| {strategy} ({symbol(strategy)}) | {f'**{text}**' if strategy in best else text} |")
    failures = [(row, reason) for row in table.rows for reason in row.failures]
    if failures:
        lines += ["", f'"{FAILED}" marks a failed run:', ""]
        lines += [f"- {_name(row, with_density)}, {row.strategy}: {reason}" for row, reason in failures]
    return "\n".join(lines) + "\n"


def csv_table(table: StudyTable) -> str:
    """Return the rows with full precision; a failed run has empty values."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [name for metric in METRICS for name in (metric, f"{metric}_deviation", f"{metric}_best")]
    writer.writerow(["network", "field", "density", "strategy", "symbol", "seeds", "failed", *columns])
    for row in table.rows:
        values: list[object] = [row.network, row.field, row.density, row.strategy, symbol(row.strategy)]
        values += [row.seeds, len(row.failures)]
        for cell in row.cells.values():
            values += ["" if cell.mean is None else repr(cell.mean)]
            values += ["" if cell.deviation is None else repr(cell.deviation), int(cell.best)]
        writer.writerow(values)
    return stream.getvalue()


def csv_d_scores(table: StudyTable) -> str:
    """Return the D-Score of each strategy with full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["strategy", "symbol", "d_score"])
    for strategy, value in table.d_scores.items():
        writer.writerow([strategy, symbol(strategy), "" if value is None else repr(value)])
    return stream.getvalue()


def shape_rows(records: Sequence[Record]) -> list[dict[str, object]]:
    """Return every score of every test shape of every run, one row each."""
    rows = []
    for record in records:
        keys = {"network": record.row[0], "field": record.field, "density": record.density}
        keys |= {"strategy": record.strategy, "run_seed": record.seed, "status": record.status}
        for row in record.scores:
            # The same columns in the same order for a record fresh from its run and one read from its file.
            first = ("shape", *METRICS)
            ordered = {name: row.get(name, "") for name in (*first, *sorted(set(row) - set(first)))}
            rows.append({**keys, **ordered})  # "seed" is that of the measuring points
    return rows


def timing_rows(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Headings, and of each run its seconds per phase and peak memory."""
    phases = list(dict.fromkeys(phase for record in records for phase in record.timings))
    rows = []
    for record in records:
        name = f"{record.row[0]} {record.field.upper()}, {record.density} points"
        cells = [f"{record.timings[phase]:.1f}" if phase in record.timings else "" for phase in phases]
        peak = record.memory.get("process_peak")
        memory = "" if peak is None else f"{peak / 2**20:.0f}"
        rows.append([name, record.strategy, str(record.seed), *cells, memory])
    return ["Network", "Strategy", "Seed", *(f"{phase} [s]" for phase in phases), "memory [MiB]"], rows


def timing_table(records: Sequence[Record]) -> str:
    """Seconds per phase and peak memory of each run, in Markdown."""
    columns, rows = timing_rows(records)
    lines = ["| " + " | ".join(columns) + " |", "|---|---|" + "---:|" * (len(columns) - 2)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
