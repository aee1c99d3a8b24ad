"""Metrics of a prediction against a reference: IoU, Chamfer distances, F-Score, Normal Consistency, Hausdorff."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyimplicit.checks import check_count, check_finite, check_tensor
from pyimplicit.evaluation.protocols import Protocol, resolve_protocol
from pyimplicit.evaluation.samples import Distances, Samples
from pyimplicit.evaluation.scores import Scores
from pyimplicit.geometry.mesh import LONGEST_SIDE, Mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream

# Draws of the predicted mesh and of a cloud's points, where they must not meet those of the reference.
_APART, _CLOUD = 1, 2

# Longest sides of a reference within this much of 1 are taken for normalised: closing a mesh moves it a little.
_NORMALISED = 0.1


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference sampled once, to measure any number of predictions against it.

    Attributes:
        samples: Surface samples a mesh.
        iou_points: Points of the IoU.
        seed: Seed of both; predictions are sampled with it too.
        protocol: How predictions are measured.

    Example:
        >>> corners = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
        >>> mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
        >>> reference = Reference.from_mesh(mesh, samples=100, iou_points=1_000)
        >>> evaluate(mesh, reference).iou
        1.0
    """

    protocol: Protocol
    seed: int
    _samples: Samples
    _points: Tensor  # [iou_points, 3] float32
    _inside: Tensor  # [iou_points] bool
    _surface: Surface | None = None
    _box: tuple[Tensor, Tensor] | None = None  # lowest and highest corner of the box of the points; None if not known

    @property
    def samples(self) -> int:
        """Surface samples a mesh."""
        return self.protocol.samples

    @property
    def iou_points(self) -> int:
        """Points of the IoU."""
        return len(self._points)

    @classmethod
    def from_mesh(
        cls,
        mesh: Mesh | Surface,
        samples: int | None = None,
        iou_points: int | None = None,
        seed: int = 0,
        *,
        preset: str | Protocol | None = None,
    ) -> Reference:
        """Sample a reference.

        Args:
            mesh: A closed mesh, or its Surface. Points of the IoU are drawn in the protocol's cube; if the mesh is
                larger than it, in the mesh's bounding box.
            samples: Area-uniform samples to draw on each mesh, at least 1. None takes the protocol's.
            iou_points: Uniform points to draw, at least 1. None takes the protocol's.
            seed: Seed of both, at least 0.
            preset: "pyimplicit" (None), "onet", "convonet", "ifnet", "airnets", "deepsdf", or a `Protocol`.

        Raises:
            TypeError: Not a Mesh or Surface, or a count that is not a whole number.
            ValueError: A mesh without area, or none of the points inside the mesh.
        """
        protocol = _changed(resolve_protocol(preset), samples=samples, iou_points=iou_points)
        seed = check_count("seed", seed, minimum=0)
        surface = _as_surface("reference", mesh)
        if not _area(surface.mesh) > 0:
            raise ValueError("reference: expected a mesh with an area above 0")
        half = torch.full((3,), protocol.iou_side / 2, dtype=torch.float64)
        low, high = surface.mesh.bounds.double()
        fits = bool((low >= -1.001 * half).all() and (high <= 1.001 * half).all())
        box = (-half, half) if fits else (low, high)
        generator = torch.Generator().manual_seed(seed)
        unit = torch.rand(protocol.iou_points, 3, generator=generator) - 0.5
        points = ((box[0] + box[1]) / 2).float() + unit * (box[1] - box[0]).float()
        inside = _contains(surface, points)
        if not bool(inside.any()):
            raise ValueError(
                f"reference: expected a closed mesh that fills some of the cube of side {protocol.iou_side:g}, "
                f"got none of {protocol.iou_points} points inside"
            )
        drawn = Samples.of_surface(surface, protocol.samples, RandomStream(seed))
        return cls(protocol, seed, drawn, points, inside, surface, box)

    @classmethod
    def from_samples(
        cls,
        points: Tensor,
        normals: Tensor | None,
        iou_points: Tensor,
        inside: Tensor,
        seed: int = 0,
        *,
        preset: str | Protocol | None = None,
    ) -> Reference:
        """Take a reference from stored samples, as ONet and ConvONet keep them with their shapes.

        Args:
            points: Points on the surface [N, 3] float, mesh units, N at least 1.
            normals: Their normals [N, 3] float, or None.
            iou_points: Points in space [M, 3] float.
            inside: Whether each of them is inside, [M] bool, at least one of them True.
            seed: Seed of the predictions' samples.
            preset: As for `from_mesh`, but distances lead to samples: there is no surface. Its number of samples counts
                for the predictions, and its `iou_points` does not count.

        Raises:
            TypeError, ValueError: A wrong type, shape or value, or a `Protocol` that asks for distances to the surface.

        Example:
            >>> space = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
            >>> points = 0.4 * torch.nn.functional.normalize(space, dim=1)
            >>> reference = Reference.from_samples(points, points, space, space.norm(dim=1) < 0.4)
            >>> reference.iou_points
            1000
        """
        protocol = resolve_protocol(preset)
        if not isinstance(preset, Protocol):
            protocol = dataclasses.replace(protocol, nearest="samples")
        elif protocol.nearest != "samples":
            raise ValueError("preset: expected distances to samples, for stored samples have no surface")
        cloud = check_finite("points", check_tensor("points", points, ("N", 3)))
        if not len(cloud):
            raise ValueError("points: expected at least one")
        if normals is not None:
            check_finite("normals", check_tensor("normals", normals, (len(cloud), 3)))
        check_finite("iou_points", check_tensor("iou_points", iou_points, ("M", 3)))
        check_tensor("inside", inside, (len(iou_points),), (torch.bool,))
        if not bool(inside.any()):
            raise ValueError("inside: expected at least one point inside")
        drawn = Samples.of_cloud(cloud, normals)
        seed = check_count("seed", seed, minimum=0)
        return cls(protocol, seed, drawn, iou_points.detach().cpu().float(), inside.cpu())

    def floor(self) -> Scores:
        """Return what a perfect prediction gets: the reference against itself, drawn apart.

        The mean distance of samples from the nearest of as many others is about half the square root of the area for
        each: no prediction gets below it, and on thin parts the nearest sample lies on the other side and has another
        normal. Distances to the surface, ours by default, have no floor.

        Raises:
            ValueError: A reference of stored samples, of which there is no second draw.

        Example:
            >>> corners = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
            >>> mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
            >>> protocol = Protocol(samples=1_000, iou_points=1_000, nearest="samples")
            >>> floor = Reference.from_mesh(mesh, preset=protocol).floor()
            >>> floor.iou, 0.005 < floor.chamfer_l1 < 0.015
            (1.0, True)
        """
        if self._surface is None:
            raise ValueError("reference: expected one made from a mesh, got stored samples")
        apart = dataclasses.replace(self.protocol, sampling="independent")
        return evaluate(self._surface, dataclasses.replace(self, protocol=apart))

    @property
    def _box_text(self) -> str:
        if self._box is None:
            return "the box they were stored for"
        low, high = self._box
        sides = (high - low).tolist()
        if bool((low == -high).all()) and sides[0] == sides[1] == sides[2]:
            return "the unit cube" if sides[0] == LONGEST_SIDE else f"the cube of side {sides[0]:g}"
        return "the reference's box of " + " x ".join(f"{side:.4g}" for side in sides)


