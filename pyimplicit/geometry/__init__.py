"""Triangle meshes: files, checks, closing, and surfaces ready for queries."""

from pyimplicit.geometry.mesh import LONGEST_SIDE, Mesh, MeshReport, inspect_mesh, normalize_mesh
from pyimplicit.geometry.surface import Surface, SurfaceSamples

__all__ = ["LONGEST_SIDE", "Mesh", "MeshReport", "Surface", "SurfaceSamples", "inspect_mesh", "normalize_mesh"]
