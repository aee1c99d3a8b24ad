"""A layer of ours and torch's, forward alone and with gradients, timed in turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import alternate


def both_ways(call: Callable[[], Tensor], inputs: list[Tensor], slope: Tensor) -> dict[str, Callable[[], Any]]:
    """The call alone, and with its gradients."""

    def forward() -> None:
        with torch.no_grad():
            call()

    return {"forward": forward, "both": lambda: torch.autograd.grad(call(), inputs, slope)}


def row_of(calls: dict[str, Callable[[], Tensor]], inputs: list[Tensor], slope: Tensor) -> dict[str, Any]:
    """Milliseconds of each side, and the ratios."""
    ways = {side: both_ways(call, inputs, slope) for side, call in calls.items()}
    row: dict[str, Any] = {}
    for way in ("forward", "both"):
        seconds = alternate({side: ways[side][way] for side in calls}, torch.device("cpu"))
        row |= {f"{side} {way} ms": 1e3 * value for side, value in seconds.items()}
        row[f"{way} ratio"] = seconds["torch"] / seconds["ours"]
    return row
