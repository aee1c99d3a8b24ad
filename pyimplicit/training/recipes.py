"""Recipes: how the authors of each network trained it, and how the paper that compares them does, as plain data.

A recipe says what a training needs whatever the number of shapes; `Recipe.train_config` makes it a run. Figures of the
authors are those of their published code and settings, which differ from their articles in places; where this package
does something else on purpose, `Recipe.notes` says so.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyimplicit.atomic import write_atomically
from pyimplicit.checks import check_choice, check_count
from pyimplicit.errors import ConfigError
from pyimplicit.fields import ImplicitFunction, Occ, implicit_function
from pyimplicit.training.config import PAPER_DEFAULTS, TrainConfig
from pyimplicit.training.latent import CodeSearch

RECIPES = ("author", "paper")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Adam with torch's defaults throughout; lengths are mesh units.

    Example:
        >>> authors = recipe("deepsdf", "author")
        >>> authors.batch_size, authors.points_per_step, authors.code_penalty
        (64, 16384, 'norm')
        >>> authors.train_config(shapes=3_000).steps
        93796
    """

    network: str
    recipe: str  # author or paper
    source: str  # where its figures come from
    variant: str | None = None
    field: str = "occ"
    tau: float | None = None  # truncation distance of tsdf and udf
    threshold: float = 0.5  # probability at which the surface of an occupancy is extracted
    strategy: str = "uniform"  # of the query points
    points_per_step: int = 2_000  # query points a shape
    pool_size: int = 100_000  # query points kept a shape, from which those of a step are drawn with replacement
    cloud_size: int = 3_000  # points of the input cloud
    cloud_pool: int = 30_000  # surface points kept a shape, from which an input cloud is drawn with replacement
    fresh_clouds: bool = True  # drawn for each step, or one kept a shape
    cloud_noise: float = 0.0  # standard deviation of the noise on an input cloud
    batch_size: int = 16  # shapes
    epochs: int | None = None  # length of the training, or None where `steps` says it
    steps: int | None = None
    learning_rate: float = 1e-4
    code_learning_rate: float = 1e-3
    decay_epochs: int | None = None  # learning rates are multiplied by `decay_factor` every so many epochs
    decay_factor: float = 1.0
    loss_reduction: str = "sum"  # over the points of a shape, with a mean over shapes; or the mean of all points
    code_std: float | None = None  # of the first codes; None is 1 / sqrt(code size)
    code_penalty: str = "norm"
    code_regularization: float = 1e-4
    code_warmup_epochs: int = 100
    curriculum: bool = False
    search: CodeSearch | None = None  # for the codes of unseen shapes; auto-decoders
    notes: tuple[str, ...] = ()

    def train_config(self, shapes: int, **changes: Any) -> TrainConfig:
        """Return the run of this recipe on a number of shapes.

        Args:
            shapes: Number of training shapes, which turns epochs into steps.
            changes: Fields of `TrainConfig` to set otherwise. With other `steps` the decay of the learning rates keeps
                its place as a fraction of the whole, as the curriculum does.

        Raises:
            ConfigError: A change that `TrainConfig` refuses.
        """
        check_count("shapes", shapes)
        batch = changes.get("batch_size", self.batch_size)
        whole = self.steps if self.epochs is None else max(1, self.epochs * shapes // batch)
        assert whole is not None  # one of both is given
        steps = changes.get("steps", whole)
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in (field.name for field in dataclasses.fields(TrainConfig))
            if name in _SHARED
        }
        values |= {"steps": steps, "save_every": min(2_000, steps)}
        if self.decay_epochs is not None:
            interval = max(1, math.floor(self.decay_epochs * shapes / batch * steps / whole))
            values |= {"schedule": "step", "schedule_interval": interval, "schedule_factor": self.decay_factor}
        if self.curriculum and self.epochs is not None:
            values["curriculum_epochs"] = self.epochs
        return TrainConfig.from_dict(values | changes)

    def kind(self) -> ImplicitFunction:
        """Return the implicit function, with the level at which the authors extract a surface."""
        return Occ(self.threshold) if self.field == "occ" else implicit_function(self.field, self.tau)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict that JSON and YAML can hold."""
        return {**dataclasses.asdict(self), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe of `values`, as `to_dict` wrote them.

        Raises:
            ConfigError: An unknown or a missing field.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise ConfigError(f"{unknown[0]}: no such field; expected some of {', '.join(sorted(known))}")
        search = values.get("search")
        try:
            return cls(
                **{
                    **values,
                    "notes": tuple(values.get("notes", ())),
                    "search": CodeSearch(**search) if isinstance(search, Mapping) else search,
                }
            )
        except TypeError as error:
            raise ConfigError(f"recipe: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe to a JSON file, which appears whole or not at all."""
        write_atomically(Path(path), (json.dumps(self.to_dict(), indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe that `save` wrote."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot be read as a recipe: {error}") from error
        if not isinstance(values, Mapping):
            raise ConfigError(f"{path}: expected the fields of a recipe, got {type(values).__name__}")
        return cls.from_dict(values)

    def __str__(self) -> str:
        """One line a field, notes at the end."""
        lines = [f"{name:20}{value}" for name, value in self.to_dict().items() if name not in ("search", "notes")]
        if self.search is not None:
            lines += [f"search.{name:13}{value}" for name, value in dataclasses.asdict(self.search).items()]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)])


