"""Meshes, points and rays that are refused, by an error that names the argument."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.errors import MeshError
from pyimplicit.geometry.surface import Surface
from tests.geometry.surface_queries import QUERIES
from tests.helpers import around, box

VERTICES, FACES = box()
SURFACE = Surface(VERTICES, FACES)
POINTS = around(box(), 60)


# ---- meshes that are refused


def with_value(value: float, vertex: int = 5) -> Tensor:
    spoilt = VERTICES.clone()
    spoilt[vertex, 1] = value
    return spoilt


def with_index(index: int) -> Tensor:
    spoilt = FACES.clone()
    spoilt[7, 2] = index
    return spoilt


REFUSED_MESHES: dict[str, tuple[Any, Any, str]] = {
    "NaN in one vertex": (with_value(math.nan), FACES, r"vertices: expected finite .* at vertex 5"),
    "infinity in one vertex": (with_value(math.inf), FACES, "vertices: expected finite .* at vertex 5"),
    "minus infinity in the last vertex": (with_value(-math.inf, 7), FACES, "vertices: expected finite .* at vertex 7"),
    "NaN in a vertex no face uses": (torch.cat([VERTICES, VERTICES[:1] * math.nan]), FACES, "vertices: .* vertex 8"),
    "beyond float32": (with_value(1e39), FACES, "vertices: expected finite float32"),
    "vertices in a list": (VERTICES.tolist(), FACES, "vertices: expected a numpy array or torch tensor, got list"),
    "no vertices at all": (None, FACES, "vertices: expected a numpy array or torch tensor, got NoneType"),
    "a file name": ("mesh.obj", FACES, "vertices: expected a numpy array or torch tensor, got str"),
    "whole vertices": (VERTICES.long(), FACES, "vertices: expected float32 or float64, got int64"),
    "half vertices": (VERTICES.half(), FACES, "vertices: expected float32 or float64, got float16"),
    "bfloat16 vertices": (VERTICES.bfloat16(), FACES, "vertices: expected .* float32 or float64"),
    "complex vertices": (VERTICES.to(torch.complex64), FACES, "vertices: expected float32 or float64"),
    "long double vertices": (VERTICES.numpy().astype(np.longdouble), FACES, "vertices: expected float32 or float64"),
    "vertices of objects": (VERTICES.numpy().astype(object), FACES, "vertices: expected float32 or float64, got obj"),
    "sparse vertices": (VERTICES.to_sparse(), FACES, "vertices: expected a dense tensor"),
    "vertices nowhere": (VERTICES.to("meta"), FACES, "vertices: expected a tensor on the CPU, got one on meta"),
    "one number for vertices": (torch.tensor(1.0), FACES, r"vertices: expected shape \[n, 3\], got \[\]"),
    "flat vertices": (VERTICES.reshape(-1), FACES, r"vertices: expected shape \[n, 3\], got \[24\]"),
    "a batch of vertices": (VERTICES[None], FACES, r"vertices: expected shape \[n, 3\], got \[1, 8, 3\]"),
    "homogeneous vertices": (torch.ones(8, 4), FACES, r"vertices: expected shape \[n, 3\], got \[8, 4\]"),
    "no vertex": (VERTICES[:0], FACES, "empty mesh: expected vertices and faces, got 0 and 12"),
    "nothing": (VERTICES[:0], FACES[:0], "empty mesh: expected vertices and faces, got 0 and 0"),
    "faces in a list": (VERTICES, FACES.tolist(), "faces: expected a numpy array or torch tensor, got list"),
    "boolean faces": (VERTICES, FACES.bool(), "faces: expected integers, got bool"),
    "float64 faces": (VERTICES, FACES.double(), "faces: expected integers, got float64"),
    "faces nowhere": (VERTICES, FACES.to("meta"), "faces: expected a tensor on the CPU, got one on meta"),
    "one number for faces": (VERTICES, torch.tensor(1), r"faces: expected shape \[n, 3\], got \[\]"),
    "one face without its axis": (VERTICES, FACES[0], r"faces: expected shape \[n, 3\], got \[3\]"),
    "squares": (VERTICES, torch.zeros(6, 4, dtype=torch.int64), r"faces: expected shape \[n, 3\], got \[6, 4\]"),
    "a batch of faces": (VERTICES, FACES[None], r"faces: expected shape \[n, 3\], got \[1, 12, 3\]"),
    "one index of -1": (VERTICES, with_index(-1), r"faces: expected 0 to 7, got .* at face 7"),
    "one index of V": (VERTICES, with_index(8), r"faces: expected 0 to 7, got .* at face 7"),
    "right but for 2**32": (VERTICES, FACES + 2**32, "faces: expected 0 to 7"),  # as int32 it would be right
    "an index of -2**32": (VERTICES, with_index(-(2**32)), "faces: expected 0 to 7"),
    "an index of 2**63": (VERTICES, FACES.numpy().astype(np.uint64) + np.uint64(2**63), "faces: expected 0 to 7"),
    "int8 below 0": (VERTICES, FACES.to(torch.int8) - 1, "faces: expected 0 to 7"),
}


@pytest.mark.parametrize(("vertices", "faces", "words"), REFUSED_MESHES.values(), ids=REFUSED_MESHES.keys())
def test_meshes_that_are_refused(vertices, faces, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Surface(vertices, faces)


@pytest.mark.parametrize(
    ("vertices", "faces", "words"),
    [
        (VERTICES.numpy(), FACES, "vertices: expected a torch tensor, got ndarray"),
        (VERTICES.long(), FACES, "vertices: expected dtype float32 or float64, got int64"),
        (VERTICES.bfloat16(), FACES, "vertices: expected dtype"),
        (VERTICES.to("meta"), FACES, "vertices: expected a tensor on cpu, got one on meta"),
        (VERTICES.to_sparse(), FACES, "vertices"),
        (torch.tensor(0.5), FACES, r"vertices: expected shape \[V, 3\], got \[\]"),
        (with_value(math.nan), FACES, r"vertices: expected finite values, got nan at index \[5, 1\]"),
        (VERTICES * 1e40, FACES, "vertices: expected finite values, got -?inf"),
        (VERTICES, FACES.numpy(), "faces: expected a torch tensor, got ndarray"),
        (VERTICES, None, "faces: expected a torch tensor, got NoneType"),
        (VERTICES, FACES.bool(), "faces: expected dtype int32 or int64, got bool"),
        (VERTICES, FACES.to(torch.uint8), "faces: expected dtype int32 or int64, got uint8"),
        (VERTICES, FACES.to("meta"), "faces: expected a tensor on cpu, got one on meta"),
        (VERTICES, torch.tensor(1), r"faces: expected shape \[F, 3\], got \[\]"),
        (VERTICES, with_index(-1), "faces: expected indices in 0..7, got -1..7"),
        (VERTICES, with_index(8), "faces: expected indices in 0..7, got 0..8"),
        (VERTICES, FACES + 2**32, "faces: expected indices in 0..7"),
    ],
)
def test_hierarchies_that_are_refused(vertices, faces, words):
    with pytest.raises((TypeError, ValueError), match=words):
        ops.build_bvh(vertices, faces)


def test_refusals_are_of_the_stated_types():
    """Whoever catches `MeshError` gets what is wrong with a mesh's content, not with the types of its arrays."""
    with pytest.raises(MeshError):
        Surface(with_value(math.nan), FACES)
    with pytest.raises(MeshError):
        Surface(VERTICES, with_index(-1))
    with pytest.raises(TypeError):
        Surface(VERTICES.half(), FACES)


