"""What normalisations do with features [S, N, C] on the CPU, channels last: exact sums, and few passes over memory.

Not operators of torch: they are parts of `pyimplicit.networks.normalisation`, which has the derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.ops import memory

DTYPES = (torch.float32, torch.float64)


def moments(
    values: Tensor,  # [S, N, C]
    relu: bool,
    plain: bool = False,
) -> tuple[Tensor, Tensor]:  # [S, C] float64 both
    """Mean and variance of each channel of each shape, or of what a ReLU lets through."""
    mean, variance = _sums(values)
    _native.call(
        "channel_moments",
        values.device,
        values.dtype,
        **_table(values),
        relu=relu,
        mean=mean,
        variance=variance,
        plain=plain,
    )
    return mean, variance


def products(
    gradients: Tensor,  # [S, N, C]
    values: Tensor,  # [S, N, C]
    center: Tensor,  # [S, C]
    gate: Tensor | None,  # [S, N, C]
    relu: bool,
    plain: bool = False,
) -> tuple[Tensor, Tensor]:  # [S, C] float64 both
    """Sums of gradients and of gradients times (value - center), where the gate, if there is one, is above 0."""
    sums, found = _sums(values)
    _native.call(
        "channel_products", values.device, values.dtype, gradients=gradients, **_table(values),
        center=center.to(values.dtype).contiguous(), gate=gate, relu=relu, sums=sums, products=found,
        plain=plain,
    )  # fmt: skip
    return sums, found


def affine(
    values: Tensor,  # [S, N, C]
    scale: Tensor,  # [S, C]
    shift: Tensor,  # [S, C]
    relu: bool,
    relu_result: bool,
    plain: bool = False,
) -> Tensor:  # [S, N, C]
    """Return scale * value + shift, of the values' ReLU, and its ReLU, if asked for."""
    results = _empty(values)
    factors = {"scale": scale.to(values.dtype).contiguous(), "shift": shift.to(values.dtype).contiguous()}
    _native.call(
        "channel_affine", values.device, values.dtype, **_table(values), **factors, relu=relu, relu_result=relu_result,
        results=results, plain=plain,
    )  # fmt: skip
    return results


def affine_gradient(
    gradients: Tensor,  # [S, N, C]
    values: Tensor,  # [S, N, C]
    gate: Tensor | None,  # [S, N, C]
    scale: Tensor,  # [S, C]
    slope: Tensor,  # [S, C]
    shift: Tensor,  # [S, C]
    relu: bool,
    plain: bool = False,
) -> Tensor:  # [S, N, C]
    """Return scale * gradient + slope * value + shift; with `relu` 0 where the value is not above 0.

    Gradients count where the gate, if there is one, is above 0.
    """
    results = _empty(values)
    factors = {"scale": scale, "slope": slope, "shift": shift}
    factors = {name: factor.to(values.dtype).contiguous() for name, factor in factors.items()}
    _native.call(
        "channel_affine_gradient", values.device, values.dtype, gradients=gradients, **_table(values), gate=gate,
        **factors, relu=relu, results=results, plain=plain,
    )  # fmt: skip
    return results


def _table(values: Tensor) -> dict[str, Any]:
    shapes, rows, channels = values.shape
    return {"values": values, "shapes": shapes, "rows": rows, "channels": channels}


def _sums(values: Tensor) -> tuple[Tensor, Tensor]:
    both = values.new_empty(2, values.shape[0], values.shape[2], dtype=torch.float64)
    return both[0], both[1]


def _empty(values: Tensor) -> Tensor:
    return memory.empty(values.shape, values.stride(), values.dtype, values.device)
