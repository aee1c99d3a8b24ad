"""The solid of a procedural car: an implicit function sampled on a grid.

Only additions, multiplications, divisions, square roots and comparisons are used, no transcendental functions and no
library reductions: those round alike on every machine, so the same lengths give the same solid everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyimplicit.data.cars import CarShape

Array = NDArray[np.float64]

MARGIN = 2
"""Empty grid nodes around the car, so that marching cubes sees its whole surface."""


def car_field(car: CarShape, resolution: int) -> tuple[Array, tuple[float, float, float], float]:
    """Sample the car's implicit solid on a regular grid.

    The values are near distances in metres, negative inside: exact enough for a well placed surface, not for labels.

    Args:
        car: The car's lengths.
        resolution: Cells along the car's length, at least 16.

    Returns:
        The values, [X, Y, Z] float64, symmetric in z; the position of node (0, 0, 0); and the spacing, both in metres.

    Example:
        >>> from pyimplicit.data.cars import draw_car
        >>> values, origin, spacing = car_field(draw_car(0, 0), 32)
        >>> values.ndim, bool((values < 0).any()), bool((values[0] > 0).all())
        (3, True, True)
    """
    spacing = car.length / resolution
    tallest = car.height + (0.35 if car.roof_box else 0.12)
    x: Array = -car.length / 2 + (np.arange(resolution + 1 + 2 * MARGIN, dtype=np.float64) - MARGIN) * spacing
    y: Array = (np.arange(int(tallest / spacing) + 2 + 2 * MARGIN, dtype=np.float64) - MARGIN) * spacing
    half = int((car.width / 2 + car.flare + 0.2) / spacing) + MARGIN + 1
    z: Array = (np.arange(half, dtype=np.float64) + 0.5) * spacing  # the half with z > 0; the other mirrors it
    values = _solid(car, x[:, None, None], y[None, :, None], z[None, None, :])
    whole = np.concatenate([values[:, :, ::-1], values], axis=2)
    return whole, (float(x[0]), float(y[0]), -float(z[-1])), spacing


def _solid(car: CarShape, x: Array, y: Array, z: Array) -> Array:
    """Return the near distance to the car at each node of the grid that x, y and z span."""
    body = _side_distance(_body_outline(car), x, y)
    cabin = _side_distance(_cabin_outline(car), x, y)
    across = z / (car.width / 2)
    crown = across * across
    to_front, to_rear = _towards_ends(car, x)
    body_side = _body_side(car, x, y)
    for axle in (car.front_axle, car.rear_axle):
        ring = (_length(x - axle, y - car.wheel_radius) - car.wheel_radius - car.arch_gap) / 0.14
        bump = np.maximum(1 - ring * ring, 0.0)
        body_side = body_side + car.flare * bump * bump
    side = _plan_side(car, x)
    lean = np.maximum(y - car.cowl_height + 0.1, 0.0)
    cabin_side = side * (1 - car.barrel) - 0.03 - car.tumblehome * lean

    # Windows lie a little deeper than the panels around them.
    glass = _step(cabin, -0.04, -0.13) * _step(y, car.cowl_height, car.cowl_height + 0.09)
    pillar = (car.front_axle + car.cowl_offset + car.length / 2 - car.cabin_end) / 2
    post = np.abs(x - pillar)
    glass = glass * _step(post, 0.02, 0.09)
    if car.style == "van":
        glass = glass * _step(x, pillar - 0.2, pillar - 0.25)  # a panel van has side windows in front only
    cabin_side = cabin_side - 0.035 * glass
    screen = _step(cabin_side - z, 0.06, 0.12) * _step(y, car.cowl_height + 0.04, car.cowl_height + 0.1)
    screen = screen * _step(y, car.height - car.roof_drop - 0.04, car.height - car.roof_drop - 0.12)
    if car.style == "van":
        screen = screen * _step(x, 0.0, -0.1)

    corners = car.nose_curve * crown * (to_front * to_front + 0.6 * to_rear * to_rear)
    tub = _smooth_max(body + corners + 0.02 * crown, (z - body_side) * 0.98, car.edge_radius)
    front_screen = 0.12 * crown * _step(x, pillar, car.front_axle + car.cowl_offset)
    top = _smooth_max(cabin + 0.04 * crown + front_screen + 0.03 * screen, (z - cabin_side) * 0.95, 0.12)
    solid = _smooth_min(tub, top, 0.05)
    if car.bed:
        solid = _smooth_max(solid, -_load_bed(car, x, y, z), 0.04)
    solid = _smooth_min(solid, _bumpers(car, x, y, z, side), 0.06)

    # Wheels stand in arches cut into the body; their inner faces are let into it, so that the car is one solid.
    for axle in (car.front_axle, car.rear_axle):
        place = float(_body_side(car, np.array(axle), np.array(1.7 * car.wheel_radius))) + 0.5 * car.flare - 0.07
        hub = _length(x - axle, y - car.wheel_radius)
        room = car.wheel_radius + car.arch_gap
        from_face = np.abs(z - (place - car.wheel_width / 2)) - car.wheel_width / 2
        # Where the body is lower than the arch, a wing rises over the wheel.
        wing = np.maximum(_smooth_max(hub - room - 0.09, from_face - 0.01, 0.06), 1.05 * car.wheel_radius - y)
        solid = _smooth_min(solid, wing, 0.12)
        arch = _smooth_max(hub - room, place - car.wheel_width + 0.05 - z, 0.05)
        solid = _smooth_max(solid, -arch, 0.03)
        wheel = _smooth_max(hub - car.wheel_radius, from_face, 0.06)
        dish = np.maximum(hub - 0.64 * car.wheel_radius, place - 0.06 - z)
        wheel = _smooth_max(wheel, -np.maximum(dish, 0.22 * car.wheel_radius - hub), 0.03)
        solid = np.minimum(solid, wheel)

    for part in _attachments(car, x, y, z, cabin_side):
        solid = _smooth_min(solid, part, 0.03)
    return solid


def _towards_ends(car: CarShape, x: Array) -> tuple[Array, Array]:
    """Return how near to the front end and to the rear end, from 0 about the middle to 1 at the end."""
    return _step(x, 0.1 * car.length, -car.length / 2), _step(x, -0.1 * car.length, car.length / 2)


def _plan_side(car: CarShape, x: Array) -> Array:
    """Return half the width seen from above."""
    to_front, to_rear = _towards_ends(car, x)
    return car.width / 2 * (1 - car.front_taper * to_front * to_front - car.rear_taper * to_rear * to_rear)


def _body_side(car: CarShape, x: Array, y: Array) -> Array:
    """Return half the width of the lower body: widest below the middle, narrower at shoulder and sill."""
    reach = (y - car.clearance) / (car.cowl_height - car.clearance) - 0.5
    return _plan_side(car, x) * (1 - 2 * car.barrel * np.minimum(reach * reach, 1.0))


def _body_outline(car: CarShape) -> Array:
    """Return the lower body seen from the side, a closed polygon [n, 2]."""
    front, rear = -car.length / 2, car.length / 2
    cowl = car.front_axle + car.cowl_offset
    low, bumper = car.clearance, 0.5 * (car.clearance + car.nose_height)
    tail = rear - car.cabin_end
    belt = car.cowl_height + car.belt_rise
    # Behind a screen near the rear end there is no boot lid: the tailgate falls from the foot of the screen.
    lid = (
        [(tail, belt, 0.1), (rear - 0.05, car.deck_height, 0.1)] if car.cabin_end > 0.3 else [(rear - 0.04, belt, 0.1)]
    )
    return _fillet(
        [
            (front + 0.16, low + 0.03, 0.1),
            (front + 0.02, low + 0.12, 0.1),
            (front, bumper, 0.15),
            (front + 0.05, car.nose_height - 0.03, 0.12),
            (front + 0.3, car.nose_height + 0.03, 0.25),
            (cowl, car.cowl_height, 0.3),
            *lid,
            (rear, 0.55 * (car.deck_height + low), 0.25),
            (rear - 0.04, low + 0.16, 0.1),
            (rear - 0.3, low + 0.06, 0.2),
            (car.rear_axle, low, 0.3),
            (car.front_axle, low, 0.3),
        ]
    )


def _cabin_outline(car: CarShape) -> Array:
    """Return the cabin seen from the side, down into the lower body, a closed polygon [n, 2]."""
    cowl = car.front_axle + car.cowl_offset
    tail = car.length / 2 - car.cabin_end
    foot = min(car.deck_height, car.cowl_height + car.belt_rise) if car.cabin_end > 0.3 else car.deck_height
    roof_front, roof_rear = car.height - 0.05, car.height - car.roof_drop
    start = cowl + car.screen_slope * (roof_front - car.cowl_height)
    end = tail - car.rear_slope * (roof_rear - foot)
    # A steep roof needs no less than this between the screens; a long rear screen then gets steeper.
    end = max(end, start + 0.45)
    peak = start + car.roof_peak * (end - start)
    return _fillet(
        [
            (cowl - 0.1, car.cowl_height - 0.3, 0.05),
            (cowl - 0.04, car.cowl_height - 0.04, 0.1),
            (start, roof_front, 0.35),
            (peak, car.height, 0.6),
            (end, roof_rear, 0.3),
            (tail, foot, 0.12),
            (tail - 0.02, car.cowl_height - 0.3, 0.05),
        ]
    )


def _bumpers(car: CarShape, x: Array, y: Array, z: Array, side: Array) -> Array:
    """Return a bar across each end, a little proud of the body, rounded towards the sides."""
    level = car.clearance + 0.22
    ends = car.length / 2 - 0.12 - car.nose_curve * 0.8 * (z / (car.width / 2)) ** 2
    bar = _smooth_max(np.abs(x) - ends - 0.1, np.abs(y - level) - 0.1, 0.08)
    return _smooth_max(_smooth_max(bar, car.length / 2 - 0.5 - np.abs(x), 0.05), z - 0.96 * side, 0.12)


def _load_bed(car: CarShape, x: Array, y: Array, z: Array) -> Array:
    """Return the space inside a pickup's load bed."""
    floor = max(car.clearance + 0.42, 0.62 * car.deck_height)
    front, rear = car.length / 2 - car.cabin_end + 0.1, car.length / 2 - 0.14
    along = np.abs(x - (front + rear) / 2) - (rear - front) / 2
    wall = 0.15 + 0.35 * car.edge_radius
    bed = np.maximum(np.maximum(along, floor - y), z - _body_side(car, x, np.array(car.deck_height)) + wall)
    well = _length(x - car.rear_axle, y - car.wheel_radius) - car.wheel_radius - car.arch_gap - 0.12
    return np.maximum(bed, -np.maximum(well, car.width / 2 - car.wheel_width - 0.2 - z))


