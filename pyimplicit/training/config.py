"""What one training run is: a frozen dataclass that says everything that determines its result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from pyimplicit.errors import ConfigError
from pyimplicit.sampling import resolve_strategy

#: Meaning "what the paper uses for this network", for the fields `field` and `strategy`.
DEFAULT = "default"

#: The implicit function and the strategy each network was published with ("Analysis of Sampling Strategies for
#: Implicit 3D Reconstruction", Liu & Yang, section on the experimental setting).
PAPER_DEFAULTS = {
    "onet": ("occ", "uniform"),
    "convonet": ("occ", "uniform"),
    "ifnet": ("occ", "balanced_surface"),
    "airnet": ("occ", "balanced_surface"),
    "deepsdf": ("sdf", "few_uniform_near_surface"),
    "curriculum_deepsdf": ("sdf", "few_uniform_near_surface"),
    # None of the paper's six; its authors' mixture.
    "ndf": ("udf", "ndf_surface"),
}

#: Networks trained with the curriculum, unless `TrainConfig.curriculum` says otherwise.
CURRICULUM_NETWORKS = ("curriculum_deepsdf",)

FIELDS = ("occ", "sdf", "tsdf", "udf")
SCHEDULES = ("constant", "step", "cosine")
REDUCTIONS = ("mean", "sum")
CODE_PENALTIES = ("norm", "square")
PRECISIONS = ("float32", "bfloat16", "float16")

#: Fields that say how a run is carried out, not what it computes; `TrainConfig.digest` leaves them out. Bitwise equal
#: losses are promised for one device and one number of threads only.
EXECUTION = ("save_every", "threads", "device")

#: Fields that came later, with the values under which they change nothing. With these they stay out of the digest, so
#: that a run has one digest whatever the version.
_NEUTRAL = {"accumulation": 1, "precision": "float32", "compile": False}


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Every value is JSON-able; `field` and `strategy` are resolved to canonical names.

    Raises:
        ConfigError: A value of the wrong type or out of range; the message names the field.

    Example:
        >>> config = TrainConfig(network="onet", strategy="S_BS", steps=100)
        >>> config.field, config.strategy
        ('occ', 'balanced_surface')
        >>> TrainConfig.from_dict(config.to_dict()) == config
        True
    """

    # Network to train: onet, convonet, ifnet, airnet, deepsdf, curriculum_deepsdf, ndf.
    network: str
    # Variant of the network (convonet: 3plane, 1plane, grid32, grid64; ifnet: points, 128vox, svr; airnet: 300, 3000);
    # None is the network's own default.
    variant: str | None = None
    # Constructor arguments of the network, such as reduced widths; empty means the authors' network.
    network_config: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Implicit function to learn: occ, sdf, tsdf, udf; "default" is the paper's for this network.
    field: str = DEFAULT
    # Truncation distance of tsdf and udf, in mesh units; None is the field's own default.
    tau: float | None = None
    # Sampling strategy of the query points, by name or symbol; "default" is the paper's for this network.
    strategy: str = DEFAULT
    # Query points per shape and step (the paper: 2,000 sparse, 20,000 dense).
    points_per_step: int = 2_000
    # Query points drawn per shape before training; each step takes its points from them with replacement.
    # 0 draws new points from the surface at every step instead.
    pool_size: int = 16_384
    # Points of the input cloud an encoder network sees (ONet: 300, ConvONet: 3,000).
    cloud_size: int = 300
    # Surface points drawn per shape before training; each step takes its input cloud from them with replacement.
    cloud_pool: int = 16_384
    # Whether an input cloud is drawn anew for each step. If not, each shape keeps one (IF-Net, NDF).
    fresh_clouds: bool = True
    # Standard deviation of the noise on the input clouds, along each axis, in mesh units (ONet, ConvONet: 0.005).
    cloud_noise: float = 0.0
    # Shapes per step.
    batch_size: int = 16
    # Parts into which the shapes of a step are split, one in memory at a time (DeepSDF's batch_split). The step is that
    # of the whole batch up to rounding, but for other dropout masks and for batch normalisation, whose statistics are
    # those of a part.
    accumulation: int = 1
    # Of the network's matrix products and convolutions: float32, or bfloat16 or float16 with parameters, codes, loss,
    # kernels and moments in float32 (autocast). Gradients of float16 are scaled against underflow.
    precision: str = "float32"
    # Whether torch compiles the network: less time a step after a first one of up to minutes. Rounding differs.
    compile: bool = False
    # Optimiser steps.
    steps: int = 10_000
    # Adam learning rate of the network.
    learning_rate: float = 1e-4
    # Adam learning rate of the codes (auto-decoders).
    code_learning_rate: float = 1e-3
    # Standard deviation of the first codes (auto-decoders); None is the authors': 0.1 for curriculum_deepsdf, else
    # 1 / sqrt(code size).
    code_std: float | None = None
    # What is penalised of the codes (auto-decoders): norm, as DeepSDF's authors do, or the mean square of their
    # entries, as Curriculum-DeepSDF's; "default" is what the network's authors do.
    code_penalty: str = DEFAULT
    # Weight of that penalty in the loss (auto-decoders).
    code_regularization: float = 1e-4
    # Epochs over which that weight rises from 0 to its full value (auto-decoders).
    code_warmup_epochs: int = 100
    # Learning rates over time: constant, step (times schedule_factor every schedule_interval steps), cosine (to 0).
    schedule: str = "constant"
    # Steps between two drops of the step schedule.
    schedule_interval: int = 10_000
    # Factor of each drop of the step schedule.
    schedule_factor: float = 0.5
    # Reduction of the loss over a batch: mean over all points, or sum over points and mean over shapes.
    loss_reduction: str = "mean"
    # Curriculum-DeepSDF's curriculum: depth for the network that has one, tolerance and weights for sdf and tsdf. None
    # is on for curriculum_deepsdf and off for the others.
    curriculum: bool | None = None
    # Epochs of the authors' schedule that the whole training stands for: their first stage is the first tenth of it.
    curriculum_epochs: int = 2_001
    # Seed of the weights, the pools and the batches.
    seed: int = 0
    # Steps between two checkpoints.
    save_every: int = 500
    # Threads torch may use on the CPU while training; None leaves them as they are.
    threads: int | None = None
    # Device of the network and of the batches.
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Check every field and resolve the defaults that depend on the network."""
        _check_name("network", self.network, tuple(PAPER_DEFAULTS))
        if self.variant is not None and not isinstance(self.variant, str):
            raise ConfigError(f"variant: expected a string or None, got {self.variant!r}")
        _check_json("network_config", self.network_config)
        field, strategy = PAPER_DEFAULTS[self.network]
        object.__setattr__(self, "network_config", dict(self.network_config))
        object.__setattr__(self, "field", field if self.field == DEFAULT else self.field)
        object.__setattr__(self, "strategy", _strategy_name(strategy if self.strategy == DEFAULT else self.strategy))
        if self.code_penalty == DEFAULT:
            object.__setattr__(self, "code_penalty", "square" if self.network in CURRICULUM_NETWORKS else "norm")
        if self.curriculum is None:
            object.__setattr__(self, "curriculum", self.network in CURRICULUM_NETWORKS)
        if self.code_std is None and self.network in CURRICULUM_NETWORKS:
            object.__setattr__(self, "code_std", 0.1)
        _check_name("field", self.field, FIELDS)
        _check_name("code_penalty", self.code_penalty, CODE_PENALTIES)
        _check_name("schedule", self.schedule, SCHEDULES)
        _check_name("loss_reduction", self.loss_reduction, REDUCTIONS)
        _check_name("precision", self.precision, PRECISIONS)
        for name in (
            *("points_per_step", "cloud_size", "cloud_pool", "batch_size", "steps", "schedule_interval"),
            *("code_warmup_epochs", "curriculum_epochs", "save_every", "accumulation"),
        ):
            _check_whole(name, getattr(self, name), minimum=1)
        _check_whole("pool_size", self.pool_size, minimum=0)
        _check_whole("seed", self.seed, minimum=0)
        if self.threads is not None:
            _check_whole("threads", self.threads, minimum=1)
        for name in ("learning_rate", "code_learning_rate", "schedule_factor"):
            _check_number(name, getattr(self, name), zero_allowed=False)
        for name in ("code_regularization", "cloud_noise"):
            _check_number(name, getattr(self, name), zero_allowed=True)
        if self.code_std is not None:
            _check_number("code_std", self.code_std, zero_allowed=False)
        if not isinstance(self.fresh_clouds, bool):
            raise ConfigError(f"fresh_clouds: expected true or false, got {self.fresh_clouds!r}")
        if not self.fresh_clouds and self.cloud_size > self.cloud_pool:
            raise ConfigError(
                f"fresh_clouds: false takes the first cloud_size = {self.cloud_size} points of a pool of cloud_pool = "
                f"{self.cloud_pool}, which has fewer"
            )
        if not isinstance(self.curriculum, bool):
            raise ConfigError(f"curriculum: expected true, false or None, got {self.curriculum!r}")
        if self.curriculum and self.network not in CURRICULUM_NETWORKS and self.field not in ("sdf", "tsdf"):
            raise ConfigError(
                f"curriculum: {self.network} has none of its own, and the loss has one for sdf and tsdf only"
            )
        if self.accumulation > self.batch_size:
            raise ConfigError(f"accumulation: expected at most batch_size = {self.batch_size}, got {self.accumulation}")
        if not isinstance(self.compile, bool):
            raise ConfigError(f"compile: expected true or false, got {self.compile!r}")
        if self.compile and self.curriculum and self.network in CURRICULUM_NETWORKS:
            raise ConfigError(
                f"compile: {self.network} changes its depth in its curriculum, and would be compiled anew at every epoch"
            )
        if self.tau is not None:
            _check_number("tau", self.tau, zero_allowed=False)
            if self.field not in ("tsdf", "udf"):
                raise ConfigError(f"tau: only tsdf and udf are truncated, got tau {self.tau} with field {self.field}")
        if not isinstance(self.device, str) or self.device.split(":")[0] not in ("cpu", "cuda"):
            raise ConfigError(f"device: expected cpu, cuda or cuda:<index>, got {self.device!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict that JSON and YAML can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Return the config of `values`, as `to_dict` wrote them.

        Raises:
            ConfigError: An unknown field, a missing one, or a value that does not pass the checks.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ConfigError(f"{unknown[0]}: no such field; expected some of {', '.join(known)}")
        if "network" not in values:
            raise ConfigError(f"network: missing; expected one of {', '.join(PAPER_DEFAULTS)}")
        return cls(**values)

    def digest(self) -> str:
        """Return 16 hexadecimal digits of a hash of everything here that determines the result.

        How a run is carried out (`save_every`, `threads`, `device`) does not enter.

        Example:
            >>> config = TrainConfig(network="onet")
            >>> config.digest() == TrainConfig(network="onet", strategy="UNI", save_every=7).digest()
            True
        """
        values = {name: value for name, value in self.to_dict().items() if name not in EXECUTION}
        values = {name: value for name, value in values.items() if _NEUTRAL.get(name, ...) != value}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def learning_rate_factor(config: TrainConfig, step: int) -> float:
    """Return what the learning rates are multiplied with at `step` (0 is the first).

    Example:
        >>> config = TrainConfig(network="onet", steps=100, schedule="cosine")
        >>> learning_rate_factor(config, 0), round(learning_rate_factor(config, 50), 6)
        (1.0, 0.5)
    """
    if config.schedule == "step":
        return float(config.schedule_factor ** (step // config.schedule_interval))
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * step / config.steps))
    return 1.0


def _strategy_name(strategy: object) -> str:
    """Return the canonical name of a strategy named or symbolised by `strategy`."""
    if not isinstance(strategy, str):
        raise ConfigError(f"strategy: expected a name or symbol, got {type(strategy).__name__}")
    try:
        return resolve_strategy(strategy).name
    except ValueError as error:
        raise ConfigError(f"strategy: {error}") from None


def _check_name(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def _check_whole(name: str, value: object, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{name}: expected a whole number, got {value!r}")
    if value < minimum:
        raise ConfigError(f"{name}: expected at least {minimum}, got {value}")


def _check_number(name: str, value: object, zero_allowed: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{name}: expected a number, got {value!r}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero_allowed):
        raise ConfigError(
            f"{name}: expected a finite number {'of at least' if zero_allowed else 'above'} 0, got {value}"
        )


def _check_json(name: str, value: object) -> None:
    """Raise unless `value` is a dict with string keys that JSON gives back unchanged."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{name}: expected a dict with string keys, got {value!r}")
    try:
        same = json.loads(json.dumps(dict(value), allow_nan=False)) == value
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ConfigError(f"{name}: expected values that JSON can hold (no tuples, no objects), got {value!r}")
