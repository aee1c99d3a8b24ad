"""How a claim is judged: comparisons that each support it, contradict it or say nothing, and a rule over them.

The rule:

- A comparison of two values counts only beyond its margin: twice the standard error of their difference, at least
  `FLOOR`. The standard error comes from the spread between seeds, pooled over all runs of the network where at least
  `ENOUGH` degrees of freedom are known of it, else over all networks. Where no run has a second seed the spread is
  unknown and `ASSUMED_SPREAD` stands in for it.
- A claim is confirmed if at least `CONFIRM` of its comparisons support it, refuted if at least `REFUTE` of them
  contradict it, and undecided otherwise, also without any comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyimplicit.study.results import Results, RowKey
from pyimplicit.study.tables import symbol

FLOOR = 0.02
ASSUMED_SPREAD = 0.03
ENOUGH = 4
CONFIRM = 2 / 3
REFUTE = 2 / 3

CONFIRMED = "confirmed"
REFUTED = "refuted"
UNDECIDED = "undecided"


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Args:
        text: What was compared, with its figures.
        sign: 1 if it supports the claim, -1 if it contradicts it, 0 if the difference is within the margin.
    """

    text: str
    sign: int


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what the records say about it.

    Args:
        number: Its number in our list.
        statement: The claim.
        comparisons: The comparisons that answer it.
        needs: What runs would answer it, shown where there are none.
        paper: The paper's own evidence.
        confirm: Share of supporting comparisons that confirms it.
        refute: Share of contradicting comparisons that refutes it.
    """

    number: int
    statement: str
    comparisons: tuple[Comparison, ...]
    needs: str
    paper: str
    confirm: float = CONFIRM
    refute: float = REFUTE

    @property
    def supporting(self) -> int:
        """How many comparisons support the claim."""
        return sum(one.sign > 0 for one in self.comparisons)

    @property
    def contradicting(self) -> int:
        """How many comparisons contradict the claim."""
        return sum(one.sign < 0 for one in self.comparisons)

    @property
    def verdict(self) -> str:
        """The verdict: "confirmed", "refuted" or "undecided"."""
        count = len(self.comparisons)
        if count and self.supporting >= self.confirm * count:
            return CONFIRMED
        if count and self.contradicting >= self.refute * count:
            return REFUTED
        return UNDECIDED

    @property
    def reason(self) -> str:
        """One line on how the verdict came about."""
        if not self.comparisons:
            return f"no comparison can be made; it takes {self.needs}"
        within = len(self.comparisons) - self.supporting - self.contradicting
        return (
            f"{self.supporting} of {len(self.comparisons)} comparisons support it, {self.contradicting} contradict it, "
            f"{within} lie within the margin"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the claim as JSON values."""
        return {
            "number": self.number,
            "statement": self.statement,
            "verdict": self.verdict,
            "reason": self.reason,
            "comparisons": [{"text": one.text, "sign": one.sign} for one in self.comparisons],
            "paper": self.paper,
            "confirm": self.confirm,
            "refute": self.refute,
        }


class Judge:
    """Compares values of records with the spread between seeds taken into account.

    Args:
        results: The records.
    """

    def __init__(self, results: Results) -> None:
        self.results = results

    def value(self, row: RowKey, strategy: str, metric: str = "f_score") -> float | None:
        """Return a metric over the seeds with failed ones as 0; None if there is no run."""
        found = self.results.measured(row, strategy, metric)
        return None if found is None else found.counted

    def margin(self, metric: str, *groups: tuple[RowKey, str]) -> float:
        """Return the difference between two groups of runs beyond which it counts."""
        network = groups[0][0].network
        spread = self.results.spread(metric, network)
        if spread is None or spread[1] < ENOUGH:
            spread = self.results.spread(metric) or (ASSUMED_SPREAD, 0)
        runs = [max(1, len(self.results.records(row, strategy))) for row, strategy in groups]
        return max(FLOOR, 2 * spread[0] * math.sqrt(sum(1 / count for count in runs)))

    def lower(
        self, one: tuple[RowKey, str], other: tuple[RowKey, str], metric: str = "f_score", *, slack: float | None = None
    ) -> Comparison | None:
        """Compare: supports if `one` is lower than `other` beyond the margin, contradicts if it is higher.

        Args:
            one: Row and strategy.
            other: Row and strategy.
            metric: A metric where more is better.
            slack: If given, `one` need only not be higher by more than the margin to support ("no better than").
        """
        values = self.value(*one, metric), self.value(*other, metric)
        if values[0] is None or values[1] is None:
            return None
        difference, margin = values[0] - values[1], self.margin(metric, one, other)
        sign = (difference < -margin) - (difference > margin)
        if slack is not None:
            sign = 1 if difference <= margin else -1
        return Comparison(f"{_who(one, other)}: {_metric(metric)} {values[0]:.3f} against {values[1]:.3f}"
                          f" (margin {margin:.3f})", sign)  # fmt: skip

    def tolerance(self, row: RowKey, strategies: Sequence[str]) -> float | None:
        """Return how far the worst strategy stays behind the best one: (best - worst) / best of the F-Score.

        Failed runs count as 0. None where a strategy is missing or all are 0.
        """
        values = [value for s in strategies if (value := self.value(row, s)) is not None]
        if len(values) < len(strategies) or len(values) < 2 or max(values) == 0:
            return None
        return (max(values) - min(values)) / max(values)

    def narrower(self, one: RowKey, other: RowKey, strategies: Sequence[str]) -> Comparison | None:
        """Compare the tolerance of two rows: supports if `one` loses less under its worst strategy than `other`."""
        loss = self.tolerance(one, strategies), self.tolerance(other, strategies)
        if loss[0] is None or loss[1] is None:
            return None
        best = max(self.value(other, s) or 0.0 for s in strategies)
        margin = self.margin("f_score", (one, strategies[0]), (other, strategies[0])) / best
        difference = loss[0] - loss[1]
        text = (
            f"{row_name(one)} loses {100 * loss[0]:.0f}% of its best F-Score under its worst strategy, "
            f"{row_name(other)} {100 * loss[1]:.0f}% (margin {100 * margin:.0f}%)"
        )
        return Comparison(text, (difference < -margin) - (difference > margin))


def row_name(row: RowKey) -> str:
    """Return a row as people name it: "ONet SDF"."""
    mask = "" if row.mask is None else f" mask {row.mask:g}"
    return f"{row.label} {row.field.upper()}{mask}"


def _who(one: tuple[RowKey, str], other: tuple[RowKey, str]) -> str:
    if one[0] == other[0]:
        return f"{row_name(one[0])} {symbol(one[1])} against {symbol(other[1])}"
    density = f" {one[0].density} and {other[0].density} points" if one[0].density != other[0].density else ""
    return f"{row_name(one[0])} {symbol(one[1])} against {row_name(other[0])} {symbol(other[1])}{density}"


def _metric(metric: str) -> str:
    return {"f_score": "F-Score", "iou": "IoU", "normal_consistency": "Normal Consistency"}.get(metric, metric)
