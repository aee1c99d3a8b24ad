"""Fields: what a network is asked to learn about a point, and how a trained network or a surface answers.

An implicit function (`Occ`, `SDF`, `TSDF`, `UDF`) turns exact signed distances into training targets, measures a
prediction against them, and says where the surface lies in its values. A `Field` binds an implicit function to
something that computes values: a trained network (`network_field`) or exact geometry (`surface_field`). Extraction and
metrics see Fields only, so they are tested on exact fields with no training.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit.checks import check_between, check_choice, check_positive, check_tensor
from pyimplicit.geometry.mesh import LONGEST_SIDE

Bounds = tuple[tuple[float, float, float], tuple[float, float, float]]

#: The bounding cube of the study, as (lowest corner, highest corner).
UNIT_CUBE: Bounds = ((-LONGEST_SIDE / 2,) * 3, (LONGEST_SIDE / 2,) * 3)

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
        return F.binary_cross_entropy_with_logits(prediction, target, reduction="none")


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


@dataclass(frozen=True, eq=False)
class Field:
    """A function of space with its meaning: values at points, the level of the surface, and where it is defined.

    Args:
        function: Takes points [N, 3] on `device` and returns values [N].
        kind: The implicit function that the values follow.
        level: The value on the surface; None takes the kind's.
        bounds: Lowest and highest corner of the box it is asked about, in mesh units.
        device: Where the points must be.

    Raises:
        TypeError, ValueError: An argument of the wrong type, a level that is not finite, or an empty box.

    Example:
        >>> ball = Field(lambda points: points.norm(dim=1) - 0.3, SDF())
        >>> ball(torch.tensor([[0.0, 0.0, 0.5]]))
        tensor([0.2000])
    """

    function: Callable[[Tensor], Tensor]
    kind: ImplicitFunction
    level: float = field(default=None)  # type: ignore[assignment]  # None stands for the kind's level until __post_init__
    bounds: Bounds = UNIT_CUBE
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function: expected a callable, got {type(self.function).__name__}")
        if not isinstance(self.kind, ImplicitFunction):
            raise TypeError(f"kind: expected an implicit function such as SDF(), got {self.kind!r}")
        level = self.kind.level if self.level is None else float(self.level)
        if not math.isfinite(level):
            raise ValueError(f"level: expected a finite number, got {level}")
        object.__setattr__(self, "level", level)
        object.__setattr__(self, "bounds", check_bounds(self.bounds))
        object.__setattr__(self, "device", torch.device(self.device))

    @property
    def inside_is_positive(self) -> bool:
        """Whether values above the level are inside."""
        return self.kind.inside_is_positive

    def __call__(self, points: Tensor) -> Tensor:
        """Return the values at `points`.

        Args:
            points: [N, 3], float, mesh units, on the field's device.

        Returns:
            Values [N] on the same device.

        Raises:
            TypeError, ValueError: Wrong points, or a function that does not return one value per point.
        """
        check_tensor("points", points, ("N", 3), device=self.device)
        values = self.function(points)
        if not isinstance(values, Tensor) or values.shape != points.shape[:1]:
            got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"function: expected values of shape [{len(points)}], got {got}")
        return values

    def value_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values at `points` and their gradients.

        Args:
            points: [N, 3], float, mesh units, on the field's device.

        Returns:
            Values [N] and gradients [N, 3] in units of the value per mesh unit, both without a graph.

        Raises:
            TypeError, ValueError: Wrong points, or a function whose values do not depend on them differentiably.

        Example:
            >>> ball = Field(lambda points: points.norm(dim=1) - 0.3, SDF())
            >>> ball.value_and_gradient(torch.tensor([[0.0, 0.0, 0.5]]))[1]
            tensor([[0., 0., 1.]])
        """
        check_tensor("points", points, ("N", 3), device=self.device)
        with torch.enable_grad():
            at = points.detach().requires_grad_()
            values = self(at)
            if not values.requires_grad:
                raise ValueError("function: expected values that can be differentiated by the points")
            (gradient,) = torch.autograd.grad(values.sum(), at)
        return values.detach(), gradient


