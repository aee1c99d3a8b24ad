"""Registration of the kernels as torch operators: schema, kernel for CPU and CUDA, shapes for tracing, derivative.

`define` and `impl`, not `torch.library.custom_op`: a call costs several times less and torch.compile sees the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library: Any = torch.library.Library("pyimplicit", "DEF")  # type: ignore[no-untyped-call]


def register(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
) -> Any:
    """Define the operator `pyimplicit::name` and return it.

    Args:
        name: Operator name.
        schema: Arguments and results in torch's schema language, without the name.
        kernel: Allocates the results and runs the native kernel; serves CPU and CUDA.
        fake: Returns empty results of the right shape, dtype and device.
        backward: Derivative, as for `torch.library.register_autograd`; without one the operator's results are marked
            as not differentiable, so that nobody gets a silent zero.
        setup_context: Saves what `backward` needs.
    """
    _library.define(f"{name}{schema}")
    for device in ("CPU", "CUDA"):
        _library.impl(name, kernel, device)
    qualified = f"pyimplicit::{name}"
    torch.library.register_fake(qualified, fake, lib=_library)
    if backward is not None:
        torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=_library)
    return getattr(torch.ops.pyimplicit, name).default


def no_derivative(operator: str, reason: str) -> Callable[..., Any]:
    """A derivative that refuses, for what cannot be differentiated: better than a silent zero."""

    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError(f"pyimplicit::{operator} {reason}")

    return backward
