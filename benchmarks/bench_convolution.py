"""Convolution of grids, and normalisation with its ReLU, against torch's layers in the same run.

    python -m benchmarks.bench_convolution [--batch 4]

Sizes are those of IF-Net's levels and of the U-Net of ConvONet's grid32. Grids are channels last for both sides, which
is torch's faster way too, and memory is kept from call to call, as training has it. "off" is the largest difference to
torch in double precision over the results' scale: of ours, and of torch in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.beside_torch import row_of
from benchmarks.harness import parse_arguments, print_rows, save
from pyimplicit import ops
from pyimplicit.networks.normalisation import GroupNorm, relu_batch_norm

# cells an axis, channels in and out
CONVOLUTIONS = [(64, 16, 32), (64, 32, 32), (32, 32, 32), (32, 32, 64), (32, 64, 64), (32, 96, 32), (16, 128, 128)]
NORMALISATIONS = [("batch", 64, 32), ("batch", 32, 64), ("group", 32, 32), ("group", 32, 96)]
LAST = torch.channels_last_3d


def convolution(batch: int, size: int, channels: int, out: int) -> dict[str, Any]:
    """One size of a convolution."""
    grids = torch.randn(batch, channels, size, size, size).contiguous(memory_format=LAST).requires_grad_()
    weight = (torch.randn(out, channels, 3, 3, 3) / (27 * channels) ** 0.5).requires_grad_()
    bias = torch.randn(out, requires_grad=True)
    slope = torch.randn(batch, out, size, size, size).contiguous(memory_format=LAST)
    calls: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: ops.convolve_grids(grids, weight, bias),
        "torch": lambda: F.conv3d(grids, weight.contiguous(memory_format=LAST), bias, padding=1),
    }
    with torch.no_grad():
        exact = F.conv3d(grids[:1].double(), weight.double(), bias.double(), padding=1)
        off = {side: float((call()[:1] - exact).abs().max() / exact.abs().max()) for side, call in calls.items()}
    row = {"layer": "convolution", "cells": size, "in": channels, "out": out}
    return row | row_of(calls, [grids, weight, bias], slope) | {f"{side} off": value for side, value in off.items()}


def normalisation(batch: int, kind: str, size: int, channels: int) -> dict[str, Any]:
    """One size of a normalisation in training: batch norm after a ReLU, group norm alone."""
    grids = torch.randn(batch, channels, size, size, size).contiguous(memory_format=LAST).requires_grad_()
    slope = torch.randn_like(grids)
    layers = [nn.BatchNorm3d(channels), nn.BatchNorm3d(channels)]
    calls: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: relu_batch_norm(layers[0], grids),
        "torch": lambda: layers[1](grids.relu()),
    }
    if kind == "group":
        ours, theirs = GroupNorm(8, channels), nn.GroupNorm(8, channels)
        calls = {"ours": lambda: ours(grids), "torch": lambda: theirs(grids)}
    with torch.no_grad():
        used = grids.double().relu() if kind == "batch" else grids.double()
        apart = used.transpose(0, 1).reshape(1, channels, -1) if kind == "batch" else used.reshape(batch, channels, -1)
        exact = F.group_norm(apart, channels if kind == "batch" else 8)
        exact = exact.view(channels, batch, -1).transpose(0, 1) if kind == "batch" else exact
        off = {side: float((call().flatten(2) - exact).abs().max() / exact.abs().max()) for side, call in calls.items()}
    row = {"layer": f"{kind} norm", "cells": size, "in": channels, "out": channels}
    return row | row_of(calls, [grids], slope) | {f"{side} off": value for side, value in off.items()}


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--batch", type=int, default=4)

    options = parse_arguments(__doc__, arguments, add)
    if options.device != "cpu":
        raise SystemExit("bench_convolution: on a GPU convolutions and normalisations are torch's own")
    torch.manual_seed(0)
    with ops.KeptBuffers(), ops.KeptHeap():
        rows = [convolution(options.batch, *case) for case in CONVOLUTIONS]
        rows += [normalisation(options.batch, *case) for case in NORMALISATIONS]
    print_rows(f"Layers of grids, {options.threads} threads", rows)
    print(save("convolution", rows, torch.device("cpu"), options.out))


if __name__ == "__main__":
    main()
