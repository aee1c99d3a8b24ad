"""How to measure: sample counts, thresholds, and the conventions of the authors whose figures one compares with.

A name of ours always means the same thing, whatever the protocol; what authors call by their own names, sums where we
take half sums included, comes out under their names in `Protocol.authors_scores`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyimplicit.checks import check_choice, check_count, check_positive
from pyimplicit.evaluation.scores import Scores
from pyimplicit.geometry.mesh import LONGEST_SIDE

NEAREST = ("samples", "surface")
SAMPLING = ("paired", "independent")


@dataclass(frozen=True)
class Column:
    """A number under its authors' name.

    Attributes:
        source: Our name of it, as in `Scores.as_dict`.
        factor: What ours is multiplied by.
        empty: What the authors give a mesh without faces; None where they give nothing and ours stands.
    """

    source: str
    factor: float = 1.0
    empty: float | None = None


@dataclass(frozen=True)
class Protocol:
    """How predictions are measured.

    Attributes:
        name: Its name.
        samples: Area-uniform samples on each mesh.
        iou_points: Uniform points for the IoU.
        iou_side: Side of the cube, centred at the origin, that they lie in, mesh units.
        thresholds: Distances of the F-Score, mesh units.
        quantiles: Quantiles of the distances that the Hausdorff distance is given at; 1 is the Hausdorff distance.
        nearest: Distances lead to the other "surface" itself, or to the nearest of its "samples", as all authors have
            it: then the spacing of the samples is a floor that no prediction gets below.
        sampling: "paired" draws both meshes with one seed: a mesh against itself meets its own samples. "independent"
            draws them apart, so that a perfect prediction keeps the floor that every other prediction has.
        columns: The authors' names.
        source: Where the conventions stand.

    Raises:
        TypeError, ValueError: A value of a wrong type or out of range.
    """

    name: str = "pyimplicit"
    samples: int = 100_000
    iou_points: int = 100_000
    iou_side: float = LONGEST_SIDE
    thresholds: tuple[float, ...] = (0.015,)
    quantiles: tuple[float, ...] = (0.9, 0.95, 1.0)
    nearest: str = "surface"
    sampling: str = "paired"
    columns: Mapping[str, Column] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        check_count("iou_points", self.iou_points)
        check_positive("iou_side", self.iou_side)
        for name in ("thresholds", "quantiles"):
            limits = tuple(check_positive(name, value) for value in getattr(self, name))
            if len(set(limits)) != len(limits) or (name == "thresholds" and not limits):
                raise ValueError(f"{name}: expected at least one, all different, got {list(limits)}")
            object.__setattr__(self, name, limits)
        if any(quantile > 1 for quantile in self.quantiles):
            raise ValueError(f"quantiles: expected at most 1, got {list(self.quantiles)}")
        check_choice("nearest", self.nearest, NEAREST)
        check_choice("sampling", self.sampling, SAMPLING)

    def authors_scores(self, scores: Scores) -> dict[str, float]:
        """Return scores under the authors' names and in their convention.

        A prediction that could not be measured has what the authors' code gives a mesh without faces, and where that
        gives nothing, our worst value: no shape is missing from a mean. What a cloud cannot have is left out.

        Args:
            scores: As `evaluate` returned them under this protocol.

        Raises:
            ValueError: Scores that lack a number of the authors', such as an F-Score at another threshold.

        Example:
            >>> bad = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=10, seed=0)
            >>> PRESETS["deepsdf"].authors_scores(bad)
            {'chamfer_dist': 6.0}
        """
        row, found = scores.as_dict(), {}
        for name, column in self.columns.items():
            value = row.get(column.source)
            if not scores.valid and column.empty is not None:
                found[name] = column.empty
            elif isinstance(value, float):
                found[name] = column.factor * value
            elif column.source not in row:
                raise ValueError(f"scores: expected {column.source} for {name!r} of {self.name}, got none")
        return found

    def authors_definitions(self, scores: Scores) -> dict[str, str]:
        """Return for each of `authors_scores` what it is in our terms.

        Example:
            >>> bad = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=10, seed=0)
            >>> PRESETS["deepsdf"].authors_definitions(bad)["chamfer_dist"].partition(",")[0]
            '2 x chamfer_l2: half the sum of completeness_squared and accuracy_squared'
        """
        ours = scores.definitions()
        return {
            name: ("" if column.factor == 1 else f"{column.factor:g} x ")
            + f"{column.source}: {ours.get(column.source, '')}"
            for name, column in self.columns.items()
        }


def _mesh_evaluator(f_scores: Mapping[str, str]) -> dict[str, Column]:
    """The columns of ONet's evaluator and of those that copied it."""
    far = math.sqrt(3)
    return {
        "iou": Column("iou", empty=0.0),
        "chamfer-L1": Column("chamfer_l1"),
        "chamfer-L2": Column("chamfer_l2"),
        "completeness": Column("completeness", empty=far),
        "accuracy": Column("accuracy", empty=far),
        "completeness2": Column("completeness_squared", empty=3.0),
        "accuracy2": Column("accuracy_squared", empty=3.0),
        "normals": Column("normal_consistency", empty=-1.0),
        "normals completeness": Column("normal_completeness", empty=-1.0),
        "normals accuracy": Column("normal_accuracy", empty=-1.0),
        **{name: Column(source) for name, source in f_scores.items()},
    }


