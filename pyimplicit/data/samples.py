"""What is stored of a shape: its closed mesh, a surface cloud, labelled points; any of them may be missing.

The names of the tensors, in shard files and wherever else samples are written:

    vertices [V, 3] float32, faces [F, 3] int32                  the closed mesh
    cloud.points [C, 3] float32, cloud.normals [C, 3] float32    points on the surface
    evaluation.points [E, 3] float32 and its labels              points to measure with
    pool.NAME.points [P, 3] float32 and its labels               points to train on, NAME being strategy-count

Labels are `.signed_distance` [n] float32 (mesh units, negative inside), or `.occupancy` [n] bool where nothing more is
known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pyimplicit.checks import check_finite, check_tensor
from pyimplicit.data.mapped import DTYPES
from pyimplicit.errors import DataError
from pyimplicit.geometry.mesh import Mesh


@dataclass(frozen=True, eq=False)
class LabelledPoints:
    """Points and what is known about them: their signed distance, or only whether they are inside.

    Raises:
        TypeError: A wrong dtype.
        ValueError: A wrong shape, a value that is not finite, or not exactly one kind of label.
    """

    points: Tensor  # [n, 3] float32, mesh units
    signed_distance: Tensor | None = None  # [n] float32, mesh units, negative inside
    occupancy: Tensor | None = None  # [n] bool, True inside

    def __post_init__(self) -> None:
        check_finite("points", check_tensor("points", self.points, ("n", 3), (torch.float32,)))
        count = len(self.points)
        if (self.signed_distance is None) == (self.occupancy is None):
            raise ValueError("signed_distance, occupancy: expected one of them")
        if self.signed_distance is not None:
            check_tensor("signed_distance", self.signed_distance, (count,), (torch.float32,))
            check_finite("signed_distance", self.signed_distance)
        if self.occupancy is not None:
            check_tensor("occupancy", self.occupancy, (count,), (torch.bool,))

    @property
    def inside(self) -> Tensor:
        """Whether each point is inside: [n] bool."""
        if self.occupancy is not None:
            return self.occupancy
        assert self.signed_distance is not None  # one of the two is there
        return self.signed_distance < 0

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors under their stored names."""
        named = {"points": self.points, "signed_distance": self.signed_distance, "occupancy": self.occupancy}
        return {f"{prefix}.{name}": tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: torch.device | str) -> LabelledPoints:
        """Return the points on `device`."""
        moved = [None if part is None else part.to(device) for part in (self.signed_distance, self.occupancy)]
        return LabelledPoints(self.points.to(device), *moved)


@dataclass(frozen=True, eq=False)
class ShapeSamples:
    """All that is stored of one shape.

    Raises:
        TypeError, ValueError: A cloud or normals of a wrong shape or dtype, or not finite.

    Example:
        >>> samples = ShapeSamples(cloud=torch.zeros(5, 3))
        >>> sorted(samples.tensors())
        ['cloud.points']
    """

    mesh: Mesh | None = None
    cloud: Tensor | None = None  # [C, 3] float32, mesh units
    normals: Tensor | None = None  # [C, 3] float32, of unit length, outward
    evaluation: LabelledPoints | None = None
    pools: Mapping[str, LabelledPoints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cloud is not None:
            check_finite("cloud", check_tensor("cloud", self.cloud, ("C", 3), (torch.float32,)))
        if self.normals is not None:
            if self.cloud is None:
                raise ValueError("normals: expected a cloud that they belong to")
            check_finite("normals", check_tensor("normals", self.normals, (len(self.cloud), 3), (torch.float32,)))

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors under their stored names."""
        named = {} if self.mesh is None else {"vertices": self.mesh.vertices, "faces": self.mesh.faces}
        if self.cloud is not None:
            named["cloud.points"] = self.cloud
        if self.normals is not None:
            named["cloud.normals"] = self.normals
        if self.evaluation is not None:
            named |= self.evaluation.tensors("evaluation")
        for name, pool in self.pools.items():
            named |= pool.tensors(f"pool.{name}")
        return named

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ShapeSamples:
        """Build samples from tensors under their stored names; names that are not known are refused.

        Raises:
            DataError: A tensor of an unknown name, or one that does not fit the others.
        """
        left = dict(tensors)

        def labelled(prefix: str) -> LabelledPoints:
            parts = [left.pop(f"{prefix}.{part}", None) for part in ("signed_distance", "occupancy")]
            return LabelledPoints(left.pop(f"{prefix}.points"), *parts)

        try:
            mesh = Mesh(left.pop("vertices"), left.pop("faces")) if "vertices" in left else None
            cloud, normals = left.pop("cloud.points", None), left.pop("cloud.normals", None)
            evaluation = labelled("evaluation") if "evaluation.points" in left else None
            names = [name for name in left if name.startswith("pool.") and name.endswith(".points")]
            keys = [name.removeprefix("pool.").removesuffix(".points") for name in names]
            samples = cls(mesh, cloud, normals, evaluation, {key: labelled(f"pool.{key}") for key in keys})
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"samples that do not fit together: {error}") from error
        if left:
            raise DataError(f"samples of an unknown kind: {sorted(left)[0]}")
        return samples

    def to(self, device: torch.device | str) -> ShapeSamples:
        """Return the clouds and labelled points on `device`; a mesh stays on the CPU."""
        return replace(
            self,
            cloud=None if self.cloud is None else self.cloud.to(device),
            normals=None if self.normals is None else self.normals.to(device),
            evaluation=None if self.evaluation is None else self.evaluation.to(device),
            pools={name: pool.to(device) for name, pool in self.pools.items()},
        )


@dataclass(frozen=True, eq=False)
class SampledShape:
    """A shape to learn from by its stored samples, where `Shape` has a mesh to draw from."""

    name: str
    group: str
    samples: ShapeSamples


@runtime_checkable
class SampleSource(Protocol):
    """Shapes that come as samples of other people's preparation, not as meshes.

    What `Source` is for meshes: `prepare` takes either. Points are in this project's frame, the cube [-0.5, 0.5]^3.
    """

    @property
    def name(self) -> str:
        """Name of the source, for folders and tables."""

    def __len__(self) -> int:
        """Return how many shapes there are."""

    def names(self) -> list[str]:
        """Return the name of each shape; no two are alike."""

    def groups(self) -> list[str]:
        """Return the group of each shape; see `Source.groups`."""

    def load_samples(self, index: int) -> ShapeSamples:
        """Return the samples of one shape."""


@runtime_checkable
class Split(Protocol):
    """A source that says which of its shapes are for training, validation and testing."""

    def splits(self) -> list[str]:
        """Return the split of each shape: "train", "val", "test", or "" for none."""


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: names, dtypes, shapes and values, in the order of the names.

    Example:
        >>> hash_tensors({"a": torch.zeros(2)}) == hash_tensors({"a": torch.zeros(2, 1)})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\x1f{tensor.dtype}\x1f{list(tensor.shape)}\x1f".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return tensors as what `safetensors.numpy` writes, without copying those that are on the CPU and contiguous.

    `safetensors.torch` writes the same bytes, but makes a ctypes type for every number of bytes, which ctypes keeps for
    ever: 5 KB for each size of a mesh that was ever written. It also refuses tensors that share memory.

    Raises:
        TypeError: A dtype that is not read back.

    Example:
        >>> as_arrays({"a": torch.zeros(2, 3)})["a"].shape
        (2, 3)
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES.values())
            raise TypeError(f"{name}: expected one of {expected}, got {str(tensor.dtype).removeprefix('torch.')}")
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
