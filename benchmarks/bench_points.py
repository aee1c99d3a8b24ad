"""Scatters to cells, occupancy grids, farthest points and nearest neighbours against plain torch and against libraries.

python -m benchmarks.bench_points [--device cuda] [--only scatter voxelise farthest neighbours]

Open3D and fpsample take part on the CPU where they are installed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit import ops

Competitors = dict[str, Callable[[], Any]]


def surface_cloud(batch: int, count: int, device: torch.device) -> Tensor:
    """Points on a sphere that nearly fills the unit cube, [B, N, 3]."""
    return (0.45 * F.normalize(torch.randn(batch, count, 3), dim=2)).to(device)


def optional(name: str, device: torch.device) -> Any:
    """A library of the CPU that may be absent."""
    if device.type != "cpu":
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Cells:
    """The grouping that embedding bags need, by torch alone: the fastest way found without a kernel of one's own."""

    def __init__(self, cells: Tensor, cell_count: int) -> None:
        self.shape = partitions, batch, count = cells.shape
        self.cell_count = cell_count
        first = torch.arange(partitions * batch, device=cells.device) * cell_count
        self.flat = (cells + first.view(partitions, batch, 1)).flatten()
        in_order, order = self.flat.sort(stable=True)
        _, rank, sizes = torch.unique_consecutive(in_order, return_inverse=True, return_counts=True)
        own = torch.empty_like(rank)
        own[order] = rank
        self.members = order.remainder(batch * count)
        self.ends = F.pad(sizes.cumsum(0), (1, 0))
        self.own = own.view(partitions, batch * count).T.contiguous()

    def pool_by_bags(self, features: Tensor) -> Tensor:
        """Maximum of the own cell, with one point's gradient a cell."""
        rows = features.flatten(0, 1)
        best = F.embedding_bag(self.members, rows, self.ends, mode="max", include_last_offset=True)
        return F.embedding_bag(self.own, best, mode="sum").view_as(features)

    def pool_by_reduce(self, features: Tensor) -> Tensor:
        """The same by scatter_reduce, whose gradient is shared out among equal points."""
        partitions, batch, count = self.shape
        rows = features.flatten(0, 1).repeat(partitions, 1)
        index = self.flat[:, None].expand(-1, rows.shape[1])
        best = rows.new_zeros(partitions * batch * self.cell_count, rows.shape[1])
        best = best.scatter_reduce(0, index, rows, "amax", include_self=False)
        return best.gather(0, index).view(partitions, batch, count, -1).sum(0)

    def mean(self, features: Tensor, channels_first: bool) -> Tensor:
        """Mean of each cell by index_add."""
        partitions, batch, _ = self.shape
        total = partitions * batch * self.cell_count
        rows = features.flatten(0, 1).repeat(partitions, 1)
        sizes = torch.bincount(self.flat, minlength=total).clamp_(min=1).to(features.dtype)
        sums = features.new_zeros(total, rows.shape[1]).index_add(0, self.flat, rows)
        means = (sums / sizes[:, None]).view(partitions, batch, self.cell_count, -1)
        return means.transpose(2, 3).contiguous() if channels_first else means


def both_ways(call: Callable[[Tensor], Tensor], features: Tensor) -> Callable[[], Any]:
    """Forward and backward."""
    upstream = torch.randn_like(call(features))
    return lambda: torch.autograd.grad(call(features), features, upstream)


def bench_scatter(device: torch.device) -> list[tuple[str, Competitors]]:
    """ConvONet's pooling: 32 clouds of 3,000 points, 32 channels."""
    cases: list[tuple[str, Competitors]] = []
    cloud = surface_cloud(32, 3000, device)
    features = torch.randn(32, 3000, 32, device=device, requires_grad=True)
    for name, axes, size in (("planes 64^2", ((0, 2), (0, 1), (1, 2)), 64), ("grid 32^3", ((0, 1, 2),), 32)):
        place = ((cloud / 1.101 + 0.5) * size).long()
        cells = torch.stack([sum(place[..., a] * size**n for n, a in enumerate(spanned)) for spanned in axes])
        count, first = size ** len(axes[0]), len(axes[0]) == 3
        theirs, ours = Cells(cells, count), ops.build_cell_groups(cells, count)
        torch.testing.assert_close(theirs.pool_by_bags(features), ops.pool_local(features, ours))
        pools: dict[str, Callable[[Tensor], Tensor]] = {
            "pyimplicit": lambda f, g=ours: ops.pool_local(f, g),
            "torch bags": theirs.pool_by_bags,
            "torch reduce": theirs.pool_by_reduce,
        }
        means: dict[str, Callable[[Tensor], Tensor]] = {
            "pyimplicit": lambda f, g=ours, c=first: ops.scatter_mean(f, g, channels_first=c),
            "torch index_add": lambda f, t=theirs, c=first: t.mean(f, c),
        }
        still = features.detach()
        groups: Competitors = {
            "pyimplicit": lambda c=cells, n=count: ops.build_cell_groups(c, n),
            "torch": lambda c=cells, n=count: Cells(c, n),
        }
        cases.append((f"{name}: group", groups))
        for what, ways in (("pool local", pools), ("mean", means)):
            forward = {way: functools.partial(call, still) for way, call in ways.items()}
            cases.append((f"{name}: {what}, forward", forward))
            whole = {way: both_ways(call, features) for way, call in ways.items()}
            cases.append((f"{name}: {what}, forward + backward", whole))
    return cases


