"""Feature interpolation against torch's grid_sample, forward and forward + backward, in one run.

python -m benchmarks.bench_interpolation [--device cuda]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit import ops

IFNET_GRIDS = ((1, 128), (16, 128), (32, 64), (64, 32), (128, 16), (128, 8))  # channels, nodes an axis


def grids_of(sizes: tuple[tuple[int, int], ...], batch: int, device: torch.device, last: bool) -> list[Tensor]:
    """Random feature grids, contiguous or channels last."""
    form = torch.channels_last_3d if last else torch.contiguous_format
    return [
        torch.randn(batch, c, r, r, r, device=device).contiguous(memory_format=form).requires_grad_() for c, r in sizes
    ]


def torch_grids(grids: list[Tensor], points: Tensor, offsets: Tensor) -> Tensor:
    """IF-Net's gather with grid_sample: [B, N, C K]."""
    at = (points[:, :, None] + offsets)[:, None]  # [B, 1, N, K, 3]
    parts = [F.grid_sample(grid, at, align_corners=True, padding_mode="border")[:, :, 0] for grid in grids]
    return torch.cat(parts, 1).permute(0, 2, 1, 3).flatten(2)


def torch_planes(planes: Tensor, points: Tensor) -> Tensor:
    """ConvONet's sum over planes with grid_sample: [B, N, C]."""
    parts = [
        F.grid_sample(planes[:, k], points[:, k, :, None], align_corners=True, padding_mode="border")[..., 0]
        for k in range(planes.shape[1])
    ]
    return torch.stack(parts).sum(0).transpose(1, 2)


def both_ways(call: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], Any]:
    """Forward and backward to `leaves`."""

    def run() -> Any:
        out = call()
        return torch.autograd.grad(out, leaves, torch.ones_like(out))

    return run


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(
        __doc__, arguments, lambda p: p.add_argument("--quick", action="store_true", help="small cases only")
    )
    device = torch.device(options.device)
    steps = 0.0722 * torch.cat((torch.zeros(1, 3), -torch.eye(3), torch.eye(3))).to(device)

    rows: list[dict[str, Any]] = []

    def add(case: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], leaves: list[Tensor]) -> None:
        with torch.no_grad():
            forward = alternate({"pyimplicit": ours, "torch": theirs}, device, rounds=5)
        whole = alternate({"pyimplicit": both_ways(ours, leaves), "torch": both_ways(theirs, leaves)}, device, rounds=5)
        for what, seconds in (("forward", forward), ("forward + backward", whole)):
            rows.append(
                {"case": case, "what": what}
                | {f"{name} ms": value * 1e3 for name, value in seconds.items()}
                | {"ratio": seconds["torch"] / seconds["pyimplicit"]}
            )
            print_rows("", rows[-1:])

    planes = torch.randn(8, 3, 32, 64, 64, device=device, requires_grad=True)
    at = torch.rand(8, 3, 2048, 2, device=device) * 2 - 1
    add("three planes 64^2", lambda: ops.sample_planes(planes, at), lambda: torch_planes(planes, at), [planes])
    for last in (False, True):
        form = "channels last" if last else "contiguous"
        grid = grids_of(((32, 64),), 8, device, last)
        points = torch.rand(8, 2048, 3, device=device) * 2 - 1
        add(
            f"grid 64^3, {form}",
            lambda grid=grid, points=points: ops.sample_grids(grid, points),
            lambda grid=grid, points=points: torch_grids(grid, points, steps[:1]),
            grid,
        )
        if options.quick:
            continue
        for count in (2_000, 20_000) if device.type == "cuda" else (2_000,):
            pyramid = grids_of(IFNET_GRIDS, 4, device, last)
            points = torch.rand(4, count, 3, device=device) * 2 - 1
            add(
                f"IF-Net, {count} points, {form}",
                lambda p=pyramid, q=points: ops.sample_grids(p, q, steps, layout="offset_fastest"),
                lambda p=pyramid, q=points: torch_grids(p, q, steps),
                pyramid,
            )
    print_rows(f"feature interpolation on {device}", rows)
    print(save("interpolation", rows, device, options.out))


if __name__ == "__main__":
    main()
