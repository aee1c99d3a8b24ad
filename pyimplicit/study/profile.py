"""What dense query points cost: time of a training step by phase, and peak memory, against the number of points."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pyimplicit import ops
from pyimplicit.data import SampledShape, Shape
from pyimplicit.info import versions
from pyimplicit.study.files import write_json, write_text
from pyimplicit.study.runs import run_machine
from pyimplicit.training import TrainConfig
from pyimplicit.training.examples import build_training_set, check_device, draw_batch
from pyimplicit.training.run import Run
from pyimplicit.training.team import Team

PHASES = ("draw", "encode", "decode", "loss", "backward", "optimiser")


@dataclass(frozen=True)
class Cost:
    """What a step with one number of query points costs: seconds, and bytes at the peak."""

    density: int
    median: float
    p10: float
    p90: float
    phases: dict[str, float]  # medians
    samples_per_second: float  # query points of all shapes
    data_share: float  # of a step's time that drawing takes
    memory: dict[str, int]


def profile_training(
    config: TrainConfig,
    shapes: Sequence[Shape | SampledShape],
    densities: Sequence[int],
    out: str | Path,
    *,
    steps: int = 20,
    warm_up: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> list[Cost]:
    """Measure training steps at several numbers of query points.

    Writes into `out`: `profile.json`, `table.md` (in the form of the paper's Table II), `cost.png`, and for each
    density a Chrome trace of one step, `trace-DENSITY.json.gz`. Each density is measured in a process of its own.

    A step is that of training, with its mask, accumulation and precision; what a compiled network encodes counts as
    decoding. On CUDA the device is waited for at the end of each phase, phases are NVTX ranges, and memory is that of
    the allocator. On the CPU memory is the peak resident set of the process (Linux only) over the measured steps, less
    what it held before the network was made.

    Args:
        config: The run; its `points_per_step` is replaced by each density.
        shapes: Shapes to draw query points from.
        densities: Query points per shape and step; multiples are against the first.
        out: Folder of the results.
        steps: Measured steps, at least 1.
        warm_up: Steps before these, at least 0.
        progress: Called as `progress(done, all)` after each density.

    Raises:
        ValueError: No density, or `steps` or `warm_up` out of range.
    """
    if not densities:
        raise ValueError("densities: expected at least one number of query points, got none")
    if steps < 1 or warm_up < 0:
        raise ValueError(f"steps, warm_up: expected at least 1 and 0, got {steps} and {warm_up}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    costs, parameters = [], 0
    spawn = multiprocessing.get_context("spawn")
    for index, density in enumerate(densities):
        length = max(config.steps, warm_up + steps + 1)  # no schedule may end before the last measured step
        one = TrainConfig.from_dict({**config.to_dict(), "points_per_step": density, "steps": length})
        with spawn.Pool(1) as pool:  # memory kept from one density would count in the next
            trace = str(folder / f"trace-{density}.json.gz")
            cost, parameters = pool.apply(_measure, (one, list(shapes), steps, warm_up, trace))
        costs.append(cost)
        if progress is not None:
            progress(index + 1, len(densities))
    facts: dict[str, Any] = {
        "config": config.to_dict(),
        "parameters": parameters,
        "steps": steps,
        "warm_up": warm_up,
        "costs": [vars(cost) for cost in costs],
        "versions": versions(),
        "machine": run_machine(config.device),
    }
    write_json(folder / "profile.json", facts)
    write_text(folder / "table.md", cost_table(config, costs))
    _plot(config, costs, folder / "cost.png")
    return costs


def cost_table(config: TrainConfig, costs: Sequence[Cost]) -> str:
    """Return time and memory with their multiples of the first density, as Markdown."""
    key = _memory_key(config)
    head = ["Points", "Step [ms]", "p10", "p90", "Time multiple", "Peak [MiB]", "Memory multiple", *PHASES]
    lines = [
        f"{config.network}, {config.batch_size} shapes a step, phases in ms; peak: {key}",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---:|" * len(head),
    ]
    first = costs[0]
    for cost in costs:
        times = [f"{1e3 * value:.1f}" for value in (cost.median, cost.p10, cost.p90)]
        memory = ["", ""]
        if key in cost.memory:
            memory = [f"{cost.memory[key] / 2**20:,.0f}", f"{cost.memory[key] / first.memory[key]:.2f}"]
        phases = [f"{1e3 * cost.phases[phase]:.1f}" for phase in PHASES]
        cells = [f"{cost.density:,}", *times, f"{cost.median / first.median:.2f}", *memory, *phases]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _plot(config: TrainConfig, costs: Sequence[Cost], path: Path) -> None:
    """Step time and memory against the number of query points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    densities = [cost.density for cost in costs]
    below = [0.0] * len(costs)
    for phase in PHASES:
        values = [1e3 * cost.phases[phase] for cost in costs]
        above = [low + value for low, value in zip(below, values, strict=True)]
        time_axes.fill_between(densities, below, above, label=phase)
        below = above
    time_axes.set(xlabel="query points per shape", ylabel="step, ms", title=f"{config.network}: time")
    time_axes.legend(fontsize="small")
    key = _memory_key(config)
    if all(key in cost.memory for cost in costs):
        memory_axes.plot(densities, [cost.memory[key] / 2**20 for cost in costs], "o-")
    memory_axes.set(xlabel="query points per shape", ylabel="peak, MiB", title=f"memory ({key})", ylim=(0, None))
    figure.savefig(path, dpi=120)


def _memory_key(config: TrainConfig) -> str:
    return "cuda_allocated" if config.device.startswith("cuda") else "resident"


def _measure(
    config: TrainConfig, shapes: Sequence[Shape | SampledShape], steps: int, warm_up: int, trace: str
) -> tuple[Cost, int]:
    """Measure one density, in a process of its own; also returns the number of parameters."""
    torch.set_num_threads(config.threads or torch.get_num_threads())
    device = check_device(config)
    before = _peak(device).get("resident", 0)
    clock = _Clock(device)
    run = Run(config, len(shapes), Team(0, 1, device), phase=clock.phase)
    data = build_training_set(config, shapes, clouds=run.codes is None)

    def take_step(step: int) -> None:
        clock.begin()
        with clock.phase("draw"):
            batch = draw_batch(data, config, step)
        run.step(batch, step)

    with ops.KeptBuffers(), ops.KeptHeap():  # as training does
        for step in range(warm_up):
            take_step(step)
        clock.steps.clear()
        _reset_peak(device)
        for step in range(warm_up, warm_up + steps):
            take_step(step)
        memory = _peak(device)
        cost = clock.cost(config, memory)
        with torch.profiler.profile() as profiler:
            take_step(warm_up + steps)
    profiler.export_chrome_trace(trace)
    if "resident" in cost.memory:
        cost.memory["resident"] -= before
    return cost, sum(parameter.numel() for parameter in run.network.parameters())


class _Clock:
    """Seconds of each phase of every step; a phase that comes several times in a step is added up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps: list[dict[str, float]] = []

    def begin(self) -> None:
        self.steps.append(dict.fromkeys(PHASES, 0.0))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        cuda = self.device.type == "cuda"
        start = time.perf_counter()
        if cuda:
            torch.cuda.nvtx.range_push(name)  # type: ignore[no-untyped-call]
        with torch.profiler.record_function(name):
            yield
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.nvtx.range_pop()  # type: ignore[no-untyped-call]
        self.steps[-1][name] += time.perf_counter() - start

    def cost(self, config: TrainConfig, memory: dict[str, int]) -> Cost:
        table = torch.tensor([[step[phase] for step in self.steps] for phase in PHASES], dtype=torch.float64)
        total = table.sum(0)
        low, middle, high = total.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist()
        medians = table.quantile(0.5, dim=1).tolist()
        points = config.batch_size * config.points_per_step
        share = float(table[0].sum() / total.sum())
        phases = dict(zip(PHASES, medians, strict=True))
        return Cost(config.points_per_step, middle, low, high, phases, points / middle, share, memory)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from the current size


def _peak(device: torch.device) -> dict[str, int]:
    if device.type == "cuda":
        return {
            "cuda_allocated": torch.cuda.max_memory_allocated(device),
            "cuda_reserved": torch.cuda.max_memory_reserved(device),
        }
    if sys.platform != "linux":
        return {}
    lines = Path("/proc/self/status").read_text().splitlines()
    return {"resident": 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))}
