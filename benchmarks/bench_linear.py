"""Linear layers with their ReLU, and vector attention, against torch's operators in the same run.

    python -m benchmarks.bench_linear

Sizes are those of AIR-Net's pairs of points, of ONet's and IF-Net's decoders and of DeepSDF; attention is AIR-Net's.
Both sides' memory is kept from call to call, as training has it. "off" is the largest difference to torch in double
precision over the results' scale: of ours, and of torch in float32. Linear layers are torch's own on CPUs without AMX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.beside_torch import row_of
from benchmarks.harness import parse_arguments, print_rows, save
from pyimplicit import _native, ops
from pyimplicit.networks import vector_attention
from pyimplicit.ops.linear import linear

# rows, features in and out
LINEAR = [(16000, 3, 256), (16000, 256, 256), (20944, 200, 200), (8000, 2583, 256), (8000, 512, 512), (80000, 256, 256)]
# shapes, points, points looked at, channels; None: every point looks at all
ATTENTION = [(4, 100, None, 256), (4, 300, 16, 256), (4, 2000, 7, 200)]


def off(calls: dict[str, Callable[[], Tensor]], exact: Tensor) -> dict[str, float]:
    """Largest difference of each side over the results' scale."""
    with torch.no_grad():
        return {f"{side} off": float((call() - exact).abs().max() / exact.abs().max()) for side, call in calls.items()}


def layer(count: int, features: int, out: int) -> dict[str, Any]:
    """A linear layer and its ReLU."""
    x = torch.randn(count, features, requires_grad=True)
    weight = (torch.randn(out, features) / features**0.5).requires_grad_()
    bias, slope = torch.randn(out, requires_grad=True), torch.randn(count, out)
    calls: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: linear(x, weight, bias, relu=True),
        "torch": lambda: F.linear(x, weight, bias).relu_(),
    }
    row = {"layer": "linear", "rows": count, "in": features, "out": out}
    exact = F.linear(x.double(), weight.double(), bias.double()).relu().detach()
    return row | row_of(calls, [x, weight, bias], slope) | off(calls, exact)


def attention(shapes: int, points: int, neighbours: int | None, channels: int) -> dict[str, Any]:
    """Attention with given weights."""
    each = neighbours or points
    index = None if neighbours is None else torch.randint(0, points, (shapes, points, each))
    weights, pairs = (torch.randn(shapes, points, each, channels, requires_grad=True) for _ in range(2))
    others, slope = torch.randn(shapes, points, channels, requires_grad=True), torch.randn(shapes, points, channels)

    def by_torch(weights: Tensor, others: Tensor, pairs: Tensor) -> Tensor:
        return (weights.softmax(2) * (vector_attention.take(others, index) + pairs)).sum(2)

    calls: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: vector_attention.attend(weights, others, index, pairs),
        "torch": lambda: by_torch(weights, others, pairs),
    }
    row = {"layer": "attention", "rows": shapes * points * each, "in": channels, "out": channels}
    exact = by_torch(weights.double(), others.double(), pairs.double()).detach()
    return row | row_of(calls, [weights, others, pairs], slope) | off(calls, exact)


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(__doc__, arguments)
    if options.device != "cpu":
        raise SystemExit("bench_linear: on a GPU these layers are torch's own")
    torch.manual_seed(0)
    with ops.KeptBuffers(), ops.KeptHeap():
        rows = [layer(*case) for case in LINEAR] if _native.have_matrix_unit() else []
        rows += [attention(*case) for case in ATTENTION]
    print_rows(f"Linear layers and attention, {options.threads} threads", rows)
    print(save("linear", rows, torch.device("cpu"), options.out))


if __name__ == "__main__":
    main()
