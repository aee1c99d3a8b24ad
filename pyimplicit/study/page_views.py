"""What the interactive 3D views of the report show: query points, reconstructions, failures, as small arrays.

A view is a tree of plain values whose leaves name arrays in one buffer. Coordinates are 16-bit integers, faces
differences of vertex numbers; the buffer is deflated, and the page inflates it again.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyimplicit.geometry import Mesh
from pyimplicit.geometry.simplify import reduce_faces
from pyimplicit.networks import NETWORKS
from pyimplicit.sampling import STRATEGIES, sample_queries
from pyimplicit.study.reconstructions import FAR, Case, Reconstructions
from pyimplicit.study.records import Record
from pyimplicit.study.tables import symbol

#: Test shapes that the views offer, the first ones.
SHAPES = 2
#: Faces of a true surface and of a failure as shown; of a reconstruction at most that many, fewer where there are many.
MOST_FACES = 8_000
#: Faces of all reconstructions together.
ALL_FACES = 400_000
#: Query points of each strategy, the paper's sparse density.
QUERY_POINTS = 2_000
#: Points of an input cloud and of a dense cloud as shown.
CLOUD_POINTS = 1_500
#: Failures that the view offers.
FAILURES = 8
# Coordinates are stored in steps of this many mesh units: 16 bits reach beyond the cube.
_STEP = 1 / 30_000
# Distances to the true surface are stored in steps of this many mesh units, 8 bits.
_DISTANCE_STEP = 1 / 400


class Buffer:
    """Arrays one after the other; what refers to one is its kind, where it starts and how many numbers it has."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, values: NDArray[Any]) -> list[Any]:
        """Add an array; returns [dtype, first byte, count]. Every array starts at a multiple of four bytes."""
        content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
        content += bytes(-len(content) % 4)
        entry = [values.dtype.name, self._size, int(values.size)]
        self._parts.append(content)
        self._size += len(content)
        return entry

    def encoded(self) -> str:
        """Return all of it, deflated, in base64."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), 9)).decode()

    def points(self, points: NDArray[np.float32], distance: NDArray[np.float32] | None = None) -> dict[str, Any]:
        """Add a cloud [N, 3], with signed distances [N] if given."""
        entry: dict[str, Any] = {"points": self.add(_coordinates(points))}
        if distance is not None:
            entry["distance"] = self.add(_bytes(distance))
        return entry

    def mesh(self, mesh: Mesh, most_faces: int, distance_from: Any = None) -> dict[str, Any]:
        """Add a mesh of at most that many faces, with the distances of its vertices from a true surface if given."""
        shown = reduce_faces(mesh, most_faces)
        faces = shown.faces.numpy().ravel().astype(np.int64)
        kind = np.uint16 if len(shown.vertices) <= 2**16 else np.uint32
        entry: dict[str, Any] = {
            "points": self.add(_coordinates(shown.vertices.numpy())),
            "faces": self.add(np.diff(faces, prepend=0).astype(kind)),  # wraps around, and back when summed up
        }
        if distance_from is not None:
            entry["distance"] = self.add(_bytes(distance_from.unsigned_distance(shown.vertices).numpy()))
        return entry


def build_views(records: Sequence[Record], strategies: Sequence[str], shapes: Reconstructions) -> dict[str, Any]:
    """Return what the three views show, and `arrays`, the buffer that their entries refer to.

    Args:
        records: The runs; of each network, field and strategy the first seed with a result is shown.
        strategies: Strategies of the study, for the view of the query points.
        shapes: The study's shapes and reconstructions; without shapes only query points on a built-in one are shown.
    """
    buffer = Buffer()
    surface, name = shapes.example()
    surfaces = [shapes.surface(index) for index in range(len(shapes.shapes[:SHAPES]))] or [surface]
    names = [shape.name for shape in shapes.shapes[:SHAPES]] or [name]
    views: dict[str, Any] = {
        "steps": {"coordinate": _STEP, "distance": _DISTANCE_STEP, "far": FAR},
        "shapes": [
            {"name": name, "mesh": buffer.mesh(surface.mesh, MOST_FACES)}
            for name, surface in zip(names, surfaces, strict=True)
        ],
        "strategies": _queries(buffer, surfaces, strategies),
        "inputs": _inputs(buffer, records, shapes),
        "rows": _rows(buffer, records, shapes),
        "failures": [_failure(buffer, case, shapes) for case in shapes.failures(records, FAILURES)],
    }
    return {**views, "arrays": buffer.encoded()}


def _inputs(buffer: Buffer, records: Sequence[Record], shapes: Reconstructions) -> dict[str, list[dict[str, Any]]]:
    """Return what encoders see of each shape shown, by how many points that is."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        size = _input(record)
        if size and size not in found:
            cases = [Case(record, index) for index in range(len(shapes.shapes[:SHAPES]))]
            found[size] = [buffer.points(_thinned(shapes.observed(case)[0])) for case in cases]
    return found


