"""Surface extraction: coarse to fine against all nodes, and with the distance mask against without, in one run.

    python -m benchmarks.bench_extraction [--resolutions 128 256] [--exact] [--device cuda]

Rows give the share of the nodes that the field was asked for, the time with everything in it, and whether the meshes
are the same. "network" is a field as dear as a decoder of 1.8 million weights, "surface" one of exact distances. The
peak of the process's memory is that of all that ran up to the row.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit import networks
from pyimplicit.fields import SDF, UDF, Field, surface_field
from pyimplicit.generation import extract_mesh_with_report
from pyimplicit.geometry import Mesh, Surface
from pyimplicit.sampling import DistanceMask


def dear_field(surface: Surface, unsigned: bool = False) -> Field:
    """Exact distances at a network's price: DeepSDF's decoder is asked too, and its answer left out."""
    decoder = networks.create("deepsdf").to(surface.device).eval()
    code = torch.zeros(1, 256, device=surface.device)

    def values(points: torch.Tensor) -> torch.Tensor:
        idle = decoder.decode(points[None], code)[0]
        distance = surface.unsigned_distance(points) if unsigned else surface.signed_distance(points)
        return distance + 0.0 * idle

    return Field(values, UDF() if unsigned else SDF(), 0.02 if unsigned else 0.0, device=surface.device)


def same(one: Mesh, other: Mesh) -> bool:
    return torch.equal(one.vertices, other.vertices) and torch.equal(one.faces, other.faces)


def compare(
    what: str, resolution: int, ways: dict[str, Callable[[], Any]], device: torch.device, rounds: int
) -> dict[str, Any]:
    """A row: the first way against the second."""
    (first, second) = ways
    found = {name: way() for name, way in ways.items()}
    seconds = alternate(ways, device, rounds=rounds, warm_up=0)
    return {
        "field": what, "cells": resolution, "ways": f"{first} / {second}", "share %": 100 * found[first][1].share,
        "s": seconds[first], "s without": seconds[second], "ratio": seconds[second] / seconds[first],
        "same mesh": same(found[first][0], found[second][0]),
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--resolutions", type=int, nargs="+", default=[128, 256], help="cells along an axis")
        parser.add_argument("--exact", action="store_true", help="exact distances alone: seconds, not minutes")
        parser.add_argument(
            "--largest", type=int, default=512, help="cells of the row for memory, coarse to fine alone"
        )

    options = parse_arguments(__doc__, arguments, add)
    device = torch.device(options.device)
    surface = Surface(meshes.ball(), device=device).prepare()
    exact = surface_field(surface, "sdf")
    mask = DistanceMask.from_cloud(surface.sample_surface(3000).points, 0.05)
    signed, unsigned = dear_field(surface), dear_field(surface, unsigned=True)

    rows: list[dict[str, Any]] = []
    for resolution in options.resolutions:
        cases = [("surface", exact, {"mise": {"method": "mise"}, "dense": {"method": "dense"}}, 3)]
        if resolution == options.resolutions[0] and not options.exact:
            both = {"mise": {"method": "mise"}, "dense": {"method": "dense"}}
            masked: dict[str, dict[str, Any]] = {"mask": {"mask": mask}, "dense": {"method": "dense"}}
            cases += [("network, signed", signed, both, 1), ("network, unsigned", unsigned, masked, 1)]
        for what, field, ways, rounds in cases:
            calls = {
                name: lambda f=field, r=resolution, o=some: extract_mesh_with_report(f, r, **o)
                for name, some in ways.items()
            }
            rows.append(compare(what, resolution, calls, device, rounds))
            print_rows("", rows[-1:])
    mesh, report = extract_mesh_with_report(exact if options.exact else signed, options.largest)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows.append(
        {
            "field": "surface" if options.exact else "network, signed",
            "cells": options.largest,
            "ways": "mise",
            "share %": 100 * report.share,
        }
        | {"faces": len(mesh.faces), "peak GiB": peak}
    )
    print_rows(f"surface extraction on {device}", rows)
    print(save("extraction", rows, device, options.out))


if __name__ == "__main__":
    main()
