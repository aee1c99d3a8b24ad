"""When the distance mask's far regions are right, and what the mask saves at generation.

    python -m benchmarks.bench_masked_generation [--cells 64] [--networks convonet deepsdf] [--holes-only]

First table: exact signed fields behind the mask of a cloud. Of the cloud the points in one or no ball around one of its
points ("hole", its diameter) are cut out. "far %": nodes beyond the mask; "wrong %": share of them on the wrong side
were the regions' sides believed; "left %": share after regions whose rim disagrees were evaluated after all ("again":
how many nodes of the grid that took, in percent). Second table: unsigned distances at 128 cells at a network's price.
"""

from __future__ import annotations

import argparse
import time
from typing import Any
from unittest import mock

import torch

from benchmarks import meshes
from benchmarks.fields import dear_field
from benchmarks.harness import parse_arguments, print_rows, save
from pyimplicit.data import ProceduralCars
from pyimplicit.fields import surface_field
from pyimplicit.generation import extract_mesh_with_report, masked
from pyimplicit.generation.grid import Grid, dense_values
from pyimplicit.geometry import Mesh, Surface, make_watertight
from pyimplicit.sampling import DistanceMask

CLOUDS = (300, 1_000, 3_000, 10_000)
HOLES = (0.0, 0.1, 0.2, 0.4)
DISTANCES = (0.05, 0.1)


def shapes() -> dict[str, Surface]:
    car = make_watertight(ProceduralCars(1).load(0))[0]
    return {
        "ball": Surface(meshes.ball()),
        "torus": Surface(Mesh(*meshes.ring(0.3, 0.12, 96, 48))),
        "car": Surface(car),
    }


def hole_rows(cells: int) -> list[dict[str, Any]]:
    rows = []
    for name, surface in shapes().items():
        field = surface_field(surface.prepare(), "sdf")
        inside = dense_values(Grid(field, field.bounds, cells, 1 << 18)) < 0
        for count in CLOUDS:
            cloud = surface.sample_surface(count, seed=0).points
            for hole in HOLES:
                kept = cloud[(cloud - cloud[0]).norm(dim=1) >= hole / 2].contiguous()
                for distance in DISTANCES:
                    mask = DistanceMask.from_cloud(kept, distance)
                    far = ~mask.grid(cells + 1).numpy()
                    grid = Grid(field, field.bounds, cells, 1 << 18)
                    with mock.patch.object(masked, "MOST_DISAGREEMENT", 1.0):  # believe every region
                        believed = masked.masked_values(grid, mask)[0] < 0
                    first = grid.evaluated
                    found, note = masked.masked_values(grid, mask)
                    all_far = max(1, int(far.sum()))
                    rows.append({
                        "shape": name, "cloud": count, "hole": hole, "mask": distance, "far %": 100 * far.mean(),
                        "wrong %": 100 * float((believed != inside)[far].sum()) / all_far,
                        "left %": 100 * float(((found < 0) != inside)[far].sum()) / all_far,
                        "again %": 100 * (grid.evaluated - 2 * first) / grid.total, "falls back": bool(note),
                    })  # fmt: skip
    return rows


def speed_row(network: str) -> dict[str, Any]:
    """Unsigned distances of a torus at the price of a network, with the mask and without, once each."""
    surface = Surface(Mesh(*meshes.ring(0.3, 0.12, 96, 48))).prepare()
    field = dear_field(surface, network, unsigned=True)
    mask = DistanceMask.from_cloud(surface.sample_surface(3_000).points, 0.05)
    times, found = {}, {}
    for way, options in (("mask", {"mask": mask}), ("dense", {"method": "dense"})):
        started = time.perf_counter()
        found[way] = extract_mesh_with_report(field, 128, **options)  # type: ignore[arg-type]
        times[way] = time.perf_counter() - started
    same = all(
        torch.equal(getattr(found["mask"][0], part), getattr(found["dense"][0], part)) for part in ("vertices", "faces")
    )
    return {
        "network": network, "cells": 128, "evaluated %": 100 * found["mask"][1].share,
        "mask s": times["mask"], "dense s": times["dense"], "ratio": times["dense"] / times["mask"], "same mesh": same,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--cells", type=int, default=64, help="cells along an axis of the first table")
        parser.add_argument("--networks", nargs="+", default=["convonet"], help="of the second table, of full width")
        parser.add_argument("--holes-only", action="store_true", help="the first table alone")

    options = parse_arguments(__doc__, arguments, add)
    torch.manual_seed(0)
    rows = hole_rows(options.cells)
    print_rows("regions beyond the mask", rows)
    save("masked_generation", rows, torch.device("cpu"), options.out)
    if not options.holes_only:
        speeds = [speed_row(network) for network in options.networks]
        print_rows("unsigned distances", speeds)
        rows += speeds
    print(save("masked_generation", rows, torch.device("cpu"), options.out))


if __name__ == "__main__":
    main()
