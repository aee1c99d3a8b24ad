"""Marching cubes on grids: closed whatever the values, and where it should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit.errors import MeshError
from pyimplicit.geometry.isosurface import grid_isosurface
from pyimplicit.geometry.mesh import inspect_mesh


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100_000), st.sampled_from(["smooth", "whole", "signs", "tiny"]))
def test_any_grid_gives_a_closed_oriented_mesh_without_degenerate_faces(seed, kind):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((6, 7, 8))
    values = {"smooth": values, "whole": np.round(values), "signs": np.sign(values), "tiny": values * 1e-9}[kind]
    values[3, 3, 3] = -1
    report = inspect_mesh(grid_isosurface(values, (0, 0, 0), (1, 1, 1)))
    assert report.is_solid
    assert report.degenerate_faces == 0


def test_a_box_lies_where_its_distances_say_on_an_uneven_grid():
    origin, spacing = np.array([-1.0, -2.0, 5.0]), np.array([0.1, 0.25, 0.2])
    axes = [origin[k] + spacing[k] * np.arange(count) for k, count in enumerate((21, 17, 11))]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    values = np.maximum(np.maximum(np.abs(x) - 0.52, np.abs(y) - 1.03), np.abs(z - 6) - 0.71)
    low, high = grid_isosurface(values, origin, spacing).bounds.tolist()
    assert low == pytest.approx([-0.52, -1.03, 5.29], abs=1e-5)
    assert high == pytest.approx([0.52, 1.03, 6.71], abs=1e-5)


def test_a_solid_that_fills_the_grid_is_closed_within_a_cell_of_it():
    low, high = grid_isosurface(np.full((4, 4, 4), -9.0), (0, 0, 0), (1, 1, 1)).bounds.tolist()
    assert all(-1 < value < 0 for value in low)
    assert all(3 < value < 4 for value in high)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((4, 4, 4)), "no inside"),
        (np.full((4, 4, 4), np.nan), "NaN"),
        (-np.ones((4, 4, 1)), r"at least 2 x 2 x 2 nodes, got shape \[4, 4, 1\]"),
        (-np.ones((4, 4)), r"got shape \[4, 4\]"),
    ],
)
def test_grids_without_a_surface_are_refused(values, words):
    with pytest.raises(MeshError, match=words):
        grid_isosurface(values, (0, 0, 0), (1, 1, 1))