def evaluate(
    predicted: Mesh | Surface | Tensor | None,
    reference: Mesh | Surface | Reference,
    *,
    samples: int | None = None,
    iou_points: int | None = None,
    thresholds: Sequence[float] | None = None,
    quantiles: Sequence[float] | None = None,
    seed: int | None = None,
    preset: str | Protocol | None = None,
    closed_only: bool = False,
) -> Scores:
    """Measure a prediction against a reference.

    By default both surfaces are sampled area-uniformly, and distances and normals are those of the nearest point of
    the other surface itself: any triangulation of a surface gets the best scores against it, up to rounding. The
    presets of authors, and `Protocol(nearest="samples")`, measure to the nearest sample of the other mesh instead,
    which leaves a Chamfer distance of about the spacing of the samples; `Reference.floor` tells it. A prediction that
    is None or has no area gets the worst scores (0 for ratios, the cube's diagonal sqrt(3) for distances and 3 for
    squared ones) with `valid` False and a `reason`: it counts in a mean.

    Args:
        predicted: A mesh or its Surface, in the reference's coordinates; a cloud [N, 3] float, which has neither IoU
            nor Normal Consistency and of which at most `samples` points drawn at random count; None where extraction
            found nothing. An open mesh is inside where its winding number is above one half, and its scores say so.
        reference: A closed mesh in the cube [-0.5, 0.5]^3, its Surface, or a `Reference`, which spares its sampling.
        samples: Area-uniform samples on each mesh. None takes the protocol's, 100,000 by default.
        iou_points: Uniform points for the IoU. None takes the protocol's, 100,000 by default.
        thresholds: Distances of the F-Score, mesh units, above 0, at least one. None takes the protocol's, 0.015.
        quantiles: Quantiles of the Hausdorff distance, above 0 and at most 1. None takes the protocol's.
        seed: Seed of all samples, at least 0. None takes the `Reference`'s, else 0.
        preset: "pyimplicit" (None), "onet", "convonet", "ifnet", "airnets", "deepsdf", or a `Protocol`. None with a
            `Reference` takes its protocol.
        closed_only: Whether an open prediction, which encloses no volume, gets the IoU 0.

    Returns:
        The `Scores`; `Scores.definitions()` states each one.

    Raises:
        TypeError: A wrong type.
        ValueError: A reference that cannot be measured against, a threshold out of range, or samples, iou_points, seed
            or preset other than those of the given `Reference`.

    Source:
        Mescheder et al., "Occupancy Networks: Learning 3D Reconstruction in Function Space", section 4 (IoU,
        Chamfer-L1, Normal Consistency); Tatarchenko et al., "What Do Single-view 3D Reconstruction Networks Learn?",
        section 4 (F-Score).

    Example:
        >>> corners = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
        >>> mesh = Mesh(corners, np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
        >>> scores = evaluate(mesh, mesh, samples=100, iou_points=1_000)
        >>> scores.iou, scores.chamfer_l1 < 1e-6, scores.f_score
        (1.0, True, {0.015: 1.0})
    """
    if isinstance(reference, Reference):
        wanted = {"samples": samples, "iou_points": iou_points, "seed": seed}
        for name, value in wanted.items():
            if value is not None and value != getattr(reference, name):
                raise ValueError(f"{name}: expected the reference's {getattr(reference, name)}, got {value}")
        if preset is not None and resolve_protocol(preset).name != reference.protocol.name:
            raise ValueError(f"preset: expected the reference's {reference.protocol.name}, got {preset!r}")
        protocol = _changed(reference.protocol, thresholds=thresholds, quantiles=quantiles)
    else:
        protocol = _changed(resolve_protocol(preset), thresholds=thresholds, quantiles=quantiles)
        reference = Reference.from_mesh(reference, samples, iou_points, 0 if seed is None else seed, preset=protocol)
        protocol = reference.protocol
    facts: dict[str, Any] = {
        "samples": reference.samples,
        "iou_points": reference.iou_points,
        "seed": reference.seed,
        "nearest": protocol.nearest,
        "sampling": protocol.sampling,
        "iou_box": reference._box_text,
    }
    if isinstance(predicted, Tensor):
        cloud = _drawn(predicted, protocol.samples, reference.seed)
        cloud_samples = Samples.of_cloud(cloud)
        scores = _distance_scores(cloud_samples, None, reference, protocol)
        return Scores(iou=None, cloud_points=len(cloud), note=_notes(None, reference), **scores, **facts)
    surface = None if predicted is None else _as_surface("predicted", predicted)
    if surface is None or not _area(surface.mesh) > 0:
        reason = "no prediction" if surface is None else "a predicted mesh without area"
        return Scores.worst(reason, thresholds=protocol.thresholds, quantiles=protocol.quantiles, **facts)

    inside = _contains(surface, reference._points)
    union = int((inside | reference._inside).sum())  # at least 1: some point is inside the reference
    iou = int((inside & reference._inside).sum()) / union
    stream = RandomStream(reference.seed, purpose=0 if protocol.sampling == "paired" else _APART)
    drawn = Samples.of_surface(surface, protocol.samples, stream)
    scores = _distance_scores(drawn, surface, reference, protocol)
    if closed_only and not surface.is_closed:
        iou = 0.0
    return Scores(iou=iou, note=_notes(surface, reference, closed_only), **scores, **facts)


