"""Triangle meshes: files, checks, closing, and surfaces ready for queries."""

from pyimplicit.geometry.files import load_mesh, save_mesh
from pyimplicit.geometry.marching import marching_cubes
from pyimplicit.geometry.mesh import LONGEST_SIDE, Mesh, MeshReport, inspect_mesh, normalize_mesh
from pyimplicit.geometry.surface import Surface, SurfaceSamples
from pyimplicit.geometry.surface_batch import SurfaceBatch
from pyimplicit.geometry.watertight import WatertightReport, make_watertight

__all__ = [
    "LONGEST_SIDE",
    "Mesh",
    "MeshReport",
    "Surface",
    "SurfaceBatch",
    "SurfaceSamples",
    "WatertightReport",
    "inspect_mesh",
    "load_mesh",
    "make_watertight",
    "marching_cubes",
    "normalize_mesh",
    "save_mesh",
]
