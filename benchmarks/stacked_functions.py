"""Functions that `torch.func.vmap` follows from run to run, for those of the networks that it cannot.

They are: checks that look at values, which no transform can follow, and which are left out; linear layers, which become
one batched product of all rows of a run (vmap's own rule repeats the weights for each shape of a batch); weight and
batch normalisation, whose operators and autograd functions have no batching rule; IF-Net's sparse finest level, whose
sizes differ from run to run, and which runs dense; and IF-Net's other convolutions, one run after the other. The
package's operators have no batching rules either. As those that networks call take a batch of shapes,
`register_folding` adds rules that put the runs into it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit.networks import airnet, deepsdf, ifnet, layers, onet

# Functions of `substituted` that work without vmap too.
PLAIN = ("conditional_batch_norm_relu", "batch_norm", "relu_batch_norm", "first_level")


@contextmanager
def substituted(names: Sequence[str] = ()) -> Iterator[None]:
    """Put functions that vmap can follow in the places of those that it cannot, or follows at a loss.

    Args:
        names: Of the functions to replace; all of them if empty. Those of `PLAIN` work without vmap too.
    """
    chosen = [entry for entry in _SUBSTITUTES if not names or entry[1] in names]
    kept = [(place, name, getattr(place, name)) for place, name, _ in chosen]
    try:
        for place, name, function in chosen:
            setattr(place, name, function)
        yield
    finally:
        for place, name, function in kept:
            setattr(place, name, function)


class _Transformed(torch.autograd.Function):
    """A function that is its batching rule `vmap`; below the transform torch differentiates what that does."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        raise NotImplementedError  # only ever called within the transform

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        pass


class _Linear(_Transformed):
    """A linear layer: one product a run."""

    @staticmethod
    def vmap(
        info: Any, axes: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, int]:
        runs = info.batch_size
        x, weight = (_front(value, axis, runs) for value, axis in ((x, axes[0]), (weight, axes[1])))
        rows = x.flatten(1, -2)  # [K, N, in]
        if bias is None:
            result = torch.bmm(rows, weight.mT)
        else:
            result = torch.baddbmm(_front(bias, axes[2], runs)[:, None], rows, weight.mT)
        shaped: Tensor = result.view(*x.shape[:-1], -1)
        return shaped, 0


class _Embedding(_Transformed):
    """Rows of a table a run: one table of all of them."""

    @staticmethod
    def vmap(info: Any, axes: tuple[int | None, ...], indices: Tensor, table: Tensor) -> tuple[Tensor, int]:
        runs = info.batch_size
        indices, table = _front(indices, axes[0], runs), _front(table, axes[1], runs)
        first = torch.arange(runs).mul_(table.shape[1]).view(-1, *[1] * (indices.dim() - 1))
        rows: Tensor = torch.embedding(table.flatten(0, 1), indices + first)
        return rows, 0


class _Convolution(_Transformed):
    """IF-Net's convolutions, of one run after the other: grouped ones, vmap's own rule, take more time."""

    @staticmethod
    def vmap(
        info: Any, axes: tuple[int | None, ...], grids: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, ...]
    ) -> tuple[Tensor, int]:
        inputs = [
            _front(value, axis, info.batch_size) for value, axis in zip((grids, weight, bias), axes, strict=False)
        ]
        results = []
        for own, kernel, shift in zip(*inputs, strict=True):
            kernel = kernel.contiguous(memory_format=torch.channels_last_3d)
            results.append(F.conv3d(own, kernel, shift, padding=padding))
        return torch.stack(results), 0


def _front(value: Tensor, axis: int | None, runs: int) -> Tensor:
    """Return `value` with the runs' axis in front."""
    moved: Tensor = value.expand(runs, *value.shape) if axis is None else value.movedim(axis, 0)
    return moved


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _Linear.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


def _embedding(indices: Tensor, table: Tensor) -> Tensor:
    return _Embedding.apply(indices, table)  # type: ignore[no-any-return, no-untyped-call]


