"""The deviation score of sampling strategies: how far each stays behind the best one, over networks and metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pyimplicit.checks import check_positive

METRICS = ("iou", "f_score", "normal_consistency")
HIGHER_IS_BETTER = frozenset((*METRICS, "precision", "recall"))

Results = Mapping[str, Mapping[str, Mapping[str, float | None] | None]]


class DScores(dict[str, float]):
    """The D-Score of each strategy; lower is better, 0 is best everywhere.

    Attributes:
        skipped: The (network, metric) pairs left out because every strategy has 0 there.
    """

    def __init__(self, values: Mapping[str, float], skipped: Sequence[tuple[str, str]]) -> None:
        super().__init__(values)
        self.skipped = tuple(skipped)


def d_score(
    results: Results,
    weights: Mapping[str, float] | None = None,
    metrics: Sequence[str] = METRICS,
    transforms: Mapping[str, Callable[[float], float]] | None = None,
) -> DScores:
    """Compare strategies over several networks and metrics by their mean relative deviation from the best one.

    D(strategy) = sum over metrics of weight / n * sum over the n networks of (best - current) / best, where current
    is the strategy's value for that network and metric and best the highest of all strategies. A failed run counts as
    0. Where every strategy has 0 there is no best one: the pair is left out, n shrinks, and `skipped` names it.

    Args:
        results: network -> strategy -> metric -> value of at least 0, or None for a failed run; the whole run may be
            None too. Every network must have every strategy and every used metric. A network with several fields or
            densities is one entry for each.
        weights: metric -> weight above 0, used as given; None gives all metrics the same weight, summing to 1.
        metrics: The metrics that enter. Higher must be better: "iou", "f_score", "normal_consistency", "precision",
            "recall" (also with a threshold, as "f_score@0.015").
        transforms: metric -> function that turns a value into one of at least 0 where higher is better; required for
            every other metric, such as a Chamfer distance.

    Returns:
        strategy -> D-Score, in the order of first appearance, between 0 and the sum of the weights.

    Raises:
        TypeError, ValueError: A missing strategy or metric, a value that is negative or not finite, a metric where
            lower is better without a transform, or a metric that is 0 everywhere.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", D-Score.

    Example:
        >>> iou = {"onet": {"uniform": {"iou": 0.8}, "linear": {"iou": 1.0}},
        ...        "deepsdf": {"uniform": None, "linear": {"iou": 0.5}}}
        >>> d_score(iou, metrics=["iou"])  # uniform: ((1 - 0.8) / 1 + (0.5 - 0) / 0.5) / 2
        {'uniform': 0.6, 'linear': 0.0}
    """
    transforms = transforms or {}
    if not metrics or len(set(metrics)) != len(metrics):
        raise ValueError(f"metrics: expected at least one, all different, got {list(metrics)}")
    for metric in metrics:
        if metric.partition("@")[0] not in HIGHER_IS_BETTER and metric not in transforms:
            raise ValueError(f"metrics: {metric!r} is not known to be better when higher: give a transform for it")
    weight_of = dict.fromkeys(metrics, 1 / len(metrics)) if weights is None else dict(weights)
    if set(weight_of) != set(metrics):
        raise ValueError(
            f"weights: expected one for each of {', '.join(metrics)}, got {', '.join(weight_of) or 'none'}"
        )
    for metric, weight in weight_of.items():
        check_positive(f"weights[{metric!r}]", weight)
    strategies = list(dict.fromkeys(strategy for by_strategy in results.values() for strategy in by_strategy))
    if not strategies:
        raise ValueError("results: expected at least one network with one strategy, got none")

    totals = dict.fromkeys(strategies, 0.0)
    skipped = []
    for metric in metrics:
        deviations: dict[str, list[float]] = {strategy: [] for strategy in strategies}
        for network in results:
            row = {s: _value(results, network, s, metric, transforms.get(metric)) for s in strategies}
            best = max(row.values())
            if best == 0:
                skipped.append((network, metric))
                continue
            for strategy, current in row.items():
                deviations[strategy].append((best - current) / best)
        for strategy, values in deviations.items():
            if not values:
                raise ValueError(f"results: {metric} is 0 for every network and strategy, so there is no best one")
            totals[strategy] += weight_of[metric] * math.fsum(values) / len(values)
    return DScores(totals, skipped)


def _value(
    results: Results, network: str, strategy: str, metric: str, transform: Callable[[float], float] | None
) -> float:
    place = f"results[{network!r}][{strategy!r}]"
    if strategy not in results[network]:
        raise ValueError(f"{place}: expected a result, got none; a failed run is None")
    run = results[network][strategy]
    if run is None:
        return 0.0
    if metric not in run:
        raise ValueError(f"{place}: expected a value for {metric!r}, got only {', '.join(run) or 'nothing'}")
    value = run[metric]
    if value is None:
        return 0.0
    value = float(value if transform is None else transform(value))
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{place}[{metric!r}]: expected a finite number of at least 0, got {value}")
    return value
