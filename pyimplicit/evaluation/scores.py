"""The scores of one reconstruction, each with its definition, unit, sample count and seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyimplicit.geometry.mesh import LONGEST_SIDE

#: Mesh units. What a missing reconstruction gets for every distance: the diagonal of the bounding cube, the largest
#: distance there is in it.
WORST_DISTANCE = math.sqrt(3) * LONGEST_SIDE


@dataclass(frozen=True)
class Measurement:
    """One number and all that it takes to measure it again.

    Attributes:
        name: Its name in `Scores.as_dict`.
        value: The number.
        formula: What was computed.
        unit: "no unit", "mesh units" or "squared mesh units".
        best: The value of a perfect reconstruction, up to the sampling.
        basis: What it was computed from: sample counts, how they were drawn, and the seed.

    Example:
        >>> bad = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=20, seed=3)
        >>> print(bad.measurements()["recall@0.015"].definition)
        share of distances from reference samples to the predicted surface of at most 0.015, no unit, best 1; 10 area-uniform samples a mesh, seed 3
    """  # noqa: E501

    name: str
    value: float
    formula: str
    unit: str
    best: float
    basis: str

    @property
    def definition(self) -> str:
        """Everything but the number, in one line."""
        return f"{self.formula}, {self.unit}, best {self.best:g}; {self.basis}"


@dataclass(frozen=True)
class Scores:
    """The metrics of one prediction against its reference; `measurements` says what each number means.

    Lengths are in mesh units (the longest side of a normalised reference is 1), squared lengths say so. A score that a
    prediction cannot have is None: a cloud has no IoU and no normals.
    """

    iou: float | None
    chamfer_l1: float
    chamfer_l2: float
    f_score: dict[float, float]  # by threshold, mesh units
    precision: dict[float, float]
    recall: dict[float, float]
    normal_consistency: float | None
    completeness: float
    accuracy: float
    completeness_squared: float
    accuracy_squared: float
    samples: int
    iou_points: int
    seed: int
    valid: bool = True
    reason: str | None = None
    note: str | None = None  # what to know about a valid measurement
    normal_completeness: float | None = None
    normal_accuracy: float | None = None
    hausdorff: dict[float, float] = field(default_factory=dict)  # by quantile, in (0, 1]
    nearest: str = "surface"  # or "samples": what distances lead to
    sampling: str = "paired"  # or "independent": whether both meshes are drawn with one seed
    iou_box: str = "the unit cube"
    cloud_points: int | None = None  # of a predicted cloud

    @classmethod
    def worst(
        cls,
        reason: str,
        *,
        thresholds: Sequence[float],
        samples: int,
        iou_points: int,
        seed: int,
        quantiles: Sequence[float] = (),
        nearest: str = "surface",
        sampling: str = "paired",
        iou_box: str = "the unit cube",
    ) -> Scores:
        """Return what a prediction that cannot be measured gets, so that it counts in a mean instead of vanishing.

        Args:
            reason: Why it cannot be measured.
            thresholds: Those of the F-Score, mesh units.
            samples: Surface samples a mesh, as for every other prediction.
            iou_points: Points of the IoU, likewise.
            seed: Seed of both, likewise.
            quantiles: Those of the Hausdorff distance.
            nearest: What distances lead to, as for every other prediction.
            sampling: How both meshes are drawn, likewise.
            iou_box: Where the points of the IoU lie, likewise.

        Example:
            >>> bad = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=10, seed=0)
            >>> bad.iou, bad.f_score, round(bad.chamfer_l1, 4), round(bad.chamfer_l2, 4), bad.valid
            (0.0, {0.015: 0.0}, 1.7321, 3.0, False)
        """
        zeros = dict.fromkeys(map(float, thresholds), 0.0)
        far, far_squared = WORST_DISTANCE, 3 * LONGEST_SIDE**2
        return cls(
            iou=0.0,
            chamfer_l1=far,
            chamfer_l2=far_squared,
            f_score=dict(zeros),
            precision=dict(zeros),
            recall=dict(zeros),
            normal_consistency=0.0,
            completeness=far,
            accuracy=far,
            completeness_squared=far_squared,
            accuracy_squared=far_squared,
            samples=samples,
            iou_points=iou_points,
            seed=seed,
            valid=False,
            reason=reason,
            normal_completeness=0.0,
            normal_accuracy=0.0,
            hausdorff=dict.fromkeys(map(float, quantiles), far),
            nearest=nearest,
            sampling=sampling,
            iou_box=iou_box,
        )

    def as_dict(self) -> dict[str, float | int | bool | str | None]:
        """Return all numbers in one flat dict that JSON and CSV can hold.

        F-Score, precision and recall appear once per threshold, as "f_score@0.015"; "f_score" repeats the F-Score at
        the first threshold. Hausdorff distances appear once per quantile, as "hausdorff@0.95".

        Example:
            >>> bad = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=10, seed=0)
            >>> [name for name in bad.as_dict() if name.startswith("f_score")]
            ['f_score', 'f_score@0.015']
        """
        row: dict[str, float | int | bool | str | None] = {
            "iou": self.iou,
            "chamfer_l1": self.chamfer_l1,
            "chamfer_l2": self.chamfer_l2,
            "f_score": next(iter(self.f_score.values())),
            "normal_consistency": self.normal_consistency,
            "completeness": self.completeness,
            "accuracy": self.accuracy,
            "completeness_squared": self.completeness_squared,
            "accuracy_squared": self.accuracy_squared,
            "normal_completeness": self.normal_completeness,
            "normal_accuracy": self.normal_accuracy,
        }
        for name in ("f_score", "precision", "recall", "hausdorff"):
            row |= {f"{name}@{at:g}": value for at, value in getattr(self, name).items()}
        return row | {
            "samples": self.samples,
            "iou_points": self.iou_points,
            "seed": self.seed,
            "nearest": self.nearest,
            "sampling": self.sampling,
            "iou_box": self.iou_box,
            "cloud_points": self.cloud_points,
            "valid": self.valid,
            "reason": self.reason,
            "note": self.note,
        }

    def measurements(self) -> dict[str, Measurement]:
        """Return every number of `as_dict` that is a score, with its definition; a score that is None is left out."""
        surface = f"{self.samples} area-uniform samples a mesh, seed {self.seed}"
        if self.cloud_points is not None:
            surface = f"{self.samples} area-uniform samples of the reference, {self.cloud_points} points of the cloud"
            surface += f", seed {self.seed}"
        elif self.sampling == "independent":
            surface += ", drawn apart"
        volume = f"{self.iou_points} points uniform in {self.iou_box}, seed {self.seed}"
        if self.nearest == "samples":
            complete, accurate = "reference to predicted samples", "predicted to reference samples"
            other = "at its nearest one on the other mesh"
        else:
            complete = "reference samples to the predicted surface"
            accurate = "predicted samples to the reference surface"
            other = "at the nearest point of the other mesh"
        cosine = "mean |cosine| between the face normals at a"
        ratios = {
            "iou": "volume of intersection over volume of union",
            "normal_consistency": f"half the sum, over both directions, of the {cosine} sample and {other}",
            "normal_completeness": f"{cosine} reference sample and {other}",
            "normal_accuracy": f"{cosine} predicted sample and {other}",
        }
        distances = {
            "chamfer_l1": "half the sum of completeness and accuracy",
            "completeness": f"mean distance from {complete}",
            "accuracy": f"mean distance from {accurate}",
        }
        squares = {
            "chamfer_l2": "half the sum of completeness_squared and accuracy_squared",
            "completeness_squared": f"mean squared distance from {complete}",
            "accuracy_squared": f"mean squared distance from {accurate}",
        }
        for position, threshold in enumerate(f"{value:g}" for value in self.f_score):
            harmonic = f"harmonic mean of precision@{threshold} and recall@{threshold}, 0 where both are 0"
            ratios |= {"f_score": harmonic} if position == 0 else {}
            ratios[f"f_score@{threshold}"] = harmonic
            ratios[f"precision@{threshold}"] = f"share of distances from {accurate} of at most {threshold}"
            ratios[f"recall@{threshold}"] = f"share of distances from {complete} of at most {threshold}"
        for quantile in self.hausdorff:
            what = "greatest distance" if quantile == 1 else f"{quantile:g} quantile of the distances"
            distances[f"hausdorff@{quantile:g}"] = (
                f"{what} from {complete} or from {accurate}, whichever direction has the larger one"
            )
        found = {}
        for name, value in self.as_dict().items():
            for formulas, unit, best in (
                (ratios, "no unit", 1.0),
                (distances, "mesh units", 0.0),
                (squares, "squared mesh units", 0.0),
            ):
                if name in formulas and isinstance(value, float):
                    basis = volume if name == "iou" else surface
                    found[name] = Measurement(name, value, formulas[name], unit, best, basis)
        return found

    def definitions(self) -> dict[str, str]:
        """Return for every score in `as_dict` its definition, unit, best value, sample count and seed.

        Example:
            >>> bad = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=20, seed=3)
            >>> bad.definitions()["iou"]
            'volume of intersection over volume of union, no unit, best 1; 20 points uniform in the unit cube, seed 3'
        """
        return {name: measurement.definition for name, measurement in self.measurements().items()}