def _distance_scores(
    drawn: Samples, surface: Surface | None, reference: Reference, protocol: Protocol
) -> dict[str, Any]:
    """All scores but the IoU."""
    if protocol.nearest == "surface" and reference._surface is not None:
        to_reference = drawn.to_surface(reference._surface)
    else:
        to_reference = drawn.to_samples(reference._samples)
    if protocol.nearest == "surface" and surface is not None:
        to_predicted = reference._samples.to_surface(surface)
    else:
        to_predicted = reference._samples.to_samples(drawn)
    there, back = to_reference.length.numpy(), to_predicted.length.numpy()
    accuracy, completeness = float(there.mean()), float(back.mean())
    accuracy_squared, completeness_squared = float((there**2).mean()), float((back**2).mean())
    normal_accuracy, normal_completeness = _mean_cosine(to_reference), _mean_cosine(to_predicted)
    both = None if normal_accuracy is None or normal_completeness is None else (normal_accuracy, normal_completeness)
    precision = {limit: float((there <= limit).mean()) for limit in protocol.thresholds}
    recall = {limit: float((back <= limit).mean()) for limit in protocol.thresholds}
    quantiles = [np.quantile(length, protocol.quantiles) for length in (there, back)]
    return {
        "chamfer_l1": (accuracy + completeness) / 2,
        "chamfer_l2": (accuracy_squared + completeness_squared) / 2,
        "f_score": {limit: _harmonic_mean(precision[limit], recall[limit]) for limit in protocol.thresholds},
        "precision": precision,
        "recall": recall,
        "normal_consistency": None if both is None else sum(both) / 2,
        "normal_accuracy": normal_accuracy,
        "normal_completeness": normal_completeness,
        "completeness": completeness,
        "accuracy": accuracy,
        "completeness_squared": completeness_squared,
        "accuracy_squared": accuracy_squared,
        "hausdorff": dict(zip(protocol.quantiles, np.maximum(*quantiles).tolist(), strict=True)),
    }


