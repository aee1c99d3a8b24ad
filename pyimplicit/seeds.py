"""Seeds derived from seeds: every random choice is keyed by what it is for, never by what came before."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *keys: int | str) -> int:
    """Return a seed in [0, 2^63) that depends on all of `seed` and `keys`, and on nothing else.

    Args:
        seed: The seed of the run.
        keys: What the seed is for, such as `"batch"` and a step, or `"cloud"` and a shape's name.

    Returns:
        The first 63 bits of the BLAKE2b hash of the keys: the same on every machine and Python version.

    Example:
        >>> derive_seed(0, "batch", 7) == derive_seed(0, "batch", 7)
        True
        >>> derive_seed(0, "batch", 7) == derive_seed(0, "batch", 8)
        False
    """
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in (int(seed), *keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
