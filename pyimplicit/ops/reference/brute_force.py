"""How many pairs brute force looks at in one go."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Pairs of a point and a triangle (or cloud point): bounds the memory.
PAIRS = 1 << 16


def chunks(points: Tensor, others: Tensor) -> Sequence[Tensor]:
    """Points in parts, each of which may meet all the others."""
    return torch.split(points, max(1, PAIRS // len(others)))
