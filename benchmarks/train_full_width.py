"""Trains every network at its authors' width on the real cars for some steps, and says whether all stayed finite.

    python -m benchmarks.train_full_width --data data --shapes data/prepared --out benchmarks/results

The cars are those of `pyimplicit data fetch debian-cars`. Settings are the paper's recipe, but for the batch, which is
as small as the machine needs it. Each network trains in a process of its own, whose peak memory is its own; results are
saved after each, and a network whose result is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import environment, print_rows, save
from pyimplicit.data import DebianMeshes, prepare_shapes
from pyimplicit.training import recipe, train

NETWORKS = ["onet", "convonet:3plane", "convonet:grid32", "airnet:300", "deepsdf", "curriculum_deepsdf"]
NETWORKS += ["ifnet:points", "ndf"]


def train_one(label: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one network; return its losses' ends, time and memory."""
    name, _, variant = label.partition(":")
    authors = recipe(name, "paper", variant or None)
    config = authors.train_config(
        arguments.count, steps=arguments.steps, batch_size=arguments.batch, pool_size=20_000, threads=arguments.threads,
        device=arguments.device, save_every=arguments.steps,
    )  # fmt: skip
    cars = DebianMeshes("debian-cars", arguments.data)
    shapes = prepare_shapes(cars, arguments.shapes, indices=range(arguments.count))
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, shapes, folder)
    finite = all(bool(value.isfinite().all()) for value in result.network.state_dict().values())
    return {
        "network": label,
        "parameters": sum(parameter.numel() for parameter in result.network.parameters()),
        "shapes": len(shapes),
        "batch": config.batch_size,
        "points": config.points_per_step,
        "cloud": config.cloud_size,
        "steps": result.steps,
        "first_loss": result.losses[0],
        "last_loss": result.losses[-1],
        "finite": finite and all(map(math.isfinite, result.losses)),
        "seconds": result.seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device": config.device,
        "threads": config.threads,
        # rows of one file may come from several machines
        "processor": environment(torch.device(config.device))["processor"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME[:VARIANT]")
    parser.add_argument("--data", default="data", help="data folder of the raw cars")
    parser.add_argument("--shapes", default="data/prepared", help="folder of the prepared shapes")
    parser.add_argument("--count", type=int, default=4, help="cars to train on")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="benchmarks/results", help="folder of the results")
    parser.add_argument("--one", metavar="NAME[:VARIANT]", help="train this one here and print its result as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(train_one(arguments.one, arguments)))
        return 0
    device = torch.device(arguments.device)
    out = Path(arguments.out) / f"full_width_{device.type}.json"
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if out.exists() else []
    for label in arguments.networks:
        if any(row["network"] == label for row in rows):
            continue
        command = [sys.executable, "-m", "benchmarks.train_full_width", *sys.argv[1:], "--one", label]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if child.returncode:
            print(f"{label}: failed with status {child.returncode}", file=sys.stderr)
            continue
        rows.append(json.loads(child.stdout.splitlines()[-1]))
        save("full_width", rows, device, out.parent)
        print(f"{label}: {rows[-1]['seconds']:.0f} s, finite: {rows[-1]['finite']}", file=sys.stderr, flush=True)
    print_rows("training at full width", rows)
    missing = [label for label in arguments.networks if not any(row["network"] == label for row in rows)]
    return 1 if missing or not all(row["finite"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
