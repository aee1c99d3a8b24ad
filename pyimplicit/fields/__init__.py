"""Fields: what a network is asked to learn about a point, and how a trained network or a surface answers.

An implicit function (`Occ`, `SDF`, `TSDF`, `UDF`) turns exact signed distances into training targets, measures a
prediction against them, and says where the surface lies in its values. A `Field` binds an implicit function to
something that computes values: a trained network (`network_field`) or exact geometry (`surface_field`). Extraction and
metrics see Fields only, so they are tested on exact fields with no training.
"""

from pyimplicit.fields.field import UNIT_CUBE, Bounds, Field, check_bounds
from pyimplicit.fields.implicit_functions import (
    NAMES,
    REDUCTIONS,
    SDF,
    TSDF,
    UDF,
    ImplicitFunction,
    Occ,
    far_values,
    implicit_function,
)
from pyimplicit.fields.sources import DistanceSurface, network_field, surface_field

__all__ = [
    "NAMES",
    "REDUCTIONS",
    "SDF",
    "TSDF",
    "UDF",
    "UNIT_CUBE",
    "Bounds",
    "DistanceSurface",
    "Field",
    "ImplicitFunction",
    "Occ",
    "check_bounds",
    "far_values",
    "implicit_function",
    "network_field",
    "surface_field",
]
