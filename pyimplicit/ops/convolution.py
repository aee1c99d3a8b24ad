"""Convolution of feature grids with 3x3x3 kernels: on a CPU in fewer products than torch's, elsewhere torch's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_tensor
from pyimplicit.ops import memory
from pyimplicit.ops._library import register

# Channels must be multiples of this: a vector of 16 numbers.
_CHANNELS = 16
# Cells of all grids times channels in and out, from which the kernels gain more than turning inputs and weights costs.
_LEAST_PRODUCTS = 1 << 27
# Numbers of a vector: with shorter ones they gain nothing.
_LEAST_LANES = 8
# What turns a kernel along an axis: Lavin and Gray, section 4.1.
_TURN = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def convolve_grids(
    grids: Tensor,  # [B, C, D, H, W]
    weight: Tensor,  # [O, C, 3, 3, 3]
    bias: Tensor | None = None,  # [O]
) -> Tensor:  # [B, O, D, H, W]
    """Convolution of grids with 3x3x3 kernels, with zeros around them: `conv3d` with a padding of 1.

    On a CPU with AVX2 or AVX-512, in float32 and for channels in multiples of 16, large convolutions are done by
    Winograd's minimal filtering, which takes 64 products where there were 216. Everywhere else torch's one runs.

    Args:
        grids: [B, C, D, H, W], of any floating dtype; fastest with channels last (`torch.channels_last_3d`).
        weight: [O, C, 3, 3, 3], of the same dtype and device.
        bias: [O], or None.

    Returns:
        [B, O, D, H, W], channels last. Differentiable any number of times. By minimal filtering results are off by some
        1e-6 of their scale, like torch's; they do not depend on the number of threads. There a value that is not finite
        spoils all results of the tiles that see it, up to two cells away.

    Raises:
        TypeError: A wrong type, or dtypes that differ.
        ValueError: A wrong shape, or devices that differ.

    Source:
        Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.

    Example:
        >>> grids, weight = torch.rand(1, 64, 32, 32, 32), torch.rand(64, 64, 3, 3, 3)
        >>> torch.allclose(convolve_grids(grids, weight), torch.conv3d(grids, weight, padding=1), rtol=1e-4)
        True
    """
    kinds = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    check_tensor("grids", grids, ("B", "C", "D", "H", "W"), kinds)
    check_tensor("weight", weight, ("O", grids.shape[1], 3, 3, 3), (grids.dtype,), grids.device)
    if bias is not None:
        check_tensor("bias", bias, (weight.shape[0],), (grids.dtype,), grids.device)
    convolved: Tensor = _convolve_op(grids, weight, bias)
    return convolved


def _fits(grids: Tensor, out_channels: int) -> bool:
    """Whether minimal filtering is possible and gains something."""
    batch, channels, *size = grids.shape
    return (
        grids.device.type == "cpu"
        and grids.dtype == torch.float32
        and channels % _CHANNELS == 0
        and out_channels % _CHANNELS == 0
        and batch * size[0] * size[1] * size[2] * channels * out_channels >= _LEAST_PRODUCTS
        and _native.vector_lanes() >= _LEAST_LANES
    )


def has_wrong_gradients(device: torch.device, dtype: torch.dtype, depth: int) -> bool:
    """Whether torch's gradients of kernels may be anything: in bfloat16, of grids two cells deep, on a CPU.

    The library that torch calls there takes in memory which nobody has written (torch 2.13 on a processor with
    AVX-512 for bfloat16 and without AMX).
    """
    return device.type == "cpu" and dtype == torch.bfloat16 and depth == 2


def _channels_last(grids: Tensor) -> Tensor:
    return grids.contiguous(memory_format=torch.channels_last_3d)


def _empty(grids: Tensor, channels: int) -> Tensor:
    """Results [B, channels, D, H, W], channels last."""
    batch, _, depth, height, width = grids.shape
    inner = depth * height * width
    strides = (inner * channels, 1, height * width * channels, width * channels, channels)
    return memory.empty((batch, channels, depth, height, width), strides, grids.dtype, grids.device)


def _shape(grids: Tensor, out: int) -> dict[str, Any]:
    batch, channels, depth, height, width = grids.shape
    return {"batch": batch, "depth": depth, "height": height, "width": width, "in": channels, "out": out}


def _turn(numbers: Tensor, back: bool = False) -> Tensor:
    """Turn kernels [27, n] into [64, n], or gradients of these into gradients of kernels."""
    axis = torch.tensor(_TURN, dtype=numbers.dtype, device=numbers.device)
    turn = torch.kron(torch.kron(axis, axis), axis)
    return (turn.T if back else turn) @ numbers


def _as_given(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Keep autocast from what a kernel calls: it would make halves of numbers that are read as they were given."""

    @functools.wraps(kernel)
    def called(grids: Tensor, *arguments: Any) -> Any:
        if not torch.is_autocast_enabled(grids.device.type):
            return kernel(grids, *arguments)
        with torch.autocast(grids.device.type, enabled=False):
            return kernel(grids, *arguments)

    return called


