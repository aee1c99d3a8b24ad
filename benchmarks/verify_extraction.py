"""Every way from an exact field back to a surface, on cars: vertices on it, closed and oriented, the volume kept.

    python -m benchmarks.verify_extraction [--data DIR] [--mesh FILE ...] [--cells 128]

With --data the cars are those of `pyimplicit data fetch debian-cars`, closed first; with --mesh they are files; else
they are procedural. Lengths are in cells. Every extractor is asked to refine its vertices (`refine=3`): all must be
within a tenth of a cell. Without that they lie where the line between two nodes meets the level, which near an edge of
the mesh is off by up to half a cell; of these ("plain") 95% must be within a tenth. Volumes of both must be within 1%.
Every point of a dense cloud must be within a tenth of a cell, and every point of the surface within four cells of the
cloud. "alike": whether the mesh is that of all nodes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import meshes
from benchmarks.harness import parse_arguments, print_rows, save
from pyimplicit.data import DebianMeshes, ProceduralCars
from pyimplicit.fields import surface_field
from pyimplicit.generation import extract_dense_cloud, extract_mesh, extract_mesh_with_report
from pyimplicit.geometry import Mesh, Surface, inspect_mesh, make_watertight, normalize_mesh
from pyimplicit.sampling import DistanceMask

NEAR = 0.1  # cells
VOLUME = 1.0  # percent
COVER = 4.0  # cells
CLOUD = 200_000


def bodies(options: argparse.Namespace) -> Iterator[tuple[str, Mesh]]:
    """Closed, normalised meshes by name."""
    if options.mesh:
        raw = ((path.stem, meshes.read(path)) for path in options.mesh)
    else:
        cars = DebianMeshes("debian-cars", options.data) if options.data else ProceduralCars(options.count)
        raw = ((name, cars.load(index)) for index, name in enumerate(cars.names()[: options.count]))
    for name, mesh in raw:
        yield name, normalize_mesh(make_watertight(normalize_mesh(mesh))[0])


def mesh_rows(name: str, surface: Surface, cells: int) -> list[dict[str, Any]]:
    """A row for each extractor of meshes."""
    field, volume = surface_field(surface, "sdf"), inspect_mesh(surface.mesh).volume
    mask = DistanceMask.from_cloud(surface.sample_surface(3_000).points, 0.05)
    ways: dict[str, dict[str, Any]] = {"dense": {"method": "dense"}, "mise": {"method": "mise"}, "mask": {"mask": mask}}
    rows, first = [], None
    for way, arguments in ways.items():
        mesh, report = extract_mesh_with_report(field, cells, refine=3, **arguments)
        plain = extract_mesh(field, cells, **arguments)
        off, coarse = (surface.unsigned_distance(part.vertices).double() * cells for part in (mesh, plain))
        found, before = inspect_mesh(mesh), inspect_mesh(plain)
        solid = found.is_solid and before.is_solid
        changes = [100 * (part.volume / volume - 1) for part in (found, before)]
        first = first or plain
        bad = not solid or max(map(abs, changes)) > VOLUME
        bad |= float(off.max()) > NEAR or float(coarse.quantile(0.95)) > NEAR
        rows.append({
            "mesh": name, "way": way, "asked %": 100 * report.share, "vertices": len(off),
            "median": float(off.median()), "95%": float(off.quantile(0.95)), "largest": float(off.max()),
            "volume %": changes[0], "plain 95%": float(coarse.quantile(0.95)), "plain largest": float(coarse.max()),
            "plain volume %": changes[1], "solid": solid,
            "alike": torch.equal(plain.vertices, first.vertices) and torch.equal(plain.faces, first.faces),
            "failed": bad,
        })  # fmt: skip
    return rows


def cloud_row(name: str, surface: Surface, cells: int) -> dict[str, Any]:
    """The row of the dense cloud of the unsigned field."""
    cloud = extract_dense_cloud(surface_field(surface, "udf"), CLOUD)
    off = surface.unsigned_distance(cloud).double() * cells
    each = torch.arange(len(cloud))[:, None].expand(-1, 3)
    bare = Surface(cloud, each).unsigned_distance(surface.sample_surface(20_000, seed=1).points) * cells
    return {
        "mesh": name, "way": "dense cloud", "vertices": len(cloud), "median": float(off.median()),
        "95%": float(off.quantile(0.95)), "largest": float(off.max()), "uncovered": float(bare.max()),
        "failed": float(off.max()) > NEAR or float(bare.max()) > COVER,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--mesh", type=Path, nargs="+", help="mesh files")
        parser.add_argument("--data", help="data folder that has debian-cars")
        parser.add_argument("--count", type=int, default=17, help="cars, from the first")
        parser.add_argument("--cells", type=int, default=128, help="along an axis")

    options = parse_arguments(__doc__, arguments, add)
    rows: list[dict[str, Any]] = []
    for name, mesh in bodies(options):
        surface = Surface(mesh).prepare()
        rows += [*mesh_rows(name, surface, options.cells), cloud_row(name, surface, options.cells)]
        print(f"{name}: {'failed' if any(row['failed'] for row in rows[-4:]) else 'passed'}", flush=True)
    print_rows(f"surfaces from exact fields, {options.cells} cells", rows)
    print(save("verify_extraction", rows, torch.device("cpu"), options.out))
    return int(any(row["failed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
