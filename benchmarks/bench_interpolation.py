"""Feature interpolation against what torch offers, forward and forward + backward, in one run.

python -m benchmarks.bench_interpolation [--device cuda] [--case grid planes ifnet2000 ifnet20000 linear]

Ways of torch: grid_sample, grid_sample of channels-last features, and embedding_bag with the weights worked out in
torch (it reads a table of rows, the memory of channels-last features). Ours takes the same channels-last features, with
fresh memory for every result and with `KeptBuffers`. "ratio" is the fastest of torch over ours with kept memory,
"bound" the bytes that must move over the rate at which this machine copies, measured in the same run; "x bound" is how
many of them ours takes with kept memory, "x bound fresh" without. In "cold" turns the other ways have just used the
caches and the tables of pages; in "warm" ones each way runs itself just before it is timed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit import ops

IFNET_GRIDS = ((1, 128), (16, 128), (32, 64), (64, 32), (128, 16), (128, 8))  # channels, nodes an axis
IFNET_STEP = 0.0722  # displacement
IFNET_WIDTH = 512  # of the first layer
TURNS = ("cold", "warm")
CASES = ("grid", "planes", "ifnet2000", "ifnet20000", "linear")


def copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written together, of copying 256 MB; the fastest of a few."""
    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * source.numel() * source.element_size() / best


def corners_of(points: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Node numbers and weights [..., 2^D] of cubic maps, aligned corners, border padding."""
    node = ((points + 1) * ((size - 1) / 2)).clamp(0, size - 1)
    low = node.floor().clamp(max=max(size - 2, 0))
    fraction, low = node - low, low.long()
    axes = points.shape[-1]
    numbers, weights = [], []
    for corner in range(1 << axes):
        upper = [corner >> axis & 1 for axis in range(axes)]
        numbers.append(sum((low[..., a] + upper[a]).clamp(max=size - 1) * size**a for a in range(axes)))
        factors = [fraction[..., a] if upper[a] else 1 - fraction[..., a] for a in range(axes)]
        weights.append(torch.stack(factors).prod(0))
    return torch.stack(numbers, -1), torch.stack(weights, -1)


def rows_of(features: Tensor) -> Tensor:
    """Channels-last features [B, ..., C, *sizes] as a table [rows, C], without a copy."""
    axes = 3 if features.is_contiguous(memory_format=torch.channels_last_3d) else 2
    return features.movedim(-axes - 1, -1).reshape(-1, features.shape[-axes - 1])


def bag_grids(grids: list[Tensor], points: Tensor, offsets: Tensor) -> Tensor:
    """IF-Net's gather with embedding_bag: [B, N, K C]."""
    copies = points[:, :, None] + offsets
    first = torch.arange(len(points), device=points.device)[:, None, None, None]
    parts = []
    for grid in grids:
        size = grid.shape[-1]
        numbers, weights = corners_of(copies, size)
        numbers = numbers + first * size**3
        bags = F.embedding_bag(
            numbers.flatten(0, 2), rows_of(grid), per_sample_weights=weights.flatten(0, 2), mode="sum"
        )
        parts.append(bags.view(*copies.shape[:3], -1))
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 3)).flatten(2)


def bag_planes(planes: Tensor, points: Tensor) -> Tensor:
    """ConvONet's sum over planes with embedding_bag: [B, N, C]."""
    batch, count, channels, size = planes.shape[:4]
    numbers, weights = corners_of(points, size)  # [B, K, N, 4]
    first = torch.arange(batch * count, device=points.device).view(batch, count, 1, 1) * size**2
    numbers, weights = (
        value.transpose(1, 2).reshape(-1, 4 * count) for value in (numbers + first, weights)
    )  # a bag for each point
    table = planes.movedim(2, -1).reshape(-1, channels)
    bags = F.embedding_bag(numbers, table, per_sample_weights=weights, mode="sum")
    return bags.view(batch, -1, channels)


def torch_grids(grids: list[Tensor], points: Tensor, offsets: Tensor) -> Tensor:
    """IF-Net's gather with grid_sample: [B, C K, N], as its authors have it."""
    at = (points[:, :, None] + offsets)[:, None]  # [B, 1, N, K, 3]
    parts = [F.grid_sample(grid, at, align_corners=True, padding_mode="border")[:, :, 0] for grid in grids]
    return torch.cat(parts, 1).transpose(2, 3).flatten(1, 2)


