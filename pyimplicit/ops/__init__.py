"""The kernels as torch operators: one module per family, its plain-torch twin in `reference`."""

from pyimplicit.ops.bvh import SurfaceBVH, build_bvh
from pyimplicit.ops.cloud_grid import CloudGrid, build_cloud_grid
from pyimplicit.ops.convolution import convolve_grids
from pyimplicit.ops.depth_maps import DepthViews, count_views, draw_depth
from pyimplicit.ops.distance_mask import MaskCells, build_mask_cells, distance_mask, distance_mask_grid
from pyimplicit.ops.distance_sampling import DistanceWeight, WeightCells, build_weight_cells, sample_by_distance
from pyimplicit.ops.farthest import farthest_points
from pyimplicit.ops.interpolation import sample_grids, sample_grids_linear, sample_planes
from pyimplicit.ops.linear_weights import linear_weights, weighted_choice
from pyimplicit.ops.memory import KeptBuffers, KeptHeap
from pyimplicit.ops.neighbours import nearest_neighbours
from pyimplicit.ops.query_points import PointSource, labelled_query_points, query_points
from pyimplicit.ops.random import RandomStream, RowStreams, normal, uniform
from pyimplicit.ops.rays import RayHits, cast_rays
from pyimplicit.ops.scatter import CellGroups, build_cell_groups, pool_local, scatter_max, scatter_mean
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
from pyimplicit.ops.surface_samples import build_area_table, sample_surface
from pyimplicit.ops.voxelise import voxelise

__all__ = [
    "CellGroups",
    "ClosestPoint",
    "CloudGrid",
    "DepthViews",
    "DistanceWeight",
    "KeptBuffers",
    "KeptHeap",
    "MaskCells",
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
    "build_cell_groups",
    "build_cloud_grid",
    "build_mask_cells",
    "build_start_grid",
    "build_weight_cells",
    "cast_rays",
    "closest_point",
    "contains",
    "convolve_grids",
    "count_views",
    "distance_mask",
    "distance_mask_grid",
    "draw_depth",
    "farthest_points",
    "labelled_query_points",
    "linear_weights",
    "nearest_neighbours",
    "normal",
    "pool_local",
    "query_points",
    "sample_by_distance",
    "sample_grids",
    "sample_grids_linear",
    "sample_planes",
    "sample_surface",
    "scatter_max",
    "scatter_mean",
    "signed_distance",
    "uniform",
    "unsigned_distance",
    "voxelise",
    "weighted_choice",
    "winding_number",
]
