"""Scores of many shapes: one CSV row each, and their means."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyimplicit.atomic import write_atomically
from pyimplicit.evaluation.scores import Scores

#: What must be the same for all scores that are averaged.
SETTINGS = ("samples", "iou_points", "seed")


def write_scores_csv(path: str | Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one CSV row for each shape, replacing the file whole: a reader finds the old one or the new one.

    Args:
        path: Where to write; its folder must exist.
        rows: One mapping for each shape, such as `{"shape": name, **scores.as_dict()}`. Columns come in the order of
            their first appearance; a row without a column, or with None in it, leaves it empty.

    Raises:
        ValueError: No rows, or a number that is NaN.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_scores_csv(Path(folder) / "scores.csv", [{"shape": "car", "iou": 0.5, "reason": None}])
        ...     (Path(folder) / "scores.csv").read_text()
        'shape,iou,reason\\ncar,0.5,\\n'
    """
    table = [dict(row) for row in rows]
    if not table:
        raise ValueError("rows: expected at least one, got none")
    for row in table:
        for name, value in row.items():
            if isinstance(value, float) and math.isnan(value):
                raise ValueError(f"rows: expected a number for {name!r}, got NaN in {row}")
    columns = list(dict.fromkeys(name for row in table for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_atomically(path, text.getvalue().encode())


def mean_scores(scores: Sequence[Scores | Mapping[str, object]]) -> dict[str, float | int]:
    """Average the scores of many shapes; failed ones count with the worst scores that `evaluate` gave them.

    Args:
        scores: One for each shape: `Scores`, or mappings as `Scores.as_dict` returns them, with the same thresholds,
            samples, iou_points and seed throughout.

    Returns:
        The mean of every score by its name, then "shapes", how many there were, "valid", how many of them were
        measured, and the common samples, iou_points and seed.

    Raises:
        ValueError: No scores, or scores that were not measured alike.

    Example:
        >>> bad = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=10, seed=0)
        >>> mean = mean_scores([bad, {**bad.as_dict(), "iou": 1.0, "valid": True}])
        >>> mean["iou"], mean["shapes"], mean["valid"]
        (0.5, 2, 1)
    """
    rows = [score.as_dict() if isinstance(score, Scores) else dict(score) for score in scores]
    if not rows:
        raise ValueError("scores: expected at least one, got none")
    numbers = [
        {name: value for name, value in row.items() if isinstance(value, int | float) and not isinstance(value, bool)}
        for row in rows
    ]
    for row in numbers:
        if row.keys() != numbers[0].keys():
            different = ", ".join(sorted(row.keys() ^ numbers[0].keys()))
            raise ValueError(f"scores: expected the same scores for every shape, got {different} for some only")
        for name in SETTINGS:
            if row.get(name) != numbers[0].get(name):
                raise ValueError(
                    f"scores: expected the same {name} for every shape, got {numbers[0].get(name)} and {row.get(name)}"
                )
    means: dict[str, float | int] = {
        name: math.fsum(row[name] for row in numbers) / len(rows) for name in numbers[0] if name not in SETTINGS
    }
    means |= {"shapes": len(rows), "valid": sum(bool(row.get("valid")) for row in rows)}
    return means | {name: int(numbers[0][name]) for name in SETTINGS if name in numbers[0]}
