"""Whether runs of a study that differ in strategy or seed only train faster together than one after another.

    python -m benchmarks.bench_together
    python -m benchmarks.bench_together --networks onet deepsdf --runs 4 --thread-counts 1 --no-study

A step is that of training at the `small` scale's settings: forward, loss, backward, Adam. "one by one" takes the steps
of K runs in turn, as a study does. "together" is one program over stacked parameters and one optimiser
(`benchmarks.stacked`). For that some functions of the networks are replaced by plainer ones: batch normalisation by one
that takes all shapes at once, where the networks' own works on pieces that fit the cache; IF-Net's
sparse finest level by a dense one. "plain" is one by one with these, which tells what stacking gains from what they do.
Each turn takes steps at a quarter and at three quarters of the training, as Curriculum-DeepSDF's steps grow. Before it,
the first losses, gradients and running statistics are compared.

"by processor" is the ratio of the processor's time, of all threads, which other programs on the machine disturb less.
Peak memory is that of one run, of which a study holds one at a time, and of K together.

The second table has the parts of a whole run, from which follows how many more runs an hour there could be: with the
measured factor of the largest K, and with steps that take no time at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import alternate, parse_arguments, print_rows, save
from benchmarks.stacked import StackedRuns, first_obstacle
from benchmarks.stacked_functions import PLAIN, register_folding, substituted
from pyimplicit import ops
from pyimplicit.study import StudyConfig
from pyimplicit.study.axes import network_label
from pyimplicit.study.costs import MemoryWatch
from pyimplicit.study.run_spec import RunSpec
from pyimplicit.study.runs import RunTask, execute_run
from pyimplicit.study.scales import NETWORKS
from pyimplicit.study.shapes import study_shapes
from pyimplicit.training import TrainConfig
from pyimplicit.training.examples import Batch, TrainingSet, build_training_set, draw_batch
from pyimplicit.training.run import Run
from pyimplicit.training.team import Team

POSITIONS = (0.25, 0.75)  # of the training, at which steps are timed
# Of a loss, and of a gradient's entry to the run's largest: float32 rounding, which batch normalisation of a few points
# makes larger (AIR-Net's gradients differ by 2e-5).
TOLERANCE = 1e-4
# Networks with functions that are other ones together.
_SUBSTITUTED = ("onet", "ifnet", "airnet")


def study_run(label: str, strategy: str) -> RunSpec:
    """Return the run of a network at the `small` scale."""
    return StudyConfig.at_scale("small", networks=[label], strategies=[strategy], device="cpu").runs()[0]


def spheres(config: TrainConfig, shapes: int) -> TrainingSet:
    """Return pools of random points labelled by spheres, which cost a step what pools of a study's shapes do."""
    random = torch.Generator().manual_seed(config.seed)
    points = torch.rand(shapes, config.pool_size, 3, generator=random) - 0.5
    radius = 0.2 + 0.25 * torch.rand(shapes, 1, generator=random)
    clouds = torch.nn.functional.normalize(torch.randn(shapes, config.cloud_pool, 3, generator=random), dim=2)
    names = tuple(map(str, range(shapes)))
    return TrainingSet(names, points, points.norm(dim=2) - radius, clouds * radius[..., None], None)


def create_runs(config: TrainConfig, shapes: int, count: int) -> list[Run]:
    """Return runs of seeds 0, 1, and so on."""
    alone = Team(0, 1, torch.device("cpu"))
    return [Run(dataclasses.replace(config, seed=seed), shapes, alone) for seed in range(count)]


def disagreement(runs: Sequence[Run], stacked: StackedRuns, batches: Sequence[Batch]) -> tuple[float, float]:
    """Take the first step both ways; return the largest relative difference of a loss, and of gradients and statistics.

    A gradient's is relative to the largest entry of its run. Codes count as parameters, and statistics as losses.
    """
    one = torch.tensor([run.step(batch, 0) for run, batch in zip(runs, batches, strict=True)], dtype=torch.float64)
    other = torch.tensor(stacked.step(batches, 0), dtype=torch.float64)
    losses, gradients = list(((one - other) / one).abs()), []
    for index, run in enumerate(runs):
        pairs = [(own.grad, stacked.parameters[name].grad) for name, own in run.network.named_parameters()]
        found = [(own, every[index]) for own, every in pairs if own is not None and every is not None]
        if run.codes is not None and stacked.codes is not None:
            rows = slice(index * run.count, (index + 1) * run.count)
            found.append((_dense(run.codes.weight.grad), _dense(stacked.codes.weight.grad)[rows]))
        largest = torch.stack([own.abs().max() for own, _ in found]).max()
        gradients += [(own - other).abs().max() / largest for own, other in found]
        if len(found) < sum(own is not None or every is not None for own, every in pairs):
            raise RuntimeError("a parameter has a gradient on one side alone")
        for name, buffer in run.network.named_buffers():
            losses.append((buffer - stacked.buffers[name][index]).abs().max() / buffer.abs().max().clamp(min=1))
    return float(torch.stack(losses).max()), float(torch.stack(gradients).max())  # NaN stays