def _attachments(car: CarShape, x: Array, y: Array, z: Array, cabin_side: Array) -> list[Array]:
    """Mirrors, spoiler and roof box: solids to be joined to the body."""
    parts: list[Array] = []
    belt = car.cowl_height
    if car.mirrors:
        place = car.front_axle + car.cowl_offset + 0.35 * min(car.screen_slope, 1.4)
        stand = car.width / 2 * (1 - car.barrel) - 0.02
        parts.append(_box(x - place, y - belt - 0.12, z - stand - 0.05, 0.06, 0.075, 0.14, 0.05))
    rear = car.length / 2
    if car.spoiler == "wing":
        chord, rise = 0.16 * car.spoiler_size + 0.02, 0.12 + 0.18 * car.spoiler_size
        height = min(car.deck_height + rise, car.height - 0.02)
        place = rear - 0.06 - chord
        span = car.width / 2 * 0.86
        parts.append(_box(x - place, y - height - 0.12 * (x - place), z, chord, 0.045, span, 0.03))
        middle = (height + car.deck_height - 0.25) / 2
        parts.append(_box(x - place, y - middle, z - 0.62 * span, 0.09, height - middle, 0.045, 0.02))
    elif car.spoiler == "lip":
        place = rear - 0.14
        parts.append(
            _box(x - place, y - car.deck_height - 0.02, z, 0.09, 0.07 * car.spoiler_size, car.width * 0.4, 0.04)
        )
    elif car.spoiler == "roof":
        reach = 0.16 * car.spoiler_size + 0.06
        roof = car.height - car.roof_drop
        end = rear - car.cabin_end - car.rear_slope * (roof - car.deck_height)
        place = min(end + reach * 0.5, rear - reach)
        span = car.width / 2 * (1 - car.barrel) - 0.12 - car.tumblehome * (roof - belt)
        parts.append(_box(x - place, y - roof + 0.02 + 0.12 * (x - end), z, reach, 0.045, span, 0.03))
    if car.roof_box:
        start = car.front_axle + car.cowl_offset + car.screen_slope * (car.height - belt) + 0.75
        parts.append(_box(x - start - 0.1, y - car.height - 0.09, z, 0.75, 0.15, 0.3, 0.1))
    return parts


