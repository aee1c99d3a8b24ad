"""The distance mask of a whole grid against scipy's KD-tree, building included, in one run.

python -m benchmarks.bench_distance_mask [--device cuda]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit.geometry.surface import Surface
from pyimplicit.sampling import DistanceMask

DISTANCE = 0.1


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(__doc__, arguments)
    device = torch.device(options.device)

    surface = Surface(meshes.ball())
    axis = torch.linspace(-0.5, 0.5, 128)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    rows: list[dict[str, Any]] = []
    for count in (3_000, 100_000):
        cloud = surface.sample_surface(count).points
        on_device, points = cloud.to(device), grid.to(device)

        def by_tree(cloud: torch.Tensor = cloud) -> Any:
            tree = cKDTree(cloud.numpy())
            return np.isfinite(tree.query(grid.numpy(), distance_upper_bound=DISTANCE, workers=options.threads)[0])

        def ours(cloud: torch.Tensor = on_device, points: torch.Tensor = points) -> torch.Tensor:
            return DistanceMask.from_cloud(cloud, DISTANCE)(points)

        assert bool((ours().cpu().numpy() == by_tree()).all()), "the mask differs from the KD-tree's"
        seconds = alternate({"pyimplicit": ours, "scipy": by_tree}, device, rounds=3)
        times = {f"{name} ms": value * 1e3 for name, value in seconds.items()}
        rows.append({"cloud": count, "grid": 128, **times, "ratio": seconds["scipy"] / seconds["pyimplicit"]})
    print_rows(f"distance mask on {device}", rows)
    print(save("distance_mask", rows, device, options.out))


if __name__ == "__main__":
    main()
