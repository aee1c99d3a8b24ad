"""How large a study is: shapes and evaluation per scale. How long each network trains is training/presets.py's."""

from __future__ import annotations

from typing import Any

# "tiny" ends in minutes on two cores and shows that everything works; only "full" has the amounts of the paper.
SCALES: dict[str, dict[str, Any]] = {
    "tiny": {
        "data": {"train": 16, "test": 5},
        "evaluation": {"resolution": 48, "samples": 10_000, "iou_points": 10_000},
    },
    "small": {
        "data": {"train": 100, "test": 10},
        "evaluation": {"resolution": 64, "samples": 30_000, "iou_points": 30_000},
    },
    "full": {
        "data": {"train": 2_400, "test": 600},
        "evaluation": {"resolution": 128, "samples": 100_000, "iou_points": 100_000},
    },
}
