"""From a Field back to a surface."""

from pyimplicit.generation.dense_cloud import extract_dense_cloud
from pyimplicit.generation.extraction import ExtractionReport, extract_mesh, extract_mesh_with_report
from pyimplicit.generation.refinement import field_normals, refine_vertices

__all__ = [
    "ExtractionReport",
    "extract_dense_cloud",
    "extract_mesh",
    "extract_mesh_with_report",
    "field_normals",
    "refine_vertices",
]
