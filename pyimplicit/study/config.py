"""The configuration of a study: which runs it is made of."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyimplicit import _native
from pyimplicit.errors import ConfigError
from pyimplicit.study.axes import AXES, VARIANTS, check_axes, split_network
from pyimplicit.study.run_spec import DataConfig, EvaluationConfig, RunSpec
from pyimplicit.study.scales import SCALES
from pyimplicit.study.settings import (
    canonical_json,
    check_keys,
    check_list,
    check_whole,
    hint,
    read_settings,
)
from pyimplicit.training import PAPER_DEFAULTS, TrainConfig, preset, recipe, search_preset

# The order of the paper's spectrum from uniform to surface, without the three hybrids that Figure 7 also leaves out.
DEFAULT_STRATEGIES = ("uniform", "balanced_surface", "few_uniform_near_surface", "near_surface", "linear")

# How networks are trained: presets at reduced widths, and whole recipes.
PRESETS = ("tiny", "small")
RECIPES = (*PRESETS, "author", "paper")

# Fields of TrainConfig that the study itself decides; the rest may be overridden through `training`.
_GOVERNED = ("network", "variant", "field", "strategy", "points_per_step", "mask_distance", "seed", "device", "threads")


@dataclass(frozen=True)
class StudyConfig:
    """A matrix of runs: networks x fields x strategies x densities x masks x seeds on one data set, or several in turn.

    Args:
        scale: How large the study is, one of `SCALES`. `at_scale` and `from_dict` take from it what is not given; its
            parts only where no axis of the matrix is given.
        recipe: How networks are trained: "tiny" or "small", which are presets at reduced widths for a CPU, "author" as
            the networks' authors do, "paper" by the paper's protocol. Empty means that of the scale.
        networks: Names, a variant after a colon: "onet", "convonet:grid32", "deepsdf".
        strategies: Names or paper symbols of sampling strategies; stored as names.
        fields: "occ", "sdf", "tsdf". A list holds for every network, a mapping names networks; a network without an
            entry is trained on the field it was published with.
        seeds: One run per seed; tables show the mean.
        densities: Query points per shape and step; empty takes the preset's.
        masks: Distances from the input cloud beyond which query points are dropped, in mesh units; None is no mask.
        parts: Several matrices in one study, carried out in this order: each a mapping of some of the keys above to
            values of its own, the others being the study's. A run that two parts name is carried out once. Empty means
            the one matrix of the keys above.
        data: The shapes.
        evaluation: Extraction and metrics.
        training: Overrides of `TrainConfig` fields, for every run, or under a network's name for its runs only. `tau`
            reaches the runs that truncate.
        device: "cpu" or "cuda"; "auto" becomes "cuda" where kernels and torch can both use a GPU, else "cpu".
        threads: Torch threads of each process. Part of the identity, as it may change the last bits.
        processes: Worker processes; 0 runs everything in the calling process. Does not change any result.
        engine: What carries the runs out: "local" for processes of this machine, "ray" for the Ray cluster this machine
            belongs to, "ray:HOST:PORT" for another. On a cluster a run takes as many CPUs as it has threads, and one
            GPU if the device is "cuda". Does not change any result.

    Raises:
        ConfigError: A value that cannot be used; the message starts with the key.

    Example:
        >>> config = StudyConfig.at_scale("tiny", networks=["onet"], strategies=["S_UNI", "linear"])
        >>> [run.strategy for run in config.runs()]
        ['uniform', 'linear']
    """

    scale: str = "tiny"
    recipe: str = ""
    networks: tuple[str, ...] = ("onet", "convonet:3plane", "deepsdf")
    strategies: tuple[str, ...] = DEFAULT_STRATEGIES
    fields: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    densities: tuple[int, ...] = ()
    masks: tuple[float | None, ...] = (None,)
    parts: tuple[dict[str, Any], ...] = ()
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    training: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 1
    processes: int = 2
    engine: str = "local"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ConfigError(f"scale: expected one of {', '.join(SCALES)}, got {self.scale!r}")
        object.__setattr__(self, "recipe", self.recipe or SCALES[self.scale]["recipe"])
        if self.recipe not in RECIPES:
            raise ConfigError(f"recipe: expected one of {', '.join(RECIPES)}, got {self.recipe!r}")
        for key, value in check_axes({key: getattr(self, key) for key in AXES}).items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "parts", tuple(map(self._part, check_list("parts", self.parts, may_be_empty=True))))
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device: expected auto, cpu or cuda, got {self.device!r}")
        if self.device == "auto":
            object.__setattr__(self, "device", "cuda" if _native.cuda_status()[0] else "cpu")
        check_whole("threads", self.threads, 1)
        check_whole("processes", self.processes, 0)
        if not isinstance(self.engine, str) or not re.fullmatch(r"local|ray(:[^:]+:\d+)?", self.engine):
            raise ConfigError(f"engine: expected local, ray or ray:HOST:PORT, got {self.engine!r}")
        _check_training(self.training)
        self.runs()  # a combination that no TrainConfig accepts fails here, not hours later

    @classmethod
    def at_scale(cls, scale: str, **overrides: Any) -> StudyConfig:
        """Build the study of a scale with single values overridden; `data` and `evaluation` may be partial."""
        return cls.from_dict({"scale": scale, **overrides})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StudyConfig:
        """Build from plain values, as read from YAML or JSON; what is missing comes from the scale.

        Raises:
            ConfigError: An unknown key, or a value that cannot be used.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"study configuration: expected a mapping, got {type(values).__name__}")
        check_keys("", values, cls)
        scale = values.get("scale", "tiny")
        if not isinstance(scale, str) or scale not in SCALES:
            raise ConfigError(f"scale: expected one of {', '.join(SCALES)}, got {scale!r}")
        merged: dict[str, Any] = {**SCALES[scale], **values, "scale": scale}
        if "parts" not in values and any(key in values for key in AXES):
            merged.pop("parts", None)
        for key, part in (("data", DataConfig), ("evaluation", EvaluationConfig)):
            given = merged.get(key, {})
            if isinstance(given, part):
                continue
            if not isinstance(given, Mapping):
                raise ConfigError(f"{key}: expected a mapping, got {given!r}")
            check_keys(f"{key}.", given, part)
            merged[key] = part(**{**SCALES[scale].get(key, {}), **given})
        return cls(**merged)

    def as_dict(self) -> dict[str, Any]:
        """Plain values: what `from_dict` reads and what is written beside the results."""
        plain: dict[str, Any] = json.loads(canonical_json(dataclasses.asdict(self)))
        return plain

    def identity(self) -> dict[str, Any]:
        """Return the part of `as_dict` that determines the results."""
        plain = self.as_dict()
        del plain["processes"], plain["engine"], plain["data"]["root"]
        return plain

    def runs(self) -> list[RunSpec]:
        """Every run of the matrix once, part by part, each in the order of the table."""
        runs: dict[str, RunSpec] = {}
        axes = {key: getattr(self, key) for key in AXES}
        for part in self.parts or ({},):
            runs |= {run.hash: run for run in self._matrix(**{**axes, **part}) if run.hash not in runs}
        return list(runs.values())

    def _matrix(
        self,
        networks: tuple[str, ...],
        fields: dict[str, tuple[str, ...]],
        strategies: tuple[str, ...],
        densities: tuple[int, ...],
        masks: tuple[float | None, ...],
        seeds: tuple[int, ...],
    ) -> list[RunSpec]:
        return [
            self._run(*split_network(entry), name, strategy, density, mask, seed)
            for entry in networks
            for name in fields.get(split_network(entry)[0], (PAPER_DEFAULTS[split_network(entry)[0]][0],))
            for strategy in strategies
            for density in densities or (None,)
            for mask in masks
            for seed in seeds
        ]

    def _part(self, part: object) -> dict[str, Any]:
        """Return a part of the matrix with its values checked, those of the whole study left out."""
        if not isinstance(part, Mapping):
            raise ConfigError(f"parts: expected mappings, got {part!r}")
        for key in part:
            if key not in AXES:
                raise ConfigError(f"parts.{key}: unknown key{hint(str(key), AXES)}; known are {', '.join(AXES)}")
        networks = part.get("networks", self.networks)
        if "fields" in part or "networks" not in part:
            whole = check_axes({**{key: getattr(self, key) for key in AXES}, **part}, "parts.")
        else:  # the study's fields may name networks that this part leaves out
            names = {split_network(entry)[0] for entry in check_list("parts.networks", networks)}
            fields = {network: value for network, value in self.fields.items() if network in names}
            whole = check_axes({**{key: getattr(self, key) for key in AXES}, **part, "fields": fields}, "parts.")
            part = {**part, "fields": None}
        return {key: whole[key] for key in AXES if key in part}

    def _base(self, network: str, variant: str | None) -> TrainConfig:
        """Return the training of a network by the study's recipe, before anything is varied or overridden."""
        if self.recipe in PRESETS:
            return preset(network, self.recipe)
        return recipe(network, self.recipe, variant).train_config(self.data.train)

    def _run(
        self,
        network: str,
        variant: str | None,
        name: str,
        strategy: str,
        density: int | None,
        mask: float | None,
        seed: int,
    ) -> RunSpec:
        base = self._base(network, variant)
        general = {key: value for key, value in self.training.items() if key not in VARIANTS}
        overrides = {**general, **self.training.get(network, {})}
        if name not in ("tsdf", "udf"):
            overrides.pop("tau", None)
        changes = {
            **overrides,
            "variant": variant,
            "field": name,
            "strategy": strategy,
            "points_per_step": density if density is not None else base.points_per_step,
            "seed": seed,
            "device": self.device,
            "threads": self.threads,
        }
        if mask is not None:
            changes["mask_distance"] = mask
        try:
            config = dataclasses.replace(base, **changes)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"training.{error}") from error
        training = json.loads(canonical_json(config.to_dict()))
        search = dataclasses.asdict(search_preset(self.recipe if self.recipe in PRESETS else "full"))
        if self.evaluation.code_steps is not None:
            search["steps"] = self.evaluation.code_steps
        return RunSpec(
            network=network,
            variant=variant,
            field=name,
            strategy=strategy,
            density=config.points_per_step,
            seed=seed,
            data=self.data,
            evaluation=self.evaluation,
            training=training,
            search=search,
        )


def load_config(path: str | Path) -> StudyConfig:
    """Read a study configuration from a YAML or JSON file.

    Raises:
        ConfigError: The file is missing or not YAML, or a value cannot be used.
    """
    return StudyConfig.from_dict(read_settings(path))


def _check_training(overrides: object) -> None:
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"training: expected a mapping, got {overrides!r}")
    for key, value in overrides.items():
        if key in VARIANTS:
            if not isinstance(value, Mapping) or any(name in VARIANTS for name in value):
                raise ConfigError(f"training.{key}: expected a mapping of training settings, got {value!r}")
            _check_training(value)
        elif key in _GOVERNED:
            raise ConfigError(f"training.{key}: set by the study itself, through its own keys")
        else:
            check_keys("training.", {key: value}, TrainConfig)