def _dense(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.to_dense()


def peak(create: Callable[[], Callable[[], Any]]) -> float:
    """Return the bytes that two steps hold at their peak, with the runs that `create` makes for them."""
    gc.collect()
    watch = MemoryWatch(False)
    with ops.KeptBuffers(), ops.KeptHeap():
        step = create()
        step()
        step()
        return watch.train_peak().get("train_peak", float("nan"))


def compare(label: str, config: TrainConfig, shapes: int, count: int, rounds: int) -> dict[str, Any]:
    """Measure the steps of `count` runs of a network both ways."""
    steps = [0, *(int(position * config.steps) for position in POSITIONS)]
    runs = create_runs(config, shapes, count)
    sets = [spheres(run.config, shapes) for run in runs]
    batches = [[draw_batch(data, run.config, step) for data, run in zip(sets, runs, strict=True)] for step in steps]
    stacked = StackedRuns(runs)
    losses, gradients = disagreement(runs, stacked, batches[0])
    if not max(losses, gradients) < TOLERANCE:
        raise RuntimeError(f"{label}, {count} runs: losses differ by {losses:.1e}, gradients by {gradients:.1e}")
    with ops.KeptBuffers(), ops.KeptHeap():  # as training does
        ms, processor = timings(runs, stacked, batches[1:], steps[1:], rounds)
    del runs, stacked, sets

    def create_one() -> Callable[[], Any]:
        (run,) = create_runs(config, shapes, 1)
        return lambda: run.step(batches[-1][0], steps[-1])

    def create_stacked() -> Callable[[], Any]:
        own = StackedRuns(create_runs(config, shapes, count))
        return lambda: own.step(batches[-1], steps[-1])

    return {
        "network": label,
        "threads": torch.get_num_threads(),
        "runs": count,
        "one by one ms": ms["one by one"],
        "together ms": ms["together"],
        "times faster": ms["one by one"] / ms["together"],
        "by processor": processor["one by one"] / processor["together"],
        "plain ms": ms.get("plain"),
        "than plain": ms["plain"] / ms["together"] if "plain" in ms else None,
        "by processor than plain": processor["plain"] / processor["together"] if "plain" in processor else None,
        "one MiB": peak(create_one) / 2**20,
        "together MiB": peak(create_stacked) / 2**20,
        "loss": losses,
        "gradient": gradients,
    }


def timings(
    runs: Sequence[Run], stacked: StackedRuns, batches: Sequence[Sequence[Batch]], steps: Sequence[int], rounds: int
) -> tuple[dict[str, float], ...]:
    """Return milliseconds of a step of all runs, wall's and processor's; medians of turns of all `steps`."""

    def one_by_one() -> None:
        for step, own in zip(steps, batches, strict=True):
            for run, batch in zip(runs, own, strict=True):
                run.step(batch, step)

    def together() -> None:
        for step, own in zip(steps, batches, strict=True):
            stacked.step(own, step)

    def plain() -> None:
        with substituted(PLAIN):
            one_by_one()

    competitors: dict[str, Callable[[], Any]] = {"one by one": one_by_one, "together": together}
    if runs[0].config.network in _SUBSTITUTED:
        competitors["plain"] = plain
    taken: dict[str, list[float]] = {name: [] for name in competitors}

    def watched(name: str) -> None:
        start = time.process_time()
        competitors[name]()
        taken[name].append(time.process_time() - start)

    seconds = alternate({name: partial(watched, name) for name in competitors}, torch.device("cpu"), rounds)
    processor = {name: statistics.median(values[-rounds:]) for name, values in taken.items()}
    return tuple({name: 1e3 * value / len(steps) for name, value in side.items()} for side in (seconds, processor))


def parts(spec: RunSpec, folder: Path, factor: float) -> dict[str, Any]:
    """Carry out a run of the study; return the seconds of its parts, and what faster steps would win."""
    root = str(folder / "data")
    config = spec.train_config()
    shapes, _ = study_shapes(spec.data, root)
    start = time.perf_counter()
    record = execute_run(RunTask(spec, str(folder / spec.name), root), lambda fraction, text: None)
    whole = time.perf_counter() - start
    start = time.perf_counter()
    data = build_training_set(config, shapes, clouds=config.network not in ("deepsdf", "curriculum_deepsdf"))
    pools = time.perf_counter() - start
    start = time.perf_counter()
    for step in range(config.steps):
        draw_batch(data, config, step)
    draws = time.perf_counter() - start
    timings = record.timings
    return {
        "network": network_label(spec.network, spec.variant),
        "status": record.status,
        "pools s": pools,
        "draws s": draws,
        "steps s": timings["train"] - draws,
        "reconstruct s": timings["reconstruct"],
        "evaluate s": timings["evaluate"],
        "whole s": whole,
        **gains(timings["train"] - draws, (timings["train"] - draws) / factor, whole),
    }


def gains(steps: float, faster: float, whole: float) -> dict[str, float]:
    """Return the share of steps in the seconds of a run, and the percentage of more runs an hour if they are faster."""
    return {
        "share of steps": steps / whole,
        "times faster": steps / faster,
        "runs/h won %": 100 * (whole / (whole - steps + faster) - 1),
        "at most %": 100 * steps / (whole - steps),
    }


def sum_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of one run of each network, each done the faster way of both, one by one or together."""
    seconds = {key: sum(row[key] for row in rows) for key in rows[0] if key.endswith(" s")}
    faster = sum(row["steps s"] / max(1.0, row["times faster"]) for row in rows)
    return {"network": "all", **seconds, **gains(seconds["steps s"], faster, seconds["whole s"])}


def parts_of(specs: dict[str, RunSpec], factors: dict[str, float]) -> list[dict[str, Any]]:
    """Return the rows of a run of each network, and of all; the first one is carried out twice, as it warms up."""
    with tempfile.TemporaryDirectory() as folder:
        warm_up = next(iter(specs.items()))
        _, *rest = [
            parts(spec, Path(folder) / str(index > 0), factors[label])
            for index, (label, spec) in enumerate([warm_up, *specs.items()])
        ]
    return [*rest, sum_of(rest)]


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME[:VARIANT]")
        parser.add_argument("--runs", nargs="+", type=int, default=[1, 2, 4, 8], help="at a time")
        parser.add_argument("--thread-counts", nargs="+", type=int, default=[1, 2])
        parser.add_argument("--rounds", type=int, default=7)
        parser.add_argument("--strategy", default="balanced_surface", help="of the runs of the second table")
        parser.add_argument("--no-study", action="store_true", help="leave out the second table")

    options = parse_arguments(__doc__, arguments, add)
    # Of functions that vmap carries out run by run. All that is left of these is a clamp of some hundred cells.
    warnings.filterwarnings("ignore", "There is a performance drop")
    specs = {label: study_run(label, options.strategy) for label in options.networks}
    obstacles = []
    for label, spec in specs.items():
        config, shapes = spec.train_config(), spec.data.train
        runs = create_runs(config, shapes, 2)
        batches = [draw_batch(spheres(run.config, shapes), run.config, 0) for run in runs]
        obstacles.append({"network": label, "vmap alone": first_obstacle(runs, batches) or "works"})
    print_rows("The networks as they are under vmap, checks of values apart", obstacles)
    register_folding()
    rows: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    for threads in options.thread_counts:
        for label, spec in specs.items():
            for count in options.runs:
                torch.set_num_threads(threads)
                rows.append(compare(label, spec.train_config(), spec.data.train, count, options.rounds))
                print_rows("A training step of all runs", rows[-1:])
                save("together", [*obstacles, *rows, *table], torch.device("cpu"), options.out)
        if not options.no_study and not table:
            torch.set_num_threads(1)  # as a study's processes
            table = parts_of(specs, {row["network"]: row["times faster"] for row in rows})  # of the largest K
            print_rows("Parts of a run, one thread", table)
    print_rows("A training step of all runs", rows)
    print(save("together", [*obstacles, *rows, *table], torch.device("cpu"), options.out))


if __name__ == "__main__":
    main()
