"""One run of a study, and everything that determines its result: shapes, training, extraction and metrics."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from pyimplicit.data import DEBIAN_SETS
from pyimplicit.errors import ConfigError
from pyimplicit.study.axes import network_label
from pyimplicit.study.settings import canonical_json, check_whole
from pyimplicit.training import TrainConfig

# Written into every run's identity: raise it when the meaning of a run changes without a change of its configuration.
RUN_FORMAT = 1


@dataclass(frozen=True)
class DataConfig:
    """Where the shapes come from and how many are used.

    Args:
        source: "procedural", one of `pyimplicit.data.DEBIAN_SETS` or "folder:PATH".
        train: Number of training shapes.
        test: Number of test shapes; no test shape shares its base mesh with a training shape. Where the source has
            splits, as the Debian sets do, both are drawn from its own.
        seed: Seed of the procedural shapes and of the split.
        resolution: Cells per axis of the grid that makes a mesh watertight; None takes the data layer's default.
        root: Folder of the prepared shapes; None keeps them in the study's folder. Does not change any result.
    """

    source: str = "procedural"
    train: int = 8
    test: int = 2
    seed: int = 0
    resolution: int | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        kind, _, path = self.source.partition(":") if isinstance(self.source, str) else ("", "", "")
        known = ("procedural", *DEBIAN_SETS)
        if kind not in (*known, "folder") or (kind == "folder") != bool(path):
            raise ConfigError(f"data.source: expected {', '.join(known)} or folder:PATH, got {self.source!r}")
        check_whole("data.train", self.train, 1)
        check_whole("data.test", self.test, 1)
        check_whole("data.seed", self.seed, 0)
        if self.resolution is not None:
            check_whole("data.resolution", self.resolution, 8)


@dataclass(frozen=True)
class EvaluationConfig:
    """How a reconstruction is extracted and measured.

    Args:
        resolution: Cells per axis of the marching cubes grid over the bounding cube.
        samples: Points drawn on each surface for Chamfer, F-Score and Normal Consistency.
        iou_points: Points drawn in the cube for IoU.
        threshold: Distance below which a point counts for the F-Score, in mesh units; the paper's is 0.015 (1.5%).
        code_steps: Optimisation steps for the code of an unseen shape (auto-decoders); None takes the preset's.
        cloud_points: Points of the dense cloud that stands for the surface of an unsigned distance.
        collapse_iou: A run whose mean IoU is below this has collapsed: it has no result.
    """

    resolution: int = 64
    samples: int = 20_000
    iou_points: int = 20_000
    threshold: float = 0.015
    code_steps: int | None = None
    cloud_points: int = 100_000
    collapse_iou: float = 0.05

    def __post_init__(self) -> None:
        check_whole("evaluation.resolution", self.resolution, 8)
        check_whole("evaluation.samples", self.samples, 100)
        check_whole("evaluation.iou_points", self.iou_points, 100)
        if not isinstance(self.threshold, float) or not 0.0 < self.threshold < 1.0:
            raise ConfigError(f"evaluation.threshold: expected a number between 0 and 1, got {self.threshold!r}")
        check_whole("evaluation.cloud_points", self.cloud_points, 100)
        if not isinstance(self.collapse_iou, float) or not 0.0 <= self.collapse_iou < 1.0:
            raise ConfigError(
                f"evaluation.collapse_iou: expected a number of at least 0 and below 1, got {self.collapse_iou!r}"
            )
        if self.code_steps is not None:
            check_whole("evaluation.code_steps", self.code_steps, 1)


@dataclass(frozen=True)
class RunSpec:
    """One run: a network, field, strategy, density and seed, with all that determines its result."""

    network: str
    variant: str | None
    field: str
    strategy: str
    density: int
    seed: int
    data: DataConfig
    evaluation: EvaluationConfig
    training: dict[str, Any]  # a whole TrainConfig, as JSON values
    search: dict[str, Any]  # a whole CodeSearch, as JSON values; without effect on encoder networks

    def identity(self) -> dict[str, Any]:
        """Everything that determines the result, as JSON values; where files are kept is left out."""
        values = dataclasses.asdict(self)
        del values["data"]["root"], values["training"]["save_every"], values["search"]["batch_size"]
        return {"format": RUN_FORMAT, **values}

    @property
    def hash(self) -> str:
        """SHA-256 of the identity, 64 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()

    @property
    def name(self) -> str:
        """A readable and unique folder name."""
        network = self.network if self.variant is None else f"{self.network}-{self.variant}"
        strategy = re.sub(r"[^\w.]+", "_", self.strategy).strip("_")
        return f"{network}-{self.field}-{strategy}-n{self.density}-s{self.seed}-{self.hash[:10]}"

    @property
    def mask(self) -> float | None:
        """Distance from the input cloud beyond which query points are dropped; None without a mask."""
        value: float | None = self.training.get("mask_distance")
        return value

    @property
    def label(self) -> str:
        """The name people read in progress lines."""
        mask = "" if self.mask is None else f" mask {self.mask:g}"
        network = network_label(self.network, self.variant)
        return f"{network} {self.field.upper()} {self.strategy}{mask} n{self.density} seed {self.seed}"

    def train_config(self) -> TrainConfig:
        """Return the training configuration of this run."""
        return TrainConfig.from_dict(self.training)
