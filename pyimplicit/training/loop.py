"""The training loop: one for encoder networks and auto-decoders, exact to continue after any interruption."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pyimplicit import networks, ops
from pyimplicit.atomic import remove_leftovers, write_atomically
from pyimplicit.data import Shape
from pyimplicit.errors import CheckpointError, ConfigError, TrainingError
from pyimplicit.fields import ImplicitFunction, implicit_function
from pyimplicit.training.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from pyimplicit.training.config import TrainConfig, learning_rate_factor
from pyimplicit.training.curriculum import Curriculum
from pyimplicit.training.examples import (
    Batch,
    build_training_set,
    check_device,
    check_shapes,
    digest_shapes,
    draw_batch,
)
from pyimplicit.training.latent import code_penalty
from pyimplicit.training.masking import predict_near
from pyimplicit.training.seeds import derive_seed

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
    shapes: Sequence[Shape],
    out: str | os.PathLike[str],
    *,
    resume: bool = True,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a network on `shapes`, or continue where the run in `out` stopped.

    The run may be killed at any moment; the same call goes on from its last checkpoint. On the CPU, with the same
    number of threads, the losses are then bitwise those of a run that was never interrupted.

    Args:
        config: The run.
        shapes: The training shapes, with distinct names.
        out: Directory of the run; gets `config.json`, `checkpoint.safetensors` and `losses.jsonl` (one
            `{"step": ..., "loss": ...}` per line, the first step is 1).
        resume: Whether to continue a run found in `out`; if not, it is overwritten.
        progress: Called after each step as `progress(step, steps, loss)`.

    Raises:
        CheckpointError: The checkpoint in `out` is damaged, or belongs to another config or other shapes.
        ConfigError: The network refuses its arguments, or the device is not there.
        DataError: No shapes, or two of one name.
        TrainingError: The loss stopped being finite; the last checkpoint stays.
    """
    check_shapes(shapes)
    check_device(config)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    data_digest = digest_shapes(shapes)
    names = tuple(shape.name for shape in shapes)
    with _scoped(config):
        run = _Run(config, len(shapes))
        losses: list[float] = []
        seconds = 0.0
        if resume and (folder / CHECKPOINT_FILE).exists():
            checkpoint = load_checkpoint(folder)
            _check_same(checkpoint, config, data_digest, folder)
            run.restore(checkpoint)
            losses, seconds = checkpoint.losses.tolist(), checkpoint.seconds
        else:
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        write_atomically(folder / CONFIG_FILE, (json.dumps(config.to_dict(), indent=2) + "\n").encode())
        write_atomically(folder / LOSS_FILE, "".join(map(_loss_line, range(len(losses)), losses)).encode())
        if len(losses) < config.steps:
            data = build_training_set(config, shapes, clouds=run.codes is None)
            started = time.perf_counter() - seconds
            with open(folder / LOSS_FILE, "a", encoding="utf-8") as log:
                for step in range(len(losses), config.steps):
                    losses.append(run.step(draw_batch(data, config, step), step))
                    log.write(_loss_line(step, losses[-1]))
                    if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                        log.flush()
                        seconds = time.perf_counter() - started
                        save_checkpoint(run.checkpoint(losses, seconds, data_digest, names), folder / CHECKPOINT_FILE)
                    if progress is not None:
                        progress(step + 1, config.steps, losses[-1])
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
    with _scoped(checkpoint.config):
        run = _Run(checkpoint.config, len(checkpoint.names), torch.device(device))
        run.restore(checkpoint)
    return _result(run, checkpoint.names, checkpoint.losses.tolist(), checkpoint.seconds)


def field_kind(config: TrainConfig, step: int | None = None) -> ImplicitFunction:
    """Return the implicit function that `config` trains.

    Args:
        config: The run.
        step: With a curriculum the loss is that of this step (0 is the first); None is the loss at its end, with which
            codes of unseen shapes are searched.

    Example:
        >>> field_kind(TrainConfig(network="onet")).name
        'occ'
        >>> field_kind(TrainConfig(network="curriculum_deepsdf", steps=100), step=20)
        SDF(tolerance=0.01, hard_weight=0.1)
    """
    kind = implicit_function(config.field, config.tau)
    if not config.curriculum:
        return kind
    curriculum = Curriculum(epochs=config.curriculum_epochs)
    return curriculum.kind(kind, None if step is None else curriculum.epoch(step, config.steps))


