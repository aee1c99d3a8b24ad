"""The nine claims of the paper, each answered from one's own records: confirmed, refuted or undecided at this scale.

How a claim is judged is told in `pyimplicit.study.verdicts`.

Source: Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", sections IV and V.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from scipy.stats import rankdata

from pyimplicit.sampling import STRATEGIES
from pyimplicit.study import verdicts
from pyimplicit.study.numbered_tables import d_scores, seed_d_scores, step_seconds
from pyimplicit.study.published import TYPES
from pyimplicit.study.records import COLLAPSED, Record
from pyimplicit.study.results import Results, RowKey
from pyimplicit.study.tables import SCORED, deviation, symbol
from pyimplicit.study.text_table import TextTable
from pyimplicit.study.verdicts import Claim, Comparison, Judge, row_name

UNIFORM = ("uniform", "hybrid_far_surface")  # the uniform-biased strategies
SURFACE = ("balanced_surface", "few_uniform_near_surface", "few_surface_near_surface", "near_surface")
# From uniform to surface by the share of points close to it; the two with 1% added have the same place.
SPECTRUM = {
    **{"uniform": 0, "hybrid_far_surface": 1, "hybrid_near_surface": 2, "balanced_surface": 3},
    **{"few_uniform_near_surface": 4, "few_surface_near_surface": 4, "near_surface": 5},
}
# A time multiple from which dense sampling costs "several times more".
SEVERAL = 1.5
# What may be lost under the worst strategy by a network that is called robust.
ROBUST = 0.1


def judge_claims(records: Sequence[Record]) -> list[Claim]:
    """Judge the nine claims.

    Args:
        records: The records of a study, finished or not.

    Returns:
        The claims in order, each with its comparisons and verdict.
    """
    results = Results(records)
    judge = Judge(results)
    return [
        _auto_decoders_need_the_surface(judge),
        _auto_decoders_collapse(judge),
        _near_surface_breaks_convolutions(judge),
        _mlps_are_robust(judge),
        _occupancy_is_tolerant(judge),
        _dense_sampling_costs(judge),
        _balanced_is_good(judge),
        _linear_is_best(records, results),
        _mask_repairs(judge),
    ]


def _rows(results: Results, kind: str, *fields: str) -> list[RowKey]:
    rows = results.sparse_rows()
    return [row for row in rows if row.network in TYPES[kind] and (not fields or row.field in fields)]


def _known(comparisons: Iterable[Comparison | None]) -> tuple[Comparison, ...]:
    return tuple(one for one in comparisons if one is not None)


def _auto_decoders_need_the_surface(judge: Judge) -> Claim:
    found: list[Comparison | None] = []
    for row in _rows(judge.results, "Auto-decoder", "sdf"):
        surface = [s for s in SURFACE if judge.value(row, s) is not None]
        if surface:
            best = max(surface, key=lambda s: judge.value(row, s) or 0.0)
            found += [judge.lower((row, strategy), (row, best)) for strategy in UNIFORM]
        found.append(_rises(judge, row))
    return Claim(
        1,
        "Uniform-biased sampling fails auto-decoders; quality rises with the surface share.",
        _known(found),
        "auto-decoders on SDF under uniform-biased and surface-biased strategies",
        "Table I, DeepSDF with SDF: .80 under S_UNI, .88 under S_HFS, .87 to .90 nearer to the surface",
    )


def _rises(judge: Judge, row: RowKey) -> Comparison | None:
    """Rank correlation of the F-Score with the place on the spectrum; 0.5 and more supports, 0 and less contradicts."""
    pairs = [(place, value) for s, place in SPECTRUM.items() if (value := judge.value(row, s)) is not None]
    if len(pairs) < 4 or len({value for _, value in pairs}) < 2:
        return None
    places, values = (rankdata(column) for column in zip(*pairs, strict=True))
    mean = (len(pairs) + 1) / 2
    covariance = math.fsum((a - mean) * (b - mean) for a, b in zip(places, values, strict=True))
    norms = [math.fsum((a - mean) ** 2 for a in column) for column in (places, values)]
    correlation = covariance / math.sqrt(norms[0] * norms[1])
    text = f"{row_name(row)}: rank correlation of the F-Score with the surface share {correlation:.2f}"
    return Comparison(text, (correlation >= 0.5) - (correlation <= 0))


def _auto_decoders_collapse(judge: Judge) -> Claim:
    found = []
    for row in _rows(judge.results, "Auto-decoder", "occ", "tsdf"):
        for strategy in UNIFORM:
            records = judge.results.records(row, strategy)
            if not records:
                continue
            collapsed = sum(record.status == COLLAPSED for record in records)
            text = f"{row_name(row)} {symbol(strategy)}: {collapsed} of {len(records)} runs collapsed"
            found.append(Comparison(text, (collapsed == len(records)) - (collapsed == 0)))
    return Claim(
        2,
        "Under TSDF or Occ, uniform-biased sampling makes auto-decoders collapse to a constant.",
        tuple(found),
        "auto-decoders on Occ or TSDF under S_UNI or S_HFS",
        'Table I, DeepSDF: "/" under S_UNI and S_HFS with Occ and TSDF, under S_HNS with Occ',
    )


def _near_surface_breaks_convolutions(judge: Judge) -> Claim:
    found: list[Comparison | None] = []
    for row in _rows(judge.results, "Convolution"):
        recovered = ("few_uniform_near_surface", "few_surface_near_surface", "balanced_surface")
        found += [judge.lower((row, "near_surface"), (row, other)) for other in recovered]
    return Claim(
        3,
        "S_NS breaks Convolution-type networks far from the surface; 1% far points recovers them.",
        _known(found),
        "convolutional networks under S_NS and under S_FUNS, S_FSNS or S_BS",
        "Table I, IF-Net with Occ: .32 under S_NS, .99 under S_FUNS and S_FSNS",
    )


def _mlps_are_robust(judge: Judge) -> Claim:
    rows = judge.results.own_rows()
    found: list[Comparison | None] = []
    for row in (row for row in rows if row.network in TYPES["MLP"]):
        strategies = judge.results.strategies([row])
        loss = judge.tolerance(row, strategies)
        if loss is not None and len(strategies) > 1:
            text = f"{row_name(row)} loses {100 * loss:.0f}% of its best F-Score under its worst strategy"
            text += f" (robust: up to {100 * ROBUST:.0f}%)"
            best = max(judge.value(row, s) or 0.0 for s in strategies)
            margin = judge.margin("f_score", (row, strategies[0]), (row, strategies[1])) / best
            found.append(Comparison(text, (loss <= ROBUST) - (loss > ROBUST + margin)))
        for other in (other for other in rows if other.network not in TYPES["MLP"]):
            shared = [s for s in strategies if judge.value(other, s) is not None]
            found.append(judge.narrower(row, other, shared) if len(shared) > 1 else None)
    return Claim(
        4,
        "MLP-type networks are robust to the strategy.",
        _known(found),
        "MLP-type networks and others on their own fields under several strategies",
        "Figure 4 and Table I: ONet with Occ between .89 and .91, IF-Net between .32 and .99",
    )


def _occupancy_is_tolerant(judge: Judge) -> Claim:
    rows = judge.results.sparse_rows()
    found: list[Comparison | None] = []
    for row in (row for row in rows if row.field == "occ"):
        for other in rows:
            if other.field in ("sdf", "tsdf") and (other.network, other.variant) == (row.network, row.variant):
                shared = [s for s in judge.results.strategies([row]) if judge.value(other, s) is not None]
                found.append(judge.narrower(row, other, shared) if len(shared) > 1 else None)
    return Claim(
        5,
        "Occ is more tolerant of the strategy than SDF and TSDF.",
        _known(found),
        "a network on Occ and on SDF or TSDF under the same strategies",
        "Table I: ONet loses 2% with Occ and 33% with SDF; yet DeepSDF fails under three strategies with Occ and under "
        "none with SDF",
    )


def _dense_sampling_costs(judge: Judge) -> Claim:
    results = judge.results
    found: list[Comparison | None] = []
    for sparse in results.sparse_rows():
        same = (sparse.network, sparse.variant, sparse.field, None)
        for dense in results.rows:
            if (dense.network, dense.variant, dense.field, dense.mask) != same or dense.density <= sparse.density:
                continue
            for strategy in results.strategies([dense]):
                times = [_mean_step(results.records(row, strategy)) for row in (sparse, dense)]
                if times[0] and times[1]:
                    ratio = times[1] / times[0]
                    text = (
                        f"{row_name(sparse)} {symbol(strategy)}: {dense.density} against {sparse.density} points take "
                    )
                    found.append(
                        Comparison(text + f"{ratio:.2f} times the time of a step", 1 if ratio >= SEVERAL else -1)
                    )
                found.append(judge.lower((dense, strategy), (sparse, strategy), "iou", slack=0.0))
    return Claim(
        6,
        "Dense sampling costs several times more and does not reliably improve quality.",
        _known(found),
        "the same network and strategy at two densities",
        "Table II: 2.0 to 7.7 times the time, 1.5 to 6.3 times the memory; IoU lower for ONet and IF-Net, higher for "
        "DeepSDF",
    )


def _mean_step(records: Sequence[Record]) -> float | None:
    times = [time for record in records if (time := step_seconds(record)) is not None]
    return math.fsum(times) / len(times) if times else None


def _balanced_is_good(judge: Judge) -> Claim:
    found: list[Comparison | None] = []
    for row in judge.results.sparse_rows():
        others = [s for s in judge.results.strategies([row]) if s != "balanced_surface" and s in STRATEGIES]
        if not others or judge.value(row, "balanced_surface") is None:
            continue
        best = max(others, key=lambda s: judge.value(row, s) or 0.0)
        found.append(judge.lower((row, best), (row, "balanced_surface"), slack=0.0))
    return Claim(
        7,
        "S_BS is good almost everywhere.",
        _known(found),
        "S_BS and others on the same networks",
        "Table I: within .03 of the best strategy for every network and field",
        confirm=0.8,
        refute=1 / 3,
    )


def _linear_is_best(records: Sequence[Record], results: Results) -> Claim:
    rows = results.own_rows()
    strategies = [s for s in results.strategies(rows) if all(results.records(row, s) for row in rows)]
    found: list[Comparison] = []
    whole = d_scores(results, rows, strategies) if "linear" in strategies and len(strategies) > 1 else None
    if whole is not None:
        per_row = [d_scores(results, [row], strategies) for row in rows]
        seeds = seed_d_scores(records, rows, strategies)
        for other in (s for s in strategies if s != "linear"):
            margin, how = _d_margin("linear", other, [row for row in per_row if row], seeds)
            difference = whole["linear"] - whole[other]
            text = f"D-Score of S_Linear {whole['linear']:.3f}, of {symbol(other)} {whole[other]:.3f}"
            text += f" (margin {margin:.3f}, {how})"
            found.append(Comparison(text, (difference < -margin) - (difference > margin)))
    return Claim(
        8,
        "S_Linear has the lowest D-Score.",
        tuple(found),
        "S_Linear and others on the same networks",
        "Table III: .049 for S_Linear, .057 for S_FSNS, .059 for S_BS, up to .226 for S_NS",
        confirm=1.0,
        refute=1 / 7,  # one strategy that is lower beyond the margin is enough
    )


def _d_margin(
    one: str, other: str, rows: Sequence[dict[str, float]], seeds: Sequence[dict[str, float]]
) -> tuple[float, str]:
    """Return twice the standard error of a difference of D-Scores, over seeds if there are several, else networks."""
    source, how = (seeds, "over seeds") if len(seeds) > 1 else (rows, "over networks")
    spread = deviation([scores[one] - scores[other] for scores in source])
    if spread is None:
        return verdicts.ASSUMED_SPREAD, "assumed"
    return max(0.005, 2 * spread / math.sqrt(len(source))), how


def _mask_repairs(judge: Judge) -> Claim:
    results = judge.results
    found: list[Comparison | None] = []
    for plain in (row for row in results.rows if row.field == "udf" and row.mask is None):
        for masked in results.rows:
            if masked.mask is None or (masked.network, masked.variant, masked.field, masked.density) != (
                *(plain.network, plain.variant, plain.field, plain.density),
            ):
                continue
            gains: dict[str, float] = {}
            for strategy in ("near_surface", "uniform"):
                values = judge.value(plain, strategy), judge.value(masked, strategy)
                found.append(judge.lower((plain, strategy), (masked, strategy)))
                if values[0] is not None and values[1] is not None:
                    gains[strategy] = values[1] - values[0]
            if len(gains) == 2:
                text = f"{row_name(masked)}: gain {gains['near_surface']:.3f} under S_NS"
                text += f", {gains['uniform']:.3f} under S_UNI"
                margin = judge.margin("f_score", (plain, "near_surface"), (plain, "uniform"))
                difference = gains["near_surface"] - gains["uniform"]
                found.append(Comparison(text, (difference > margin) - (difference < -margin)))
    return Claim(
        9,
        "The distance mask repairs UDF reconstructions, most under S_NS.",
        _known(found),
        "a network on UDF with and without a mask under S_NS and S_UNI",
        "Table IV, ConvONet: F-Score .67 to .92 under S_NS, .49 to .68 under S_UNI",
    )


def claims_markdown(claims: Sequence[Claim]) -> str:
    """Return the claims with their verdicts and comparisons in Markdown."""
    mark = {1: "supports", -1: "contradicts", 0: "within the margin"}
    parts = ["| | Claim | Verdict |\n|---:|---|---|"]
    parts[0] += "".join(f"\n| {one.number} | {one.statement} | {one.verdict} |" for one in claims)
    for one in claims:
        parts.append(f"### {one.number}. {one.statement}\n\n**{one.verdict.capitalize()}**: {one.reason}.")
        if one.comparisons:
            parts.append("\n".join(f"- {c.text}: {mark[c.sign]}" for c in one.comparisons))
        parts.append(f"In the paper: {one.paper}.")
    parts.append(
        f"How it is judged: a difference counts beyond twice its standard error, at least {verdicts.FLOOR:g}; the "
        "standard error comes from the spread between seeds, pooled over the runs of the network "
        f"({verdicts.ASSUMED_SPREAD:g} where no run has a second seed). A claim is confirmed if two thirds of its "
        "comparisons support it and refuted if two thirds contradict it (claim 7: four fifths and one third; claim 8: "
        "all and one), else undecided. Failed runs count as 0. "
        f"D-Scores compare {', '.join(SCORED)}."
    )
    return "\n\n".join(parts) + "\n"


def claims_table(claims: Sequence[Claim]) -> TextTable:
    """Return the verdicts with the figures that led to each as a table for a terminal."""
    mark = {1: "+", -1: "-", 0: "o"}
    rows = []
    for one in claims:
        figures = "\n".join(f"{mark[c.sign]} {c.text}" for c in one.comparisons) or one.reason
        rows.append((f"{one.number}. {one.statement}", one.verdict, figures))
    notes = ("+ supports, - contradicts, o within the margin",)
    return TextTable("claims", "The paper's claims at this scale", ("Claim", "Verdict", "Figures"), tuple(rows), notes)


def claims_json(claims: Sequence[Claim]) -> str:
    """Return the claims as JSON."""
    return json.dumps([one.as_dict() for one in claims], indent=1, ensure_ascii=False) + "\n"
