"""The matrix products of linear layers on CPUs with a matrix unit for bfloat16 (AMX), in float32 to its full precision.

Not operators of torch: they are parts of `pyimplicit.ops.linear`, which has the derivatives.

Source: Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
Computations", ARITH 2019, section II: a float32 number is the sum of three of bfloat16, and six of the nine products of
such sums count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.ops import memory

# Products of numbers, with those of whole tiles, from which the kernels gain more than calling them and packing costs.
LEAST_PRODUCTS = 1 << 24
# Features out: with fewer a layer is a few sums of each row, not a product of matrices.
LEAST_OUT = 16
# Numbers of a tile along the sum.
_TILE = 32


def fits(
    rows: Tensor,  # [..., C]
    weight: Tensor,  # [O, C]
    bias: Tensor | None,  # [O]
) -> bool:
    """Whether the kernels can multiply these, and gain something."""
    out, features = weight.shape
    if bias is not None and (bias.device.type, bias.dtype, bias.shape) != ("cpu", torch.float32, (out,)):
        return False
    return (
        rows.device.type == weight.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and rows.shape[-1] == features
        and out >= LEAST_OUT
        and rows.numel() > 0
        and rows.numel() // max(features, 1) * max(features, _TILE) * max(out, _TILE) >= LEAST_PRODUCTS
        and _native.have_matrix_unit()
    )


def times_weight(
    rows: Tensor,  # [N, C]
    weight: Tensor,  # [O, C]
    bias: Tensor | None,  # [O]
    relu: bool,
) -> Tensor:  # [N, O]
    """Return rows * weight^T + bias, or its ReLU. All contiguous float32 on a CPU."""
    return _times(rows, None, weight, False, bias, relu, weight.shape[0])


def back_through_weight(
    gradients: Tensor,  # [N, O]
    gate: Tensor | None,  # [N, O]
    weight: Tensor,  # [O, C]
) -> Tensor:  # [N, C]
    """Return gradients * weight; gradients count where the gate, if there is one, is above 0."""
    return _times(gradients, gate, weight, True, None, False, weight.shape[1])


def weight_gradients(
    gradients: Tensor,  # [N, O]
    gate: Tensor | None,  # [N, O]
    rows: Tensor,  # [N, C]
) -> tuple[Tensor, Tensor]:  # [O, C], [O]
    """Return gradients^T * rows and the gradients' sum; they count where the gate, if there is one, is above 0.

    Neither depends on the number of threads.
    """
    count, out = gradients.shape
    weight, bias = rows.new_empty(out, rows.shape[1]), rows.new_empty(out)
    _native.call(
        "weight_products", rows.device, **_shape(count, rows.shape[1], out), gradients=gradients, gate=gate, rows=rows,
        weight=weight, bias=bias,
    )  # fmt: skip
    return weight, bias


def _times(
    rows: Tensor, gate: Tensor | None, matrix: Tensor, turned: bool, bias: Tensor | None, relu: bool, out: int
) -> Tensor:
    count, features = rows.shape
    results = memory.empty((count, out), (out, 1), rows.dtype, rows.device)
    _native.call(
        "row_products", rows.device, **_shape(count, features, out), rows=rows, gate=gate, matrix=matrix, turned=turned,
        bias=bias, relu=relu, results=results,
    )  # fmt: skip
    return results


def _shape(count: int, features: int, out: int) -> dict[str, Any]:
    return {"count": count, "in": features, "out": out}
