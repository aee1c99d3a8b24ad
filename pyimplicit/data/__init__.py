"""Sources of meshes, and shapes prepared from them."""

from pyimplicit.data.debian import TEST_CARS, DebianCars, fetch
from pyimplicit.data.folder import FolderSource
from pyimplicit.data.prepared import Shape, prepare_shapes, split_shapes
from pyimplicit.data.procedural import ProceduralCars
from pyimplicit.data.sources import Source, data_root

__all__ = [
    "TEST_CARS",
    "DebianCars",
    "FolderSource",
    "ProceduralCars",
    "Shape",
    "Source",
    "data_root",
    "fetch",
    "prepare_shapes",
    "split_shapes",
]
