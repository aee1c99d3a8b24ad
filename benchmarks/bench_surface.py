"""Surface distance against other libraries and against the plain kernel body, in one run.

    python -m benchmarks.bench_surface --against open3d fcpw warp --meshes cow.obj bunny.npz --refine bunny

Rates are millions of points a second in caller order, building excluded; the ratio is to the best peer of the row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from benchmarks.surface_peers import PEERS, Warp
from pyimplicit import _native, ops
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface


def plain_distance(surface: Surface, points: torch.Tensor) -> torch.Tensor:
    """Unsigned distance by the kernel's plain body, which the CPU normally leaves to its SIMD twin."""
    bvh = surface._bvh
    distance = points.new_empty(points.shape[0])
    _native.call(
        "surface_query", points.device, points.dtype, points=points, count=points.shape[0], bounds=bvh.bounds,
        links=bvh.links, moments=None, leaf_first=bvh.leaf_first, frames=bvh.frames, triangles=bvh.triangles,
        center=bvh.center, pseudonormals=None, sign_method=0, beta=2.0, inherit=False, plain=True, distance=distance,
        closest=None, slot=None, barycentric=None,
    )  # fmt: skip
    return distance


def build_rows(name: str, mesh: Mesh, peers: list[str]) -> list[dict[str, Any]]:
    """Build times in milliseconds and our memory per triangle."""
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    calls: dict[str, Callable[[], Any]] = {"pyimplicit": lambda: ops.build_bvh(mesh.vertices, mesh.faces)}
    for peer in peers:
        if peer != "gpytoolbox":  # builds within its query
            calls[peer] = lambda make=PEERS[peer]: make(vertices, faces)
    seconds = alternate(calls, torch.device("cpu"), rounds=5)
    bvh = ops.build_bvh(mesh.vertices, mesh.faces)
    held = sum(value.nbytes for value in vars(bvh).values() if isinstance(value, torch.Tensor))
    row: dict[str, Any] = {"mesh": name, "faces": len(faces), "bytes/face": held / len(faces)}
    return [row | {f"{key} ms": value * 1e3 for key, value in seconds.items()}]


def query_rows(name: str, mesh: Mesh, peers: list[str], counts: list[int], signed: bool) -> list[dict[str, Any]]:
    """Rates of every competitor that answers, for uniform and near points."""
    surface = Surface(mesh)
    others = {peer: PEERS[peer](mesh.vertices.numpy(), mesh.faces.numpy()) for peer in peers}
    rows = []
    for where in ("uniform", "near"):
        for count in counts:
            points = meshes.points_uniform(count) if where == "uniform" else meshes.points_near(mesh, count)
            array = points.numpy()
            if signed:
                calls: dict[str, Callable[[], Any]] = {
                    "pyimplicit": lambda p=points: surface.signed_distance(p),
                    "winding": lambda p=points: surface.signed_distance(p, sign="winding"),
                }
            else:
                calls = {
                    "pyimplicit": lambda p=points: surface.unsigned_distance(p),
                    "plain body": lambda p=points: plain_distance(surface, p),
                }
            own = set(calls)
            for peer, other in others.items():
                call = getattr(other, "signed" if signed else "unsigned", None)
                if call is not None:
                    calls[peer] = lambda call=call, p=array: call(p)
            slow = count * len(mesh.faces) > 3e10
            seconds = alternate(calls, points.device, rounds=3 if slow else 7)
            rates = {key: count / value / 1e6 for key, value in seconds.items()}
            best = max((rate for key, rate in rates.items() if key not in own), default=None)
            row: dict[str, Any] = {"mesh": name, "points": where, "N": count}
            rows.append(row | rates | {"ratio": rates["pyimplicit"] / best if best else None})
            print_rows("", rows[-1:])
    return rows


def gpu_rows(name: str, mesh: Mesh, counts: list[int], with_warp: bool) -> list[dict[str, Any]]:
    """The same on the GPU, against warp on the same GPU and our CPU."""
    device = torch.device("cuda")
    surface, on_cpu = Surface(mesh, device=device), Surface(mesh)
    peer = Warp(mesh.vertices.numpy(), mesh.faces.numpy(), "cuda") if with_warp else None
    rows = []
    for where in ("uniform", "near"):
        for count in counts:
            host = meshes.points_uniform(count) if where == "uniform" else meshes.points_near(mesh, count)
            points = host.to(device)
            calls: dict[str, Callable[[], Any]] = {
                "pyimplicit": lambda p=points: surface.unsigned_distance(p),
                "signed": lambda p=points: surface.signed_distance(p),
            }
            if peer is not None:
                calls["warp"] = lambda p=points: peer.query(p, "unsigned")
            seconds = alternate(calls, device)
            start = time.perf_counter()
            on_cpu.unsigned_distance(host)
            rates = {key: count / value / 1e6 for key, value in seconds.items()}
            rates["cpu"] = count / (time.perf_counter() - start) / 1e6
            row: dict[str, Any] = {"mesh": name, "points": where, "N": count}
            rows.append(row | rates | {"ratio": rates["pyimplicit"] / rates["warp"] if peer else None})
    return rows


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--against", nargs="*", default=[], choices=list(PEERS))
        parser.add_argument("--meshes", nargs="*", type=Path, default=[], help="mesh files or .npz with v and f")
        parser.add_argument("--refine", nargs="*", default=[], help="names of meshes to add with 16 times the faces")
        parser.add_argument("--counts", nargs="*", type=int, default=[2_000, 100_000, 1_000_000])

    options = parse_arguments(__doc__, arguments, add)

    chosen = {path.stem: meshes.read(path) for path in options.meshes}
    chosen = chosen or {"ball": meshes.ball(), "soup": meshes.soup()}
    for name in options.refine:
        chosen[f"{name}16x"] = meshes.refined(chosen[name])
    builds, unsigned, signed = [], [], []
    for name, mesh in chosen.items():
        print(f"{name}: {Surface(mesh).report.summary()}", flush=True)
        if options.device == "cuda":
            unsigned += gpu_rows(name, mesh, options.counts, "warp" in options.against)
            continue
        builds += build_rows(name, mesh, options.against)
        unsigned += query_rows(
            name, mesh, [peer for peer in options.against if peer != "gpytoolbox"], options.counts, False
        )
        signed += query_rows(name, mesh, [peer for peer in options.against if peer != "fcpw"], options.counts, True)
    print_rows("build", builds)
    print_rows("unsigned distance, Mpoints/s", unsigned)
    print_rows("signed distance, Mpoints/s", signed)
    rows = [
        {"what": what} | row
        for what, part in (("build", builds), ("unsigned", unsigned), ("signed", signed))
        for row in part
    ]
    print(save("surface", rows, torch.device(options.device), options.out))


if __name__ == "__main__":
    main()
