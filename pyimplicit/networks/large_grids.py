"""ReLU and pooling of large feature grids on the CPU, whose gradients go to memory that `ops.KeptBuffers` keeps.

Torch gives memory of this size back to the system after every step, and fresh pages cost more than the work.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit.ops import memory
from pyimplicit.ops._library import is_followed


def relu_in_place(grids: Tensor) -> Tensor:  # [B, C, D, H, W]
    """Return the ReLU of grids, in their memory."""
    if grids.device.type != "cpu" or is_followed(grids):
        return grids.relu_()
    return _Relu.apply(grids)  # type: ignore[no-any-return, no-untyped-call]


def pool_beside(
    grids: Tensor,  # [B, C, D, H, W]
) -> tuple[Tensor, Tensor]:  # [B, C, D, H, W], [B, C, D / 2, H / 2, W / 2]
    """Return the grids, and their maximum over blocks of 2x2x2 cells, in the dtype that they have.

    Autocast on a CPU would have halves converted there and back.
    """
    if grids.device.type != "cpu":
        return grids, F.max_pool3d(grids, 2)
    with torch.autocast("cpu", enabled=False):
        if is_followed(grids):
            return grids, F.max_pool3d(grids, 2)
        return _PoolBeside.apply(grids)  # type: ignore[no-any-return, no-untyped-call]


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, grids: Tensor) -> Tensor:
        grids.relu_()
        context.mark_dirty(grids)
        context.save_for_backward(grids)
        return grids

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (result,) = context.saved_tensors
        if torch.is_grad_enabled() or is_followed(gradient):
            return torch.ops.aten.threshold_backward(gradient, result.detach(), 0)  # type: ignore[no-any-return]
        out = memory.empty(gradient.shape, result.stride(), gradient.dtype, gradient.device)
        torch.ops.aten.threshold_backward.grad_input(gradient, result, 0, grad_input=out)
        return out


class _PoolBeside(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, grids: Tensor) -> tuple[Tensor, Tensor]:
        pooled, where = torch.ops.aten.max_pool3d_with_indices(grids, [2] * 3, [2] * 3)
        context.save_for_backward(grids, where)
        context.set_materialize_grads(False)
        return grids.view_as(grids), pooled

    @staticmethod
    def backward(context: Any, of_grids: Tensor | None, of_pooled: Tensor | None) -> Tensor | None:
        if of_pooled is None:
            return of_grids
        grids, where = context.saved_tensors
        given = (of_pooled, grids.detach(), [2] * 3, [2] * 3, [0] * 3, [1] * 3, False, where)
        if torch.is_grad_enabled() or is_followed(of_pooled, *([] if of_grids is None else [of_grids])):
            found: Tensor = torch.ops.aten.max_pool3d_with_indices_backward(*given)
            return found if of_grids is None else found + of_grids
        out = memory.empty(grids.shape, grids.stride(), grids.dtype, grids.device)
        torch.ops.aten.max_pool3d_with_indices_backward.grad_input(*given, grad_input=out)
        return out if of_grids is None else out.add_(of_grids)