def torch_planes(planes: Tensor, points: Tensor) -> Tensor:
    """ConvONet's sum over planes with grid_sample: [B, C, N]."""
    parts = [
        F.grid_sample(planes[:, k], points[:, k, :, None], align_corners=True, padding_mode="border")[..., 0]
        for k in range(planes.shape[1])
    ]
    return torch.stack(parts).sum(0)


def both_ways(call: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], Any]:
    """Forward and backward to `leaves`; the incoming gradient exists already."""
    with torch.no_grad():
        upstream = torch.ones_like(call())
    return lambda: torch.autograd.grad(call(), leaves, upstream)


def within(buffers: ops.KeptBuffers, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call with kept memory."""

    def run() -> Any:
        with buffers:
            return call()

    return run


Ways = dict[str, tuple[Callable[[], Tensor], list[Tensor]]]  # name: forward, leaves


def measure(
    case: str,
    ways: Ways,
    bytes_: tuple[int, int],
    rate: float,
    device: torch.device,
    rounds: int,
) -> list[Any]:
    """A row for forward and one for forward + backward, in each kind of turns."""
    rows = []
    for turn, backward in itertools.product(TURNS, (False, True)):
        calls: dict[str, Callable[[], Any]] = {}
        for name, (call, leaves) in ways.items():
            calls[name] = both_ways(call, leaves) if backward else torch.no_grad()(call)
        # No cycle of buffers and results may hold on to memory between turns.
        buffers = ops.KeptBuffers()
        calls["ours kept"] = within(buffers, calls["ours"])
        seconds = alternate(calls, device, rounds=rounds, warm_turns=turn == "warm")
        best = min((value, name) for name, value in seconds.items() if not name.startswith("ours"))
        bound = bytes_[backward] / rate
        rows.append(
            {"case": case, "what": "forward + backward" if backward else "forward", "turns": turn}
            | {f"{name} ms": value * 1e3 for name, value in seconds.items()}
            | {
                "best": best[1],
                "ratio": best[0] / seconds["ours kept"],
                "ratio fresh": best[0] / seconds["ours"],
                "bound ms": bound * 1e3,
                "x bound": seconds["ours kept"] / bound,
                "x bound fresh": seconds["ours"] / bound,
            }
        )
        print_rows("", rows[-1:])
    return rows


def bytes_of(maps: list[Tensor], axes: int, looks: int, out: int) -> tuple[int, int]:
    """Bytes that must move forward, and forward + backward: each element at most once, the whole gradient once.

    `looks`: copies of points times maps in a tensor; `out`: elements of the result.
    """
    read = sum(min(m.numel(), looks * (1 << axes) * m.shape[-axes - 1]) for m in maps)
    forward = read + out
    return 4 * forward, 4 * (forward + out + sum(m.numel() for m in maps))


def main(arguments: list[str] | None = None) -> None:
    def add(parser: Any) -> None:
        parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
        parser.add_argument("--quick", action="store_true", help="the small cases only")
        parser.add_argument("--rounds", type=int, default=5, help="of the small cases; the large ones take one")

    options = parse_arguments(__doc__, arguments, add)
    cases = [case for case in options.case if not options.quick or case in ("grid", "planes")]
    device = torch.device(options.device)
    torch.manual_seed(0)
    rate = copy_rate(device)
    print(f"copy rate {rate / 1e9:.1f} GB/s", flush=True)
    rows: list[dict[str, Any]] = []
    linear_rows: list[dict[str, Any]] = []

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device) * 2 - 1

    for case in cases:
        if case == "planes":
            planes = torch.randn(8, 3, 32, 64, 64, device=device).requires_grad_()
            last = planes.detach().movedim(2, -1).contiguous().movedim(-1, 2).requires_grad_()
            at = uniform(8, 3, 2048, 2)
            ways: Ways = {
                "ours": (lambda p=last, at=at: ops.sample_planes(p, at), [last]),
                "ours channels first": (lambda p=planes, at=at: ops.sample_planes(p, at), [planes]),
                "grid_sample": (lambda p=planes, at=at: torch_planes(p, at), [planes]),
                "grid_sample last": (lambda p=last, at=at: torch_planes(p, at), [last]),
                "embedding_bag": (lambda p=last, at=at: bag_planes(p, at), [last]),
            }
            moved = bytes_of([last], 2, 8 * 3 * 2048, 8 * 2048 * 32)
            rows += measure("three planes 64^2", ways, moved, rate, device, options.rounds)
            continue
        sizes, batch, count = ((32, 64),), 8, 2048
        offsets = torch.zeros(1, 3, device=device)
        if case != "grid":
            sizes, batch, count = (
                IFNET_GRIDS,
                16 if device.type == "cuda" else 4,
                2000 if case == "ifnet2000" else 20000,
            )
            offsets = IFNET_STEP * torch.cat((offsets, -torch.eye(3, device=device), torch.eye(3, device=device)))
        points = uniform(batch, count, 3)
        last_grids = [
            torch.randn(batch, c, r, r, r, device=device)
            .contiguous(memory_format=torch.channels_last_3d)
            .requires_grad_()
            for c, r in sizes
        ]
        if case == "linear":
            linear_rows = linear_cases(last_grids, points, offsets, device)
            continue
        rounds = 1 if case == "ifnet20000" else options.rounds
        first_grids = [g.detach().contiguous().requires_grad_() for g in last_grids]
        ways = {
            "ours": (lambda g=last_grids, p=points, o=offsets: ops.sample_grids(g, p, o), last_grids),
            "grid_sample": (lambda g=first_grids, p=points, o=offsets: torch_grids(g, p, o), first_grids),
            "grid_sample last": (lambda g=last_grids, p=points, o=offsets: torch_grids(g, p, o), last_grids),
            "embedding_bag": (lambda g=last_grids, p=points, o=offsets: bag_grids(g, p, o), last_grids),
        }
        if case == "ifnet20000":
            del ways["grid_sample"]  # 10 s a round, and never the fastest at 2,000 points
        elif case == "grid":
            ways["ours channels first"] = (
                lambda g=first_grids, p=points: ops.sample_grids(g, p),
                first_grids,
            )
        elif case == "ifnet2000":
            ways["ours offset fastest"] = (
                lambda g=last_grids, p=points, o=offsets: ops.sample_grids(g, p, o, layout="offset_fastest"),
                last_grids,
            )
        width = len(offsets) * sum(c for c, _ in sizes)
        moved = bytes_of(last_grids, 3, batch * count * len(offsets), batch * count * width)
        name = "grid 64^3" if case == "grid" else f"IF-Net, {count} points"
        rows += measure(name, ways, moved, rate, device, rounds)
    print_rows(f"feature interpolation on {device}", rows)
    print_rows("the gather and the first layer together, forward + backward", linear_rows)
    name = "interpolation" if cases == list(CASES) else "interpolation_" + "_".join(cases)
    print(save(name, [{"copy GB/s": rate / 1e9}, *rows, *linear_rows], device, options.out))


def linear_cases(grids: list[Tensor], points: Tensor, offsets: Tensor, device: torch.device) -> list[dict[str, Any]]:
    """IF-Net's first layer after the gather, and before it on the coarse grids, at several numbers of points.

    "gather, then torch's": `sample_grids` and `F.linear`; "plain": the same order with our own products; "chosen": what
    `sample_grids_linear` does by itself. "ratio" is the first over the last, "ratio of orders" the second.
    """
    weight = torch.randn(IFNET_WIDTH, len(offsets) * sum(g.shape[1] for g in grids), device=device) / 50
    leaves = [*grids, weight.requires_grad_()]
    rows = []
    fine = [False] * len(grids)
    for count in (2000, 20000):
        some = points[:, :count].contiguous()
        choices = {"plain": fine, "chosen": None}
        if count == 2000:  # where it is not clear which is faster
            choices |= {"8^3 first": [*fine[:-1], True], "16^3 and 8^3 first": [*fine[:-2], True, True]}
        buffers = ops.KeptBuffers()
        calls = {
            name: within(
                buffers,
                both_ways(
                    lambda some=some, coarse=coarse: ops.sample_grids_linear(
                        grids, some, weight, None, offsets, coarse=coarse
                    ),
                    leaves,
                ),
            )
            for name, coarse in choices.items()
        }
        calls["gather, then torch's"] = within(
            buffers, both_ways(lambda some=some: F.linear(ops.sample_grids(grids, some, offsets), weight), leaves)
        )
        seconds = alternate(calls, device, rounds=3)
        rows.append(
            {"case": f"IF-Net and first layer, {count} points"}
            | {f"{name} ms": value * 1e3 for name, value in seconds.items()}
            | {
                "ratio": seconds["gather, then torch's"] / seconds["chosen"],
                "ratio of orders": seconds["plain"] / seconds["chosen"],
            }
        )
    return rows


if __name__ == "__main__":
    main()
