"""Linear weights of a distance, weighted choice from a pool, and area-uniform surface points."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyimplicit import _native
from pyimplicit.checks import check_count, check_finite, check_not_negative, check_positive, check_tensor
from pyimplicit.ops._library import register
from pyimplicit.ops.random import RandomStream


def linear_weights(
    distance: Tensor,  # [...]
    tau: float = 0.1,
    mu: float | None = None,
) -> Tensor:
    """Sampling weight that falls linearly with the distance to the surface: mu (tau - g) up to tau, then 0.

    Args:
        distance: Unsigned distances, any shape, float32 or float64, mesh units, not negative.
        tau: Distance at which the weight reaches 0, mesh units, above 0.
        mu: Slope, above 0; None means 1 / tau, a weight of 1 on the surface.

    Returns:
        Weights of the same shape, 0 or more. Differentiable: the slope is -mu within tau.

    Raises:
        ValueError: `tau` or `mu` not a finite number above 0; a negative or not finite distance.

    Source:
        Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", section V-A, equation 2.

    Example:
        >>> linear_weights(torch.tensor([0.0, 0.05, 0.2]), tau=0.1)
        tensor([1.0000, 0.5000, 0.0000])
    """
    check_not_negative("distance", check_finite("distance", check_tensor("distance", distance, ("...",))))
    tau = check_positive("tau", tau)
    mu = 1 / tau if mu is None else check_positive("mu", mu)
    weights: Tensor = _linear_weights_op(distance.contiguous(), tau, mu)
    return weights


def weighted_choice(
    weights: Tensor,  # [N]
    count: int,
    seed: int | RandomStream = 0,
    replacement: bool = False,
) -> Tensor:
    """Indices drawn with probability proportional to their weights.

    Args:
        weights: [N] float32 or float64, finite, not negative; they need not sum to 1.
        count: How many to draw, at least 1; without replacement at most the number of positive weights.
        seed: The same seed and weights give the same indices on any number of threads.
        replacement: Whether an index may be drawn more than once. Without, each draw is made among what is left
            (successive sampling), in the order in which it was drawn.

    Returns:
        Indices [count] int64; none of weight 0.

    Raises:
        ValueError: Negative or not finite weights, no positive weight, or too many asked for.

    Source:
        Efraimidis and Spirakis, "Weighted Random Sampling with a Reservoir", 2006.

    Example:
        >>> weighted_choice(torch.tensor([0.0, 2.0, 0.0, 1.0]), 2).sort().values
        tensor([1, 3])
    """
    check_not_negative("weights", check_finite("weights", check_tensor("weights", weights, ("N",))))
    check_count("count", count)
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    positive = int((weights > 0).sum())
    if positive == 0:
        raise ValueError("weights: expected at least one positive weight, got none")
    if not replacement and count > positive:
        raise ValueError(f"count: expected at most {positive}, the number of positive weights, got {count}")
    chosen: Tensor = _weighted_choice_op(
        weights.detach().contiguous(), count, stream.seed, stream.shape, stream.step, stream.purpose, replacement
    )
    return chosen


def sample_surface(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
    count: int,
    seed: int | RandomStream = 0,
) -> tuple[Tensor, Tensor]:
    """Points distributed evenly over the area of a triangle mesh.

    Args:
        vertices: [V, 3] float32, finite, mesh units.
        faces: [F, 3] int32, each index below V.
        count: Number of points, at least 1.
        seed: The same seed draws the same points on any number of threads.

    Returns:
        Points [count, 3] float32 and the face [count] int64 of each.

    Raises:
        ValueError: A wrong shape, an index out of range, or a mesh without area.

    Source:
        Osada et al., "Shape Distributions", TOG 2002, section 4.2.

    Example:
        >>> points, face = sample_surface(torch.eye(3), torch.tensor([[0, 1, 2]], dtype=torch.int32), 5)
        >>> torch.allclose(points.sum(1), torch.ones(5))
        True
    """
    check_tensor("vertices", vertices, ("V", 3), (torch.float32,))
    check_tensor("faces", faces, ("F", 3), (torch.int32,), device=vertices.device)
    check_count("count", count)
    stream = seed if isinstance(seed, RandomStream) else RandomStream(seed)
    points, face = _sample_surface_op(
        vertices.detach().contiguous(), faces.contiguous(), count, stream.seed, stream.shape, stream.step,
        stream.purpose,
    )  # fmt: skip
    return points, face


# ---- operators


def _linear_weights_kernel(distance: Tensor, tau: float, mu: float) -> Tensor:
    weights = torch.empty_like(distance)
    _native.call(
        "linear_weights", distance.device, distance.dtype, distance=distance, count=distance.numel(), tau=tau, mu=mu,
        weights=weights,
    )  # fmt: skip
    return weights


def _linear_weights_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    distance, ctx.tau, ctx.mu = inputs
    ctx.save_for_backward(distance)


def _linear_weights_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (distance,) = ctx.saved_tensors
    return torch.where(distance > ctx.tau, 0.0, -ctx.mu * gradient), None, None


_linear_weights_op = register(
    "linear_weights",
    "(Tensor distance, float tau, float mu) -> Tensor",
    _linear_weights_kernel,
    lambda distance, tau, mu: torch.empty_like(distance),
    _linear_weights_backward,
    _linear_weights_context,
)


def _weighted_choice_kernel(
    weights: Tensor, count: int, seed: int, shape: int, step: int, purpose: int, replacement: bool
) -> Tensor:
    stream: dict[str, Any] = {"seed": seed, "shape": shape, "step": step, "purpose": purpose}
    if replacement:
        chosen = torch.empty(count, dtype=torch.int64, device=weights.device)
        cumulative = weights.double().cumsum(0)
        if not math.isfinite(float(cumulative[-1])):
            raise ValueError("weights: expected a finite sum, got infinity")
        _native.call(
            "choose_with_replacement", weights.device, cumulative=cumulative, candidates=weights.shape[0], count=count,
            **stream, chosen=chosen,
        )  # fmt: skip
        return chosen
    keys = torch.empty(weights.shape[0], dtype=torch.float64, device=weights.device)
    _native.call(
        "race_keys", weights.device, weights.dtype, weights=weights, count=weights.shape[0], **stream, keys=keys
    )
    return keys.topk(count, largest=False).indices


_weighted_choice_op = register(
    "weighted_choice",
    "(Tensor weights, int count, int seed, int shape, int step, int purpose, bool replacement) -> Tensor",
    _weighted_choice_kernel,
    lambda weights, count, *_: weights.new_empty(count, dtype=torch.int64),
)


def _sample_surface_kernel(
    vertices: Tensor, faces: Tensor, count: int, seed: int, shape: int, step: int, purpose: int
) -> tuple[Tensor, Tensor]:
    if faces.shape[0] and (int(faces.min()) < 0 or int(faces.max()) >= vertices.shape[0]):
        raise ValueError(f"faces: expected indices in 0..{vertices.shape[0] - 1}, got {faces.min()}..{faces.max()}")
    corners = vertices.double()[faces.long()]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1).norm(dim=1) / 2
    cumulative = areas.cumsum(0)
    if faces.shape[0] == 0 or not (float(cumulative[-1]) > 0 and math.isfinite(float(cumulative[-1]))):
        raise ValueError("faces: expected a mesh of positive, finite area")
    points = vertices.new_empty(count, 3)
    face = vertices.new_empty(count, dtype=torch.int64)
    _native.call(
        "sample_surface", vertices.device, vertices=vertices, faces=faces, cumulative=cumulative,
        face_count=faces.shape[0], count=count, seed=seed, shape=shape, step=step, purpose=purpose, points=points,
        chosen=face,
    )  # fmt: skip
    return points, face


_sample_surface_op = register(
    "sample_surface",
    "(Tensor vertices, Tensor faces, int count, int seed, int shape, int step, int purpose) -> (Tensor, Tensor)",
    _sample_surface_kernel,
    lambda vertices, faces, count, *_: (vertices.new_empty(count, 3), vertices.new_empty(count, dtype=torch.int64)),
)
