"""The kernels as torch operators: one module per family, its plain-torch twin in `reference`."""

from pyimplicit.ops.bvh import SurfaceBVH, build_bvh
from pyimplicit.ops.distance_mask import CloudGrid, build_cloud_grid, distance_mask
from pyimplicit.ops.distance_sampling import DistanceWeight, WeightCells, build_weight_cells, sample_by_distance
from pyimplicit.ops.interpolation import sample_grids, sample_grids_linear, sample_planes
from pyimplicit.ops.linear_weights import linear_weights, sample_surface, weighted_choice
from pyimplicit.ops.memory import KeptBuffers
from pyimplicit.ops.query_points import PointSource, build_area_table, query_points
from pyimplicit.ops.random import RandomStream, RowStreams, normal, uniform
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
    "DistanceWeight",
    "KeptBuffers",
    "PointSource",
    "RandomStream",
    "RayHits",
    "RowStreams",
    "SurfaceBVH",
    "SurfaceTable",
    "WeightCells",
    "batch_closest_point",
    "batch_distance",
    "build_area_table",
    "build_bvh",
    "build_cloud_grid",
    "build_start_grid",
    "build_weight_cells",
    "cast_rays",
    "closest_point",
    "contains",
    "distance_mask",
    "linear_weights",
    "normal",
    "query_points",
    "sample_by_distance",
    "sample_grids",
    "sample_grids_linear",
    "sample_planes",
    "sample_surface",
    "signed_distance",
    "uniform",
    "unsigned_distance",
    "weighted_choice",
    "winding_number",
]
