"""Time and peak memory of one training step of each network: forward, loss, backward, Adam.

    python -m benchmarks.bench_networks --networks ifnet airnet:3000 --queries 2000 20000
    python -m benchmarks.bench_networks --networks ifnet --against 'python their_side.py'

Each measurement is a process of its own, so that its peak memory is its own. The other side is any command that takes
the arguments of `--measure` below (network[:variant], queries, batch, steps, threads, device) and prints, as its last
line, {"seconds": ..., "peak_bytes": ..., "peer": ...}: the median time of a step, the most memory held beyond what was
held before the first one, and whose code it is (repository and commit). Both sides take turns; the best of each over
the rounds is quoted. `--all-kept` adds ours with all freed memory kept, which costs memory and saves time, `--bfloat16`
ours with `precision: bfloat16`, which is another arithmetic and no fair comparison with the other side's float32. With
`--keep` the results of other networks and numbers of queries stay in the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import statistics
import subprocess
import sys
import time
from typing import Any

import torch

from benchmarks.harness import parse_arguments, print_rows, save
from pyimplicit import networks, ops
from pyimplicit.networks import LatentCodes
from pyimplicit.training import recipe
from pyimplicit.training.latent import code_penalty

NETWORKS = ["onet", "convonet:3plane", "convonet:grid32", "ifnet:points", "airnet:300", "airnet:3000", "deepsdf"]
NETWORKS += ["curriculum_deepsdf"]


# What ours is measured with, by the option that asks for it.
WAYS = {
    "--measure": (ops.KeptHeap(), False),
    "--measure-all-kept": (ops.KeptHeap(None), False),
    "--measure-bfloat16": (ops.KeptHeap(), True),
}


def measure(
    label: str, queries: int, batch: int, steps: int, threads: int, device_name: str, heap: ops.KeptHeap, low: bool
) -> dict[str, float]:
    """Train a network of full width on random points for some steps, with its authors' loss and learning rate.

    `low`: products and convolutions in bfloat16, as training has it with that precision.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    device = torch.device(device_name)
    name, _, variant = label.partition(":")
    authors = recipe(name, "author", variant or None)
    kind = authors.kind()
    network = networks.create(name, authors.variant).to(device).train()
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam(network.parameters(), authors.learning_rate, fused=True)
    ]
    points = torch.rand(batch, queries, 3, device=device) - 0.5
    target = kind.target(points.norm(dim=2) - 0.3)
    clouds = torch.randn(batch, authors.cloud_size, 3, device=device)
    clouds = 0.3 * clouds / clouds.norm(dim=2, keepdim=True)
    shapes = torch.arange(batch, device=device)
    codes = None
    if network.kind == "auto_decoder":
        assert network.code_size is not None
        codes = LatentCodes(batch, network.code_size).to(device)
        optimizers.append(codes.optimizer(authors.code_learning_rate))

    def step() -> None:
        condition = clouds if codes is None else codes(shapes)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            logits = network(points, condition)
        loss = kind.loss(logits.float(), target, authors.loss_reduction)
        if codes is not None:
            loss = loss + code_penalty(condition, authors.code_regularization, 100, 100, authors.code_penalty)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        if codes is not None:
            codes.project_(shapes)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    before = _held(device)
    seconds = []
    with ops.KeptBuffers(), heap:  # as training does
        for _ in range(steps + 1):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:]), "peak_bytes": _held(device) - before}


def _held(device: torch.device) -> int:
    """The most memory held so far, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ask(command: list[str], label: str, queries: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one side in a process of its own; return what it printed."""
    values = (label, queries, options.batch, options.steps, options.threads, options.device)
    done = subprocess.run([*command, *map(str, values)], stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def main(arguments: list[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in WAYS:
        label, queries, batch, steps, threads, device = given[1:]
        way = WAYS[given[0]]
        print(json.dumps(measure(label, int(queries), int(batch), int(steps), int(threads), device, *way)))
        return

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME[:VARIANT]")
        parser.add_argument("--queries", nargs="+", type=int, default=[2_000, 20_000])
        parser.add_argument("--batch", type=int, default=4)
        parser.add_argument("--steps", type=int, default=3)
        parser.add_argument("--rounds", type=int, default=1)
        parser.add_argument("--against", metavar="COMMAND", help="the other side")
        parser.add_argument("--all-kept", action="store_true", help="ours with `KeptHeap(None)` too")
        parser.add_argument("--bfloat16", action="store_true", help="ours in mixed precision too")
        parser.add_argument("--keep", action="store_true", help="keep the file's results of other networks")

    options = parse_arguments(__doc__, given, add)
    own = [sys.executable, "-m", "benchmarks.bench_networks"]
    sides = {"ours": [*own, "--measure"]}
    if options.all_kept:
        sides["all kept"] = [*own, "--measure-all-kept"]
    if options.bfloat16:
        sides["bfloat16"] = [*own, "--measure-bfloat16"]
    if options.against:
        sides["theirs"] = shlex.split(options.against)
    path = options.out / f"networks_{options.device}.json"
    earlier: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if options.keep and path.exists() else []
    rows: list[dict[str, Any]] = []
    for label in options.networks:
        for queries in options.queries:
            best: dict[str, dict[str, Any]] = {}
            for _ in range(options.rounds):
                for side, command in sides.items():
                    answer = ask(command, label, queries, options)
                    best[side] = {key: min(value, best.get(side, answer)[key]) for key, value in answer.items()}
            row: dict[str, Any] = {"network": label, "batch": options.batch, "queries": queries}
            for side, answer in best.items():
                row |= {f"{side} ms": 1e3 * answer["seconds"], f"{side} MiB": answer["peak_bytes"] / 2**20}
            if "theirs" in best:
                row["peer"] = best["theirs"].get("peer")
                row["times faster"] = best["theirs"]["seconds"] / best["ours"]["seconds"]
                row["memory"] = best["ours"]["peak_bytes"] / best["theirs"]["peak_bytes"]
            rows.append(row)
            print_rows(f"One training step, {options.threads} threads, {options.device}", [row])
            measured = {(row["network"], row["queries"]) for row in rows}
            kept = [row for row in earlier if (row["network"], row["queries"]) not in measured]
            save("networks", kept + rows, torch.device(options.device), options.out)
    print(path)


if __name__ == "__main__":
    main()
