"""Unsigned distances in a study: a dense cloud in place of a mesh, and the metrics that clouds have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from pyimplicit.data import Shape
from pyimplicit.errors import ExtractionError
from pyimplicit.evaluation import Scores
from pyimplicit.fields import Field, network_field
from pyimplicit.generation import extract_dense_cloud
from pyimplicit.geometry import Surface
from pyimplicit.sampling import DistanceMask
from pyimplicit.study.run_spec import RunSpec
from pyimplicit.training import CodeSearch, TrainResult, infer_codes, observe_cloud, observe_points

# Labelled points from which the code of an unseen shape is searched (auto-decoders).
_SEARCH_POINTS = 16_384
# Scores of `evaluate` that a cloud has: those that need neither an inside nor normals.
_SCORES = (
    *("chamfer_l1", "chamfer_l2", "f_score", "completeness", "accuracy"),
    *("completeness_squared", "accuracy_squared"),
)
_BY_THRESHOLD = ("f_score", "precision", "recall")


def dense_clouds(
    spec: RunSpec, trained: TrainResult, shapes: Sequence[Shape], progress: Callable[[int, int], None]
) -> list[Tensor | str]:
    """Return a dense cloud [N, 3] of each shape, or the reason why its field has no surface.

    With a mask the cloud stays within its distance of the observed input cloud, as the points of the training did.
    """
    network = trained.network
    codes: list[Any]
    if network.kind == "encoder":
        clouds = [observe_cloud(shape, trained.config.cloud_size, seed=spec.data.seed) for shape in shapes]
        with torch.no_grad():
            codes = [network.encode(cloud[None].to(network.device)) for cloud in clouds]
    else:
        seen = [observe_points(shape, spec.strategy, _SEARCH_POINTS, seed=spec.data.seed) for shape in shapes]
        points, distances = (torch.stack(part).to(network.device) for part in zip(*seen, strict=True))
        search = CodeSearch(**spec.search)
        codes = list(infer_codes(network, trained.kind, points, distances, search, seed=spec.data.seed))
        clouds = [observe_cloud(shape, trained.config.cloud_size, seed=spec.data.seed) for shape in shapes]
    found: list[Tensor | str] = []
    for index, (code, cloud) in enumerate(zip(codes, clouds, strict=True)):
        field = network_field(network, code, trained.kind)
        mask = None if spec.mask is None else DistanceMask.from_cloud(cloud.to(network.device), spec.mask)
        found.append(_extract(field, spec.evaluation.cloud_points, mask, spec.data.seed))
        progress(index + 1, len(shapes))
    return found


def _extract(field: Field, count: int, mask: DistanceMask | None, seed: int) -> Tensor | str:
    try:
        return extract_dense_cloud(field, count, seed=seed, mask=mask).cpu()
    except ExtractionError as error:
        return str(error)


def measure_cloud(spec: RunSpec, shape: Shape, cloud: Tensor | str) -> dict[str, Any]:
    """Return the scores of a cloud against area-uniform samples of the reference, as many as a mesh would have.

    Chamfer-L2 is half the sum of the two mean squared distances, the F-Score the harmonic mean of precision and recall
    at the run's threshold, as for meshes; IoU and Normal Consistency do not exist.
    """
    count, limit, seed = spec.evaluation.samples, spec.evaluation.threshold, spec.data.seed
    if isinstance(cloud, str):
        worst = Scores.worst(
            cloud, thresholds=(limit,), samples=count, iou_points=0, seed=seed, nearest="samples"
        ).as_dict()
        # The same entries as for a cloud, or the two could not be averaged.
        names = (*_SCORES, *(f"{name}@{limit:g}" for name in _BY_THRESHOLD), "samples", "seed", "valid", "reason")
        return {"shape": shape.name, **{name: worst[name] for name in names}}
    reference = Surface(shape.mesh).sample_surface(count, seed=seed).points.double().numpy()
    points = cloud.double().numpy()
    accuracy, completeness = _nearest(points, reference), _nearest(reference, points)
    precision, recall = float((accuracy <= limit).mean()), float((completeness <= limit).mean())
    f_score = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    squared = float((accuracy**2).mean()), float((completeness**2).mean())
    return {
        "shape": shape.name,
        "chamfer_l1": float(accuracy.mean() + completeness.mean()) / 2,
        "chamfer_l2": sum(squared) / 2,
        "f_score": f_score,
        "completeness": float(completeness.mean()),
        "accuracy": float(accuracy.mean()),
        "completeness_squared": squared[1],
        "accuracy_squared": squared[0],
        f"f_score@{limit:g}": f_score,
        f"precision@{limit:g}": precision,
        f"recall@{limit:g}": recall,
        "samples": count,
        "seed": seed,
        "valid": True,
        "reason": None,
    }


def _nearest(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    distance, _ = KDTree(others).query(points, workers=torch.get_num_threads())
    return np.asarray(distance)
