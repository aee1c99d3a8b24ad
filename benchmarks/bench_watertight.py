"""Closing real meshes: time, whether the result is closed, what moved; against point-cloud-utils in the same run.

python -m benchmarks.bench_watertight MESH_OR_FOLDER ... [--method fusion winding] [--against pcu] [--least-faces 300]

Each mesh and method is a process of its own with a time limit, since a library may crash or keep its memory. Lengths
are in cells of our grid (longest side / resolution), volumes in units of the cube of the longest side: "in-out" is how
far what can be seen of the input is from the result, "out-in" the other way round, at points drawn on each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import parse_arguments, print_rows, save
from pyimplicit.errors import PyImplicitError
from pyimplicit.geometry import Mesh, Surface, inspect_mesh, make_watertight
from pyimplicit.geometry.files import load_mesh

SUFFIXES = (".ac", ".acc", ".obj", ".off", ".ply", ".stl")
POINTS = 10_000
LIMIT = 60.0  # seconds for a mesh and a method


def pcu_watertight(mesh: Mesh) -> Mesh:
    """ManifoldPlus, with the octree that its own documentation takes for this much detail."""
    import point_cloud_utils

    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    made = point_cloud_utils.make_mesh_watertight(vertices, faces, resolution=20_000)
    return Mesh(np.asarray(made[0]), np.asarray(made[1]).astype(np.int64))


def close(path: str, method: str, resolution: int) -> dict[str, Any]:
    """One row, made in a process of its own."""
    mesh = load_mesh(path)
    started = time.perf_counter()
    try:
        made = pcu_watertight(mesh) if method == "pcu" else make_watertight(mesh, method, resolution)[0]
    except PyImplicitError as error:
        return {"failed": str(error)}
    seconds = time.perf_counter() - started
    found = inspect_mesh(made)
    side = float((mesh.bounds[1] - mesh.bounds[0]).max())
    cell = side / resolution
    source, result = Surface(mesh), Surface(made)
    out = result.unsigned_distance(source.sample_surface(POINTS).points)
    back = source.unsigned_distance(result.sample_surface(POINTS).points)
    return {
        "s": seconds, "closed": found.is_closed and found.is_oriented, "faces": len(made.faces),
        "in-out": float(out.median()) / cell, "out-in": float(back.mean()) / cell,
        "out-in most": float(back.max()) / cell, "volume": found.volume / side**3,
    }  # fmt: skip


def row_of(path: Path, method: str, resolution: int) -> dict[str, Any]:
    """A row, or what became of its process."""
    row: dict[str, Any] = {"mesh": path.stem, "method": method}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return row | pool.apply_async(close, (str(path), method, resolution)).get(LIMIT)
        except multiprocessing.TimeoutError:
            return row | {"failed": f"no answer within {LIMIT:.0f} s"}
        except Exception as error:  # whatever a library raises costs one row
            return row | {"failed": f"{type(error).__name__}: {error}"}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a method."""
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        done = [row for row in own if "failed" not in row]
        if not done:
            continue
        found.append(
            {"method": method, "meshes": len(own), "closed": sum(row["closed"] for row in done)}
            | {f"median {key}": statistics.median(row[key] for row in done) for key in ("s", "in-out", "out-in")}
            | {"largest out-in": max(row["out-in most"] for row in done)}
            | {"median volume": statistics.median(row["volume"] for row in done)}
        )
    return found


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("meshes", nargs="+", type=Path, help="mesh files, or folders that are searched for them")
        parser.add_argument("--method", nargs="+", default=["fusion"], choices=["fusion", "winding"])
        parser.add_argument("--against", nargs="*", default=[], choices=["pcu"])
        parser.add_argument("--resolution", type=int, default=256, help="cells along the longest side")
        parser.add_argument("--least-faces", type=int, default=300, help="smaller meshes are left out")

    options = parse_arguments(__doc__, arguments, add)
    paths = [
        path
        for given in options.meshes
        for path in ([given] if given.is_file() else sorted(given.rglob("*")))
        if path.suffix.lower() in SUFFIXES
    ]
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            faces = len(load_mesh(path).faces)
        except PyImplicitError as error:
            print(f"{path.name}: left out: {error}")
            continue
        if faces < options.least_faces:
            continue
        for method in (*options.method, *options.against):
            rows.append(row_of(path, method, options.resolution))
            print_rows("", rows[-1:])
    print_rows("closing meshes", summary(rows))
    print(save("watertight", summary(rows) + rows, torch.device("cpu"), options.out))


if __name__ == "__main__":
    main()
