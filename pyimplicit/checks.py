"""Argument checks shared by the public functions: the argument's name, what was expected, what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)


def check_tensor(
    name: str,
    value: object,
    shape: Sequence[int | str | None],
    dtypes: Sequence[torch.dtype] = FLOATS,
    device: torch.device | None = None,
) -> Tensor:
    """Return `value` if it is a tensor of the stated shape, dtype and device, else raise.

    Args:
        name: The argument's name, for the message.
        value: What the caller passed.
        shape: One entry per axis: an int must match, a string (its name in the message) or None matches any size.
            A leading "..." matches any number of leading axes.
        dtypes: The accepted dtypes.
        device: If given, the device the tensor must be on. Nothing is ever moved silently.

    Raises:
        TypeError: Not a tensor, not a dense one, or a wrong dtype.
        ValueError: A wrong shape or device.

    Example:
        >>> check_tensor("points", torch.zeros(5, 3), ("N", 3)).shape
        torch.Size([5, 3])
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got {str(value.layout).removeprefix('torch.')}")
    if value.dtype not in dtypes:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name}: expected dtype {wanted}, got {str(value.dtype).removeprefix('torch.')}")
    got = value.shape
    axes, tail = shape, got
    if axes and axes[0] == "...":
        axes = axes[1:]
        tail = got[len(got) - len(axes) :]
    fits = len(tail) == len(axes)
    for want, have in zip(axes, tail):  # noqa: B905 (their lengths are compared above)
        if isinstance(want, int) and want != have:
            fits = False
    if not fits:
        wanted = ", ".join("any" if axis is None else str(axis) for axis in shape)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(got)}")
    if device is not None and value.device != device:
        raise ValueError(f"{name}: expected a tensor on {device}, got one on {value.device}")
    return value


def check_finite(name: str, value: Tensor) -> Tensor:
    """Return `value` if it holds no NaN and no infinity, else raise `ValueError` with the first bad index.

    In a graph of torch.compile, which cannot branch on values, the check runs with the graph: there it is a
    RuntimeError, without the index.
    """
    finite = torch.isfinite(value)
    if torch.compiler.is_compiling():
        torch._assert_async(finite.all(), f"{name}: expected finite values, got NaN or infinity")
    elif not bool(finite.all()):
        first = (~finite).nonzero()[0].tolist()
        raise ValueError(f"{name}: expected finite values, got {value[tuple(first)].item()} at index {first}")
    return value


def check_not_negative(name: str, value: Tensor) -> Tensor:
    """Return `value` if no element is below 0, else raise `ValueError`; under torch.compile as `check_finite`."""
    negative = value.detach() < 0
    if torch.compiler.is_compiling():
        torch._assert_async(~negative.any(), f"{name}: expected no negative values")
    elif bool(negative.any()):
        raise ValueError(f"{name}: expected no negative values, got {value[negative][0].item()}")
    return value


def check_count(name: str, value: object, minimum: int = 1) -> int:
    """Return `value` as an int if it is a whole number of at least `minimum`, else raise."""
    if type(value) is int and value >= minimum:  # the rule; asking for the abstract Integral takes microseconds
        return value
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {value}")
    return int(value)


def check_number(name: str, value: object) -> float:
    """Return `value` as a float if it is a finite number, else raise."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return float(value)


def check_positive(name: str, value: object) -> float:
    """Return `value` as a float if it is a finite number above 0, else raise."""
    if type(value) is float and 0 < value < math.inf:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a finite number above 0, got {value}")
    return float(value)


def check_between(name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float if it is a number with low <= value < high, else raise."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    number = float(value)
    if not low <= number < high:
        raise ValueError(f"{name}: expected at least {low} and below {high}, got {value}")
    return number


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`, else raise `ValueError` listing them."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return value
