"""Counter-based random numbers: the same on any number of threads, and on CPU and GPU.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import FLOATS, check_count, check_tensor

# Of the numbers of a stream.
_BITS = (("seed", 63), ("shape", 32), ("step", 32), ("purpose", 16))


@dataclass(frozen=True)
class RandomStream:
    """What a draw depends on besides its index.

    Args:
        seed: The run's seed, 0 to 2**63 - 1.
        shape: Number of the shape drawn for, 0 to 2**32 - 1.
        step: Training step or repetition, 0 to 2**32 - 1.
        purpose: Keeps draws apart that share the rest, 0 to 2**16 - 1.

    Raises:
        ValueError: A number outside its range.

    Example:
        >>> stream = RandomStream(seed=7, step=3)
        >>> stream.purpose
        0
    """

    seed: int = 0
    shape: int = 0
    step: int = 0
    purpose: int = 0

    def __post_init__(self) -> None:
        for name, bits in _BITS:
            if check_count(name, getattr(self, name), minimum=0) >> bits:
                raise ValueError(f"{name}: expected less than 2**{bits}, got {getattr(self, name)}")

    def for_purpose(self, purpose: int) -> RandomStream:
        """The stream of the same seed, shape and step for another purpose."""
        return RandomStream(self.seed, self.shape, self.step, purpose)


@dataclass(frozen=True, eq=False)
class RowStreams:
    """The random numbers of the rows of a batch: each row has those of its own shape and step.

    A row's draws are those of `RandomStream(seed, shape, step, purpose)`, whatever the other rows are.
    """

    seed: int
    keys: Tensor  # [B, 2] int64: shape and step of each row, 0 to 2**32 - 1

    @staticmethod
    def of(seed: int, keys: Tensor | RandomStream, device: torch.device | str | None = None) -> RowStreams:
        """Rows for `keys` [B, 2], or one row for a stream, whose purpose is left to the draws.

        Raises:
            ValueError: A key outside its range, or a seed outside 0 to 2**63 - 1.

        Example:
            >>> RowStreams.of(7, torch.tensor([[0, 1], [5, 1]])).keys.shape
            torch.Size([2, 2])
        """
        if isinstance(keys, RandomStream):  # which has been checked
            row = torch.tensor([[keys.shape, keys.step]], dtype=torch.int64, device=device)
            return RowStreams(seed if seed is keys.seed else RandomStream(seed).seed, row)
        check_tensor("keys", keys, ("B", 2), (torch.int64,))
        if keys.numel() and (int(keys.min()) < 0 or int(keys.max()) >= 1 << 32):
            raise ValueError(f"keys: expected 0 to 2**32 - 1, got {keys.min()}..{keys.max()}")
        RandomStream(seed)
        return RowStreams(seed, keys.to(keys.device if device is None else device).contiguous())

    def branch(self, number: int) -> RowStreams:
        """The rows' random numbers for a purpose of its own: another seed, which depends on this one and `number`."""
        # splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014, section 5.
        mixed = (self.seed + (number + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return RowStreams((mixed ^ (mixed >> 31)) >> 1, self.keys)

    def check(self, rows: int, device: torch.device) -> Tensor:
        """The keys, or an error if they are not for `rows` rows on `device`."""
        return check_tensor("streams.keys", self.keys, (rows, 2), (torch.int64,), device).contiguous()


def uniform(
    count: int,
    stream: RandomStream,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Points drawn uniformly from a cube.

    Args:
        count: Number of points, at least 0.
        stream: Seed, shape, step and purpose.
        low: Lower end of each coordinate.
        high: Upper end, not reached.
        dtype: float32 or float64 (24 random bits each).
        device: Where the points are made.

    Returns:
        Points [count, 3].

    Raises:
        TypeError: `count` not a whole number, or another dtype.
        ValueError: `count` negative, or `low` and `high` not finite and in this order.

    Source:
        Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", section 4.

    Example:
        >>> a = uniform(5, RandomStream(seed=1))
        >>> b = uniform(3, RandomStream(seed=1))
        >>> torch.equal(a[:3], b)
        True
    """
    check_count("count", count, minimum=0)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"low, high: expected finite numbers, low below high, got {low}, {high}")
    values = torch.empty(count, 3, dtype=_check_dtype(dtype), device=device)
    _native.call("uniform", values.device, dtype, count=count, **vars(stream), low=low, high=high, values=values)
    return values


def normal(
    count: int, stream: RandomStream, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal vectors, the same bits on CPU and GPU.

    Args:
        count: Number of vectors, at least 0.
        stream: Seed, shape, step and purpose.
        dtype: float32 or float64.
        device: Where they are made.

    Returns:
        Vectors [count, 3] of independent normals, mean 0, standard deviation 1.

    Raises:
        TypeError: `count` not a whole number, or another dtype.
        ValueError: `count` negative.

    Source:
        Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.

    Example:
        >>> normal(4, RandomStream(seed=1)).shape
        torch.Size([4, 3])
    """
    check_count("count", count, minimum=0)
    values = torch.empty(count, 3, dtype=_check_dtype(dtype), device=device)
    _native.call("normal", values.device, dtype, count=count, **vars(stream), values=values)
    return values


def _check_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in FLOATS:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype}")
    return dtype