def network_field(
    network: nn.Module,
    code: Tensor | Mapping[str, Tensor],
    kind: ImplicitFunction | str | None = None,
    bounds: Bounds = UNIT_CUBE,
) -> Field:
    """Return the field that a network decodes from the code of one shape.

    The network is asked in evaluation mode, with gradients only if the points require them; modules in training mode
    are put back into it after each call. Points are converted to the dtype of the network's parameters, never moved to
    another device.

    Args:
        network: Anything with `decode(points [1, N, 3], code) -> values [1, N]`.
        code: The code of one shape: [code_size] or [1, ...], or a dict of tensors [1, ...], on the network's device.
        kind: What the network was trained for. None stands for the default of its type: "occ" for encoder networks,
            "sdf" for auto-decoders, "udf" for NDF. A name stands for that function with its default arguments.
        bounds: Lowest and highest corner of the box the shape lies in, in mesh units.

    Returns:
        A Field on the network's device; for "occ" its values are logits.

    Raises:
        TypeError, ValueError: A code of more than one shape or on another device, or an unknown kind.

    Example:
        >>> class Ball(nn.Module):
        ...     def decode(self, points, code):
        ...         return points.norm(dim=2) - code
        >>> network_field(Ball(), torch.tensor([0.3]), kind="sdf")(torch.zeros(2, 3))
        tensor([-0.3000, -0.3000])
    """
    decode = getattr(network, "decode", None)
    if not callable(decode):
        raise TypeError(f"network: expected a network with a decode method, got {type(network).__name__}")
    parameter = next(iter(network.parameters()), None)
    tensors = dict(code) if isinstance(code, Mapping) else {"code": code}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise TypeError(f"code: expected a tensor or a dict of tensors, got {type(code).__name__}")
    device = next(iter(tensors.values())).device if parameter is None else parameter.device
    for name, value in tensors.items():
        if value.device != device:
            raise ValueError(f"{name}: expected a tensor on {device}, the network's device, got one on {value.device}")
        if name == "code" and value.dim() == 1:
            tensors[name] = value = value[None]
        if value.dim() == 0 or value.shape[0] != 1:
            raise ValueError(f"{name}: expected the code of one shape, [1, ...], got {list(value.shape)}")
    one_code: Any = tensors if isinstance(code, Mapping) else tensors["code"]
    dtype = None if parameter is None else parameter.dtype

    def decode_points(points: Tensor) -> Tensor:
        with torch.set_grad_enabled(points.requires_grad), _evaluation_mode(network):
            values: Tensor = decode(points[None].to(dtype or points.dtype), one_code)  # [1, N]
        return values.reshape(values.shape[1:]) if values.shape[:1] == (1,) else values

    if kind is None and getattr(network, "name", None) == "ndf":
        kind = UDF()
    if kind is None:
        kind = SDF() if getattr(network, "kind", None) == "auto_decoder" else Occ()
    return Field(decode_points, _resolve(kind), bounds=bounds, device=device)


class DistanceSurface(Protocol):
    """What `surface_field` asks of a surface."""

    @property
    def device(self) -> torch.device | str:
        """Where its points must be."""
        ...

    def signed_distance(self, points: Tensor) -> Tensor:
        """Return signed distances [N], negative inside."""
        ...

    def unsigned_distance(self, points: Tensor) -> Tensor:
        """Return unsigned distances [N]."""
        ...


def surface_field(surface: DistanceSurface, kind: ImplicitFunction | str = "sdf", bounds: Bounds = UNIT_CUBE) -> Field:
    """Return the exact field of a surface: the values a perfect network would give.

    Args:
        surface: A Surface. "udf" asks for unsigned distances only, so it need not be closed.
        kind: An implicit function or its name.
        bounds: Lowest and highest corner of the box the surface lies in, in mesh units.

    Returns:
        A Field on the surface's device. For "occ" its values are occupancies 0 or 1, not logits, and its level is 0.5.

    Raises:
        TypeError, ValueError: Not a surface, or an unknown kind.

    Example:
        >>> from pyimplicit.geometry.surface import Surface
        >>> corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
        >>> surface_field(Surface(corners, faces), "occ")(torch.tensor([[0.1, 0.1, 0.1], [-0.1, 0.1, 0.1]]))
        tensor([1., 0.])
    """
    if not callable(getattr(surface, "signed_distance", None)):
        raise TypeError(f"surface: expected a Surface, got {type(surface).__name__}")
    function = _resolve(kind)

    def distance_values(points: Tensor) -> Tensor:
        if function.name == "udf":
            return function.target(surface.unsigned_distance(points))
        return function.target(surface.signed_distance(points))

    level = 0.5 if function.name == "occ" else function.level
    return Field(distance_values, function, level, bounds, torch.device(surface.device))


def check_bounds(bounds: Bounds | Sequence[Sequence[float]] | Tensor) -> Bounds:
    """Return `bounds` as two corners of floats if it is a finite box with a positive size, else raise.

    Example:
        >>> check_bounds(torch.tensor([[0, 0, 0], [1, 1, 1]]))
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    """
    try:
        box = torch.as_tensor(bounds, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        box = torch.empty(0)
    if box.shape != (2, 3) or not bool(torch.isfinite(box).all()) or not bool((box[0] < box[1]).all()):
        raise ValueError(f"bounds: expected a finite lowest and a higher highest corner, [2, 3], got {bounds!r}")
    low, high = box.tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


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


def _resolve(kind: ImplicitFunction | str) -> ImplicitFunction:
    return implicit_function(kind) if isinstance(kind, str) else kind


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