def _weight_norm(direction: Tensor, length: Tensor, axis: int) -> Tensor:
    weight: Tensor = direction * (length / torch.linalg.vector_norm(direction, dim=1, keepdim=True))
    return weight


class _Norm(torch.autograd.Function):
    """Batch normalisation in training mode of several runs at once, one call of each torch function for all shapes."""

    @staticmethod
    def forward(
        features: Tensor,  # [K, B, T, C]
        gamma: Tensor,  # [K, B, C]
        beta: Tensor,  # [K, B, C]
        eps: float,
        relu: bool,  # of the result
    ) -> tuple[Tensor, Tensor, Tensor]:  # [K, B, T, C], mean and variance [K, C]
        mean = features.mean((1, 2), dtype=torch.float64).to(features.dtype)
        squares = (features - mean[:, None, None]).square_()
        variance = squares.mean((1, 2), dtype=torch.float64).to(features.dtype)
        scale = gamma * torch.rsqrt(variance + eps)[:, None]
        shift = beta - mean[:, None] * scale
        result = torch.addcmul(shift[:, :, None], features, scale[:, :, None])
        return result.relu_() if relu else result, mean, variance

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        context.save_for_backward(*inputs[:2], *output)
        context.mark_non_differentiable(*output[1:])
        context.eps, context.relu = inputs[3:]

    @staticmethod
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        features, gamma, result, mean, variance = context.saved_tensors
        inverse, count = torch.rsqrt(variance + context.eps), features.shape[1] * features.shape[2]
        passed = torch.ops.aten.threshold_backward(gradient, result, 0) if context.relu else gradient
        centred = features - mean[:, None, None]
        by_beta = passed.sum(2)  # [K, B, C]
        by_gamma = (centred * passed).sum(2) * inverse[:, None]
        slope = -inverse * inverse * (gamma * by_gamma).sum(1) / count  # [K, C]
        shift = -inverse * (gamma * by_beta).sum(1) / count
        by_features = torch.addcmul(shift[:, None, None], centred, slope[:, None, None])
        by_features.addcmul_(passed, (gamma * inverse[:, None])[:, :, None])
        return by_features, by_gamma, by_beta, None, None

    @staticmethod
    def vmap(info: Any, axes: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        runs = info.batch_size
        tensors = [_front(value, axis, runs).flatten(0, 1) for value, axis in zip(inputs[:3], axes[:3], strict=True)]
        outputs = _Norm.apply(*tensors, *inputs[3:])  # type: ignore[no-untyped-call]
        return tuple(output.unflatten(0, (runs, 1)) for output in outputs), (0, 0, 0)


def _normalise(
    norm: nn.modules.batchnorm._BatchNorm,
    features: Tensor,  # [B, T, C]
    gamma: Tensor,  # [B, C]
    beta: Tensor,  # [B, C]
    relu: bool,
) -> Tensor:  # [B, T, C]
    """Normalise, and update the running statistics by functions that have a batching rule."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    result, mean, variance = _Norm.apply(  # type: ignore[no-untyped-call]
        features[None], gamma[None], beta[None], norm.eps, relu
    )
    count = features.shape[0] * features.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.mul_(1 - norm.momentum).add_(mean[0], alpha=norm.momentum)
        norm.running_var.mul_(1 - norm.momentum).add_(variance[0], alpha=norm.momentum * count / (count - 1))
    normalised: Tensor = result[0]
    return normalised


def _conditional_batch_norm_relu(norm: nn.BatchNorm1d, features: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return _normalise(norm, features, gamma, beta, relu=True)


def _batch_norm(norm: nn.modules.batchnorm._BatchNorm, features: Tensor) -> Tensor:
    rows = features.flatten(0, -2)[None]
    return _normalise(norm, rows, norm.weight[None], norm.bias[None], relu=False).view_as(features)


def _relu_batch_norm(norm: nn.BatchNorm3d, features: Tensor) -> Tensor:
    return _batch_norm(norm, features.relu().movedim(1, -1)).movedim(-1, 1)


def _convolve(layer: nn.Conv3d, grids: Tensor) -> Tensor:
    return _Convolution.apply(  # type: ignore[no-any-return, no-untyped-call]
        grids, layer.weight, layer.bias, layer.padding
    )


_CHECKED = ("networks.base", "ops.farthest", "ops.neighbours", "ops.voxelise")
# Place, name, and what stands there while `vmap` runs.
_SUBSTITUTES: tuple[tuple[Any, str, Any], ...] = (
    (F, "linear", _linear),
    (F, "embedding", _embedding),
    (torch, "_weight_norm", _weight_norm),
    (onet, "conditional_batch_norm_relu", _conditional_batch_norm_relu),
    (airnet, "batch_norm", _batch_norm),
    (ifnet, "relu_batch_norm", _relu_batch_norm),
    (ifnet, "first_level", lambda *_: None),
    (layers.GridConvolution, "forward", _convolve),
    *((place, "linear", _linear) for place in (layers, deepsdf)),
    (importlib.import_module("pyimplicit.ops.scatter"), "_check_range", lambda *_: None),
    *((importlib.import_module(f"pyimplicit.{name}"), "check_finite", lambda _, value: value) for name in _CHECKED),
)

# Operator: for each tensor among its arguments the axis of the batch, and the same for its results.
_FOLDED: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "group_cells": ((1,), (1, 1)),
    "pool_local": ((0, 1, 1, 1), (0,)),
    "scatter_mean": ((0, 1, 1, 1), (1,)),
    "sample_features": ((0, 0), (0,)),  # of the list, and of the points; offsets are common to all
    "voxelise": ((0,), (0,)),
    "nearest_neighbours": ((0, 0), (0,)),
    "farthest_points": ((0,), (0,)),
}
_registered: list[Any] = []  # a library lives as long as someone holds it


def register_folding() -> None:
    """Give the package's operators that the networks call a batching rule: runs become shapes of a larger batch."""
    if _registered:
        return
    library = torch.library.Library("pyimplicit", "FRAGMENT")  # type: ignore[no-untyped-call]
    _registered.append(library)
    for name, (arguments, results) in _FOLDED.items():
        rule = _folding(getattr(torch.ops.pyimplicit, name).default, arguments, results)
        torch.library.register_vmap(f"pyimplicit::{name}", rule, lib=library)


def _folding(operator: Any, places: tuple[int, ...], results: tuple[int, ...]) -> Any:
    """Return the batching rule of an operator: `places` and `results` are as in `_FOLDED`."""

    def fold(value: Any, axis: Any, place: int, runs: int, channel: int) -> Any:
        if isinstance(value, list | tuple):  # features, read fastest with channels last
            last = [_front(part, own, runs).movedim(channel, -1) for part, own in zip(value, axis, strict=True)]
            return [part.contiguous().flatten(0, 1).movedim(-1, channel - 1) for part in last]
        return _front(value, axis, runs).movedim(0, place).flatten(place, place + 1).contiguous()

    def unfold(value: Tensor, place: int, runs: int) -> Tensor:
        shape = (*value.shape[:place], runs, -1, *value.shape[place + 1 :])
        return value.view(shape).movedim(place, 0).contiguous()  # networks take views of it

    def rule(info: Any, axes: tuple[Any, ...], *arguments: Any) -> Any:
        runs, folded = info.batch_size, list(arguments)
        is_planar = isinstance(arguments[1], Tensor) and arguments[1].shape[-1] == 2
        channel = 3 if is_planar else 2  # of [K, B, planes, C, H, W] or [K, B, C, D, H, W]
        for index, place in enumerate(places):
            folded[index] = fold(arguments[index], axes[index], place, runs, channel)
        outputs = operator(*folded)
        if isinstance(outputs, Tensor):
            return unfold(outputs, results[0], runs), 0
        return tuple(unfold(output, place, runs) for output, place in zip(outputs, results, strict=True)), (0, 0)

    return rule