class _Run:
    """The network, the codes and the optimisers of one run, and what a step does with them."""

    def __init__(self, config: TrainConfig, count: int, device: torch.device | None = None) -> None:
        self.config = config
        self.count = count
        self.device = device or check_device(config)
        torch.manual_seed(derive_seed(config.seed, "weights"))
        try:
            network = networks.create(config.network, variant=config.variant, **config.network_config)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"network_config: {config.network} refuses it: {error}") from error
        self.network = network.to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        self.codes: networks.LatentCodes | None = None
        if network.kind == "auto_decoder":
            assert network.code_size is not None  # every auto-decoder has one
            self.codes = networks.LatentCodes(count, network.code_size, config.code_std).to(self.device)
            self.code_optimizer = self.codes.optimizer(config.code_learning_rate)

    def step(self, batch: Batch, step: int) -> float:
        """Take one step (0 is the first) and return its loss."""
        config = self.config
        # Dropout draws from torch's global generator: keyed by the step, it needs no place in a checkpoint.
        torch.manual_seed(derive_seed(config.seed, "step", step))
        factor = learning_rate_factor(config, step)
        batch = batch.to(self.device)
        self.network.train()
        kind = field_kind(config, step)
        if config.curriculum and isinstance(self.network, networks.CurriculumDeepSDF):
            self.network.epoch = Curriculum(epochs=config.curriculum_epochs).epoch(step, config.steps)
        condition = batch.clouds if self.codes is None else self.codes(batch.shapes)
        if config.mask_distance is None:
            prediction = self.network(batch.points, condition)
        else:
            prediction = predict_near(
                self.network, batch.points, batch.clouds, batch.signed_distance, kind, config.mask_distance
            )
        target = kind.target(batch.signed_distance)
        loss = kind.loss(prediction, target, reduction=config.loss_reduction)
        if self.codes is not None:
            epoch = step * config.batch_size / self.count
            loss = loss + code_penalty(
                condition, config.code_regularization, epoch, config.code_warmup_epochs, config.code_penalty
            )
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss of step {step + 1} is {value}; try a lower learning rate")
        self.network.zero_grad()
        if self.codes is not None:
            self.codes.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.param_groups[0]["lr"] = config.learning_rate * factor
        self.optimizer.step()
        if self.codes is not None:
            self.code_optimizer.param_groups[0]["lr"] = config.code_learning_rate * factor
            self.code_optimizer.step()  # type: ignore[no-untyped-call]
            self.codes.project_(batch.shapes)
        return value

    def checkpoint(self, losses: list[float], seconds: float, data: str, names: tuple[str, ...]) -> Checkpoint:
        """Return the state after `len(losses)` steps."""
        optimizer = {f"network.{name}": value for name, value in _pack(self.optimizer).items()}
        if self.codes is not None:
            optimizer |= {f"codes.{name}": value for name, value in _pack(self.code_optimizer).items()}
        return Checkpoint(
            config=self.config,
            data=data,
            names=names,
            step=len(losses),
            seconds=seconds,
            network=self.network.state_dict(),
            codes={} if self.codes is None else self.codes.state_dict(),
            optimizer=optimizer,
            losses=torch.tensor(losses, dtype=torch.float64),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state of `checkpoint`."""
        moments: dict[str, dict[str, Tensor]] = {"network": {}, "codes": {}}
        try:
            for key, value in checkpoint.optimizer.items():
                owner, _, name = key.partition(".")
                moments[owner][name] = value
            self.network.load_state_dict(dict(checkpoint.network))
            _unpack(self.optimizer, moments["network"])
            if self.codes is not None:
                self.codes.load_state_dict(dict(checkpoint.codes))
                _unpack(self.code_optimizer, moments["codes"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit its own config: {error}") from error


def _pack(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments and step counts of an optimiser of one group as flat, named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value) for index, values in state.items() for name, value in values.items()
    }


def _unpack(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that `_pack` returned."""
    state: dict[int, dict[str, Tensor | int]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        # SparseAdam counts its steps with an int, Adam with a float tensor.
        state.setdefault(int(index), {})[name] = tensor if tensor.is_floating_point() else int(tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _result(run: _Run, names: tuple[str, ...], losses: list[float], seconds: float) -> TrainResult:
    """Return the result of a finished run."""
    codes = None if run.codes is None else run.codes.weight.detach().clone()
    if isinstance(run.network, networks.CurriculumDeepSDF):
        run.network.epoch = None  # all layers from here on
    return TrainResult(run.config, run.network.eval(), names, codes, losses, len(losses), seconds)


def _check_same(checkpoint: Checkpoint, config: TrainConfig, data_digest: str, folder: Path) -> None:
    """Raise `CheckpointError` if `checkpoint` belongs to another config or other shapes."""
    if checkpoint.config.digest() != config.digest():
        old, new = checkpoint.config.to_dict(), config.to_dict()
        name = next(name for name in new if old[name] != new[name] and name not in ("save_every", "threads", "device"))
        raise CheckpointError(
            f"{folder}: holds a run of another config: {name} is {old[name]!r} there and {new[name]!r} here; "
            "choose another directory, or resume=False to overwrite it"
        )
    if checkpoint.data != data_digest:
        raise CheckpointError(
            f"{folder}: holds a run on other shapes; choose another directory, or resume=False to overwrite it"
        )


def _loss_line(step: int, loss: float) -> str:
    """Return the line of the loss log for `step` (0 is the first)."""
    return json.dumps({"step": step + 1, "loss": loss}) + "\n"


@contextmanager
def _scoped(config: TrainConfig) -> Iterator[None]:
    """Set torch's threads as `config` says, and give threads and global random state back at the end.

    In between, memory of large features and gradients is kept from step to step: see `ops.KeptBuffers`.
    """
    threads = torch.get_num_threads()
    devices = [torch.device(config.device).index or 0] if config.device.startswith("cuda") else []
    try:
        with torch.random.fork_rng(devices=devices), ops.KeptBuffers():
            torch.set_num_threads(config.threads or threads)
            yield
    finally:
        torch.set_num_threads(threads)
