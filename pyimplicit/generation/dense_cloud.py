"""A dense point cloud of the surface of an unsigned distance field, which marching cubes cannot find."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit import ops
from pyimplicit.checks import check_count, check_positive
from pyimplicit.errors import ExtractionError
from pyimplicit.fields import Field
from pyimplicit.generation.grid import Progress
from pyimplicit.ops import RandomStream
from pyimplicit.sampling import DistanceMask

# The authors' constants, in mesh units (their points are in units of half the cube's side, their distances are not).
SAMPLES = 200_000  # points that move together
STEPS = 7  # moves in a round
REACH = 1.5  # the first points fill a box this many times the field's
CLAMP = 0.1  # distances beyond are taken for this
KEPT_BELOW = 0.009  # distance before the last move, below which a point is part of the cloud
SEEDS_BELOW = 0.03  # distance, below which a point is a seed of the next round
NOISE = 0.1 / 6  # standard deviation of the next round's points around their seeds

# Share of the space that may be at 0 or below: a surface has no volume, but a network that ends in a dead ReLU is 0
# everywhere, and each of its points would count as arrived.
MOST_ZEROS = 0.5

# Rounds in a row that may add less than a thousandth of the cloud before the field is given up.
_PATIENCE = 5


def extract_dense_cloud(
    field: Field,
    count: int = 1_000_000,
    *,
    seed: int = 0,
    steps: int = STEPS,
    samples: int = SAMPLES,
    step_scale: float = 1.0,
    mask: DistanceMask | None = None,
    max_points: int = 262_144,
    progress: Progress | None = None,
) -> Tensor:
    """Points on the surface of an unsigned distance field: moved down its slope until its value is about 0.

    Points fill the space, then follow p - d(p) grad d / |grad d|. Those that arrive are kept, and new ones start around
    those that came near, round after round until there are enough.

    Args:
        field: Unsigned distances, differentiable in the points; values below 0 count as 0.
        count: Points of the cloud, at least 1.
        seed: The same seed gives the same cloud.
        steps: Moves in a round, at least 1.
        samples: Points that move together in a round, at least 1.
        step_scale: Part of the distance that a move goes. 1 arrives at once where the field is exact; the authors' code
            goes half the way (0.5), because it takes distances for half as long as they are.
        mask: Of the input shape: points beyond it neither start nor stay.
        max_points: Most points in one call of the field, which bounds its memory.
        progress: Called after each round with the number of points so far and `count`.

    Returns:
        Exactly `count` points [count, 3] float32, mesh units, on the field's device.

    Raises:
        ExtractionError: A value that is not finite, a field that no points arrive at, or one that is 0 at most places.
        TypeError, ValueError: A wrong argument.

    Source:
        Chibane, Mir, Pons-Moll, "Neural Unsigned Distance Fields for Implicit Function Learning", NeurIPS 2020,
        algorithm 1.

    Example:
        >>> from pyimplicit.fields import UDF
        >>> ball = Field(lambda points: (points.norm(dim=1) - 0.4).abs(), UDF())
        >>> bool((extract_dense_cloud(ball, 1000).norm(dim=1) - 0.4).abs().max() < 1e-3)
        True
    """
    if not isinstance(field, Field):
        raise TypeError(f"field: expected a Field, got {type(field).__name__}")
    check_count("count", count)
    check_count("steps", steps)
    check_count("samples", samples)
    check_positive("step_scale", step_scale)
    check_count("max_points", max_points)
    if mask is not None and not isinstance(mask, DistanceMask):
        raise TypeError(f"mask: expected a DistanceMask, got {type(mask).__name__}")
    low, high = (torch.tensor(corner, device=field.device) for corner in field.bounds)
    stream = RandomStream(seed)
    unit = ops.uniform(samples, stream, -REACH / 2, REACH / 2, device=field.device)
    points = (low + high) / 2 + unit * (high - low)
    kept: list[Tensor] = []
    have, idle, number = 0, 0, 0
    while have < count:
        if mask is not None:
            points = points[mask(points)]
        if not len(points):
            raise ExtractionError("field: expected a surface within the mask, got none")
        for move in range(steps):
            points, distance = _move(field, points, step_scale, max_points)
            if number == move == 0:
                _check_zeros(distance, masked=mask is not None)
        if number:  # the first round's points are spread too unevenly
            arrived = points[distance < KEPT_BELOW]
            arrived = arrived if mask is None else arrived[mask(arrived)]
            kept.append(arrived)
            have += len(arrived)
            idle = 0 if len(arrived) > count / 1000 else idle + 1
            if progress is not None:
                progress(min(have, count), count)
        seeds = points[distance < SEEDS_BELOW]
        if not len(seeds) or idle >= _PATIENCE:
            raise ExtractionError(
                f"field: expected points to arrive where it is 0, got {have} of {count} in {number + 1} rounds; "
                f"its least value there was {float(distance.min()):g}"
            )
        number += 1
        step = RandomStream(seed, step=number)
        place = ops.uniform(samples, step, dtype=torch.float64, device=field.device)[:, 0] * len(seeds)
        noise = ops.normal(samples, step.for_purpose(1), device=field.device)
        points = seeds[place.long()] + NOISE * noise
    return torch.cat(kept)[:count]


def _check_zeros(distance: Tensor, masked: bool) -> None:
    """Raise if the field is 0 at most of the points that fill the space, or at all of them within a mask."""
    zeros = float((distance == 0).double().mean())
    if zeros > MOST_ZEROS and (zeros == 1 or not masked):
        raise ExtractionError(
            f"field: expected distances from a surface, got 0 or less at {100 * zeros:.0f}% of {len(distance)} points "
            "all over the space; so answers a network whose final ReLU is dead, or that has learned too little"
        )


def _move(field: Field, points: Tensor, scale: float, max_points: int) -> tuple[Tensor, Tensor]:
    """Points [N, 3] moved towards the surface, and the distances [N] that they moved by."""
    moved, distances = [], []
    for some in torch.split(points, max_points):
        at = some.detach().requires_grad_()
        with torch.enable_grad():
            values = field(at)
            if not values.requires_grad:
                raise ValueError("field: expected values that can be differentiated in the points")
            (slope,) = torch.autograd.grad(values.sum(), at)
        distance = values.detach().clamp(0, CLAMP)
        if not bool((distance.isfinite() & slope.isfinite().all(1)).all()):
            raise ExtractionError("field: expected finite values and slopes")
        # A slope of 0 stays where it is.
        moved.append(some - scale * distance[:, None] * F.normalize(slope, dim=1))
        distances.append(distance)
    return torch.cat(moved), torch.cat(distances)