def _mean_cosine(distances: Distances) -> float | None:
    return None if distances.cosine is None else float(distances.cosine.mean())


def _notes(surface: Surface | None, reference: Reference, closed_only: bool = False) -> str | None:
    """What a reader of the scores should know of the two meshes."""
    notes = []
    if surface is not None and not surface.is_closed:
        how = "its IoU counts as 0" if closed_only else "inside where its winding number is above one half"
        notes.append(f"the prediction is open: {how}")
    if surface is not None and reference._box is not None:
        low, high = surface.mesh.bounds.double()
        spare = 0.001 * (reference._box[1] - reference._box[0])
        if bool((low < reference._box[0] - spare).any() or (high > reference._box[1] + spare).any()):
            notes.append(f"the prediction leaves {reference._box_text}, where the points of the IoU lie")
    if reference._surface is not None:
        if not reference._surface.is_closed:
            notes.append("the reference is open: inside where its winding number is above one half")
        low, high = reference._surface.mesh.bounds.double()
        side = float((high - low).max())
        if abs(side - LONGEST_SIDE) > _NORMALISED * LONGEST_SIDE:
            notes.append(f"the reference's longest side is {side:.4g}, not 1: all lengths are in its units")
    return "; ".join(notes) or None


def _changed(protocol: Protocol, **changes: Any) -> Protocol:
    """Return the protocol with every value that is not None in place of its own."""
    given = {name: value for name, value in changes.items() if value is not None}
    for name in ("thresholds", "quantiles"):
        if name in given:
            given[name] = tuple(given[name])
    return dataclasses.replace(protocol, **given) if given else protocol


def _drawn(cloud: Tensor, count: int, seed: int) -> Tensor:
    """Return at most `count` of a cloud's points, drawn without replacement."""
    points = check_finite("predicted", check_tensor("predicted", cloud, ("N", 3))).detach().cpu().double()
    if not len(points):
        raise ValueError("predicted: expected a cloud of at least one point; None is what counts as the worst")
    if len(points) <= count:
        return points
    generator = torch.Generator().manual_seed(seed * 4 + _CLOUD)
    return points[torch.randperm(len(points), generator=generator)[:count]]


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
