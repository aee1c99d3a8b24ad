"""Tables I to IV of the paper, from one's own records."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pyimplicit.evaluation import d_score
from pyimplicit.study import published
from pyimplicit.study.records import Record
from pyimplicit.study.results import Measured, Results, RowKey
from pyimplicit.study.tables import SCORED, deviation, symbol
from pyimplicit.study.text_table import TextTable

_FAILED = '"/" marks a run that failed or collapsed to a constant.'
_SPREAD = "Values after ± are standard deviations over the seeds."


def paper_tables(records: Sequence[Record]) -> list[TextTable]:
    """Return those of the four tables that the records have something for."""
    tables = (table_one(records), table_two(records), table_three(records), table_four(records))
    return [table for table in tables if table is not None]


def table_one(records: Sequence[Record]) -> TextTable | None:
    """Table I: F-Score by network, implicit function and strategy, with the change against Occ; None without runs."""
    results = Results(records)
    rows = results.sparse_rows()
    if not rows:
        return None
    strategies = results.strategies(rows)
    lines, reasons = [], []
    for row in rows:
        occupancy = next((o for o in rows if _same_network(o, row) and o.field == "occ"), None)
        cells = []
        for strategy in strategies:
            found = results.measured(row, strategy, "f_score")
            base = None if occupancy in (None, row) else results.measured(occupancy, strategy, "f_score")
            cells.append("" if found is None else found.text() + _change(found, base))
            if found is not None:
                reasons += [f"{_name(row)} {symbol(strategy)}: {reason}" for reason in found.reasons]
        lines.append((_name(row), *cells))
    notes = [_FAILED + " " + _SPREAD + " In brackets the change against Occ of the same network.", *reasons]
    title = "Table I. F-Score by implicit function and sampling strategy"
    return TextTable("table_1", title, ("Network & field", *map(symbol, strategies)), tuple(lines), tuple(notes))


def _change(found: Measured, base: Measured | None) -> str:
    """Return the change against Occ in percent; nothing if there is no value on either side or no change."""
    if base is None or found.mean is None or not base.mean:
        return ""
    percent = 100 * (found.mean - base.mean) / base.mean
    return "" if abs(percent) < 0.05 else f" ({'↑' if percent > 0 else '↓'} {abs(percent):.1f}%)"


def table_two(records: Sequence[Record]) -> TextTable | None:
    """Table II: quality, memory and time of dense over sparse sampling; None without a row at two densities.

    Of each network and field the lowest and the highest density are compared, under S_BS where that was run, else under
    the first strategy that was run at both.
    """
    results = Results(records)
    columns, notes = [], [_SPREAD]
    quality: list[list[str]] = [[], [], [], [], [], []]
    for sparse in results.sparse_rows():
        denser = [row for row in results.rows if _is_denser(row, sparse)]
        dense = max(denser, key=lambda row: row.density, default=None)
        if dense is None:
            continue
        both = [s for s in results.strategies([sparse]) if results.records(dense, s)]
        if not both:
            continue
        strategy = "balanced_surface" if "balanced_surface" in both else both[0]
        columns.append(_name(sparse))
        paper = published.DENSITY.get(sparse.network)
        for line, row in zip(quality[:2], (sparse, dense), strict=True):
            found = results.measured(row, strategy, "iou")
            line.append(found.text() if found is not None else "")
        costs = [_costs(results.records(row, strategy)) for row in (sparse, dense)]
        for multiples, kind in ((quality[2], "memory"), (quality[3], "time")):
            small, large = costs[0].get(kind), costs[1].get(kind)
            multiples.append(f"{large / small:.2f}" if small and large else "")
        quality[4].append("" if paper is None else f"{paper.memory:.2f}")
        quality[5].append("" if paper is None else f"{paper.time:.2f}")
        notes.append(
            f"{_name(sparse)}: {symbol(strategy)}, {sparse.density:,} against {dense.density:,} points a shape; "
            + "; ".join(f"{kind} {_absolute(kind, costs)}" for kind in ("memory", "time") if kind in costs[0])
        )
    if not columns:
        return None
    heads = (
        *("E.S (IoU, sparse)", "E.D (IoU, dense)", "M.M (memory, ×)", "M.T (time, ×)"),
        *("M.M in the paper", "M.T in the paper"),
    )
    lines = tuple((head, *cells) for head, cells in zip(heads, quality, strict=True))
    notes.append(
        "M.T: seconds of a training step; on a CPU of the processor, all threads together. M.M: what training holds at "
        "its peak beyond what the process held before, the points and clouds of the shapes included."
    )
    title = "Table II. Dense over sparse sampling"
    return TextTable("table_2", title, ("", *columns), lines, tuple(notes))


def _is_denser(row: RowKey, sparse: RowKey) -> bool:
    same = _same_network(row, sparse) and (row.field, row.mask) == (sparse.field, sparse.mask)
    return same and row.density > sparse.density


def _costs(records: Sequence[Record]) -> dict[str, float]:
    """Mean over the seeds of the bytes that training took and the seconds of a step."""
    found: dict[str, float] = {}
    for kind, values in (
        ("memory", [r.memory["train_peak"] for r in records if r.memory.get("train_peak")]),
        ("time", [t for r in records if (t := step_seconds(r)) is not None]),
    ):
        if values:
            found[kind] = math.fsum(values) / len(values)
    return found


def step_seconds(record: Record) -> float | None:
    """Seconds of a training step: of the processor on a CPU, which other programs do not lengthen, else of the wall."""
    on_cpu = record.machine.get("device", "cpu") == "cpu"
    return record.timings.get("train_step_processor" if on_cpu else "train_step")


def _absolute(kind: str, costs: Sequence[dict[str, float]]) -> str:
    def text(value: float | None) -> str:
        if value is None:
            return "unknown"
        return f"{value / 2**20:.0f} MiB" if kind == "memory" else f"{1000 * value:.0f} ms"

    return f"{text(costs[0].get(kind))} against {text(costs[1].get(kind))}"


def table_three(records: Sequence[Record]) -> TextTable | None:
    """Table III: the D-Score of each strategy over the networks, each on the field it was published with.

    Only strategies that were run on every one of those networks enter. None where there are none, or where nothing
    succeeded.
    """
    results = Results(records)
    rows = results.own_rows()
    strategies = [s for s in results.strategies(rows) if all(results.records(row, s) for row in rows)]
    if not strategies:
        return None
    whole = d_scores(results, rows, strategies)
    if whole is None:
        return None
    spreads = seed_d_scores(records, rows, strategies)
    ours = []
    for strategy in strategies:
        spread = deviation([scores[strategy] for scores in spreads])
        ours.append(f"{whole[strategy]:.3f}" + ("" if spread is None else f" ± {spread:.3f}"))
    paper = [f"{published.D_SCORES[s]:.3f}" if s in published.D_SCORES else "" for s in strategies]
    networks = ", ".join(_name(row) for row in rows)
    notes = [f"Over {networks}, equal weights for IoU, F-Score and Normal Consistency; a failed run counts as 0."]
    if spreads:
        notes.append(f"Values after ± are standard deviations of the D-Scores of {len(spreads)} seeds.")
    return TextTable(
        "table_3",
        "Table III. D-Score of the sampling strategies (lower is better)",
        ("", *map(symbol, strategies)),
        (("D-Score", *ours), ("in the paper", *paper)),
        tuple(notes),
    )


def d_scores(results: Results, rows: Sequence[RowKey], strategies: Sequence[str]) -> dict[str, float] | None:
    """Return the D-Score of strategies over rows that all have them; None where nothing succeeded anywhere."""
    values: dict[str, dict[str, dict[str, float | None] | None]] = {}
    for row in rows:
        values[f"{_name(row)} {row.density}"] = by_strategy = {}
        for strategy in strategies:
            found = {metric: results.measured(row, strategy, metric) for metric in SCORED}
            by_strategy[strategy] = {metric: value.counted if value else None for metric, value in found.items()}
    try:
        return dict(d_score(values, metrics=SCORED))
    except ValueError:  # a metric is 0 everywhere: there is no best strategy to deviate from
        return None


def seed_d_scores(
    records: Sequence[Record], rows: Sequence[RowKey], strategies: Sequence[str]
) -> list[dict[str, float]]:
    """Return the D-Scores of each seed for which every row has every strategy; nothing for fewer than two of them."""
    found = []
    for seed in dict.fromkeys(record.seed for record in records):
        results = Results([record for record in records if record.seed == seed])
        if all(results.records(row, strategy) for row in rows for strategy in strategies):
            scores = d_scores(results, rows, strategies)
            if scores is not None:
                found.append(scores)
    return found if len(found) > 1 else []


def table_four(records: Sequence[Record]) -> TextTable | None:
    """Table IV: unsigned distances with and without the distance mask; None without runs of an unsigned distance."""
    results = Results(records)
    rows = [row for row in results.rows if row.field == "udf"]
    lines, notes = [], [_FAILED + " " + _SPREAD]
    for row in rows:
        for strategy in results.strategies([row]):
            chamfer = results.measured(row, strategy, "chamfer_l2")
            f_score = results.measured(row, strategy, "f_score")
            if chamfer is None or f_score is None:
                continue
            mask = "" if row.mask is None else f"Mask({row.mask:g})-"
            paper = published.MASK.get((strategy, row.mask is not None)) if row.network == "convonet" else None
            beside = ("", "") if paper is None else (f"{paper[0]:.1e}", f"{paper[1]:.2f}")
            name = f"{row.label}, {row.density} points: {mask}{symbol(strategy)}"
            lines.append((name, chamfer.text("{:.1e}"), f_score.text(), *beside))
            notes += [f"{name}: {reason}" for reason in f_score.reasons]
    if not lines:
        return None
    columns = ("", "Chamfer-L2", "F-Score", "Chamfer-L2 in the paper", "F-Score in the paper")
    title = "Table IV. Unsigned distances with and without the distance mask"
    return TextTable("table_4", title, columns, tuple(lines), tuple(notes))


def _same_network(one: RowKey, other: RowKey) -> bool:
    return (one.network, one.variant) == (other.network, other.variant)


def _name(row: RowKey) -> str:
    return f"{row.label} & {row.field.upper() if row.field != 'occ' else 'Occ'}"