def _ifnet_evaluator(names: Mapping[str, str]) -> dict[str, Column]:
    """The columns of IF-Net's evaluator and of AIR-Nets', which give a mesh without faces nothing."""
    columns = {
        "iou": "iou",
        "chamfer_l2": "chamfer_l2",
        "completeness": "completeness",
        "accuracy": "accuracy",
        "completeness2": "completeness_squared",
        "accuracy2": "accuracy_squared",
        "normals": "normal_consistency",
        "normals completeness": "normal_completeness",
        "normals accuracy": "normal_accuracy",
    }
    return {name: Column(source) for name, source in {**columns, **names}.items()}


#: The conventions of the networks' authors, and our own.
PRESETS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(),
        Protocol(
            name="onet",
            iou_side=1.1,
            nearest="samples",
            sampling="independent",
            columns=_mesh_evaluator({}),
            source="Mescheder et al., Occupancy Networks, evaluation code (im2mesh/eval.py)",
        ),
        Protocol(
            name="convonet",
            iou_side=1.1,
            thresholds=(0.01, 0.015, 0.02),
            nearest="samples",
            sampling="independent",
            columns=_mesh_evaluator(
                {"f-score": "f_score@0.01", "f-score-15": "f_score@0.015", "f-score-20": "f_score@0.02"}
            ),
            source="Peng et al., Convolutional Occupancy Networks, evaluation code (src/eval.py)",
        ),
        Protocol(
            name="ifnet",
            iou_points=1_000_000,
            nearest="samples",
            sampling="independent",
            columns=_ifnet_evaluator({}),
            source="Chibane et al., IF-Nets, evaluation code (data_processing/evaluation.py)",
        ),
        Protocol(
            name="airnets",
            iou_points=1_000_000,
            thresholds=(0.005, 0.01, 0.015, 0.02),
            nearest="samples",
            sampling="independent",
            columns=_ifnet_evaluator(
                {
                    "chamfer_l1": "chamfer_l1",
                    "f_score_05": "f_score@0.005",
                    "f_score_10": "f_score@0.01",
                    "f_score_15": "f_score@0.015",
                    "f_score_20": "f_score@0.02",
                }
            ),
            source="Giebenhain and Goldluecke, AIR-Nets, evaluation code (data_processing/evaluation.py)",
        ),
        Protocol(
            name="deepsdf",
            samples=30_000,
            nearest="samples",
            sampling="independent",
            columns={"chamfer_dist": Column("chamfer_l2", factor=2.0)},
            source="Park et al., DeepSDF, evaluation code (deep_sdf/metrics/chamfer.py)",
        ),
    )
}


def resolve_protocol(preset: str | Protocol | None) -> Protocol:
    """Return the protocol of a name, the one given, or our own for None.

    Example:
        >>> resolve_protocol("ifnet").iou_points
        1000000
    """
    if isinstance(preset, Protocol):
        return preset
    return PRESETS["pyimplicit" if preset is None else check_choice("preset", preset, tuple(PRESETS))]
