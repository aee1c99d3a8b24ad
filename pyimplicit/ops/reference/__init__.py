"""A plain-torch twin of every public operator: slow, short, and sharing no code with the kernels.

A twin has its operator's name and argument order. Surface queries take the mesh where the operator takes a hierarchy,
and the mask takes the cloud and the distance where the operator takes a grid. Twins run on any device torch has, in
double precision inside, and check nothing.
"""

from pyimplicit.ops.reference.convolution import convolve_grids
from pyimplicit.ops.reference.depth_maps import count_views, draw_depth
from pyimplicit.ops.reference.interpolation import sample_grids, sample_grids_linear, sample_planes
from pyimplicit.ops.reference.mask import distance_mask, distance_mask_grid
from pyimplicit.ops.reference.points import farthest_points, nearest_neighbours, voxelise
from pyimplicit.ops.reference.random import normal, philox, uniform
from pyimplicit.ops.reference.sampling import labelled_query_points, query_points, sample_by_distance, sample_surface
from pyimplicit.ops.reference.scatter import pool_local, scatter_max, scatter_mean
from pyimplicit.ops.reference.surface import (
    batch_closest_point,
    batch_distance,
    cast_rays,
    closest_point,
    contains,
    pseudonormals,
    signed_distance,
    unsigned_distance,
    winding_number,
)
from pyimplicit.ops.reference.weights import linear_weights, weighted_choice

__all__ = [
    "batch_closest_point",
    "batch_distance",
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
    "philox",
    "pool_local",
    "pseudonormals",
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