def voxelise_by_torch(points: Tensor, resolution: int) -> Tensor:
    """Nearest nodes by rounding, set by indexing."""
    node = ((points + 0.5) * (resolution - 1)).round().long().clamp(0, resolution - 1)
    grid = points.new_zeros(points.shape[0], resolution, resolution, resolution)
    grid[torch.arange(points.shape[0], device=points.device)[:, None], node[..., 0], node[..., 1], node[..., 2]] = 1
    return grid


def bench_voxelise(device: torch.device) -> list[tuple[str, Competitors]]:
    """IF-Net's and NDF's input."""
    cases: list[tuple[str, Competitors]] = []
    for batch, count, resolution in ((1, 3_000, 128), (6, 3_000, 128), (4, 10_000, 256)):
        points = surface_cloud(batch, count, device)
        ours: Competitors = {
            "pyimplicit": lambda p=points, r=resolution: ops.voxelise(p, r),
            "torch": lambda p=points, r=resolution: voxelise_by_torch(p, r),
        }
        cases.append((f"{batch} x {count} points, {resolution}^3", ours))
    return cases


def farthest_by_torch(points: Tensor, count: int) -> Tensor:
    """One step after the other, all clouds at once."""
    clouds = torch.arange(points.shape[0], device=points.device)
    distance = torch.full_like(points[..., 0], torch.inf)
    chosen = [torch.zeros_like(clouds)]
    for _ in range(count - 1):
        distance = torch.minimum(distance, (points - points[clouds, chosen[-1], None]).square().sum(2))
        chosen.append(distance.argmax(1))
    return torch.stack(chosen, 1)


def bench_farthest(device: torch.device) -> list[tuple[str, Competitors]]:
    """AIR-Nets' anchors, and one large cloud."""
    open3d, fpsample = optional("open3d", device), optional("fpsample", device)
    cases: list[tuple[str, Competitors]] = []
    for batch, each, count in ((64, 300, 200), (16, 3_000, 500), (1, 3_000, 500), (1, 100_000, 1_000)):
        points = surface_cloud(batch, each, device)
        ways: Competitors = {
            "pyimplicit": lambda p=points, m=count: ops.farthest_points(p, m),
            "torch": lambda p=points, m=count: farthest_by_torch(p, m),
        }
        if open3d is not None:
            clouds = [open3d.geometry.PointCloud(open3d.utility.Vector3dVector(p.numpy())) for p in points]
            ways["open3d"] = lambda c=clouds, m=count: [cloud.farthest_point_down_sample(m) for cloud in c]
        if fpsample is not None:
            arrays = [p.numpy() for p in points]
            ways["fpsample"] = lambda a=arrays, m=count: [
                fpsample.bucket_fps_kdline_sampling(array, m, 5, start_idx=0) for array in a
            ]
        cases.append((f"{batch} x {each} points, {count} chosen", ways))
    return cases


def by_trees(queries: Tensor, cloud: Tensor, count: int) -> list[Any]:
    """A KD-tree for each cloud, built each time as clouds are new in every step."""
    threads = torch.get_num_threads()
    return [
        cKDTree(points.numpy()).query(asked.numpy(), count, workers=threads)[1]
        for asked, points in zip(queries, cloud, strict=True)
    ]


def bench_neighbours(device: torch.device) -> list[tuple[str, Competitors]]:
    """AIR-Nets' neighbourhoods: of points among points, and of query points among anchors."""
    cases: list[tuple[str, Competitors]] = []
    for batch, asked, each, count in (
        (64, 300, 300, 16),
        (8, 3_000, 3_000, 16),
        (8, 500, 3_000, 16),
        (16, 2_000, 100, 7),
    ):
        cloud = surface_cloud(batch, each, device)
        queries = cloud[:, :asked] if asked <= each else torch.rand(batch, asked, 3, device=device) - 0.5
        queries = queries.contiguous()
        ways: Competitors = {
            "pyimplicit": lambda q=queries, c=cloud, k=count: ops.nearest_neighbours(q, c, k),
            "torch": lambda q=queries, c=cloud, k=count: torch.cdist(q, c).topk(k, 2, largest=False).indices,
        }
        if device.type == "cpu":
            ways["scipy"] = lambda q=queries, c=cloud, k=count: by_trees(q, c, k)
        cases.append((f"{batch} x {asked} queries, {each} points, {count} nearest", ways))
    return cases


BENCHES = {
    "scatter": bench_scatter,
    "voxelise": bench_voxelise,
    "farthest": bench_farthest,
    "neighbours": bench_neighbours,
}


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(
        __doc__, arguments, lambda p: p.add_argument("--only", nargs="+", choices=list(BENCHES), default=list(BENCHES))
    )
    device = torch.device(options.device)
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    for bench in options.only:
        for case, ways in BENCHES[bench](device):
            seconds = alternate(ways, device, rounds=5)
            ours = seconds["pyimplicit"]
            best = min((name for name in seconds if name != "pyimplicit"), key=lambda name: seconds[name])
            times = {f"{name} ms": value * 1e3 for name, value in seconds.items()}
            rows.append({"kernel": bench, "case": case, **times, "best other": best, "ratio": seconds[best] / ours})
        print_rows(f"{bench} on {device}", [row for row in rows if row["kernel"] == bench])
    print(save("points", rows, device, options.out))


if __name__ == "__main__":
    main()
