"""Labelled query points a second: every strategy against the same recipe written with other libraries, in one run.

    python -m benchmarks.bench_sampling [--folder MESHES] [--device cuda] [--out benchmarks/results]

Recipes: "pool" weighs 100,000 uniform points by their distance and takes the wanted ones by torch.multinomial; "open3d"
and "trimesh" draw surface points with that library. All label with open3d's distance, which is the fastest peer's, and
get their scene and their mesh prepared beforehand, as our surface is; without open3d installed only ours is timed.
Signs: open3d counts what a ray crosses, which says nothing on an open mesh, where ours come from the winding number; so
points of open meshes are labelled with unsigned distances, too, and a table says how many signs differ from the exact
winding number's. In "warm" turns each way runs itself just before it is timed, as where points are drawn one call after
the other; in "cold" ones the others have just used the caches, as a training step does. A row also says how many
distance queries a point took, and the last table what a training step pays for fresh points of all its shapes.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit import networks, ops
from pyimplicit.geometry import Mesh, Surface, SurfaceBatch
from pyimplicit.ops import RandomStream, RowStreams
from pyimplicit.sampling import STRATEGIES, Linear, Mixture, SurfaceNoise, sample_queries, sample_query_batch
from pyimplicit.sampling.rows import Label

TAU = 0.1
POOL = 100_000
COUNTS = (2_000, 20_000, 100_000)
TURNS = ("warm", "cold")
CPU = torch.device("cpu")


class Recipes:
    """The strategies with open3d, trimesh and torch, for one mesh."""

    def __init__(self, mesh: Mesh, threads: int) -> None:
        import open3d
        import trimesh

        self.open3d, self.threads = open3d, threads
        vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
        self.scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        self.scene.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(faces.astype(np.uint32)))
        self.scene.compute_distance(open3d.core.Tensor(vertices[:1]))
        self.trimesh = trimesh.Trimesh(vertices, faces, process=False)
        self.mesh = open3d.geometry.TriangleMesh(
            open3d.utility.Vector3dVector(vertices.astype(np.float64)), open3d.utility.Vector3iVector(faces)
        )

    def label(self, points: Any, label: Label) -> Any:
        """Distances [N], negative inside if signed."""
        ask = self.scene.compute_signed_distance if label == "signed" else self.scene.compute_distance
        return ask(self.open3d.core.Tensor(points), nthreads=self.threads).numpy()

    def pool(self, count: int, label: Label) -> tuple[Any, Any]:
        """S_Linear by weighing a pool."""
        pool = torch.rand(POOL, 3) - 0.5
        distance = self.scene.compute_distance(self.open3d.core.Tensor(pool.numpy()), nthreads=self.threads).numpy()
        weights = (TAU - torch.from_numpy(distance)).clamp(min=0)
        points = pool[torch.multinomial(weights, count)].numpy()
        return points, self.label(points, label)

    def mixture(self, strategy: Mixture, count: int, library: str, label: Label) -> tuple[Any, Any]:
        """Any mixture, with surface points of `library`."""
        parts = []
        for component, part in zip(strategy.components, strategy.counts(count), strict=True):
            if not isinstance(component.source, SurfaceNoise):
                parts.append(np.random.default_rng().random((part, 3), dtype=np.float32) - 0.5)
                continue
            if library == "open3d":
                points = np.asarray(self.mesh.sample_points_uniformly(part).points, dtype=np.float32)
            else:
                points = self.trimesh.sample(part).astype(np.float32)
            noise = np.random.default_rng().standard_normal((part, 3), dtype=np.float32)
            parts.append(points + np.float32(component.source.sigma) * noise)
        points = np.concatenate(parts)
        return points, self.label(points, label)


def strategies(name: str, mesh: Mesh, threads: int, device: torch.device) -> list[dict[str, Any]]:
    """Rows of every strategy at sparse and dense counts, in warm and in cold turns."""
    surface = Surface(mesh, device=device).prepare()
    try:
        recipes: Recipes | None = Recipes(mesh, threads)
    except ImportError:
        recipes = None
    rows = []
    labels: tuple[Label, ...] = ("signed",) if surface.is_closed else ("signed", "unsigned")
    for label, strategy in itertools.product(labels, STRATEGIES.values()):
        for count, turns in itertools.product(COUNTS, TURNS):
            seeds = iter(range(1 << 30))
            calls: dict[str, Callable[[], Any]] = {
                "pyimplicit": lambda s=strategy, n=count, i=seeds, kind=label: sample_queries(
                    surface, s, n, next(i), label=kind
                )
            }
            if recipes is None:
                pass
            elif isinstance(strategy, Mixture):
                for library in ("open3d", "trimesh"):
                    calls[library] = lambda s=strategy, n=count, lib=library, kind=label: recipes.mixture(
                        s, n, lib, kind
                    )
            elif count < POOL // 10:
                calls["pool"] = lambda n=count, kind=label: recipes.pool(n, kind)
            seconds = alternate(calls, device, rounds=5, warm_turns=turns == "warm")
            best = min((value for peer, value in seconds.items() if peer != "pyimplicit"), default=None)
            rows.append(
                {"mesh": name, "label": label, "strategy": f"S_{strategy.symbol}", "n": count, "turns": turns}
                | {f"{peer} Mpoints/s": count / value / 1e6 for peer, value in seconds.items()}
                | {"ratio": None if best is None else best / seconds["pyimplicit"]}
                | {"queries a point": queries_a_point(surface, strategy, count)}
            )
            print_rows("", rows[-1:])
    return rows


def wrong_signs(name: str, mesh: Mesh, threads: int, device: torch.device, count: int = 2_000) -> dict[str, Any]:
    """The share of uniform points whose sign is not that of the sum of all solid angles."""
    surface = Surface(mesh, device=device)
    points = sample_queries(surface, "uniform", count, sign="winding").points
    inside = ops.winding_number(points.double(), surface.hierarchy, beta=float("inf")) > 0.5
    row: dict[str, Any] = {"mesh": name, "closed": surface.is_closed, "points": count}
    row["pyimplicit wrong"] = float(((surface.signed_distance(points) < 0) != inside).double().mean())
    try:
        found = torch.from_numpy(Recipes(mesh, threads).label(points.cpu().numpy(), "signed"))
        row["open3d wrong"] = float(((found < 0) != inside.cpu()).double().mean())
    except ImportError:
        pass
    return row


def queries_a_point(surface: Surface, strategy: Any, count: int, labelled: bool = True) -> float:
    """Distance queries a labelled point, set-up aside."""
    if not isinstance(strategy, Linear):
        return 1.0
    batch, row = SurfaceBatch.single(surface), torch.zeros(1, dtype=torch.int64, device=surface.device)
    cells = surface.weight_cells(ops.DistanceWeight(1 / strategy.tau, strategy.tau))
    streams = RowStreams.of(0, RandomStream(), surface.device)
    _, _, queries = ops.sample_by_distance(batch.table, cells, row, streams, count, labelled=labelled)
    return float(queries.double().mean())


def set_up(name: str, mesh: Mesh, device: torch.device) -> dict[str, Any]:
    """What S_Linear prepares once for a surface, and its queries with and without labels."""
    surface = Surface(mesh, device=device).prepare()
    weight = ops.DistanceWeight(1 / TAU, TAU)
    seconds = alternate(
        {
            "cells": lambda: ops.build_weight_cells(surface.hierarchy, weight),
            "areas": lambda: ops.build_area_table(surface.hierarchy.triangles),
        },
        device, rounds=5,
    )  # fmt: skip
    return {
        "mesh": name, "faces": len(mesh.faces), "cells": surface.weight_cells(weight).cells.shape[0],
        "cells ms": seconds["cells"] * 1e3, "area table ms": seconds["areas"] * 1e3,
        "queries, labelled": queries_a_point(surface, Linear(TAU), 100_000),
        "queries, points alone": queries_a_point(surface, Linear(TAU), 100_000, labelled=False),
    }  # fmt: skip


def training_step(found: dict[str, Mesh], device: torch.device, shapes: int) -> list[dict[str, Any]]:
    """Fresh labelled points of all shapes of a batch beside ONet's training step on them."""
    batch = SurfaceBatch([Surface(mesh, device=device) for mesh in list(found.values()) * shapes][:shapes]).prepare()
    network = networks.create("onet").to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    clouds = torch.stack([surface.sample_surface(300).points for surface in batch.surfaces])

    def step(queries: tuple[Tensor, Tensor]) -> None:
        optimizer.zero_grad()
        logits = network.decode(queries[0], network.encode(clouds))
        torch.nn.functional.binary_cross_entropy_with_logits(logits, queries[1]).backward()
        optimizer.step()

    rows = []
    for strategy in ("linear", "balanced_surface"):
        drawn = sample_query_batch(batch, strategy, 2_000)
        seeds = iter(range(1 << 30))
        seconds = alternate(
            {
                "draw": lambda s=strategy, i=seeds: sample_query_batch(batch, s, 2_000, next(i)),
                "ONet step": lambda q=drawn: step((q.points, q.occupancy)),
            },
            device, rounds=3,
        )  # fmt: skip
        rows.append(
            {"strategy": strategy, "shapes": shapes, "points each": 2_000}
            | {f"{what} ms": value * 1e3 for what, value in seconds.items()}
            | {"share": seconds["draw"] / seconds["ONet step"]}
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--folder", type=Path, help="holds NAME.npz with v and f, closed meshes")
        parser.add_argument("--shapes", type=int, default=8, help="of the training step")

    options = parse_arguments(__doc__, arguments, add)
    device = torch.device(options.device)
    found = {"ball": meshes.ball()}
    if options.folder is not None:
        found = {
            path.stem: Mesh(*(torch.from_numpy(np.load(path)[key]) for key in ("v", "f")))
            for path in sorted(options.folder.glob("*.npz"))
        }
    rows = [row for name, mesh in found.items() for row in strategies(name, mesh, options.threads, device)]
    print_rows(f"labelled query points on {device}", rows)
    prepared = [set_up(name, mesh, device) for name, mesh in found.items()]
    print_rows("set-up of S_Linear, and distance queries a point", prepared)
    wrong = [wrong_signs(name, mesh, options.threads, device) for name, mesh in found.items()]
    print_rows("signs that are not those of the winding number", wrong)
    steps = training_step(found, device, options.shapes)
    print_rows("fresh points beside a training step", steps)
    print(save("sampling", rows + prepared + wrong + steps, device, options.out))


if __name__ == "__main__":
    main()
