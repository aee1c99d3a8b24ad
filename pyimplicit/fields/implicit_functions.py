"""What a network is asked to learn about a point: occupancy, and signed, truncated and unsigned distance."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyimplicit.checks import check_between, check_choice, check_positive

REDUCTIONS = ("mean", "sum")
NAMES = ("occ", "sdf", "tsdf", "udf")


class ImplicitFunction(ABC):
    """What a field says about a point: the target made from a distance, the loss, and where the surface lies.

    Attributes:
        name: The name `implicit_function` knows it by.
        inside_is_positive: Whether values above the level are inside.
    """

    name: ClassVar[str]
    inside_is_positive: ClassVar[bool] = False

    @property
    def level(self) -> float:
        """The value on the surface, in the units of a network's output: 0, the zero set, for distances."""
        return 0.0

    @abstractmethod
    def target(self, signed_distance: Tensor) -> Tensor:
        """Turn exact distances into what the network should answer.

        Args:
            signed_distance: Any shape, float, mesh units, negative inside.

        Returns:
            Targets of the same shape and dtype.
        """

    def loss(self, prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        """Measure what a network answered against what it should have answered.

        Args:
            prediction: The network's output [..., T] for T points of each shape, float.
            target: What `target` returned for them, same shape.
            reduction: "mean" over all points, or "sum" over the points of a shape and mean over the shapes.

        Returns:
            A scalar, in mesh units for distances and in nats for occupancy.

        Raises:
            TypeError: Not two floating-point tensors.
            ValueError: Two different shapes, no points, or an unknown reduction.
        """
        for name, value in (("prediction", prediction), ("target", target)):
            if not isinstance(value, Tensor) or not value.is_floating_point():
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name}: expected a floating-point tensor, got {got}")
        # Broadcasting [B, T, 1] against [B, T] would silently compare every point with every other one.
        if prediction.shape != target.shape:
            raise ValueError(
                f"target: expected the prediction's shape {list(prediction.shape)}, got {list(target.shape)}"
            )
        if prediction.dim() == 0 or prediction.numel() == 0:
            raise ValueError(f"prediction: expected at least one point, [..., T], got {list(prediction.shape)}")
        check_choice("reduction", reduction, REDUCTIONS)
        per_point = self._point_loss(prediction, target)
        return per_point.mean() if reduction == "mean" else per_point.sum(dim=-1).mean()

    @abstractmethod
    def _point_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each point."""


@dataclass(frozen=True)
class Occ(ImplicitFunction):
    """Occupancy: 1 inside, 0 outside and on the surface. Networks answer with logits; loss is binary cross entropy.

    A point counts as inside when its probability exceeds `threshold`, that is when its logit exceeds the level
    log(threshold / (1 - threshold)); 0.5 gives the level 0.

    Args:
        threshold: Probability above which a point is inside, between 0 and 1, both excluded.

    Source:
        Mescheder et al., "Occupancy Networks: Learning 3D Reconstruction in Function Space", section 3.

    Example:
        >>> Occ().target(torch.tensor([-0.2, 0.0, 0.3]))
        tensor([1., 0., 0.])
        >>> round(Occ(threshold=0.2).level, 4)
        -1.3863
    """

    threshold: float = 0.5
    name: ClassVar[str] = "occ"
    inside_is_positive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if check_positive("threshold", self.threshold) >= 1:
            raise ValueError(f"threshold: expected a probability below 1, got {self.threshold}")

    @property
    def level(self) -> float:
        """The logit of `threshold`."""
        return math.log(self.threshold / (1 - self.threshold))

    def target(self, signed_distance: Tensor) -> Tensor:
        """Return 1 where the signed distance is below 0, else 0."""
        return (signed_distance < 0).to(signed_distance.dtype)

    def _point_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(prediction, target, reduction="none")


@dataclass(frozen=True)
class SDF(ImplicitFunction):
    """Signed distance in mesh units, negative inside; L1 loss, which a curriculum may soften and weight.

    Args:
        tolerance: Errors up to this cost nothing, and larger ones only what exceeds it; mesh units, at least 0.
        hard_weight: A point whose prediction has the wrong sign, or the right one but too small a magnitude, counts
            1 + `hard_weight` times, one whose magnitude is too large 1 - `hard_weight` times; from 0 to 1.

    Raises:
        TypeError, ValueError: An argument of a wrong type or out of range.

    Source:
        Duan et al., "Curriculum DeepSDF", section 3.1 (surface accuracy) and 3.2 (sample difficulty).

    Example:
        >>> SDF().loss(torch.tensor([0.1, 0.2]), torch.tensor([0.0, 0.0]))
        tensor(0.1500)
        >>> SDF(tolerance=0.05, hard_weight=0.5).loss(torch.tensor([0.0, 0.3]), torch.tensor([0.1, 0.2]))
        tensor(0.0500)
    """

    tolerance: float = 0.0
    hard_weight: float = 0.0
    name: ClassVar[str] = "sdf"

    def __post_init__(self) -> None:
        _check_curriculum(self.tolerance, self.hard_weight)

    def target(self, signed_distance: Tensor) -> Tensor:
        """Return the signed distance unchanged."""
        return signed_distance

    def _point_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _signed_loss(prediction, target, self.tolerance, self.hard_weight)


@dataclass(frozen=True)
class TSDF(ImplicitFunction):
    """Signed distance clamped to [-tau, tau]; L1 loss of both sides clamped.

    As both are clamped, a prediction beyond tau on the right side costs nothing and gets no gradient.

    Args:
        tau: Truncation distance in mesh units, above 0.
        tolerance: As of `SDF`.
        hard_weight: As of `SDF`, with both sides clamped before.

    Source:
        Park et al., "DeepSDF: Learning Continuous Signed Distance Functions for Shape Representation", section 3.

    Example:
        >>> TSDF(tau=0.1).target(torch.tensor([-0.5, 0.05]))
        tensor([-0.1000,  0.0500])
    """

    tau: float = 0.1
    tolerance: float = 0.0
    hard_weight: float = 0.0
    name: ClassVar[str] = "tsdf"

    def __post_init__(self) -> None:
        check_positive("tau", self.tau)
        _check_curriculum(self.tolerance, self.hard_weight)

    def target(self, signed_distance: Tensor) -> Tensor:
        """Return the signed distance clamped to [-tau, tau]."""
        return signed_distance.clamp(-self.tau, self.tau)

    def _point_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _signed_loss(self.target(prediction), self.target(target), self.tolerance, self.hard_weight)


@dataclass(frozen=True)
class UDF(ImplicitFunction):
    """Unsigned distance in mesh units, optionally clamped at tau; L1 loss.

    Its surface is the set of zeros, which no value lies below, so marching cubes finds nothing at level 0. A `Field`
    with a small level above 0 gives the closed shell at that distance around the surface.

    Args:
        tau: Truncation distance in mesh units, above 0, or None for the full distance.

    Source:
        Chibane et al., "Neural Unsigned Distance Fields for Implicit Function Learning", section 3.

    Example:
        >>> UDF(tau=0.1).target(torch.tensor([-0.05, 0.3]))
        tensor([0.0500, 0.1000])
    """

    tau: float | None = None
    name: ClassVar[str] = "udf"

    def __post_init__(self) -> None:
        if self.tau is not None:
            check_positive("tau", self.tau)

    def target(self, signed_distance: Tensor) -> Tensor:
        """Return the magnitude of the distance, clamped at tau when there is one."""
        return self._clamp(signed_distance.abs())

    def _point_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (self._clamp(prediction) - self._clamp(target)).abs()

    def _clamp(self, distance: Tensor) -> Tensor:
        return distance if self.tau is None else distance.clamp(max=self.tau)


def implicit_function(name: str, tau: float | None = None) -> ImplicitFunction:
    """Return the implicit function of that name.

    Args:
        name: "occ", "sdf", "tsdf" or "udf".
        tau: Truncation distance in mesh units, for "tsdf" (0.1 when None) and "udf" (none when None).

    Raises:
        ValueError: An unknown name, or a tau for a function that has none.

    Example:
        >>> implicit_function("udf", tau=0.05)
        UDF(tau=0.05)
    """
    check_choice("name", name, NAMES)
    if name == "tsdf":
        return TSDF() if tau is None else TSDF(tau)
    if name == "udf":
        return UDF(tau)
    if tau is not None:
        raise ValueError(f"tau: expected None for {name!r}, which is not truncated, got {tau}")
    return Occ() if name == "occ" else SDF()


def far_values(kind: ImplicitFunction, distance: float, level: float | None = None) -> tuple[float, float]:
    """Return what stands in for points surely farther from the surface than `distance`: outside, and inside.

    Distances take the distance itself with their sign, unsigned ones the same on both sides; occupancy a logit one away
    from the level.

    Args:
        kind: The implicit function.
        distance: Radius of a distance mask, mesh units.
        level: The value on the surface; None takes the kind's.

    Example:
        >>> far_values(SDF(), 0.1), far_values(UDF(), 0.1), far_values(Occ(), 0.1)
        ((0.1, -0.1), (0.1, 0.1), (-1.0, 1.0))
    """
    at = kind.level if level is None else level
    if kind.name == "udf":
        return distance, distance
    step = 1.0 if kind.name == "occ" else distance
    return (at - step, at + step) if kind.inside_is_positive else (at + step, at - step)


def _signed_loss(prediction: Tensor, target: Tensor, tolerance: float, hard_weight: float) -> Tensor:
    error = (prediction - target).abs()
    if tolerance:
        error = (error - tolerance).clamp(min=0)
    if hard_weight:
        error = error * (1 + hard_weight * target.sign() * (target - prediction).sign())
    return error


def _check_curriculum(tolerance: float, hard_weight: float) -> None:
    check_between("tolerance", tolerance, 0, math.inf)
    if check_between("hard_weight", hard_weight, 0, math.inf) > 1:
        raise ValueError(f"hard_weight: expected at most 1, as losses would be negative above, got {hard_weight}")
