"""The torch operator of interpolation, twice differentiable.

The derivatives of gather, scatter and slope along a tangent are the three again: see docs/design.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyimplicit.ops._interpolation_kernels import (
    Options,
    flatten_layouts,
    gather,
    row_shape,
    scatter,
    slope,
    unflatten_layouts,
)
from pyimplicit.ops._library import no_derivative, register


def _sample_kernel(features: list[Tensor], points: Tensor, offsets: Tensor | None, *options: Any) -> Tensor:
    return gather(features, points, None, offsets, Options(*options))


def _sample_fake(features: list[Tensor], points: Tensor, offsets: Tensor | None, *options: Any) -> Tensor:
    return features[0].new_empty(row_shape(features, points, offsets, Options(*options).sum))


def _sample_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, points, offsets, *ctx.options = inputs
    # needs_input_grad says nothing useful for a list: ask the tensors.
    ctx.any_feature = any(some.requires_grad for some in features)
    ctx.like = None
    if points.requires_grad:
        ctx.save_for_backward(points, offsets, *features)
    else:  # the features' own values do not matter, and holding them would cost as much memory as their gradients
        ctx.save_for_backward(points, offsets)
        ctx.like = flatten_layouts(features)


def _sample_autograd(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    points, offsets, *features = ctx.saved_tensors
    if ctx.like is not None:
        return _scatter_op(gradient.contiguous(), points, offsets, *ctx.like, *ctx.options), *[None] * 6
    for_points = ctx.needs_input_grad[1]
    grad_features, grad_points = _backward_op(
        gradient.contiguous(), features, points, offsets, *ctx.options, ctx.any_feature, for_points
    )
    return (
        grad_features if ctx.any_feature else [None] * len(features),
        grad_points if for_points else None,
        *[None] * 5,
    )


def _scatter_kernel(gradient: Tensor, points: Tensor, offsets: Tensor | None, *rest: Any) -> list[Tensor]:
    sizes, strides, axes, *options = rest
    like = unflatten_layouts(sizes, strides, axes, gradient.dtype)
    return scatter(gradient, like, points, None, offsets, Options(*options))


def _scatter_fake(gradient: Tensor, points: Tensor, offsets: Tensor | None, *rest: Any) -> list[Tensor]:
    layouts = unflatten_layouts(rest[0], rest[1], rest[2], gradient.dtype)
    return [torch.empty_like(some, device=gradient.device) for some in layouts]


def _scatter_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    gradient, points, offsets, sizes, strides, axes, *ctx.options = inputs
    ctx.layouts = sizes, strides, axes, gradient.dtype
    ctx.save_for_backward(points, offsets)
    ctx.set_materialize_grads(False)


def _scatter_autograd(ctx: Any, second: Any) -> tuple[Any, ...]:
    points, offsets = ctx.saved_tensors
    if second is None or all(some is None for some in second):
        return (None,) * 10
    layouts = unflatten_layouts(*ctx.layouts)
    second = [
        torch.zeros_like(own, device=points.device) if some is None else some
        for some, own in zip(second, layouts, strict=True)
    ]
    return sample_features(second, points, offsets, *ctx.options), *[None] * 9


def _backward_kernel(
    gradient: Tensor, features: list[Tensor], points: Tensor, offsets: Tensor | None, *rest: Any
) -> tuple[list[Tensor], Tensor]:
    options, (for_features, for_points) = Options(*rest[:4]), rest[4:]
    return (
        scatter(gradient, features, points, None, offsets, options) if for_features else _nothing(features),
        slope(gradient, features, points, None, offsets, options) if for_points else points.new_empty(0),
    )


def _nothing(features: Sequence[Tensor]) -> list[Tensor]:
    return [some.new_empty(0) for some in features]


def _backward_fake(
    gradient: Tensor, features: list[Tensor], points: Tensor, offsets: Tensor | None, *rest: Any
) -> tuple[list[Tensor], Tensor]:
    for_features, for_points = rest[4:]
    return (
        [torch.empty_like(some) for some in features] if for_features else _nothing(features),
        torch.empty_like(points) if for_points else points.new_empty(0),
    )


def _backward_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    gradient, features, points, offsets, *rest = inputs
    ctx.options, (ctx.for_features, ctx.for_points) = rest[:4], rest[4:]
    ctx.save_for_backward(gradient, points, offsets, *features)
    ctx.any_feature = any(some.requires_grad for some in features)
    ctx.set_materialize_grads(False)  # no zeros as large as the features for what nobody differentiates


def _backward_autograd(ctx: Any, second_features: Any, second_points: Tensor | None) -> tuple[Any, ...]:
    gradient, points, offsets, *features = ctx.saved_tensors
    needs_gradient, _, needs_points = ctx.needs_input_grad[:3]
    second: list[Tensor] = []
    if ctx.for_features and second_features is not None and any(some is not None for some in second_features):
        second = [
            torch.zeros_like(own) if some is None else some for some, own in zip(second_features, features, strict=True)
        ]
    along = second_points.contiguous() if ctx.for_points and second_points is not None else None
    for_features = ctx.any_feature and along is not None
    grad_gradient, grad_features, grad_points = _double_backward_op(
        gradient, features, points, second, along, offsets, *ctx.options, needs_gradient, for_features, needs_points
    )
    return (
        grad_gradient if needs_gradient else None,
        grad_features if for_features else [None] * len(features),
        grad_points if needs_points else None,
        *[None] * 7,
    )


def _double_backward_kernel(
    gradient: Tensor,
    features: list[Tensor],
    points: Tensor,
    second: list[Tensor],
    along: Tensor | None,
    offsets: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, list[Tensor], Tensor]:
    options, (for_gradient, for_features, for_points) = Options(*rest[:4]), rest[4:]
    grad_gradient, grad_points = gradient.new_empty(0), points.new_empty(0)
    if for_gradient:
        parts = [gather(second, points, None, offsets, options)] if second else []
        parts += [gather(features, points, along, offsets, options)] if along is not None else []
        grad_gradient = _total(parts, gradient)
    if for_points:
        parts = [slope(gradient, second, points, None, offsets, options)] if second else []
        parts += [slope(gradient, features, points, along, offsets, options)] if along is not None else []
        grad_points = _total(parts, points)
    return (
        grad_gradient,
        scatter(gradient, features, points, along, offsets, options) if for_features else _nothing(features),
        grad_points,
    )


def _total(parts: list[Tensor], like: Tensor) -> Tensor:
    return torch.zeros_like(like) if not parts else parts[0] if len(parts) == 1 else parts[0].add_(parts[1])


def _double_backward_fake(
    gradient: Tensor,
    features: list[Tensor],
    points: Tensor,
    second: list[Tensor],
    along: Tensor | None,
    offsets: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, list[Tensor], Tensor]:
    for_gradient, for_features, for_points = rest[4:]
    return (
        torch.empty_like(gradient) if for_gradient else gradient.new_empty(0),
        [torch.empty_like(some) for some in features] if for_features else _nothing(features),
        torch.empty_like(points) if for_points else points.new_empty(0),
    )


_OPTIONS = "bool align_corners, int padding, bool offset_fastest, bool sum"
sample_features = register(
    "sample_features",
    f"(Tensor[] features, Tensor points, Tensor? offsets, {_OPTIONS}) -> Tensor",
    _sample_kernel,
    _sample_fake,
    _sample_autograd,
    _sample_context,
)
# The transpose of `sample_features` at points that are constants, from the layouts of the features alone.
_scatter_op = register(
    "scatter_features",
    "(Tensor gradient, Tensor points, Tensor? offsets, SymInt[] sizes, SymInt[] strides, int[] axes,"
    f" {_OPTIONS}) -> Tensor[]",
    _scatter_kernel,
    _scatter_fake,
    _scatter_autograd,
    _scatter_context,
)
_backward_op = register(
    "sample_features_backward",
    f"(Tensor gradient, Tensor[] features, Tensor points, Tensor? offsets, {_OPTIONS}, bool for_features,"
    " bool for_points) -> (Tensor[], Tensor)",
    _backward_kernel,
    _backward_fake,
    _backward_autograd,
    _backward_context,
)
_double_backward_op = register(
    "sample_features_double_backward",
    "(Tensor gradient, Tensor[] features, Tensor points, Tensor[] second, Tensor? along, Tensor? offsets,"
    f" {_OPTIONS}, bool for_gradient, bool for_features, bool for_points) -> (Tensor, Tensor[], Tensor)",
    _double_backward_kernel,
    _double_backward_fake,
    no_derivative("sample_features", "cannot be differentiated a third time"),
    lambda ctx, inputs, output: None,
)
