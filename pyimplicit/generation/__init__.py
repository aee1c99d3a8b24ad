"""From a Field back to a surface."""

from pyimplicit.generation.extraction import ExtractionReport, extract_mesh, extract_mesh_with_report

__all__ = ["ExtractionReport", "extract_mesh", "extract_mesh_with_report"]
