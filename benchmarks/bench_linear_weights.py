"""Weighted choice against torch.multinomial, surface points and the strategies against torch by hand, in one run.

python -m benchmarks.bench_linear_weights [--device cuda]
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit import ops
from pyimplicit.geometry.surface import Surface
from pyimplicit.sampling import STRATEGIES, sample_queries


def surface_points_by_hand(vertices: Tensor, faces: Tensor, count: int) -> Tensor:
    """Area-uniform points of a mesh with torch alone."""
    corners = vertices[faces.long()]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    chosen = corners[torch.multinomial(areas, count, replacement=True)]
    root, second = torch.rand(2, count, 1, device=vertices.device)
    root = root.sqrt()
    return chosen[:, 0] * (1 - root) + chosen[:, 1] * root * (1 - second) + chosen[:, 2] * root * second


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(__doc__, arguments)
    device = torch.device(options.device)

    rows: list[dict[str, Any]] = []
    for pool in (100_000, 1_000_000, 10_000_000):
        weights = torch.rand(pool, device=device)
        seconds = alternate(
            {
                "pyimplicit": lambda w=weights: ops.weighted_choice(w, 2048),
                "torch": lambda w=weights: torch.multinomial(w, 2048),
            },
            device,
            rounds=5,
        )
        rows.append(_row("weighted choice, 2,048 of", pool, seconds))
    surface = Surface(meshes.ball(), device=device)
    vertices, faces = surface.mesh.vertices.to(device), surface.mesh.faces.to(device)
    for count in (100_000, 1_000_000):
        seconds = alternate(
            {
                "pyimplicit": lambda n=count: ops.sample_surface(vertices, faces, n),
                "torch": lambda n=count: surface_points_by_hand(vertices, faces, n),
            },
            device,
            rounds=5,
        )
        rows.append(_row("surface points", count, seconds))
    print_rows(f"choices and surface points on {device}", rows)

    drawn = []
    for name in STRATEGIES:
        seconds = alternate({"pyimplicit": lambda n=name: sample_queries(surface, n, 20_000)}, device, rounds=5)
        drawn.append({"what": f"labelled points, {name}", "n": 20_000, "pyimplicit ms": seconds["pyimplicit"] * 1e3})
    print_rows("labelled query points", drawn)
    print(save("linear_weights", rows + drawn, device, options.out))


def _row(what: str, count: int, seconds: dict[str, float]) -> dict[str, Any]:
    times = {f"{name} ms": value * 1e3 for name, value in seconds.items()}
    return {"what": what, "n": count, **times, "ratio": seconds["torch"] / seconds["pyimplicit"]}


if __name__ == "__main__":
    main()
