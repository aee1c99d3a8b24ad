"""Weighted choice against torch.multinomial, surface points against other libraries, the strategies, in one run.

python -m benchmarks.bench_linear_weights [--device cuda] [--mesh bunny.npz] [--against pcu open3d trimesh]

Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit import ops
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.sampling import STRATEGIES, sample_queries

CHOSEN = 2048
MOST_OF_MULTINOMIAL = 2**24  # categories that torch accepts


def pool_of(kind: str, count: int, device: torch.device) -> Tensor:
    """Weights [count]: uniform, of a Pareto distribution, or uniform but for a few giants."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(count, generator=generator)
    if kind == "pareto":
        weights = (1 - weights).pow(-2)  # index 0.5: neither mean nor variance
    elif kind == "giants":
        weights[torch.randperm(count, generator=generator)[:5]] = 1e9
    return weights.to(device)


def points_by_hand(vertices: Tensor, faces: Tensor, count: int) -> Tensor:
    """Area-uniform points of a mesh with torch alone."""
    corners = vertices[faces.long()]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    chosen = corners[torch.multinomial(areas, count, replacement=True)]
    root, second = torch.rand(2, count, 1, device=vertices.device)
    root = root.sqrt()
    return chosen[:, 0] * (1 - root) + chosen[:, 1] * root * (1 - second) + chosen[:, 2] * root * second


def pcu_points(mesh: Mesh) -> Callable[[int], Any]:
    """Points of point-cloud-utils."""
    import point_cloud_utils as pcu

    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()

    def draw(count: int) -> Any:
        face, weights = pcu.sample_mesh_random(vertices, faces, count)
        return pcu.interpolate_barycentric_coords(faces, face, weights, vertices)

    return draw


def open3d_points(mesh: Mesh) -> Callable[[int], Any]:
    """Points of open3d."""
    import open3d

    theirs = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices.double().numpy()), open3d.utility.Vector3iVector(mesh.faces.numpy())
    )
    return lambda count: theirs.sample_points_uniformly(count)


def trimesh_points(mesh: Mesh) -> Callable[[int], Any]:
    """Points of trimesh, which keeps the areas between calls."""
    import trimesh

    theirs = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    return lambda count: trimesh.sample.sample_surface(theirs, count)


PEERS = {"pcu": pcu_points, "open3d": open3d_points, "trimesh": trimesh_points}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mesh", type=Path, help="mesh of the surface points; a ball without")
    parser.add_argument("--against", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(__doc__, arguments, add_options)
    device = torch.device(options.device)
    choices = _choices(device, options.rounds)
    print_rows(f"weighted choice of {CHOSEN} on {device}", choices)

    mesh = meshes.read(options.mesh) if options.mesh else meshes.ball()
    points = _surface_points(mesh, device, options.against, options.rounds)
    print_rows(f"surface points on {device}", points)

    surface = Surface(mesh, device=device)
    drawn = []
    for name in STRATEGIES:
        seconds = alternate(
            {"pyimplicit": lambda n=name: sample_queries(surface, n, 20_000)}, device, rounds=options.rounds
        )
        drawn.append({"what": f"labelled points, {name}", "n": 20_000, "pyimplicit ms": seconds["pyimplicit"] * 1e3})
    print_rows("labelled query points", drawn)
    print(save("linear_weights", choices + points + drawn, device, options.out))


def _choices(device: torch.device, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for pool in (100_000, 1_000_000, 10_000_000):
        for kind in ("uniform", "pareto", "giants"):
            weights = pool_of(kind, pool, device)
            for replacement in (False, True):
                competitors: dict[str, Callable[[], Any]] = {
                    "pyimplicit": lambda w=weights, r=replacement: ops.weighted_choice(w, CHOSEN, 0, r)
                }
                if pool <= MOST_OF_MULTINOMIAL:
                    competitors["torch"] = lambda w=weights, r=replacement: torch.multinomial(w, CHOSEN, r)
                what = f"{kind}, {'with' if replacement else 'without'} replacement"
                rows.append(_row(what, pool, alternate(competitors, device, rounds)))
    return rows


def _surface_points(mesh: Mesh, device: torch.device, against: list[str], rounds: int) -> list[dict[str, Any]]:
    surface = Surface(mesh, device=device)
    vertices, faces = mesh.vertices.to(device), mesh.faces.to(device)
    peers: dict[str, Callable[[int], Any]] = {"torch": lambda count: points_by_hand(vertices, faces, count)}
    peers |= {name: draw for name in against if (draw := _peer(name, mesh)) is not None}
    assert np.isfinite(surface.sample_surface(10).points.cpu().numpy()).all()
    rows = []
    for count in (1_000, 100_000, 1_000_000):
        competitors: dict[str, Callable[[], Any]] = {
            "pyimplicit": lambda n=count: surface.sample_surface(n),
            "table made anew": lambda n=count: ops.sample_surface(vertices, faces, n),
            **{name: lambda n=count, f=draw: f(n) for name, draw in peers.items()},
        }
        rows.append(_row("surface points", count, alternate(competitors, device, rounds)))
    return rows


def _peer(name: str, mesh: Mesh) -> Callable[[int], Any] | None:
    try:
        return PEERS[name](mesh)
    except ImportError:
        print(f"{name}: not installed, left out")
        return None


def _row(what: str, count: int, seconds: dict[str, float]) -> dict[str, Any]:
    times = {f"{name} ms": value * 1e3 for name, value in seconds.items()}
    peers = [value for name, value in seconds.items() if name not in ("pyimplicit", "table made anew")]
    return {"what": what, "n": count, **times, "ratio to the best": min(peers) / seconds["pyimplicit"]}


if __name__ == "__main__":
    main()
