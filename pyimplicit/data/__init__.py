"""Sources of meshes and of samples, shapes prepared from them, and stored sets."""

from pyimplicit.data.archives import read_npz, unpack_archive
from pyimplicit.data.debian import fetch
from pyimplicit.data.debian_sets import DEBIAN_SETS, DebianMeshes
from pyimplicit.data.deepsdf import DeepSdfSamples, export_deepsdf
from pyimplicit.data.folder import FolderSource
from pyimplicit.data.ifnet import IfNetSamples
from pyimplicit.data.onet import OnetSamples, export_onet
from pyimplicit.data.opening import SOURCES, open_source
from pyimplicit.data.prepare_shape import PrepareConfig, pool_name
from pyimplicit.data.prepared import Shape, prepare_shapes, split_shapes
from pyimplicit.data.preparing import prepare_set
from pyimplicit.data.procedural import ProceduralCars
from pyimplicit.data.samples import LabelledPoints, SampledShape, SampleSource, ShapeSamples, Split
from pyimplicit.data.shapenet import ShapeNet
from pyimplicit.data.sources import Source, data_root
from pyimplicit.data.stored_set import StoredSet

__all__ = [
    "DEBIAN_SETS",
    "SOURCES",
    "DebianMeshes",
    "DeepSdfSamples",
    "FolderSource",
    "IfNetSamples",
    "LabelledPoints",
    "OnetSamples",
    "PrepareConfig",
    "ProceduralCars",
    "SampleSource",
    "SampledShape",
    "Shape",
    "ShapeNet",
    "ShapeSamples",
    "Source",
    "Split",
    "StoredSet",
    "data_root",
    "export_deepsdf",
    "export_onet",
    "fetch",
    "open_source",
    "pool_name",
    "prepare_set",
    "prepare_shapes",
    "read_npz",
    "split_shapes",
    "unpack_archive",
]