def recipe(network: str, name: str = "author", variant: str | None = None) -> Recipe:
    """Return how `network` is trained by its authors, or by the paper's common protocol.

    Args:
        network: One of the networks' names.
        name: "author", or "paper": Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction",
            with 2,000 query points, no noise on the input and the cube [-0.5, 0.5]^3; what that paper leaves open is
            the authors' choice, and said in the notes.
        variant: Of the network; its main one if None.

    Raises:
        ValueError: An unknown network, recipe or variant.

    Example:
        >>> print(recipe("onet", "paper"))  # doctest: +ELLIPSIS
        network             onet
        recipe              paper
        ...
    """
    check_choice("network", network, tuple(_AUTHORS))
    check_choice("name", name, RECIPES)
    variants = _AUTHORS[network]
    chosen = next(iter(variants)) if variant is None else variant
    if chosen not in variants:
        known = ", ".join(f"{own}" for own in variants)
        raise ValueError(f"variant: expected one of {known}, got {variant!r}")
    authors = Recipe(network=network, variant=chosen, recipe="author", **variants[chosen])
    return authors if name == "author" else _paper(authors)


def _paper(authors: Recipe) -> Recipe:
    """The common protocol: what the paper says, and where it is silent what the authors do."""
    field, strategy = PAPER_DEFAULTS[authors.network]
    notes = [
        "The paper gives no optimiser, learning rates, batch size, length, size of input clouds or loss reduction: all "
        "are the authors'. Input clouds are drawn anew for each step.",
        "The surface is extracted at probability 0.5: the paper names no level.",
    ]
    if authors.network == "ndf":
        notes.append("NDF is none of the paper's networks; its field, clamp and strategy stay its authors'.")
        field, tau = authors.field, authors.tau
    else:
        tau = None
    if authors.search is not None:
        notes.append(
            "The distance is not truncated and signs are not balanced: the paper's strategies are what it says."
        )
    return dataclasses.replace(
        authors,
        recipe="paper",
        source='Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section IV; '
        + authors.source,
        field=field,
        tau=tau,
        threshold=0.5,
        strategy=strategy,
        points_per_step=2_000,
        cloud_noise=0.0,
        fresh_clouds=True,
        notes=tuple(notes),
    )


# Fields that mean the same in `TrainConfig`.
_SHARED = frozenset(
    {
        *("network", "variant", "field", "tau", "strategy", "points_per_step", "pool_size", "cloud_size", "cloud_pool"),
        *(
            "fresh_clouds",
            "cloud_noise",
            "batch_size",
            "learning_rate",
            "code_learning_rate",
            "loss_reduction",
            "code_std",
        ),
        *("code_penalty", "code_regularization", "code_warmup_epochs", "curriculum"),
    }
)

