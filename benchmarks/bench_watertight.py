"""Closing real meshes: time, whether the result is closed, what moved; against point-cloud-utils in the same run.

    python -m benchmarks.bench_watertight SOURCE ... [--method fusion winding] [--against pcu] [--sheets docs/closed]

A source is a mesh file, a folder that is searched for them, or the name of a set that was fetched, such as
debian-aircraft. With --sheets each source's closed meshes are drawn, small, into one picture.

Each mesh and method is a process of its own with a time limit, since a library may crash or keep its memory. Lengths
are in cells of our grid (longest side / resolution), volumes in units of the cube of the longest side: "in-out" is how
far what can be seen of the input is from the result, "out-in" the other way round, at points drawn on each: the median
of them, the 95% that are nearest, and the farthest. "95% beyond half a cell" counts the meshes of which more than 5% of
the result is farther than that from the input's faces, as it is where it closes a gap or a pocket that no view sees.
There the surface of the visible hull is where views stop, and "hull 99%" is how far 99% of the result is from that or
from a face, at most: found by steps in 40 directions.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.contact_sheet import draw_mesh, save_sheet
from benchmarks.harness import parse_arguments, print_rows, save
from pyimplicit.data import DEBIAN_SETS, DebianMeshes
from pyimplicit.errors import PyImplicitError
from pyimplicit.geometry import Mesh, Surface, inspect_mesh, make_watertight
from pyimplicit.geometry.files import load_mesh
from pyimplicit.geometry.fusion import VisibleHull
from pyimplicit.geometry.visibility import sphere_directions

SUFFIXES = (".ac", ".acc", ".obj", ".off", ".ply", ".stl")
POINTS = 10_000
WAYS = ("in-out", "in-out 95%", "out-in", "out-in 95%")
STEPS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)  # cells
DIRECTIONS = 40
BEYOND = "beyond half a cell of the hull"  # share of the result's area
LIMIT = 60.0  # seconds for a mesh and a method


def pcu_watertight(mesh: Mesh) -> Mesh:
    """ManifoldPlus, with the octree that its own documentation takes for this much detail."""
    import point_cloud_utils

    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    made = point_cloud_utils.make_mesh_watertight(vertices, faces, resolution=20_000)
    return Mesh(np.asarray(made[0]), np.asarray(made[1]).astype(np.int64))


@dataclass(frozen=True)
class Input:
    """Where a mesh comes from."""

    source: str  # a set, or a file or folder as it was given
    name: str
    place: str | int  # path, or index in the set

    def load(self) -> Mesh:
        """Read it."""
        return DebianMeshes(self.source).load(self.place) if isinstance(self.place, int) else load_mesh(self.place)


def list_inputs(source: str) -> list[Input]:
    """All meshes of a source."""
    if source in DEBIAN_SETS:
        return [Input(source, name, index) for index, name in enumerate(DebianMeshes(source).names())]
    path = Path(source)
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [Input(source, file.stem, str(file)) for file in files if file.suffix.lower() in SUFFIXES]


def close(given: Input, method: str, resolution: int, detail: int, picture: bool) -> dict[str, Any]:
    """One row, made in a process of its own, and a picture of the result if asked for."""
    mesh = given.load()
    started = time.perf_counter()
    try:
        made = pcu_watertight(mesh) if method == "pcu" else make_watertight(mesh, method, resolution, detail=detail)[0]
    except PyImplicitError as error:
        return {"failed": str(error)}
    seconds = time.perf_counter() - started
    found = inspect_mesh(made)
    low, high = mesh.bounds.double()
    side, middle = float((high - low).max()), (low + high) / 2
    source, result = (Surface(Mesh((part.vertices.double() - middle) / side, part.faces)) for part in (mesh, made))
    seen = source.sample_surface(POINTS).points
    hull = VisibleHull(source, 1 / resolution)
    seen = seen[hull.shown(seen)]
    out = result.unsigned_distance(seen) * resolution
    drawn = result.sample_surface(POINTS).points
    back = source.unsigned_distance(drawn) * resolution
    row = {"s": seconds, "closed": found.is_closed and found.is_oriented, "faces": len(made.faces)}
    for name, distance in (("in-out", out), ("out-in", back)):
        row |= {name: float(distance.median()), f"{name} 95%": float(distance.quantile(0.95))}
        row[f"{name} most"] = float(distance.max())
    off = distance_to_hull(drawn, back, hull)
    row |= {"hull 99%": float(off.quantile(0.99)), BEYOND: float((off > 0.5).float().mean())}
    row |= {"volume": found.volume / side**3, "bodies": found.components}
    return row | {"picture": draw_mesh(made)} if picture else row


def distance_to_hull(points: Tensor, to_faces: Tensor, hull: VisibleHull) -> Tensor:
    """Distance [n] of points [n, 3] to the visible hull's surface, at most, in cells; `to_faces` [n] that to the faces.

    The hull's surface is the faces, and where views stop: between a point that they see and one that they do not.
    """
    found = to_faces.clone()
    seen = hull.outside(points)
    directions = torch.from_numpy(sphere_directions(DIRECTIONS)).float()
    for step in STEPS:
        left = ((to_faces > 0.5) & (found > step)).nonzero()[:, 0]
        for direction in directions:
            there = hull.outside(points[left] + step * hull.spacing * direction)
            found[left[there != seen[left]]] = step
    return found


def row_of(given: Input, method: str, resolution: int, detail: int, picture: bool) -> dict[str, Any]:
    """A row, or what became of its process."""
    detail = detail if method == "fusion" else 1
    row: dict[str, Any] = {"source": given.source, "mesh": given.name, "method": method, "detail": detail}
    context = multiprocessing.get_context("forkserver")  # its server imports torch once
    context.set_forkserver_preload(["benchmarks.contact_sheet", "pyimplicit.data"])
    with context.Pool(1, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        try:
            return row | pool.apply_async(close, (given, method, resolution, detail, picture)).get(LIMIT)
        except multiprocessing.TimeoutError:
            return row | {"failed": f"no answer within {LIMIT:.0f} s"}
        except Exception as error:  # whatever a library raises costs one row
            return row | {"failed": f"{type(error).__name__}: {error}"}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a source and method."""
    found = []
    for source, method in dict.fromkeys((row["source"], row["method"]) for row in rows):
        own = [row for row in rows if (row["source"], row["method"]) == (source, method)]
        done = [row for row in own if "failed" not in row]
        if not done:
            continue
        found.append(
            {"source": source, "method": method, "meshes": len(own), "closed": sum(row["closed"] for row in done)}
            | {f"median {key}": statistics.median(row[key] for row in done) for key in ("s", *WAYS)}
            | {f"largest {key}": max(row[key] for row in done) for key in ("s", "in-out most", "out-in most")}
            | {"95% beyond half a cell": sum(row["out-in 95%"] > 0.5 for row in done)}
            | {"99% beyond half a cell of the hull": sum(row["hull 99%"] > 0.5 for row in done)}
            | {
                f"{name} {BEYOND}": of(row[BEYOND] for row in done)
                for name, of in (("median", statistics.median), ("largest", max))
            }
            | {"median volume": statistics.median(row["volume"] for row in done)}
        )
    return found


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("sources", nargs="+", help="mesh files, folders, or names of fetched sets")
        parser.add_argument("--method", nargs="+", default=["fusion"], choices=["fusion", "winding"])
        parser.add_argument("--against", nargs="*", default=[], choices=["pcu"])
        parser.add_argument("--resolution", type=int, default=256, help="cells along the longest side")
        parser.add_argument("--detail", type=int, default=1, help="of fusion, see make_watertight")
        parser.add_argument("--least-faces", type=int, default=300, help="smaller meshes of files are left out")
        parser.add_argument("--sheets", type=Path, help="folder for a picture of each source's first method")
        parser.add_argument("--name", default="watertight", help="name of the results' file")

    options = parse_arguments(__doc__, arguments, add)
    rows: list[dict[str, Any]] = []
    for source in options.sources:
        pictures: dict[str, NDArray[np.float32]] = {}
        for given in list_inputs(source):
            try:
                if isinstance(given.place, str) and len(given.load().faces) < options.least_faces:
                    continue
            except PyImplicitError as error:
                print(f"{given.name}: left out: {error}")
                continue
            for method in (*options.method, *options.against):
                picture_of = options.sheets and method == options.method[0]
                row = row_of(given, method, options.resolution, options.detail, picture_of)
                if (picture := row.pop("picture", None)) is not None:
                    pictures[given.name] = picture
                rows.append(row)
                print_rows("", rows[-1:])
        if pictures:
            print(save_sheet(pictures, options.sheets / f"{Path(source).stem}.png"))
        print_rows("closing meshes", summary(rows))
        print(save(options.name, summary(rows) + rows, torch.device("cpu"), options.out))


if __name__ == "__main__":
    main()