# ---- points that are refused


REFUSED_POINTS: dict[str, tuple[Any, str]] = {
    "a list": (POINTS.tolist(), "points: expected a torch tensor, got list"),
    "an array": (POINTS.numpy(), "points: expected a torch tensor, got ndarray"),
    "None": (None, "points: expected a torch tensor, got NoneType"),
    "int64": (POINTS.long(), "points: expected dtype float32 or float64, got int64"),
    "int32": (POINTS.int(), "points: expected dtype"),
    "bool": (POINTS.bool(), "points: expected dtype"),
    "half": (POINTS.half(), "points: expected dtype float32 or float64, got float16"),
    "bfloat16": (POINTS.bfloat16(), "points: expected dtype"),
    "complex": (POINTS.to(torch.complex64), "points: expected dtype"),
    "0-d": (torch.tensor(0.5), r"points: expected shape \[N, 3\], got \[\]"),
    "1-d": (POINTS[0], r"points: expected shape \[N, 3\], got \[3\]"),
    "3-d": (POINTS[None], r"points: expected shape \[N, 3\], got \[1, 60, 3\]"),
    "two columns": (POINTS[:, :2], r"points: expected shape \[N, 3\], got \[60, 2\]"),
    "four columns": (torch.zeros(5, 4), r"points: expected shape \[N, 3\], got \[5, 4\]"),
    "no columns": (torch.zeros(5, 0), r"points: expected shape \[N, 3\], got \[5, 0\]"),
    "NaN in the last": (torch.cat([POINTS, POINTS[:1] * math.nan]), r"points: expected finite .* \[60, 0\]"),
    "infinity": (torch.cat([POINTS, torch.tensor([[0, math.inf, 0]])]), r"points: expected finite .* \[60, 1\]"),
    "beyond float32": (torch.tensor([[0, 0, 1e39]], dtype=torch.float64), "points: expected finite"),
    "NaN in float64": (torch.full((1, 3), math.nan, dtype=torch.float64), "points: expected finite"),
    "nowhere": (POINTS.to("meta"), "points: expected a tensor on cpu, got one on meta"),
    "sparse": (POINTS.to_sparse(), "points: "),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
@pytest.mark.parametrize(("points", "words"), REFUSED_POINTS.values(), ids=REFUSED_POINTS.keys())
def test_points_that_are_refused(query, points, words):
    with pytest.raises((TypeError, ValueError), match=words):
        query(SURFACE, points)


@pytest.mark.parametrize("sign", [None, 1, "", "Winding", b"winding", ["winding"]])
def test_signs_that_are_refused(sign):
    for query in (SURFACE.signed_distance, SURFACE.contains):
        with pytest.raises((TypeError, ValueError), match="sign: expected"):
            query(POINTS, sign)


@pytest.mark.parametrize(
    ("origins", "directions", "words"),
    [
        (POINTS.tolist(), POINTS, "origins: expected a torch tensor, got list"),
        (POINTS[0], POINTS, r"origins: expected shape \[N, 3\], got \[3\]"),
        (POINTS.half(), POINTS.half(), "origins: expected dtype"),
        (POINTS.to("meta"), POINTS, "origins: expected a tensor on cpu, got one on meta"),
        (POINTS - math.inf, POINTS, "origins: expected finite"),
        (POINTS, POINTS.numpy(), "directions: expected a torch tensor, got ndarray"),
        (POINTS, POINTS[:1], r"directions: expected shape \[60, 3\], got \[1, 3\]"),
        (POINTS, POINTS.to("meta"), "directions: expected a tensor on cpu, got one on meta"),
        (POINTS, POINTS * math.nan, "directions: expected finite"),
        (POINTS, POINTS + math.inf, "directions: expected finite"),
        (POINTS, torch.where(torch.arange(60)[:, None] == 9, 0.0, POINTS), "directions: .* length 0"),
    ],
)
def test_rays_that_are_refused(origins, directions, words):
    with pytest.raises((TypeError, ValueError), match=words):
        SURFACE.cast_rays(origins, directions)