def _queries(buffer: Buffer, surfaces: Sequence[Any], strategies: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for strategy in dict.fromkeys((*STRATEGIES, *strategies)):
        drawn = [sample_queries(surface, strategy, QUERY_POINTS, seed=0) for surface in surfaces]
        clouds = [buffer.points(one.points.numpy(), one.signed_distance.numpy()) for one in drawn]
        inside = [f"{100 * float((one.signed_distance < 0).double().mean()):.0f}% inside" for one in drawn]
        near = [f"{100 * float((one.signed_distance.abs() <= 0.01).double().mean()):.0f}%" for one in drawn]
        texts = [f"{i}, {n} within 0.01 of the surface" for i, n in zip(inside, near, strict=True)]
        found.append({"name": strategy, "symbol": symbol(strategy), "clouds": clouds, "texts": texts})
    return found


def _rows(buffer: Buffer, records: Sequence[Record], shapes: Reconstructions) -> list[dict[str, Any]]:
    """Return, of each network, field and density, what each strategy reconstructed of the shapes shown."""
    chosen: dict[tuple[str, str, int], dict[str, Record]] = {}
    for record in records:
        group = chosen.setdefault(record.row, {})
        if record.strategy not in group or (group[record.strategy].failed and not record.failed):
            group[record.strategy] = record
    count = len(shapes.shapes[:SHAPES])
    total = sum(len(group) for group in chosen.values()) * count
    most_faces = min(MOST_FACES, max(1_000, ALL_FACES // max(1, total)))
    densities = len(chosen) > len({row[:2] for row in chosen})
    rows = []
    for (network, field, density), group in chosen.items():
        strategies: list[dict[str, Any]] = []
        for strategy, record in group.items():
            cases = [Case(record, index) for index in range(count)]
            entries = [_reconstruction(buffer, case, shapes, most_faces) for case in cases]
            strategies.append({"name": strategy, "symbol": symbol(strategy), "seed": record.seed, "shapes": entries})
        if not any("points" in entry for one in strategies for entry in one["shapes"]):
            continue
        first = next(iter(group.values()))
        label = f"{network} {field.upper()}" + (f", {density} points" if densities else "")
        rows.append({"label": label, "strategies": strategies, "input": _input(first)})
    return rows


def _reconstruction(buffer: Buffer, case: Case, shapes: Reconstructions, most_faces: int) -> dict[str, Any]:
    found = shapes.found(case)
    if isinstance(found, Mesh):
        return {**buffer.mesh(found, most_faces, shapes.surface(case.index)), "text": _scores(case)}
    if found is not None:
        cloud = _thinned(found)
        distance = shapes.surface(case.index).unsigned_distance(torch.from_numpy(cloud)).numpy()
        return {**buffer.points(cloud, distance), "text": _scores(case)}
    reason = case.score.get("reason") or case.record.reason or "no reconstruction was stored"
    return {"text": f"no surface: {reason}"}


def _failure(buffer: Buffer, case: Case, shapes: Reconstructions) -> dict[str, Any]:
    mesh, truth = shapes.found(case), shapes.surface(case.index)
    assert isinstance(mesh, Mesh)
    points, distance = shapes.observed(case)
    share = shapes.far_share(case, mesh)
    return {
        "label": f"{case.label} {symbol(case.record.strategy)}",
        "shape": shapes.shapes[case.index].name,
        "input_points": buffer.points(_thinned(points), None if distance is None else _thinned(distance)),
        "truth": buffer.mesh(truth.mesh, MOST_FACES),
        "mesh": buffer.mesh(mesh, MOST_FACES, truth),
        "text": f"{100 * share:.0f}% of the area farther than {FAR:g} from the true surface; {_scores(case)}",
    }


def _input(record: Record) -> str:
    """Return how many points an encoder sees, which tells its inputs apart; nothing for an auto-decoder."""
    encoder = NETWORKS[record.network].kind == "encoder"
    return str(record.config["training"]["cloud_size"]) if encoder else ""


def _scores(case: Case) -> str:
    names = {"iou": "IoU", "f_score": "F-Score", "normal_consistency": "Normal Consistency"}
    known = [(name, case.score.get(key)) for key, name in names.items()]
    return ", ".join(f"{name} {value:.3f}" for name, value in known if isinstance(value, float))


def _thinned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return at most `CLOUD_POINTS` entries, evenly taken."""
    return np.ascontiguousarray(values[:: max(1, -(-len(values) // CLOUD_POINTS))])


def _coordinates(points: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.asarray(np.clip(np.rint(points / _STEP), -32_767, 32_767), dtype=np.int16)


def _bytes(distance: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.asarray(np.clip(np.rint(distance / _DISTANCE_STEP), -127, 127), dtype=np.int8)
