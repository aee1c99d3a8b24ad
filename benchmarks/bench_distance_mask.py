"""The distance mask of a whole grid against other libraries' searches, building included, in one run.

python -m benchmarks.bench_distance_mask [--device cuda] [--against pykdtree warp scipy] [--resolutions 128 256]

Peers that are not installed are left out; scipy is always there. At 256^3 the slow peers take minutes: `--rounds 1`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit.geometry.surface import Surface
from pyimplicit.sampling import DistanceMask

DISTANCE = 0.1
Points = NDArray[np.float32]  # [N, 3]
Mask = NDArray[np.bool_]  # [N]


def scipy_mask(cloud: Points, nodes: Points, threads: int, device: str) -> Mask:
    """The KD-tree of scipy."""
    return np.isfinite(cKDTree(cloud).query(nodes, distance_upper_bound=DISTANCE, workers=threads)[0])


def pykdtree_mask(cloud: Points, nodes: Points, threads: int, device: str) -> Mask:
    """pykdtree, in float32; as many threads as OpenMP has."""
    from pykdtree.kdtree import KDTree

    return np.isfinite(KDTree(cloud).query(nodes, distance_upper_bound=DISTANCE)[0])


def warp_mask(cloud: Points, nodes: Points, threads: int, device: str) -> Mask:
    """The hash grid of warp; one thread on the CPU."""
    import warp

    near = _warp_kernel()
    points = warp.array(cloud, dtype=warp.vec3, device=device)
    grid = warp.HashGrid(128, 128, 128, device=device)
    grid.build(points, DISTANCE)
    found = warp.zeros(len(nodes), dtype=warp.bool, device=device)
    queries = warp.array(nodes, dtype=warp.vec3, device=device)
    warp.launch(near, len(nodes), [grid.id, points, queries, DISTANCE, found], device=device)
    return found.numpy()


_kernels: list[Any] = []


def _warp_kernel() -> Any:
    if not _kernels:
        import warp

        warp.config.quiet = True

        @warp.kernel
        def near(
            grid: warp.uint64,
            points: warp.array(dtype=warp.vec3),
            queries: warp.array(dtype=warp.vec3),
            distance: float,
            found: warp.array(dtype=warp.bool),
        ):
            i = warp.tid()
            at = queries[i]
            query = warp.hash_grid_query(grid, at, distance)
            index = int(0)  # noqa: RUF046, UP018 (a variable, not a constant, in the language of kernels)
            while warp.hash_grid_query_next(query, index):
                if warp.length_sq(points[index] - at) <= distance * distance:
                    found[i] = True
                    return

        _kernels.append(near)
    return _kernels[0]


PEERS: dict[str, Callable[[Points, Points, int, str], Mask]] = {
    "pykdtree": pykdtree_mask,
    "warp": warp_mask,
    "scipy": scipy_mask,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--resolutions", nargs="+", type=int, default=[128])
    parser.add_argument("--clouds", nargs="+", type=int, default=[3_000, 100_000], help="points of each cloud")
    parser.add_argument("--rounds", type=int, default=3)


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(__doc__, arguments, add_options)
    device = torch.device(options.device)

    surface = Surface(meshes.ball())
    rows: list[dict[str, Any]] = []
    for resolution in options.resolutions:
        axis = torch.linspace(-0.5, 0.5, resolution, dtype=torch.float64).float()
        nodes = torch.cartesian_prod(axis, axis, axis).numpy()
        for count in options.clouds:
            cloud = surface.sample_surface(count).points
            on_device, plain = cloud.to(device), cloud.numpy()

            def ours(cloud: torch.Tensor = on_device, resolution: int = resolution) -> torch.Tensor:
                return DistanceMask.from_cloud(cloud, DISTANCE).grid(resolution)

            competitors: dict[str, Callable[[], Any]] = {"pyimplicit": ours}
            mine, differ = ours().cpu().numpy().reshape(-1), {}
            for name in options.against:
                try:
                    theirs = PEERS[name](plain, nodes, options.threads, options.device)
                except ImportError:
                    print(f"{name}: not installed, left out")
                    continue
                differ[f"{name} differs at"] = int((theirs != mine).sum())
                competitors[name] = lambda n=name, c=plain, g=nodes: PEERS[n](c, g, options.threads, options.device)
            seconds = alternate(competitors, device, rounds=options.rounds, warm_up=0)
            best = min((value for name, value in seconds.items() if name != "pyimplicit"), default=float("nan"))
            times = {f"{name} ms": value * 1e3 for name, value in seconds.items()}
            rows.append(
                {
                    "cloud": count,
                    "grid": resolution,
                    **times,
                    "ratio to the best": best / seconds["pyimplicit"],
                    **differ,
                }
            )
    print_rows(f"distance mask of all nodes on {device}", rows)
    print(save("distance_mask", rows, device, options.out))


if __name__ == "__main__":
    main()
