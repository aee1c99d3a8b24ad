"""Scores of many shapes: one CSV row each, and their means."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyimplicit.atomic import write_atomically
from pyimplicit.evaluation.scores import Scores

#: What must be the same for all scores that are averaged.
SETTINGS = ("samples", "iou_points", "seed", "nearest", "sampling")

# Numbers of a row that are no scores.
_COUNTS = ("samples", "iou_points", "seed", "cloud_points")


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
    rows: list[dict[str, Any]] = [score.as_dict() if isinstance(score, Scores) else dict(score) for score in scores]
    if not rows:
        raise ValueError("scores: expected at least one, got none")
    # Clouds have no IoU and no normals; what could not be measured beside them has more scores than they.
    model = next((row for row in rows if row.get("valid", True)), rows[0])
    names = [name for name, value in model.items() if _is_score(name, value)]
    for row in rows:
        own = {name for name, value in row.items() if _is_score(name, value)}
        if not own.issuperset(names) or (row.get("valid", True) and len(own) > len(names)):
            different = ", ".join(sorted(own.symmetric_difference(names)))
            raise ValueError(f"scores: expected the same scores for every shape, got {different} for some only")
        for name in SETTINGS:
            if row.get(name) != rows[0].get(name):
                raise ValueError(
                    f"scores: expected the same {name} for every shape, got {rows[0].get(name)} and {row.get(name)}"
                )
    means: dict[str, Any] = {name: math.fsum(row[name] for row in rows) / len(rows) for name in names}
    means |= {"shapes": len(rows), "valid": sum(bool(row.get("valid")) for row in rows)}
    return means | {name: rows[0][name] for name in SETTINGS if isinstance(rows[0].get(name), int)}


def _is_score(name: str, value: object) -> bool:
    return name not in _COUNTS and isinstance(value, int | float) and not isinstance(value, bool)
