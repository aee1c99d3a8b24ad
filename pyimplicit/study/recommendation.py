"""Which strategy and how many points for a network, a field and a budget, with the evidence.

From one's own records where they hold the network and field, else from the paper's figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyimplicit.checks import check_count
from pyimplicit.errors import ConfigError
from pyimplicit.study import published
from pyimplicit.study.axes import FIELDS, network_label, split_network
from pyimplicit.study.numbered_tables import step_seconds
from pyimplicit.study.records import Record
from pyimplicit.study.results import Results, RowKey
from pyimplicit.study.tables import SCORED, symbol
from pyimplicit.study.verdicts import Judge
from pyimplicit.training import PAPER_DEFAULTS

# Differences that the rounding of the paper's F-Scores to two digits may make.
PAPER_MARGIN = 0.01


@dataclass(frozen=True)
class Recommendation:
    """What to train with.

    Args:
        network: The network, with its variant as in "convonet:grid32".
        field: The implicit function.
        strategy: The strategy.
        density: Query points per shape and step.
        source: Where the evidence is from: "your records" or the paper.
        evidence: The figures that led to it, one line each.
    """

    network: str
    field: str
    strategy: str
    density: int
    source: str
    evidence: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the recommendation as lines of text."""
        network, variant = split_network(self.network)
        head = f"{network_label(network, variant)} {self.field.upper()}: {self.strategy} ({symbol(self.strategy)})"
        return [f"{head}, {self.density} points a shape and step", f"from {self.source}:", *self.evidence]


def recommend(
    network: str, field: str | None = None, *, budget: int = published.SPARSE, records: Sequence[Record] = ()
) -> Recommendation:
    """Recommend a strategy and a density.

    From records: of the densities within the budget the lowest one whose best strategy is not behind that of a higher
    one by more than the margin of the claims. Of its strategies those that are within the margin of the best, in the
    mean of IoU, F-Score and Normal Consistency; of these the one that does best on all networks together (D-Score).
    From the paper likewise, with the F-Scores of Table I and the D-Scores of Table III.

    Args:
        network: Its name, with a variant as in "convonet:grid32".
        field: "occ", "sdf", "tsdf" or "udf"; None takes that of the network's authors.
        budget: Most query points per shape and step that may be spent, at least 1.
        records: One's own; without any of this network and field the paper answers.

    Raises:
        ConfigError: An unknown network, variant or field; or an unsigned distance that no records answer.
        ValueError: A budget below 1.

    Example:
        >>> found = recommend("deepsdf")
        >>> found.strategy, found.density
        ('balanced_surface', 2000)
    """
    name, variant = split_network(network)
    field = PAPER_DEFAULTS[name][0] if field is None else field
    if field not in FIELDS:
        raise ConfigError(f"field: expected one of {', '.join(FIELDS)}, got {field!r}")
    check_count("budget", budget)
    entry = network if variant is None else f"{name}:{variant}"
    results = Results(records)
    rows = [
        row for row in results.rows if (row.network, row.variant, row.field, row.mask) == (name, variant, field, None)
    ]
    affordable = sorted((row for row in rows if row.density <= budget), key=lambda row: row.density)
    if affordable:
        return _from_records(entry, Judge(results), affordable)
    return _from_paper(entry, name, field, budget)


