"""From a Field back to a surface."""

from pyimplicit.generation.extraction import extract_mesh

__all__ = ["extract_mesh"]
