"""The training loop: one for encoder networks and auto-decoders, exact to continue after any interruption."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pyimplicit import networks, ops
from pyimplicit.atomic import remove_leftovers, write_atomically
from pyimplicit.data import SampledShape, Shape
from pyimplicit.errors import CheckpointError
from pyimplicit.fields import ImplicitFunction
from pyimplicit.training.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from pyimplicit.training.config import EXECUTION, TrainConfig, learning_rate_factor
from pyimplicit.training.examples import build_training_set, check_device, check_shapes, digest_shapes, draw_batch
from pyimplicit.training.run import Run, field_kind
from pyimplicit.training.scalars import open_scalars
from pyimplicit.training.team import Team, joined

#: Names of the other files in a run's directory.
CONFIG_FILE = "config.json"
LOSS_FILE = "losses.jsonl"

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained network, in evaluation mode."""

    config: TrainConfig
    network: networks.Network
    names: tuple[str, ...]  # of the training shapes
    codes: Tensor | None  # [S, C], in the order of `names`; None for encoder networks
    losses: list[float]  # of every step
    steps: int
    seconds: float  # spent on training steps, interrupted calls included

    @property
    def kind(self) -> ImplicitFunction:
        """The implicit function the network was trained on."""
        return field_kind(self.config)


def train(
    config: TrainConfig,
    shapes: Sequence[Shape | SampledShape],
    out: str | os.PathLike[str],
    *,
    resume: bool = True,
    progress: Progress | None = None,
    log_dir: str | os.PathLike[str] | None = None,
) -> TrainResult:
    """Train a network on `shapes`, or continue where the run in `out` stopped.

    The run may be killed at any moment; the same call goes on from its last checkpoint. On the CPU, with the same
    number of threads, the losses are then bitwise those of a run that was never interrupted.

    Started by `torchrun`, each process takes its share of every batch and the first one writes; see
    `pyimplicit.training.team`. `out` must be a folder that all of them see.

    Args:
        config: The run.
        shapes: The training shapes, with distinct names; or their stored samples, as `StoredSet.sampled_shapes`.
        out: Directory of the run; gets `config.json`, `checkpoint.safetensors` and `losses.jsonl` (one
            `{"step": ..., "loss": ...}` per line, the first step is 1).
        resume: Whether to continue a run found in `out`; if not, it is overwritten.
        progress: Called after each step as `progress(step, steps, loss)`, by the first process alone.
        log_dir: Folder in which TensorBoard finds the loss and the learning rate of each step; needs its package.

    Raises:
        CheckpointError: The checkpoint in `out` is damaged, or belongs to another config, other shapes or another
            number of processes.
        ConfigError: The network refuses its arguments, the device is not there, the batch cannot be shared among the
            processes, or `log_dir` is given and TensorBoard is not installed.
        DataError: No shapes, or two of one name.
        TrainingError: The loss stopped being finite; the last checkpoint stays. A `CollapseError` where the network
            ends in a ReLU (NDF) that has let nothing through for some steps.
    """
    check_shapes(shapes)
    check_device(config)
    folder = Path(out)
    data_digest = digest_shapes(shapes)
    names = tuple(shape.name for shape in shapes)
    with joined(config.device) as team, _scoped(config, team.device), ExitStack() as stack:
        if team.leads:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
        team.wait()
        run = Run(config, len(shapes), team)
        losses: list[float] = []
        seconds = 0.0
        found = resume and (folder / CHECKPOINT_FILE).exists()
        if found:
            checkpoint = load_checkpoint(folder)
            _check_same(checkpoint, config, data_digest, team, folder)
            run.restore(checkpoint)
            losses, seconds = checkpoint.losses.tolist(), checkpoint.seconds
        _check_together(team, len(losses), folder)
        if team.leads:
            if not found:
                (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
            write_atomically(folder / CONFIG_FILE, (json.dumps(config.to_dict(), indent=2) + "\n").encode())
            write_atomically(folder / LOSS_FILE, "".join(map(_loss_line, range(len(losses)), losses)).encode())
        if len(losses) < config.steps:
            data = build_training_set(config, shapes, clouds=run.codes is None)
            share = team.share(config.batch_size)
            log = stack.enter_context(open(folder / LOSS_FILE, "a", encoding="utf-8")) if team.leads else None
            scalars = stack.enter_context(open_scalars(log_dir, len(losses))) if team.leads else None
            started = time.perf_counter() - seconds
            for step in range(len(losses), config.steps):
                losses.append(run.step(draw_batch(data, config, step, share), step))
                if log is None or scalars is None:
                    continue
                log.write(_loss_line(step, losses[-1]))
                scalars(
                    step + 1, loss=losses[-1], learning_rate=config.learning_rate * learning_rate_factor(config, step)
                )
                if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                    log.flush()
                    seconds = time.perf_counter() - started
                    save_checkpoint(run.checkpoint(losses, seconds, data_digest, names), folder / CHECKPOINT_FILE)
                if progress is not None:
                    progress(step + 1, config.steps, losses[-1])
        team.wait()  # until the last checkpoint is there
    return _result(run, names, losses, seconds)


def load_trained(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> TrainResult:
    """Return what `train` returned, from the directory of its run or from a checkpoint file.

    Args:
        path: The run's directory, or the file.
        device: Where to put the network and the codes.

    Raises:
        CheckpointError: The checkpoint is missing, damaged or does not fit its own config.
    """
    checkpoint = load_checkpoint(path)
    target = torch.device(device)
    with _scoped(checkpoint.config, target):
        run = Run(checkpoint.config, len(checkpoint.names), Team(0, 1, target))
        run.restore(checkpoint)
    return _result(run, checkpoint.names, checkpoint.losses.tolist(), checkpoint.seconds)


def _result(run: Run, names: tuple[str, ...], losses: list[float], seconds: float) -> TrainResult:
    """Return the result of a finished run."""
    codes = None if run.codes is None else run.codes.weight.detach().clone()
    if isinstance(run.network, networks.CurriculumDeepSDF):
        run.network.epoch = None  # all layers from here on
    return TrainResult(run.config, run.network.eval(), names, codes, losses, len(losses), seconds)


def _check_same(checkpoint: Checkpoint, config: TrainConfig, data_digest: str, team: Team, folder: Path) -> None:
    """Raise `CheckpointError` if `checkpoint` belongs to another config, other shapes or another team."""
    if checkpoint.config.digest() != config.digest():
        old, new = checkpoint.config.to_dict(), config.to_dict()
        name = next(name for name in new if old[name] != new[name] and name not in EXECUTION)
        raise CheckpointError(
            f"{folder}: holds a run of another config: {name} is {old[name]!r} there and {new[name]!r} here; "
            "choose another directory, or resume=False to overwrite it"
        )
    if checkpoint.data != data_digest:
        raise CheckpointError(
            f"{folder}: holds a run on other shapes; choose another directory, or resume=False to overwrite it"
        )
    if checkpoint.processes != team.size:
        raise CheckpointError(
            f"{folder}: holds a run of {checkpoint.processes} processes, which {team.size} would not continue exactly; "
            "start as many, choose another directory, or resume=False to overwrite it"
        )


def _check_together(team: Team, steps: int, folder: Path) -> None:
    """Raise `CheckpointError` unless all processes found the same run."""
    mean = torch.tensor([float(steps)], dtype=torch.float64, device=team.device)
    team.average_([mean])
    if float(mean) != steps:
        raise CheckpointError(
            f"{folder}: not all processes found the same checkpoint there; it must be a common folder"
        )


def _loss_line(step: int, loss: float) -> str:
    """Return the line of the loss log for `step` (0 is the first)."""
    return json.dumps({"step": step + 1, "loss": loss}) + "\n"


@contextmanager
def _scoped(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Set torch's threads as `config` says, and give threads and global random state back at the end.

    In between, memory is kept from step to step: see `ops.KeptBuffers` and `ops.KeptHeap`.
    """
    threads = torch.get_num_threads()
    devices = [device.index or 0] if device.type == "cuda" else []
    heap = ops.KeptHeap() if device.type == "cpu" else nullcontext()
    try:
        with torch.random.fork_rng(devices=devices), ops.KeptBuffers(), heap:
            torch.set_num_threads(config.threads or threads)
            yield
    finally:
        torch.set_num_threads(threads)
