"""Sampling, distance and interpolation kernels for implicit 3D reconstruction, and the study that compares strategies.

    import pyimplicit as pim

    surface = pim.Surface(pim.load_mesh("car.obj"))
    queries = pim.sample_queries(surface, "linear", 2_000, seed=0)

Names are looked up when first used, so that `pyimplicit --help` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyimplicit import data, evaluation, fields, generation, geometry, networks, ops, sampling, study, training
    from pyimplicit.evaluation import d_score, evaluate
    from pyimplicit.fields import Field, network_field, surface_field
    from pyimplicit.generation import extract_dense_cloud, extract_mesh
    from pyimplicit.geometry.files import load_mesh, save_mesh
    from pyimplicit.geometry.mesh import LONGEST_SIDE, Mesh, inspect_mesh, normalize_mesh
    from pyimplicit.geometry.surface import Surface
    from pyimplicit.geometry.surface_batch import SurfaceBatch
    from pyimplicit.geometry.watertight import make_watertight
    from pyimplicit.sampling import STRATEGIES, DistanceMask, QuerySet, sample_queries, sample_query_batch
    from pyimplicit.study import run_study
    from pyimplicit.training import train

__version__ = "0.1.0"

_SUBPACKAGES = (
    "data", "evaluation", "fields", "generation", "geometry", "networks", "ops", "sampling", "study", "training",
)  # fmt: skip
_HOMES = {
    "evaluation": ("d_score", "evaluate"),
    "fields": ("Field", "network_field", "surface_field"),
    "generation": ("extract_dense_cloud", "extract_mesh"),
    "geometry.files": ("load_mesh", "save_mesh"),
    "geometry.mesh": ("LONGEST_SIDE", "Mesh", "inspect_mesh", "normalize_mesh"),
    "geometry.surface": ("Surface",),
    "geometry.surface_batch": ("SurfaceBatch",),
    "geometry.watertight": ("make_watertight",),
    "sampling": ("STRATEGIES", "DistanceMask", "QuerySet", "sample_queries", "sample_query_batch"),
    "study": ("run_study",),
    "training": ("train",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "LONGEST_SIDE",
    "STRATEGIES",
    "DistanceMask",
    "Field",
    "Mesh",
    "QuerySet",
    "Surface",
    "SurfaceBatch",
    "d_score",
    "data",
    "evaluate",
    "evaluation",
    "extract_dense_cloud",
    "extract_mesh",
    "fields",
    "generation",
    "geometry",
    "inspect_mesh",
    "load_mesh",
    "make_watertight",
    "network_field",
    "networks",
    "normalize_mesh",
    "ops",
    "run_study",
    "sample_queries",
    "sample_query_batch",
    "sampling",
    "save_mesh",
    "study",
    "surface_field",
    "train",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"pyimplicit.{name}")
    if name in _HOME_OF:
        value = getattr(import_module(f"pyimplicit.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'pyimplicit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
