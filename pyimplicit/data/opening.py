"""Sources by name, as the commands take them."""

from __future__ import annotations

from collections.abc import Callable

from pyimplicit.data.debian_sets import DEBIAN_SETS, DebianMeshes, read_set
from pyimplicit.data.deepsdf import DeepSdfSamples
from pyimplicit.data.folder import FolderSource
from pyimplicit.data.ifnet import IfNetSamples
from pyimplicit.data.onet import OnetSamples
from pyimplicit.data.procedural import ProceduralCars
from pyimplicit.data.samples import SampleSource
from pyimplicit.data.shapenet import ShapeNet
from pyimplicit.data.sources import Source
from pyimplicit.data.stored_set import StoredSet
from pyimplicit.errors import ConfigError

AT_PATHS: dict[str, Callable[[str], Source | SampleSource]] = {
    "folder": FolderSource,
    "shapenet": ShapeNet,
    "onet": OnetSamples,
    "deepsdf": DeepSdfSamples,
    "ifnet": IfNetSamples,
    "stored": StoredSet,
}
"""What opens KIND:PATH."""

SOURCES = {
    "procedural": "cars made by rule, any number, nothing to download",
    **{name: f"{read_set(name).about}; `pyimplicit data fetch {name}` once" for name in DEBIAN_SETS},
    "folder:PATH": "mesh files of your own",
    "shapenet:PATH": "ShapeNet, version 1 or 2, with train.lst, val.lst, test.lst or all.csv",
    "onet:PATH": "ONet's and ConvONet's preprocessed samples: points.npz, pointcloud.npz",
    "deepsdf:PATH": "DeepSDF's preprocessed samples: SdfSamples and split files",
    "ifnet:PATH": "IF-Net's preprocessed samples: boundary_SIGMA_samples.npz and clouds",
    "stored:PATH": "a set that `pyimplicit prepare` made",
}
"""Every kind of source, with a line for people."""


def open_source(name: str, count: int = 3_000, seed: int = 0) -> Source | SampleSource:
    """Open a source of meshes or of samples by name.

    Args:
        name: One of `SOURCES`, with a folder for PATH.
        count: Number of shapes of the procedural source.
        seed: Seed of the procedural source.

    Raises:
        ConfigError: An unknown name.
        DataError: The source is not there, or holds no shape.

    Example:
        >>> len(open_source("procedural", count=7))
        7
    """
    kind, _, path = name.partition(":")
    if name == "procedural":
        return ProceduralCars(count=count, seed=seed)
    if name in DEBIAN_SETS:
        return DebianMeshes(name)
    if kind in AT_PATHS and path:
        return AT_PATHS[kind](path)
    raise ConfigError(f"source: expected {', '.join(list(SOURCES)[:-1])} or {list(SOURCES)[-1]}, got {name!r}")
