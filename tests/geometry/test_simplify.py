"""Simplified meshes: closed still, near where they were, and left alone where that does not work."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pyimplicit.errors import MeshError
from pyimplicit.geometry import Mesh, Surface, inspect_mesh, make_watertight
from pyimplicit.geometry.simplify import simplify_mesh
from tests.geometry.shapes import ball, cube, join


def test_a_ball_of_fewer_faces_is_closed_and_near():
    pytest.importorskip("fast_simplification")
    whole = ball(0.5, subdivisions=5)  # 20,480 faces
    made = simplify_mesh(whole, 1_000)
    report = inspect_mesh(made)
    assert report.is_solid
    assert report.faces <= 1_050
    radius = made.vertices.double().norm(dim=1)
    assert float((radius - 0.5).abs().max()) < 4e-3
    assert report.volume == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.01)


def test_all_bodies_are_kept():
    pytest.importorskip("fast_simplification")
    far = Mesh(ball(0.1).vertices + 3, ball(0.1).faces)
    made = simplify_mesh(join(ball(0.5, subdivisions=4), far), 400)
    assert inspect_mesh(made).components == 2
    assert inspect_mesh(made).is_solid


def test_a_mesh_that_has_few_faces_is_returned():
    whole = cube()
    assert simplify_mesh(whole, len(whole.faces)) is whole


def test_what_is_not_closed_is_refused():
    whole = ball()
    with pytest.raises(MeshError, match=r"expected a closed mesh that faces outwards, got .* open"):
        simplify_mesh(Mesh(whole.vertices, whole.faces[1:]), 100)
    with pytest.raises(MeshError, match="expected a closed mesh that faces outwards"):
        simplify_mesh(Mesh(whole.vertices, whole.faces.flip(1)), 100)
    with pytest.raises(ValueError, match="faces"):
        simplify_mesh(whole, 3)


@pytest.mark.parametrize("kept", [0, 100, 1279])
def test_a_result_that_is_not_closed_is_not_taken(monkeypatch, kept):
    def simplify(points, corners, target_count, agg):
        return points, corners[:kept]

    monkeypatch.setitem(sys.modules, "fast_simplification", SimpleNamespace(simplify=simplify))
    whole = ball()
    assert simplify_mesh(whole, 100) is None
    result, report = make_watertight(whole, faces=100)
    assert (len(result.faces), report.after.faces, report.simplified_from) == (len(whole.faces), len(whole.faces), 0)


def test_without_the_library_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(MeshError, match=r"pip install 'pyimplicit\[simplify\]'"):
        simplify_mesh(ball(), 100)


@pytest.mark.parametrize("method", ["winding", "fusion"])
def test_closing_with_fewer_faces(method):
    pytest.importorskip("fast_simplification")
    whole = ball(0.5, subdivisions=4)
    opened = Mesh(whole.vertices, whole.faces[8:])
    full, _ = make_watertight(opened, method, resolution=64)
    made, report = make_watertight(opened, method, resolution=64, faces=2_000)
    assert report.after.is_solid
    assert report.after.faces == len(made.faces) <= 2_100
    assert report.simplified_from == len(full.faces)
    assert f"simplified from {len(full.faces):,} faces" in report.summary()
    assert float(Surface(full).unsigned_distance(made.vertices).max()) < 0.3 / 64
    assert 0 < report.input_to_output < 1 / 64


def test_a_closed_mesh_is_simplified_too():
    pytest.importorskip("fast_simplification")
    whole = ball(0.5, subdivisions=4)
    made, report = make_watertight(whole, faces=500)
    assert report.method == "none"
    assert report.simplified_from == len(whole.faces)
    assert report.after.faces == len(made.faces) <= 525
    assert 0 < report.input_to_output < report.largest_input_to_output < 0.01
