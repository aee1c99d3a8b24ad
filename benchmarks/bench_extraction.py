"""Surface extraction: coarse to fine against all nodes, and with the distance mask against without, in one run.

    python -m benchmarks.bench_extraction [--resolutions 128 256] [--network convonet | --exact] [--device cuda]

Rows give the share of the nodes that the field was asked for, the time with everything in it, and whether the meshes
are the same. "surface" is a field of exact distances, the others are as dear as that network. The last row is the
largest grid, for its memory. The peak of the process's memory is that of all that ran up to the row.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import meshes
from benchmarks.fields import dear_field
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit.fields import Field, surface_field
from pyimplicit.generation import ExtractionReport, extract_mesh_with_report
from pyimplicit.geometry import Mesh, Surface
from pyimplicit.sampling import DistanceMask

Found = tuple[Mesh, ExtractionReport]


def same(one: Mesh, other: Mesh) -> bool:
    return torch.equal(one.vertices, other.vertices) and torch.equal(one.faces, other.faces)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def compare(
    what: str, field: Field, resolution: int, ways: dict[str, dict[str, Any]], device: torch.device, rounds: int
) -> dict[str, Any]:
    """A row: the first way against the second."""
    found: dict[str, Found] = {}

    def call(way: str) -> Callable[[], None]:
        def extract() -> None:
            found[way] = extract_mesh_with_report(field, resolution, **ways[way])

        return extract

    seconds = alternate({way: call(way) for way in ways}, device, rounds=rounds, warm_up=0)
    first, second = ways
    return {
        "field": what, "cells": resolution, "ways": f"{first} / {second}", "share %": 100 * found[first][1].share,
        "s": seconds[first], "s without": seconds[second], "ratio": seconds[second] / seconds[first],
        "same mesh": same(found[first][0], found[second][0]), "faces": len(found[first][0].faces),
        "peak GiB": peak_gib(),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--resolutions", type=int, nargs="+", default=[128, 256], help="cells along an axis")
        parser.add_argument("--network", default="convonet", help="whose price a point has, at its authors' width")
        parser.add_argument("--exact", action="store_true", help="exact distances alone")
        parser.add_argument(
            "--largest", type=int, default=512, help="cells of the row for memory, coarse to fine alone"
        )

    options = parse_arguments(__doc__, arguments, add)
    device = torch.device(options.device)
    surface = Surface(meshes.ball(), device=device).prepare()
    exact = surface_field(surface, "sdf")
    dear = exact if options.exact else dear_field(surface, options.network)
    dear_name = "surface" if options.exact else f"{options.network}, signed"
    mask = DistanceMask.from_cloud(surface.sample_surface(10_000).points, 0.05)  # leaves no hole over the shell
    both: dict[str, dict[str, Any]] = {"mise": {"method": "mise"}, "dense": {"method": "dense"}}
    masked: dict[str, dict[str, Any]] = {"mask": {"mask": mask}, "dense": {"method": "dense"}}

    rows: list[dict[str, Any]] = []
    for resolution in options.resolutions:
        cases = [("surface", exact, both, 3)]
        if resolution == options.resolutions[0] and not options.exact:
            unsigned = dear_field(surface, options.network, unsigned=True)
            cases += [(dear_name, dear, both, 1), (f"{options.network}, unsigned", unsigned, masked, 1)]
        for what, field, ways, rounds in cases:
            rows.append(compare(what, field, resolution, ways, device, rounds))
            print_rows("", rows[-1:])
    started = time.perf_counter()
    mesh, report = extract_mesh_with_report(dear, options.largest)
    rows.append(
        {"field": dear_name, "cells": options.largest, "ways": "mise", "share %": 100 * report.share}
        | {"s": time.perf_counter() - started, "faces": len(mesh.faces), "peak GiB": peak_gib()}
    )
    print_rows(f"surface extraction on {device}", rows)
    print(save("extraction", rows, device, options.out))


if __name__ == "__main__":
    main()
