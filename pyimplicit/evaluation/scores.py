"""The scores of one reconstruction, each with its definition, unit, sample count and seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyimplicit.geometry.mesh import LONGEST_SIDE

#: Mesh units. What a missing reconstruction gets for every mean distance: the diagonal of the bounding cube, the
#: largest distance there is in it.
WORST_DISTANCE = math.sqrt(3) * LONGEST_SIDE


@dataclass(frozen=True)
class Scores:
    """The metrics of one predicted mesh against its reference; `definitions` says what each number means.

    Lengths are in mesh units (the longest side of a normalised reference is 1), squared lengths say so.
    """

    iou: float
    chamfer_l1: float
    chamfer_l2: float
    f_score: dict[float, float]  # by threshold, mesh units
    precision: dict[float, float]
    recall: dict[float, float]
    normal_consistency: float
    completeness: float
    accuracy: float
    completeness_squared: float
    accuracy_squared: float
    samples: int
    iou_points: int
    seed: int
    valid: bool = True
    reason: str | None = None

    @classmethod
    def worst(cls, reason: str, *, thresholds: Sequence[float], samples: int, iou_points: int, seed: int) -> Scores:
        """Return what a prediction that cannot be measured gets, so that it counts in a mean instead of vanishing.

        Args:
            reason: Why it cannot be measured.
            thresholds: Those of the F-Score, mesh units.
            samples: Surface samples a mesh, as for every other prediction.
            iou_points: Points of the IoU, likewise.
            seed: Seed of both, likewise.

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
        )

    def as_dict(self) -> dict[str, float | int | bool | str | None]:
        """Return all numbers in one flat dict that JSON and CSV can hold.

        F-Score, precision and recall appear once per threshold, as "f_score@0.015"; "f_score" repeats the F-Score at
        the first threshold.

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
        }
        for name in ("f_score", "precision", "recall"):
            row |= {f"{name}@{threshold:g}": value for threshold, value in getattr(self, name).items()}
        return row | {
            "samples": self.samples,
            "iou_points": self.iou_points,
            "seed": self.seed,
            "valid": self.valid,
            "reason": self.reason,
        }

    def definitions(self) -> dict[str, str]:
        """Return for every score in `as_dict` its definition, unit, best value, sample count and seed.

        Example:
            >>> bad = Scores.worst("no prediction", thresholds=(0.015,), samples=10, iou_points=20, seed=3)
            >>> bad.definitions()["iou"]
            'volume of intersection over volume of union, no unit, best 1; 20 points uniform in the unit cube, seed 3'
        """
        surface = f"{self.samples} area-uniform samples a mesh, seed {self.seed}"
        distances = f"mesh units, best 0; {surface}"
        squares = f"squared mesh units, best 0; {surface}"
        ratio = f"no unit, best 1; {surface}"
        complete, accurate = "reference samples to their nearest predicted sample", "predicted to reference samples"
        meaning = {
            "iou": f"volume of intersection over volume of union, no unit, best 1; {self.iou_points} points uniform in "
            f"the unit cube, seed {self.seed}",
            "chamfer_l1": f"half the sum of completeness and accuracy, {distances}",
            "chamfer_l2": f"half the sum of completeness_squared and accuracy_squared, {squares}",
            "normal_consistency": "half the sum, over both directions, of the mean |cosine| between the face normals "
            f"at a sample and at its nearest one on the other mesh, {ratio}",
            "completeness": f"mean distance from {complete}, {distances}",
            "accuracy": f"mean distance from {accurate}, {distances}",
            "completeness_squared": f"mean squared distance from {complete}, {squares}",
            "accuracy_squared": f"mean squared distance from {accurate}, {squares}",
        }
        for position, threshold in enumerate(f"{value:g}" for value in self.f_score):
            harmonic = f"harmonic mean of precision@{threshold} and recall@{threshold}, 0 where both are 0, {ratio}"
            meaning |= {"f_score": harmonic} if position == 0 else {}
            meaning[f"f_score@{threshold}"] = harmonic
            meaning[f"precision@{threshold}"] = f"share of distances from {accurate} of at most {threshold}, {ratio}"
            meaning[f"recall@{threshold}"] = f"share of distances from {complete} of at most {threshold}, {ratio}"
        return meaning
