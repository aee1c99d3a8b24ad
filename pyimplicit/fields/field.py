"""A function of space with its meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyimplicit.checks import check_tensor
from pyimplicit.fields.implicit_functions import ImplicitFunction
from pyimplicit.geometry.mesh import LONGEST_SIDE

Bounds = tuple[tuple[float, float, float], tuple[float, float, float]]

#: The bounding cube of the study, as (lowest corner, highest corner).
UNIT_CUBE: Bounds = ((-LONGEST_SIDE / 2,) * 3, (LONGEST_SIDE / 2,) * 3)


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
        >>> from pyimplicit.fields import SDF
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
        device = torch.device(self.device)
        index: int | None = device.index  # None for plain "cuda", whatever its stub says
        if device.type == "cuda" and index is None and torch.cuda.is_available():
            device = torch.device("cuda", torch.cuda.current_device())  # as tensors name it
        object.__setattr__(self, "device", device)

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
            >>> from pyimplicit.fields import SDF
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
