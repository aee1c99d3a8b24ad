"""A linear layer of many rows of features: on CPUs with a matrix unit by kernels of our own, elsewhere torch's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit.ops import matrix_products as kernels
from pyimplicit.ops._library import is_followed


def linear(
    x: Tensor,  # [..., C]
    weight: Tensor,  # [O, C]
    bias: Tensor | None = None,  # [O]
    relu: bool = False,
) -> Tensor:  # [..., O]
    """Apply a linear layer, and a ReLU if asked for. The result may be changed in place without a copy, but for `relu`.

    On CPUs with AMX, products of float32 features are those of `ops.matrix_products`, off by some 5e-7 of the results'
    scale like torch's (`benchmarks.bench_linear`). There numbers that are not finite make results that they are part of
    NaN, as do those beyond 3.389e38, and numbers below 1e-30 lose digits.
    """
    given = (x, weight) if bias is None else (x, weight, bias)
    if not (is_followed(*given) or torch.is_autocast_enabled("cpu")) and kernels.fits(x, weight, bias):
        rows, weight = x.reshape(-1, x.shape[-1]).contiguous(), weight.contiguous()
        bias = None if bias is None else bias.contiguous()
        result = _Linear.apply(rows, weight, bias, relu)  # type: ignore[no-untyped-call]
        # A ReLU's result is needed for the gradients, so a change of it must be noticed: not where it is no view.
        return result.view(*x.shape[:-1], -1) if relu else _unview(result, x, weight)
    result = _by_torch(x, weight, bias)
    return result.relu_() if relu else result


def _by_torch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # For three axes and more, torch's own is a view, and changing a view in place copies its gradient twice.
    if bias is None or x.dim() < 3:
        return F.linear(x, weight, bias)
    return _unview(torch.addmm(bias, x.flatten(0, -2), weight.t()), x, weight)


def _unview(rows: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.aten._unsafe_view(rows, (*x.shape[:-1], weight.shape[0]))  # type: ignore[no-any-return]


class _Linear(torch.autograd.Function):
    """Keeps its inputs, and its result if a ReLU made it, which the next layer keeps anyway."""

    @staticmethod
    def forward(
        context: Any,
        rows: Tensor,  # [N, C]
        weight: Tensor,  # [O, C]
        bias: Tensor | None,  # [O]
        relu: bool,
    ) -> Tensor:  # [N, O]
        result = kernels.times_weight(rows, weight, bias, relu)
        context.save_for_backward(rows, weight, bias, result if relu else None)
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, gate = context.saved_tensors
        of_rows, of_weight, of_bias = context.needs_input_grad[:3]
        asking = torch.is_grad_enabled()  # for a derivative of this
        if asking or is_followed(gradient):
            with torch.autocast("cpu", enabled=False), torch.enable_grad():
                # Views: what one of them depends on another must not count here, and does where they are made.
                inputs = [None if of is None else of.view_as(of) for of in (rows, weight, bias)]
                again = F.linear(inputs[0], inputs[1], inputs[2])  # type: ignore[arg-type]
                again = again if gate is None else again.masked_fill(gate.detach() <= 0, 0)
                wanted = [of for of, asked in zip(inputs, context.needs_input_grad, strict=False) if asked]
                found = iter(torch.autograd.grad(again, wanted, gradient, create_graph=asking))  # type: ignore[arg-type]
            return *(next(found) if asked else None for asked in (of_rows, of_weight, of_bias)), None
        gradient = gradient.contiguous()
        back = kernels.back_through_weight(gradient, gate, weight) if of_rows else None
        if not (of_weight or of_bias):
            return back, None, None, None
        by_weight, by_bias = kernels.weight_gradients(gradient, gate, rows)
        return back, by_weight if of_weight else None, by_bias if of_bias else None, None
