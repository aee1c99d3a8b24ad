"""The kernels as torch operators: one module per family, its plain-torch twin in `reference`."""

from pyimplicit.ops.bvh import SurfaceBVH, build_bvh
from pyimplicit.ops.distance_mask import CloudGrid, build_cloud_grid, distance_mask
from pyimplicit.ops.interpolation import sample_grids, sample_planes
from pyimplicit.ops.linear_weights import linear_weights, sample_surface, weighted_choice
from pyimplicit.ops.random import RandomStream, normal, uniform
from pyimplicit.ops.rays import RayHits, cast_rays
from pyimplicit.ops.start_grid import build_start_grid
from pyimplicit.ops.surface import (
    ClosestPoint,
    closest_point,
    contains,
    signed_distance,
    unsigned_distance,
    winding_number,
)
from pyimplicit.ops.surface_batch import SurfaceTable, batch_closest_point, batch_distance

__all__ = [
    "ClosestPoint",
    "CloudGrid",
    "RandomStream",
    "RayHits",
    "SurfaceBVH",
    "SurfaceTable",
    "batch_closest_point",
    "batch_distance",
    "build_bvh",
    "build_cloud_grid",
    "build_start_grid",
    "cast_rays",
    "closest_point",
    "contains",
    "distance_mask",
    "linear_weights",
    "normal",
    "sample_grids",
    "sample_planes",
    "sample_surface",
    "signed_distance",
    "uniform",
    "unsigned_distance",
    "weighted_choice",
    "winding_number",
]