@_as_given
def _convolve_kernel(grids: Tensor, weight: Tensor, bias: Tensor | None, lanes: int = 0) -> Tensor:
    out = weight.shape[0]
    if not _fits(grids, out):
        weight = _channels_last(weight)
        return _channels_last(F.conv3d(grids, weight, bias, padding=1))
    turned = _turn(weight.permute(2, 3, 4, 1, 0).reshape(27, -1))  # [64, C O]
    grids, results = _channels_last(grids), _empty(grids, out)
    _native.call(
        "convolve_grids", grids.device, grids=grids, **_shape(grids, out), kernels=turned,
        bias=None if bias is None else bias.contiguous(), results=results, lanes=lanes,
    )  # fmt: skip
    return results


def _convolve_fake(grids: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    shape = (grids.shape[0], weight.shape[0], *grids.shape[2:])
    return grids.new_empty(shape).contiguous(memory_format=torch.channels_last_3d)


def _convolve_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _transposed(weight: Tensor) -> Tensor:
    """The kernels by which gradients go back: a convolution too."""
    return weight.flip(2, 3, 4).transpose(0, 1)


def _convolve_autograd(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    grids, weight = ctx.saved_tensors
    by_grids, by_weight, by_bias = ctx.needs_input_grad
    of_grids = _convolve_op(gradient, _transposed(weight), None) if by_grids else None
    if not by_weight:
        return of_grids, None, gradient.sum((0, 2, 3, 4)) if by_bias else None
    of_weight, of_bias = _gradients_op(grids, gradient)
    return of_grids, of_weight, of_bias if by_bias else None


@_as_given
def _gradients_kernel(grids: Tensor, gradients: Tensor, lanes: int = 0) -> tuple[Tensor, Tensor]:
    channels, out = grids.shape[1], gradients.shape[1]
    if not _fits(grids, out):
        kind = grids.dtype
        if has_wrong_gradients(grids.device, kind, grids.shape[2]):
            grids, gradients = grids.float(), gradients.float()
        weight, wanted = grids.new_empty(out, channels, 3, 3, 3), [False, True, True]
        found = torch.ops.aten.convolution_backward(
            gradients, grids, weight, [out], [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, wanted
        )
        return found[1].to(kind).contiguous(), found[2].to(kind)
    turned, bias = grids.new_empty(64, channels * out), grids.new_empty(out)
    grids, gradients = _channels_last(grids), _channels_last(gradients)
    _native.call(
        "convolution_gradients", grids.device, grids=grids, **_shape(grids, out), gradients=gradients, kernels=turned,
        bias=bias, lanes=lanes,
    )  # fmt: skip
    kernels = _turn(turned, back=True).view(3, 3, 3, channels, out)
    return kernels.permute(4, 3, 0, 1, 2).contiguous(), bias


def _gradients_fake(grids: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    out = gradients.shape[1]
    return grids.new_empty(out, grids.shape[1], 3, 3, 3), grids.new_empty(out)


def _gradients_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _gradients_autograd(ctx: Any, of_weight: Tensor, of_bias: Tensor) -> tuple[Tensor | None, ...]:
    grids, gradients = ctx.saved_tensors
    by_grids, by_gradients = ctx.needs_input_grad
    return (
        _convolve_op(gradients, _transposed(of_weight), None) if by_grids else None,
        _convolve_op(grids, of_weight, of_bias) if by_gradients else None,
    )


_convolve_op = register(
    "convolve_grids",
    "(Tensor grids, Tensor weight, Tensor? bias) -> Tensor",
    _convolve_kernel,
    _convolve_fake,
    _convolve_autograd,
    _convolve_context,
)
_gradients_op = register(
    "convolution_gradients",
    "(Tensor grids, Tensor gradients) -> (Tensor, Tensor)",
    _gradients_kernel,
    _gradients_fake,
    _gradients_autograd,
    _gradients_context,
)