def _box(x: Array, y: Array, z: Array, half_x: float, half_y: float, half_z: float, radius: float) -> Array:
    """Return the near distance to a box about the origin with rounded edges."""
    box = _smooth_max(np.abs(x) - half_x, np.abs(y) - half_y, radius)
    return _smooth_max(box, np.abs(z) - half_z, radius)


def _fillet(corners: Sequence[tuple[float, float, float]]) -> Array:
    """Round each corner (x, y, how far along its edges to begin) of a closed polygon by a parabola of four pieces."""
    places = np.array([corner[:2] for corner in corners])
    rounded = []
    for k, (px, py, radius) in enumerate(corners):
        here = np.array([px, py])
        ends = []
        for other in (places[k - 1], places[(k + 1) % len(places)]):
            step = other - here
            length = float(np.sqrt(step[0] * step[0] + step[1] * step[1]))
            ends.append(here + step * min(radius / max(length, 1e-9), 0.48))
        rounded += [
            (1 - t) * (1 - t) * ends[0] + 2 * t * (1 - t) * here + t * t * ends[1] for t in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
    return np.array(rounded)


def _side_distance(outline: Array, x: Array, y: Array) -> Array:
    """Signed distance in the side view to a closed polygon, negative inside, [X, Y, 1]."""
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf)
    inside = np.zeros(nearest.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        squared = max(ex * ex + ey * ey, 1e-18)
        t = np.clip(((x - ax) * ex + (y - ay) * ey) / squared, 0.0, 1.0)
        dx, dy = x - ax - t * ex, y - ay - t * ey
        nearest = np.minimum(nearest, dx * dx + dy * dy)
        crosses = (y < ay) != (y < by)
        if crosses.any():
            inside ^= crosses & (x < ax + (y - ay) * (ex / (ey if ey else 1.0)))
    distance: Array = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def _length(x: Array, y: Array) -> Array:
    length: Array = np.sqrt(x * x + y * y)
    return length


def _step(value: Array, start: float, end: float) -> Array:
    """Rise smoothly from 0 at `start` to 1 at `end`, in either direction."""
    t = np.clip((value - start) / (end - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _smooth_min(one: Array, other: Array, radius: float) -> Array:
    """Unite two solids, with the seam filled over about `radius`."""
    blend = np.maximum(radius - np.abs(one - other), 0.0)
    lower: Array = np.minimum(one, other) - blend * blend * (0.25 / radius)
    return lower


def _smooth_max(one: Array, other: Array, radius: float) -> Array:
    """Intersect two solids, with the edge rounded over about `radius`."""
    return -_smooth_min(-one, -other, radius)
