"""The state of one run, and what a step does with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from pyimplicit import networks
from pyimplicit.errors import CheckpointError, CollapseError, ConfigError, TrainingError
from pyimplicit.fields import ImplicitFunction, implicit_function
from pyimplicit.training.checkpoint import Checkpoint
from pyimplicit.training.config import TrainConfig, learning_rate_factor
from pyimplicit.training.curriculum import Curriculum
from pyimplicit.training.examples import Batch, batch_shapes
from pyimplicit.training.latent import code_penalty
from pyimplicit.training.masking import predict_near
from pyimplicit.training.seeds import derive_seed
from pyimplicit.training.team import Team

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Steps in a row in which a final ReLU lets nothing through, after which it will not come back: Adam's moments, the last
# thing that still moves the weights, are down to a two-hundredth by then.
DEAD_STEPS = 50
# What a gradient scaler changes as it goes; the rest of its state is torch's defaults.
_SCALER = ("scale", "_growth_tracker")


#: What `Run` does in each part of a step: "draw", "encode", "decode", "loss", "backward" and "optimiser", of which one
#: step may have several of one name, one after the other.
Phase = Callable[[str], AbstractContextManager[object]]
_UNWATCHED = nullcontext()


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


class Run:
    """The network, the codes and the optimisers of one run.

    Args:
        config: The run.
        count: Number of training shapes.
        team: The processes that share it, and where this one computes.
        phase: Entered around each part of a step, to measure it. What a compiled network encodes is part of "decode".

    Raises:
        ConfigError: The network refuses its arguments, or the batch cannot be shared.
    """

    def __init__(self, config: TrainConfig, count: int, team: Team, phase: Phase | None = None) -> None:
        self.config = config
        self.count = count
        self.team = team
        self.device = team.device
        self.phase: Phase = phase or (lambda name: _UNWATCHED)
        shapes = team.share(config.batch_size)
        if config.accumulation > shapes.stop - shapes.start:
            raise ConfigError(
                f"accumulation: expected at most {shapes.stop - shapes.start}, the shapes of a step on one process, "
                f"got {config.accumulation}"
            )
        torch.manual_seed(derive_seed(config.seed, "weights"))
        try:
            network = networks.create(config.network, variant=config.variant, **config.network_config)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"network_config: {config.network} refuses it: {error}") from error
        self.network = network.to(self.device)
        self.compiled = torch.compile(self.network) if config.compile else None
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.codes: networks.LatentCodes | None = None
        if network.kind == "auto_decoder":
            assert network.code_size is not None  # every auto-decoder has one
            self.codes = networks.LatentCodes(count, network.code_size, config.code_std).to(self.device)
            self.code_optimizer = self.codes.optimizer(config.code_learning_rate)
        self._dead = 0  # steps so far in which all answers of a final ReLU were 0; a resumed run counts anew

    def step(self, batch: Batch, step: int) -> float:
        """Take one step (0 is the first) on this process's share of the batch; return the loss of the whole."""
        config = self.config
        # Dropout draws from torch's global generator: keyed by the step, it needs no place in a checkpoint.
        torch.manual_seed(derive_seed(config.seed, "step", step, *([self.team.rank] if self.team.rank else [])))
        self.network.train()
        if config.curriculum and isinstance(self.network, networks.CurriculumDeepSDF):
            self.network.epoch = Curriculum(epochs=config.curriculum_epochs).epoch(step, config.steps)
        with self.phase("draw"):
            parts = batch.to(self.device).split(config.accumulation)
        with self.phase("backward"):
            self.network.zero_grad()
            if self.codes is not None:
                self.codes.zero_grad()
        # The loss, and of a network that ends in a ReLU how many of its answers are above 0: read together.
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for part in parts:
            loss, positive = self._loss(part, step)
            with self.phase("backward"):
                # Every loss is a mean over shapes: weighted so, the parts add up to the loss of the batch.
                loss = loss * (len(part.shapes) / len(batch.shapes))
                totals[0] += loss.detach()
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if positive is not None:
                totals[1] += positive
        self.team.average_([totals])
        value, answers = totals.tolist()
        if not math.isfinite(value):
            raise TrainingError(f"the loss of step {step + 1} is {value}; try a lower learning rate")
        self._check_alive(answers, step)
        with self.phase("optimiser"):
            self._update(step)
        return float(value)

    def _loss(self, batch: Batch, step: int) -> tuple[Tensor, Tensor | None]:
        """Return the loss of some shapes at a step, and how many of a final ReLU's answers are above 0."""
        config = self.config
        kind = field_kind(config, step)
        with self.phase("encode"):
            condition = batch.clouds if self.codes is None else self.codes(batch.shapes)
        with torch.autocast(self.device.type, _DTYPES[config.precision], enabled=config.precision != "float32"):
            prediction, answers = self._predict(batch, condition, kind)
        with self.phase("loss"):
            positive = (answers.detach() > 0).sum() if self.network.rectified else None
            target = kind.target(batch.signed_distance)
            loss = kind.loss(prediction.to(target.dtype), target, reduction=config.loss_reduction)
            if self.codes is not None:
                epoch = step * config.batch_size / self.count
                loss = loss + code_penalty(
                    condition, config.code_regularization, epoch, config.code_warmup_epochs, config.code_penalty
                )
        return loss, positive

    def _predict(self, batch: Batch, condition: Tensor, kind: ImplicitFunction) -> tuple[Tensor, Tensor]:
        """Return the predictions [B, T], and what the network itself answered, which a mask leaves in part."""
        distance = self.config.mask_distance
        if self.compiled is not None and distance is None:
            with self.phase("decode"):
                values: Tensor = self.compiled(batch.points, condition)
            return values, values
        with self.phase("encode"):
            code = self.network.code_of(condition)
        with self.phase("decode"):
            if distance is None:
                values = self.network.decode(batch.points, code)
                return values, values
            answers: list[Tensor] = []

            def decode(points: Tensor, clouds: Tensor) -> Tensor:
                answers.append(self.network.decode(points, code))
                return answers[-1]

            values = predict_near(decode, batch.points, batch.clouds, batch.signed_distance, kind, distance)
            return values, answers[0]

    def _check_alive(self, answers: float, step: int) -> None:
        """Raise after `DEAD_STEPS` steps without an answer above 0 by a network that ends in a ReLU."""
        self._dead = self._dead + 1 if self.network.rectified and not answers else 0
        if self._dead >= DEAD_STEPS:
            raise CollapseError(
                f"the final ReLU of {self.config.network} is dead: all its answers in the {DEAD_STEPS} steps up to "
                f"step {step + 1} are 0, and nothing is learned from them; let its last bias start above 0 "
                f"(output_bias in network_config), or try a lower learning rate"
            )

    def _update(self, step: int) -> None:
        """Move parameters and codes along the gradients, which all processes then have in common."""
        config, team = self.config, self.team
        factor = learning_rate_factor(config, step)
        team.average_gradients(self.network)
        self.optimizer.param_groups[0]["lr"] = config.learning_rate * factor
        self.scaler.step(self.optimizer)
        if self.codes is not None:
            shapes = batch_shapes(self.count, config.batch_size, step, config.seed).to(self.device)
            team.average_rows(self.codes.weight, shapes)
            self.code_optimizer.param_groups[0]["lr"] = config.code_learning_rate * factor
            self.scaler.step(self.code_optimizer)
            self.codes.project_(shapes)
        self.scaler.update()
        team.average_statistics(self.network)

    def checkpoint(self, losses: list[float], seconds: float, data: str, names: tuple[str, ...]) -> Checkpoint:
        """Return the state after `len(losses)` steps."""
        optimizer = {f"network.{name}": value for name, value in _pack(self.optimizer).items()}
        if self.codes is not None:
            optimizer |= {f"codes.{name}": value for name, value in _pack(self.code_optimizer).items()}
        if self.scaler.is_enabled():
            state = self.scaler.state_dict()
            optimizer |= {f"scaler.{name}": torch.tensor(state[name], dtype=torch.float64) for name in _SCALER}
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
            processes=self.team.size,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state of `checkpoint`."""
        moments: dict[str, dict[str, Tensor]] = {"network": {}, "codes": {}, "scaler": {}}
        try:
            for key, value in checkpoint.optimizer.items():
                owner, _, name = key.partition(".")
                moments[owner][name] = value
            self.network.load_state_dict(dict(checkpoint.network))
            _unpack(self.optimizer, "network", moments["network"])
            if self.codes is not None:
                self.codes.load_state_dict(dict(checkpoint.codes))
                _unpack(self.code_optimizer, "codes", moments["codes"])
            if self.scaler.is_enabled():
                scaling = {"scale": float(moments["scaler"]["scale"])}
                scaling["_growth_tracker"] = int(moments["scaler"]["_growth_tracker"])
                self.scaler.load_state_dict(self.scaler.state_dict() | scaling)
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit its own config: {error}") from error


def _pack(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments and step counts of an optimiser of one group as flat, named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value) for index, values in state.items() for name, value in values.items()
    }


def _unpack(optimizer: torch.optim.Optimizer, owner: str, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that `_pack` returned; `ValueError` for what no parameter of it has."""
    parameters = optimizer.param_groups[0]["params"]
    state: dict[int, dict[str, Tensor | int]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise ValueError(f"{owner}.{key}: there are {len(parameters)} parameters")
        wanted = [] if name == "step" else list(parameters[int(index)].shape)
        if list(tensor.shape) != wanted:  # torch takes over any shape, and fails in the next step
            raise ValueError(f"{owner}.{key}: expected shape {wanted}, got {list(tensor.shape)}")
        # SparseAdam counts its steps with an int, Adam with a float tensor.
        state.setdefault(int(index), {})[name] = tensor if tensor.is_floating_point() else int(tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
