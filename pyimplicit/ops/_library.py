"""Registration of the kernels as torch operators: schema, kernel for CPU and CUDA, shapes for tracing, derivative.

`define` and `impl`, not `torch.library.custom_op`: a call costs several times less and torch.compile sees the same.
Where nobody but the kernel would look at the arguments, the dispatcher is left out: for small calls it costs more than
the kernel, above all once other code has had the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_library: Any = torch.library.Library("pyimplicit", "DEF")  # type: ignore[no-untyped-call]


def register(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Define the operator `pyimplicit::name` and return a function that calls it.

    Args:
        name: Operator name.
        schema: Arguments and results in torch's schema language, without the name.
        kernel: Allocates the results and runs the native kernel; serves CPU and CUDA.
        fake: Returns empty results of the right shape, dtype and device.
        backward: Derivative, as for `torch.library.register_autograd`; without one the operator's results are marked
            as not differentiable, so that nobody gets a silent zero.
        setup_context: Saves what `backward` needs.

    The function takes, besides the operator's arguments, `known`: how many of them, from the first on, the caller knows
    to be plain, so that nobody need look at them again. See `is_plain`.
    """
    _library.define(f"{name}{schema}")
    for device in ("CPU", "CUDA"):
        _library.impl(name, kernel, device)
    qualified = f"pyimplicit::{name}"
    torch.library.register_fake(qualified, fake, lib=_library)
    if backward is not None:
        torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=_library)
    dispatched = getattr(torch.ops.pyimplicit, name).default

    def operator(*arguments: Any, known: int = 0) -> Any:
        if forward_ad._current_level >= 0 and _has_tangent(arguments):  # torch would drop it without a word
            raise NotImplementedError(f"pyimplicit::{name} has no forward-mode derivative")
        if torch.compiler.is_compiling() or _is_watched() or not is_plain(arguments[known:]):
            return dispatched(*arguments)
        return kernel(*arguments)

    return operator


def _is_watched() -> bool:
    """Whether something follows every operator: a mode, a transform, a trace, the profiler."""
    c: Any = torch._C
    return bool(_is_traced() or c._autograd._profiler_enabled())


def _is_traced() -> bool:
    c: Any = torch._C
    return bool(
        c._len_torch_dispatch_stack()
        or c._functorch.peek_interpreter_stack() is not None
        or c._get_tracing_state() is not None
    )


def is_followed(*tensors: Tensor) -> bool:
    """Whether what is no operator of torch must not run: a trace, a mode or a transform follows all of them.

    Or a tensor is none whose memory can be read as it is.
    """
    c: Any = torch._C
    return bool(
        torch.compiler.is_compiling()
        or _is_traced()
        or forward_ad._current_level >= 0
        or any(type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.is_neg() for tensor in tensors)
        or not all(c._has_storage(tensor) for tensor in tensors)  # torch's older vmap
    )


def _has_tangent(arguments: Iterable[Any]) -> bool:
    return any(
        forward_ad.unpack_dual(argument).tangent is not None  # type: ignore[no-untyped-call]
        if isinstance(argument, Tensor)
        else isinstance(argument, list | tuple) and _has_tangent(argument)
        for argument in arguments
    )


_NUMBERS = frozenset((int, float, bool, type(None)))


def is_plain(arguments: Iterable[Any]) -> bool:
    """Whether all tensors are memory of a CPU or GPU as it is, and none asks for a derivative."""
    follows = torch.is_grad_enabled()
    for argument in arguments:
        kind = type(argument)
        if kind is Tensor or kind is torch.nn.Parameter:  # most are the former
            if (follows and argument.requires_grad) or argument.is_neg() or not (argument.is_cpu or argument.is_cuda):
                return False
        elif kind not in _NUMBERS and (
            isinstance(argument, Tensor) or (isinstance(argument, list | tuple) and not is_plain(argument))
        ):
            return False
    return True


def no_derivative(operator: str, reason: str) -> Callable[..., Any]:
    """A derivative that refuses, for what cannot be differentiated: better than a silent zero."""

    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError(f"pyimplicit::{operator} {reason}")

    return backward