_ENDLESS = "The authors train until the validation metric stops rising; 300,000 steps is the order their article names."
_OCCUPANCY_NETWORKS: dict[str, Any] = {
    "field": "occ",
    "threshold": 0.2,
    "strategy": "padded_uniform",
    "points_per_step": 2_048,
    "pool_size": 100_000,
    "cloud_noise": 0.005,
    "steps": 300_000,
    "learning_rate": 1e-4,
    "loss_reduction": "sum",
    "notes": (
        _ENDLESS,
        "Query points fill a cube of edge 1.1. The authors' noise is on the input at test time too; here it is added "
        "there on request (cloud_noise of reconstruct_shapes and reconstruct_file).",
    ),
}
_ONET = _OCCUPANCY_NETWORKS | {"source": "Mescheder et al., Occupancy Networks, CVPR 2019, and its code"}
_CONVONET = _OCCUPANCY_NETWORKS | {
    "source": "Peng et al., Convolutional Occupancy Networks, ECCV 2020, and its code",
    "cloud_size": 3_000,
    "cloud_pool": 100_000,
    "batch_size": 32,
}
_IFNET: dict[str, Any] = {
    "source": "Chibane et al., Implicit Functions in Feature Space, CVPR 2020, and its code",
    "field": "occ",
    "strategy": "balanced_surface",
    "points_per_step": 50_000,
    "pool_size": 200_000,
    "cloud_size": 3_000,
    "batch_size": 6,
    "epochs": 1_500,
    "learning_rate": 1e-4,
    "loss_reduction": "sum",
    "fresh_clouds": False,
    "notes": (
        "Sigmas 0.1 and 0.01 and batches of 6 are those of the authors' instructions; their code's defaults are 0.15, "
        "0.015 and 30.",
    ),
}
_AIRNET: dict[str, Any] = {
    "source": "Giebenhain and Goldlücke, AIR-Nets, 3DV 2021, and its code",
    "field": "occ",
    "strategy": "balanced_surface",
    "points_per_step": 1_000,
    "pool_size": 200_000,
    "cloud_pool": 30_000,
    "epochs": 1_500,
    "learning_rate": 5e-4,
    "decay_epochs": 200,
    "decay_factor": 0.2,
    "loss_reduction": "mean",
    "notes": (
        "A resumed training of the authors starts the decay of its learning rate anew; here it goes on where it was.",
    ),
}
_DEEPSDF: dict[str, Any] = {
    "source": "Park et al., DeepSDF, CVPR 2019, and its code",
    "field": "tsdf",
    "tau": 0.1,
    "strategy": "deepsdf_surface",
    "points_per_step": 16_384,
    "pool_size": 500_000,
    "batch_size": 64,
    "epochs": 2_001,
    "learning_rate": 5e-4,
    "code_learning_rate": 1e-3,
    "decay_epochs": 500,
    "decay_factor": 0.5,
    "loss_reduction": "mean",
    "code_penalty": "norm",
    "search": CodeSearch(),
    "notes": (
        "The authors scale a shape into the unit sphere. Here it stays in the unit cube, and the truncation, the "
        "sigmas and all other lengths are the authors' numbers in mesh units.",
        "Half of the pool is inside, half outside; the authors draw exact halves at each step and drop the last, "
        "smaller batch of an epoch.",
        "Codes absent from a batch stay as they are; with the authors' optimiser they drift on by momentum.",
    ),
}
_CURRICULUM: dict[str, Any] = _DEEPSDF | {
    "source": "Duan et al., Curriculum DeepSDF, ECCV 2020, and its code",
    "batch_size": 16,
    "code_std": 0.1,
    "code_penalty": "square",
    "curriculum": True,
    "notes": (
        *_DEEPSDF["notes"],
        "Codes start within the ball of radius 1 that they are projected into after every step; the authors' start "
        "outside and enter it at their first step.",
        "Codes of unseen shapes are searched with the loss of the last stage.",
    ),
}
_NDF: dict[str, Any] = {
    "source": "Chibane et al., Neural Unsigned Distance Fields, NeurIPS 2020, and its code",
    "field": "udf",
    "tau": 0.1,
    "strategy": "ndf_surface",
    "points_per_step": 50_000,
    "pool_size": 300_000,
    "cloud_size": 10_000,
    "batch_size": 4,
    "epochs": 1_500,
    "learning_rate": 1e-6,
    "loss_reduction": "sum",
    "fresh_clouds": False,
    "notes": (
        "The authors store 100,000 points of each sigma; here the pool has the shares of a step.",
        "The last layer's bias starts at 0.1, so that the final ReLU is not dead; NDF(output_bias=None) is theirs.",
    ),
}
_AUTHORS: dict[str, dict[str | None, dict[str, Any]]] = {
    "onet": {None: _ONET | {"cloud_size": 300, "cloud_pool": 100_000, "batch_size": 64}},
    "convonet": dict.fromkeys(("3plane", "1plane", "grid32", "grid64"), _CONVONET),
    "ifnet": dict.fromkeys(("points", "128vox", "svr"), _IFNET),
    "airnet": {
        "300": _AIRNET | {"cloud_size": 300, "batch_size": 64},
        "3000": _AIRNET | {"cloud_size": 3_000, "batch_size": 55},
    },
    "deepsdf": {None: _DEEPSDF},
    "curriculum_deepsdf": {None: _CURRICULUM},
    "ndf": {None: _NDF},
}
