"""The lengths that make a procedural car, their ranges for each style, and the draw from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class CarShape:
    """The lengths that make one car, in metres. The front is towards -x, y is up with the road at 0, z is width."""

    style: str
    length: float
    width: float
    height: float
    clearance: float  # underbody above the road
    wheel_radius: float
    wheel_width: float
    arch_gap: float  # between tyre and wheel arch
    front_overhang: float  # front end to front axle
    rear_overhang: float  # rear axle to rear end
    nose_height: float  # leading edge of the bonnet
    cowl_height: float  # where bonnet and windscreen meet
    cowl_offset: float  # from the front axle back to the cowl
    screen_slope: float  # horizontal run of the windscreen per height
    roof_peak: float  # place of the highest point along the roof, 0 front to 1 rear
    roof_drop: float  # the roof's rear end below its peak
    cabin_end: float  # rear end to the foot of the rear screen
    rear_slope: float  # horizontal run of the rear screen per height
    deck_height: float  # boot lid, tailgate or bed rim at the rear end
    belt_rise: float  # window line at the rear above the cowl
    tumblehome: float  # how far the cabin's sides lean in per height
    front_taper: float  # narrowing in plan towards the front, share of the width
    rear_taper: float
    barrel: float  # narrowing of the sides towards sill and shoulder, share of the width
    nose_curve: float  # how far the front corners lie behind the nose
    edge_radius: float  # rounding of the body's long edges
    flare: float  # how far the wings stand out around the wheels
    spoiler: str  # "none", "lip", "wing" or "roof"
    spoiler_size: float
    bed: bool  # an open load bed behind the cabin
    mirrors: bool
    roof_box: bool

    @property
    def front_axle(self) -> float:
        """Place of the front axle along x."""
        return self.front_overhang - self.length / 2

    @property
    def rear_axle(self) -> float:
        """Place of the rear axle along x."""
        return self.length / 2 - self.rear_overhang


# What all styles share; each style below then says where it differs. Lengths in metres.
_COMMON: dict[str, Range] = {
    "wheel_width": (0.19, 0.26),
    "arch_gap": (0.07, 0.11),
    "front_overhang": (0.72, 0.95),
    "roof_peak": (0.2, 0.55),
    "belt_rise": (0.0, 0.1),
    "front_taper": (0.06, 0.16),
    "rear_taper": (0.03, 0.12),
    "barrel": (0.04, 0.12),
    "nose_curve": (0.1, 0.35),
    "edge_radius": (0.1, 0.26),
    "flare": (0.0, 0.05),
    "spoiler_size": (0.6, 1.0),
}
_STYLES: dict[str, dict[str, Range]] = {
    "sedan": {
        "length": (4.3, 5.1), "width": (1.72, 1.92), "height": (1.38, 1.5), "clearance": (0.15, 0.2),
        "wheel_radius": (0.3, 0.35), "rear_overhang": (0.95, 1.2), "nose_height": (0.66, 0.8),
        "cowl_height": (0.92, 1.02), "cowl_offset": (0.3, 0.75), "screen_slope": (1.1, 1.7), "roof_drop": (0.02, 0.1),
        "cabin_end": (0.45, 0.95), "rear_slope": (1.0, 1.9), "deck_height": (0.92, 1.08), "tumblehome": (0.25, 0.42),
    },
    "hatchback": {
        "length": (3.5, 4.3), "width": (1.6, 1.8), "height": (1.4, 1.56), "clearance": (0.14, 0.2),
        "wheel_radius": (0.28, 0.34), "rear_overhang": (0.5, 0.78), "nose_height": (0.68, 0.84),
        "cowl_height": (0.94, 1.08), "cowl_offset": (0.15, 0.5), "screen_slope": (0.9, 1.5), "roof_drop": (0.04, 0.14),
        "cabin_end": (0.06, 0.16), "rear_slope": (0.25, 0.8), "deck_height": (0.9, 1.05), "tumblehome": (0.2, 0.38),
    },
    "city": {
        "length": (2.6, 3.4), "width": (1.5, 1.66), "height": (1.46, 1.62), "clearance": (0.14, 0.2),
        "wheel_radius": (0.26, 0.31), "front_overhang": (0.48, 0.68), "rear_overhang": (0.4, 0.55),
        "nose_height": (0.74, 0.9), "cowl_height": (1.0, 1.12), "cowl_offset": (-0.05, 0.25),
        "screen_slope": (0.6, 1.1), "roof_drop": (0.03, 0.12), "cabin_end": (0.04, 0.12), "rear_slope": (0.1, 0.5),
        "deck_height": (0.9, 1.1), "tumblehome": (0.14, 0.3), "edge_radius": (0.16, 0.3),
    },
    "wagon": {
        "length": (4.4, 5.0), "width": (1.74, 1.9), "height": (1.42, 1.56), "clearance": (0.15, 0.22),
        "wheel_radius": (0.3, 0.36), "rear_overhang": (0.9, 1.15), "nose_height": (0.68, 0.82),
        "cowl_height": (0.94, 1.05), "cowl_offset": (0.3, 0.7), "screen_slope": (1.1, 1.6), "roof_drop": (0.02, 0.1),
        "cabin_end": (0.06, 0.16), "rear_slope": (0.35, 0.9), "deck_height": (0.9, 1.05), "tumblehome": (0.22, 0.38),
    },
    "coupe": {
        "length": (4.1, 4.8), "width": (1.76, 1.96), "height": (1.18, 1.36), "clearance": (0.1, 0.15),
        "wheel_radius": (0.31, 0.36), "front_overhang": (0.75, 1.0), "rear_overhang": (0.8, 1.1),
        "nose_height": (0.55, 0.7), "cowl_height": (0.84, 0.94), "cowl_offset": (0.55, 1.15),
        "screen_slope": (1.4, 2.0), "roof_drop": (0.03, 0.1), "cabin_end": (0.15, 0.55), "rear_slope": (1.7, 3.0),
        "deck_height": (0.8, 0.98), "tumblehome": (0.3, 0.5), "flare": (0.02, 0.08), "barrel": (0.08, 0.16),
    },
    "supercar": {
        "length": (4.2, 4.7), "width": (1.88, 2.06), "height": (1.06, 1.2), "clearance": (0.08, 0.13),
        "wheel_radius": (0.32, 0.36), "wheel_width": (0.25, 0.34), "front_overhang": (0.9, 1.15),
        "rear_overhang": (0.65, 0.95), "nose_height": (0.4, 0.52), "cowl_height": (0.72, 0.82),
        "cowl_offset": (-0.1, 0.35), "screen_slope": (1.9, 2.6), "roof_drop": (0.03, 0.1), "cabin_end": (0.3, 0.8),
        "rear_slope": (2.6, 4.0), "deck_height": (0.74, 0.86), "tumblehome": (0.4, 0.6), "flare": (0.03, 0.09),
        "barrel": (0.08, 0.16), "front_taper": (0.1, 0.2),
    },
    "suv": {
        "length": (4.2, 5.1), "width": (1.8, 2.02), "height": (1.62, 1.88), "clearance": (0.2, 0.32),
        "wheel_radius": (0.35, 0.42), "wheel_width": (0.22, 0.3), "rear_overhang": (0.7, 1.0),
        "nose_height": (0.9, 1.1), "cowl_height": (1.1, 1.25), "cowl_offset": (0.35, 0.75),
        "screen_slope": (0.7, 1.2), "roof_drop": (0.02, 0.14), "cabin_end": (0.06, 0.16), "rear_slope": (0.12, 0.7),
        "deck_height": (1.0, 1.2), "tumblehome": (0.16, 0.32), "flare": (0.02, 0.08),
    },
    "offroad": {
        "length": (3.7, 4.7), "width": (1.7, 1.95), "height": (1.76, 2.0), "clearance": (0.28, 0.42),
        "wheel_radius": (0.38, 0.46), "wheel_width": (0.24, 0.32), "front_overhang": (0.62, 0.8),
        "rear_overhang": (0.6, 0.85), "nose_height": (1.05, 1.2), "cowl_height": (1.14, 1.28),
        "cowl_offset": (0.45, 0.8), "screen_slope": (0.1, 0.45), "roof_drop": (0.0, 0.04), "cabin_end": (0.04, 0.1),
        "rear_slope": (0.02, 0.1), "deck_height": (1.05, 1.2), "tumblehome": (0.05, 0.14), "edge_radius": (0.06, 0.12),
        "front_taper": (0.02, 0.06), "rear_taper": (0.01, 0.04), "nose_curve": (0.03, 0.1), "barrel": (0.02, 0.06),
        "flare": (0.04, 0.11),
    },
    "minivan": {
        "length": (4.3, 5.2), "width": (1.78, 2.0), "height": (1.66, 1.9), "clearance": (0.16, 0.22),
        "wheel_radius": (0.31, 0.36), "rear_overhang": (0.75, 1.05), "nose_height": (0.82, 0.98),
        "cowl_height": (1.05, 1.2), "cowl_offset": (-0.15, 0.2), "screen_slope": (1.0, 1.7), "roof_drop": (0.03, 0.12),
        "cabin_end": (0.05, 0.14), "rear_slope": (0.1, 0.45), "deck_height": (0.95, 1.15), "tumblehome": (0.12, 0.26),
    },
    "van": {
        "length": (4.6, 6.0), "width": (1.86, 2.08), "height": (1.95, 2.6), "clearance": (0.18, 0.28),
        "wheel_radius": (0.32, 0.37), "front_overhang": (0.7, 1.0), "rear_overhang": (0.8, 1.25),
        "nose_height": (0.95, 1.15), "cowl_height": (1.2, 1.38), "cowl_offset": (-0.55, 0.1),
        "screen_slope": (0.35, 0.9), "roof_drop": (0.0, 0.05), "cabin_end": (0.03, 0.08), "rear_slope": (0.01, 0.1),
        "deck_height": (1.1, 1.3), "tumblehome": (0.03, 0.12), "edge_radius": (0.08, 0.18), "rear_taper": (0.01, 0.04),
    },
    "pickup": {
        "length": (4.8, 5.8), "width": (1.8, 2.05), "height": (1.7, 1.95), "clearance": (0.24, 0.38),
        "wheel_radius": (0.36, 0.44), "wheel_width": (0.23, 0.3), "rear_overhang": (1.0, 1.3),
        "nose_height": (0.98, 1.16), "cowl_height": (1.12, 1.28), "cowl_offset": (0.25, 0.6),
        "screen_slope": (0.6, 1.1), "roof_drop": (0.01, 0.06), "cabin_end": (1.3, 2.0), "rear_slope": (0.02, 0.2),
        "deck_height": (1.08, 1.24), "belt_rise": (0.0, 0.04), "tumblehome": (0.14, 0.28), "edge_radius": (0.08, 0.16),
        "flare": (0.02, 0.09),
    },
}  # fmt: skip
STYLES = tuple(_STYLES)


def draw_car(seed: int, index: int) -> CarShape:
    """Draw the lengths of one car.

    The random numbers are the raw 64-bit words of the Philox generator keyed by (seed, index), a stream that numpy
    promises never to change.

    Args:
        seed: Which family of cars, 0 or more.
        index: Which car, 0 or more. The style is `STYLES[index % len(STYLES)]`.

    Returns:
        The car's lengths.

    Example:
        >>> draw_car(0, 3).style, draw_car(0, 3) == draw_car(0, 3)
        ('wagon', True)
    """
    style = STYLES[index % len(STYLES)]
    words = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw(len(CarShape.__annotations__) + 8)
    numbers = iter([(int(word) >> 11) * 2.0**-53 for word in words])  # uniform in [0, 1)
    lengths = {
        name: low + next(numbers) * (high - low) for name, (low, high) in sorted({**_COMMON, **_STYLES[style]}.items())
    }
    kinds = {
        "coupe": ("none", "lip", "wing", "wing"),
        "supercar": ("none", "lip", "wing", "wing"),
        "sedan": ("none", "none", "lip", "wing"),
        "pickup": ("none",),
        "van": ("none",),
        "offroad": ("none",),
    }.get(style, ("none", "roof"))
    spoiler = kinds[int(next(numbers) * len(kinds))]
    carries = style in ("suv", "wagon", "offroad", "minivan")
    return CarShape(
        style=style,
        spoiler=spoiler,
        bed=style == "pickup",
        mirrors=next(numbers) < 0.8,
        roof_box=carries and next(numbers) < 0.25,
        **lengths,
    )
