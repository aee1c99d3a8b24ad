"""Metrics of a predicted mesh against a reference: IoU, Chamfer distances, F-Score, Normal Consistency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from pyimplicit.checks import check_count, check_positive
from pyimplicit.evaluation.scores import Scores
from pyimplicit.geometry.mesh import LONGEST_SIDE, Mesh
from pyimplicit.geometry.surface import Surface

DEFAULT_SAMPLES = 100_000
DEFAULT_IOU_POINTS = 100_000


@dataclass(frozen=True, eq=False)
class _Cloud:
    """Samples of one surface, ready to be asked for nearest neighbours."""

    points: NDArray[np.float64]  # [n, 3], mesh units
    normals: NDArray[np.float64]  # [n, 3], unit length
    tree: Any

    @classmethod
    def sample(cls, surface: Surface, count: int, seed: int) -> _Cloud:
        drawn = surface.sample_surface(count, seed=seed)
        points = drawn.points.to("cpu", torch.float64).numpy()
        normals = drawn.normals.to("cpu", torch.float64).numpy()
        return cls(points, normals, cKDTree(points, balanced_tree=False, compact_nodes=False))

    def nearest(self, other: _Cloud) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the distance [n] of each own point to its nearest one in `other`, and |cosine| [n] of the normals."""
        distance, index = other.tree.query(self.points, workers=torch.get_num_threads())
        return distance, np.abs(np.einsum("ij,ij->i", self.normals, other.normals[index]))


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference sampled once, to measure any number of predictions against it.

    Attributes:
        samples: Surface samples a mesh.
        iou_points: Points of the IoU.
        seed: Seed of both; predictions are sampled with it too.

    Example:
        >>> corners = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
        >>> mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
        >>> reference = Reference.from_mesh(mesh, samples=100, iou_points=1_000)
        >>> evaluate(mesh, reference).iou
        1.0
    """

    samples: int
    iou_points: int
    seed: int
    _cloud: _Cloud
    _points: Tensor  # [iou_points, 3] float32, uniform in the bounding cube
    _inside: Tensor  # [iou_points] bool

    @classmethod
    def from_mesh(
        cls,
        mesh: Mesh | Surface,
        samples: int = DEFAULT_SAMPLES,
        iou_points: int = DEFAULT_IOU_POINTS,
        seed: int = 0,
    ) -> Reference:
        """Sample a reference.

        Args:
            mesh: A closed mesh in the cube [-0.5, 0.5]^3, or its Surface.
            samples: Area-uniform samples to draw on each mesh, at least 1.
            iou_points: Uniform points to draw in the cube, at least 1.
            seed: Seed of both, at least 0.

        Raises:
            TypeError: Not a Mesh or Surface, or a count that is not a whole number.
            ValueError: A mesh without area, or none of the points inside the mesh.
        """
        samples, iou_points = check_count("samples", samples), check_count("iou_points", iou_points)
        seed = check_count("seed", seed, minimum=0)
        surface = _as_surface("reference", mesh)
        if not _area(surface.mesh) > 0:
            raise ValueError("reference: expected a mesh with an area above 0")
        generator = torch.Generator().manual_seed(seed)
        points = (torch.rand(iou_points, 3, generator=generator) - 0.5) * LONGEST_SIDE
        inside = _contains(surface, points)
        if not bool(inside.any()):
            raise ValueError(
                f"reference: expected a closed mesh that fills some of the cube of side {LONGEST_SIDE:g}, "
                f"got none of {iou_points} points inside"
            )
        return cls(samples, iou_points, seed, _Cloud.sample(surface, samples, seed), points, inside)


def evaluate(
    predicted: Mesh | Surface | None,
    reference: Mesh | Surface | Reference,
    *,
    samples: int | None = None,
    iou_points: int | None = None,
    thresholds: Sequence[float] = (0.015,),
    seed: int | None = None,
) -> Scores:
    """Measure a predicted mesh against a reference.

    Both surfaces are sampled area-uniformly with the same seed, so a mesh against itself gets exactly the best scores;
    two different triangulations of one surface keep a Chamfer distance of about the spacing of the samples. A
    prediction that is None or has no area gets the worst scores (0 for ratios, the cube's diagonal sqrt(3) for
    distances and 3 for squared ones) with `valid` False and a `reason`: it counts in a mean.

    Args:
        predicted: A mesh or its Surface, in the reference's coordinates; None where extraction found nothing.
        reference: A closed mesh in the cube [-0.5, 0.5]^3, its Surface, or a `Reference`, which spares its sampling.
        samples: Area-uniform samples on each mesh. None takes the `Reference`'s, else 100,000.
        iou_points: Uniform points in the cube for the IoU. None takes the `Reference`'s, else 100,000.
        thresholds: Distances of the F-Score, mesh units, above 0, at least one.
        seed: Seed of all samples, at least 0. None takes the `Reference`'s, else 0.

    Returns:
        The `Scores`; `Scores.definitions()` states each one.

    Raises:
        TypeError: A wrong type.
        ValueError: A reference that cannot be measured against, a threshold out of range, or samples, iou_points or
            seed other than those of the given `Reference`.

    Source:
        Mescheder et al., "Occupancy Networks: Learning 3D Reconstruction in Function Space", section 4 (IoU,
        Chamfer-L1, Normal Consistency); Tatarchenko et al., "What Do Single-view 3D Reconstruction Networks Learn?",
        section 4 (F-Score).

    Example:
        >>> corners = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
        >>> mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
        >>> scores = evaluate(mesh, mesh, samples=100, iou_points=1_000)
        >>> scores.iou, scores.chamfer_l2, scores.f_score
        (1.0, 0.0, {0.015: 1.0})
    """
    limits = [check_positive("thresholds", threshold) for threshold in thresholds]
    if not limits or len(set(limits)) != len(limits):
        raise ValueError(f"thresholds: expected at least one, all different, got {limits}")
    if isinstance(reference, Reference):
        wanted = {"samples": samples, "iou_points": iou_points, "seed": seed}
        for name, value in wanted.items():
            if value is not None and value != getattr(reference, name):
                raise ValueError(f"{name}: expected the reference's {getattr(reference, name)}, got {value}")
    else:
        reference = Reference.from_mesh(
            reference,
            DEFAULT_SAMPLES if samples is None else samples,
            DEFAULT_IOU_POINTS if iou_points is None else iou_points,
            0 if seed is None else seed,
        )
    surface = None if predicted is None else _as_surface("predicted", predicted)
    if surface is None or not _area(surface.mesh) > 0:
        return Scores.worst(
            "no prediction" if surface is None else "a predicted mesh without area",
            thresholds=limits,
            samples=reference.samples,
            iou_points=reference.iou_points,
            seed=reference.seed,
        )

    inside = _contains(surface, reference._points)
    union = int((inside | reference._inside).sum())  # at least 1: some point is inside the reference
    cloud = _Cloud.sample(surface, reference.samples, reference.seed)
    to_reference, cosine_to_reference = cloud.nearest(reference._cloud)
    to_predicted, cosine_to_predicted = reference._cloud.nearest(cloud)
    precision = {limit: float((to_reference <= limit).mean()) for limit in limits}
    recall = {limit: float((to_predicted <= limit).mean()) for limit in limits}
    accuracy, completeness = float(to_reference.mean()), float(to_predicted.mean())
    accuracy_squared, completeness_squared = float((to_reference**2).mean()), float((to_predicted**2).mean())
    return Scores(
        iou=int((inside & reference._inside).sum()) / union,
        chamfer_l1=(accuracy + completeness) / 2,
        chamfer_l2=(accuracy_squared + completeness_squared) / 2,
        f_score={limit: _harmonic_mean(precision[limit], recall[limit]) for limit in limits},
        precision=precision,
        recall=recall,
        normal_consistency=float((cosine_to_reference.mean() + cosine_to_predicted.mean()) / 2),
        completeness=completeness,
        accuracy=accuracy,
        completeness_squared=completeness_squared,
        accuracy_squared=accuracy_squared,
        samples=reference.samples,
        iou_points=reference.iou_points,
        seed=reference.seed,
    )


def _as_surface(name: str, value: Mesh | Surface) -> Surface:
    if isinstance(value, Mesh):
        return Surface(value)
    if not isinstance(value, Surface):
        raise TypeError(f"{name}: expected a Mesh or a Surface, got {type(value).__name__}")
    return value


def _contains(surface: Surface, points: Tensor) -> Tensor:
    inside: Tensor = surface.contains(points.to(surface.device))
    return inside.cpu()


def _area(mesh: Mesh) -> float:
    corners = mesh.vertices.double()[mesh.faces.long()]  # [F, 3, 3]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(cross.norm(dim=1).sum()) / 2


def _harmonic_mean(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
