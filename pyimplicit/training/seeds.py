"""Seeds of training, derived from the run's."""

from __future__ import annotations

import torch

from pyimplicit.seeds import derive_seed

__all__ = ["derive_seed", "generator"]


def generator(seed: int, *keys: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `derive_seed(seed, *keys)`."""
    return torch.Generator().manual_seed(derive_seed(seed, *keys))
