"""Records asked by row and strategy: means over seeds, and how much seeds differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyimplicit.sampling import STRATEGIES
from pyimplicit.study.axes import network_label
from pyimplicit.study.records import Record
from pyimplicit.training import PAPER_DEFAULTS


@dataclass(frozen=True)
class RowKey:
    """What strategies are compared on: one network, field, density and mask."""

    network: str
    variant: str | None
    field: str
    density: int
    mask: float | None

    @property
    def label(self) -> str:
        """The network's name as its authors write it."""
        return network_label(self.network, self.variant)


@dataclass(frozen=True)
class Measured:
    """One metric of one row under one strategy, over the seeds.

    Args:
        mean: Mean over the seeds that did not fail; None if all failed.
        deviation: Standard deviation (n - 1) over them; None for fewer than two.
        seeds: Number of seeds.
        reasons: Why seeds failed, one line each.
    """

    mean: float | None
    deviation: float | None
    seeds: int
    reasons: tuple[str, ...]

    @property
    def counted(self) -> float:
        """The mean over all seeds, failed ones counted as 0, as in the D-Score."""
        return 0.0 if self.mean is None else self.mean * (self.seeds - len(self.reasons)) / self.seeds

    def text(self, pattern: str = "{:.2f}") -> str:
        """Return the mean with its deviation; "/" if every seed failed, the failed ones named if some did."""
        if self.mean is None:
            return "/"
        text = pattern.format(self.mean)
        if self.deviation is not None:
            text += " ± " + pattern.format(self.deviation)
        return text + (f" ({len(self.reasons)} of {self.seeds} failed)" if self.reasons else "")


class Results:
    """Records by row and strategy.

    Args:
        records: Any number, in any order.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._groups: dict[RowKey, dict[str, list[Record]]] = {}
        for record in records:
            row = RowKey(record.network, record.variant, record.field, record.density, record.mask)
            self._groups.setdefault(row, {}).setdefault(record.strategy, []).append(record)

    @property
    def rows(self) -> list[RowKey]:
        """All rows, in the order of the records."""
        return list(self._groups)

    def sparse_rows(self) -> list[RowKey]:
        """The rows that strategies are judged by: without a mask, ending in a mesh, each at its lowest density."""
        plain = [row for row in self._groups if row.mask is None and row.field != "udf"]
        lowest: dict[tuple[str, str | None, str], int] = {}
        for row in plain:
            key = (row.network, row.variant, row.field)
            lowest[key] = min(row.density, lowest.get(key, row.density))
        return [row for row in plain if row.density == lowest[row.network, row.variant, row.field]]

    def own_rows(self) -> list[RowKey]:
        """Of `sparse_rows` those of the field that the network was published with."""
        return [row for row in self.sparse_rows() if row.field == PAPER_DEFAULTS[row.network][0]]

    def strategies(self, rows: Sequence[RowKey]) -> list[str]:
        """Return the strategies of some rows, from uniform towards the surface, others after them."""
        found = dict.fromkeys(strategy for row in rows for strategy in self._groups[row])
        return [s for s in STRATEGIES if s in found] + [s for s in found if s not in STRATEGIES]

    def records(self, row: RowKey, strategy: str) -> list[Record]:
        """Return the records of a row under a strategy, one for each seed; none if it was not run."""
        return list(self._groups.get(row, {}).get(strategy, []))

    def measured(self, row: RowKey, strategy: str, metric: str) -> Measured | None:
        """Return a metric over the seeds; None if there is no run."""
        group = self.records(row, strategy)
        if not group:
            return None
        values = [record.means[metric] for record in group if metric in record.means]
        mean = math.fsum(values) / len(values) if values else None
        reasons = tuple(f"{record.status}: {record.reason}" for record in group if record.failed)
        return Measured(mean, _deviation(values), len(group), reasons)

    def spread(self, metric: str, network: str | None = None) -> tuple[float, int] | None:
        """Return the standard deviation between seeds, pooled over rows and strategies, and its degrees of freedom.

        Args:
            metric: The metric.
            network: Only this network's rows; None pools all. Failed runs do not enter.

        Returns:
            None where no row has two seeds.
        """
        squares, freedom = 0.0, 0
        for row, by_strategy in self._groups.items():
            if network is not None and row.network != network:
                continue
            for group in by_strategy.values():
                values = [record.means[metric] for record in group if metric in record.means]
                deviation = _deviation(values)
                if deviation is not None:
                    squares += (len(values) - 1) * deviation**2
                    freedom += len(values) - 1
        return (math.sqrt(squares / freedom), freedom) if freedom else None


def _deviation(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