def _from_records(network: str, judge: Judge, rows: Sequence[RowKey]) -> Recommendation:
    metrics = SCORED if rows[0].field != "udf" else ("f_score",)
    row, scores = rows[0], _quality(judge, rows[0], metrics)
    evidence = []
    for denser in rows[1:]:
        others = _quality(judge, denser, metrics)
        best, rival = max(scores, key=scores.__getitem__), max(others, key=others.__getitem__)
        gain = others[rival] - scores[best]
        margin = judge.margin(metrics[0], (row, best), (denser, rival))
        times = [_step(judge, row, best), _step(judge, denser, rival)]
        cost = f", {times[1] / times[0]:.1f} times the time of a step" if times[0] and times[1] else ""
        verdict = "taken" if gain > margin else "not worth it"
        evidence.append(
            f"{denser.density} instead of {row.density} points: {gain:+.3f} (margin {margin:.3f}){cost}: {verdict}"
        )
        if gain > margin:
            row, scores = denser, others
    best = max(scores, key=scores.__getitem__)
    whole = _overall(judge)
    near = [s for s in scores if scores[best] - scores[s] <= judge.margin(metrics[0], (row, best), (row, s))]
    chosen = min(near, key=lambda s: (whole.get(s, float("inf")), -scores[s]))
    named = ", ".join(f"{symbol(s)} {scores[s]:.3f}" for s in sorted(scores, key=scores.__getitem__, reverse=True))
    seeds = max(len(judge.results.records(row, s)) for s in scores)
    evidence.insert(
        0, f"mean of {', '.join(metrics)} at {row.density} points, {seeds} seed(s), failed runs as 0: {named}"
    )
    if len(near) > 1:
        text = ", ".join(f"{symbol(s)} {whole[s]:.3f}" for s in near if s in whole) or "none known"
        evidence.append(f"not told apart from the best: {', '.join(map(symbol, near))}; their D-Scores: {text}")
    return Recommendation(network, row.field, chosen, row.density, "your records", tuple(evidence))


def _quality(judge: Judge, row: RowKey, metrics: Sequence[str]) -> dict[str, float]:
    """Mean of the metrics of each strategy of a row, failed runs as 0."""
    found = {}
    for strategy in judge.results.strategies([row]):
        values = [judge.value(row, strategy, metric) or 0.0 for metric in metrics]
        found[strategy] = sum(values) / len(values)
    return found


def _step(judge: Judge, row: RowKey, strategy: str) -> float | None:
    times = [time for record in judge.results.records(row, strategy) if (time := step_seconds(record)) is not None]
    return sum(times) / len(times) if times else None


def _overall(judge: Judge) -> dict[str, float]:
    """D-Scores over the networks of the records on their own fields; nothing where they cannot be had."""
    from pyimplicit.study.numbered_tables import d_scores

    rows = judge.results.own_rows()
    strategies = [s for s in judge.results.strategies(rows) if all(judge.results.records(row, s) for row in rows)]
    return (d_scores(judge.results, rows, strategies) if strategies else None) or {}


def _from_paper(entry: str, network: str, field: str, budget: int) -> Recommendation:
    row = published.F_SCORES.get((network, field))
    source = f"the paper ({published.SOURCE})"
    evidence = []
    if row is None:
        if field == "udf":
            raise ConfigError("field: the paper compares strategies for no network on udf; give the folder of a study")
        kind = published.network_type(network)
        stand_in = next(other for other in published.TYPES[kind] if (other, field) in published.F_SCORES)
        row = published.F_SCORES[stand_in, field]
        label = network_label(stand_in, None)
        evidence.append(f"no figures for this network: {label} stands in, of the same type ({kind})")
    scores: Mapping[str, float] = {strategy: 0.0 if value is None else value for strategy, value in row.items()}
    best = max(scores.values())
    near = [strategy for strategy, value in scores.items() if best - value <= PAPER_MARGIN + 1e-9]
    chosen = min(near, key=published.D_SCORES.__getitem__)
    named = ", ".join(f"{symbol(s)} {'/' if row[s] is None else f'{row[s]:.2f}'}" for s in row)
    evidence.append(f"F-Score(1.5%), Table I: {named}")
    evidence.append(
        f"of those within {PAPER_MARGIN:g} of the best, the lowest D-Score (Table III): "
        + ", ".join(f"{symbol(s)} {published.D_SCORES[s]:.3f}" for s in near)
    )
    linear = published.D_SCORES["linear"]
    evidence.append(f"S_Linear is not in Table I; its D-Score over all networks is {linear:.3f}, the lowest")
    density = min(budget, published.SPARSE)
    cost = published.DENSITY.get(network)
    if cost is not None and budget >= published.DENSE:
        gain = cost.dense_iou - cost.sparse_iou
        evidence.append(
            f"{published.DENSE} points instead of {published.SPARSE}: IoU {gain:+.2f} for {cost.time:g} times the time "
            f"and {cost.memory:g} times the memory of a step (Table II)"
        )
        density = published.DENSE if gain > PAPER_MARGIN else published.SPARSE
    return Recommendation(entry, field, chosen, density, source, tuple(evidence))
