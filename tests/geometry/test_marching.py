"""Marching cubes on grids of every kind: always closed, oriented, and without coincident vertices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter
from scipy.stats import qmc
from skimage import measure

from pyimplicit.geometry import marching
from pyimplicit.geometry.marching import NODE_CLEARANCE, marching_cubes
from pyimplicit.geometry.mesh import Mesh, inspect_mesh

UNIT = (1.0, 1.0, 1.0)
ORIGIN = (0.0, 0.0, 0.0)


def edge_uses(mesh: Mesh) -> tuple[set[int], bool]:
    """How often edges are used, and whether each use has an opposite one; with a dict, not with the code's sort."""
    uses: dict[tuple[int, int], int] = {}
    for a, b, c in mesh.faces.tolist():
        for edge in ((a, b), (b, c), (c, a)):
            uses[edge] = uses.get(edge, 0) + 1
    return set(uses.values()), all((b, a) in uses for a, b in uses)


def check_closed(mesh: Mesh) -> None:
    assert edge_uses(mesh) == ({1}, True)
    report = inspect_mesh(mesh)
    assert report.volume > 0
    assert len(np.unique(mesh.vertices.numpy(), axis=0)) == report.vertices
    assert report.degenerate_faces == 0


def random_grid(kind: str, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((9, 10, 11))
    return {
        "white": values,
        "smooth": gaussian_filter(values, 1.2),
        "whole numbers": np.round(2 * values),  # many exactly 0, many ties on the diagonals of cell faces
        "signs": np.sign(values),  # every ambiguous face is a tie
        "signs, tiny": np.sign(values) * 1e-30,
        "mostly zero": np.where(generator.random(values.shape) < 0.5, 0, values),
    }[kind]


@pytest.mark.parametrize("kind", ["white", "smooth", "whole numbers", "signs", "signs, tiny", "mostly zero"])
def test_random_grids_give_closed_oriented_meshes(kind):
    for seed in range(12):
        values = random_grid(kind, seed)
        mesh = marching_cubes(values, ORIGIN, UNIT)
        check_closed(mesh)
        low, high = mesh.bounds.numpy()
        assert (low > -0.01).all()
        assert (high < np.array(values.shape) - 0.99).all()


@pytest.mark.parametrize("kind", ["white", "smooth", "whole numbers", "signs", "signs, tiny", "mostly zero"])
@pytest.mark.parametrize("slab", [1, 156, 500])
def test_nodes_are_cleared_alike_whatever_is_looked_at_in_one_go(kind, slab, monkeypatch):
    for seed in range(3):
        at_once, in_slabs = (marching._pad(random_grid(kind, seed).astype(np.float32)) for _ in range(2))
        marching._clear_nodes(at_once)
        with monkeypatch.context() as patch:
            patch.setattr(marching, "SLAB", slab)
            marching._clear_nodes(in_slabs)
        np.testing.assert_array_equal(in_slabs, at_once)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.int8, (4, 3, 4), elements=st.integers(-1, 1)).filter(lambda values: (values > 0).any()))
def test_any_grid_of_signs_gives_a_closed_mesh_around_its_positive_nodes(values):
    mesh = marching_cubes(values.astype(np.float64), ORIGIN, UNIT)
    check_closed(mesh)
    solid_angle = winding_numbers(mesh, np.argwhere(np.ones_like(values)).astype(np.float64))
    np.testing.assert_allclose(solid_angle, (values > 0).ravel(), atol=1e-3)


def winding_numbers(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """The winding number by summing the solid angles of all faces (Van Oosterom and Strackee)."""
    a, b, c = np.moveaxis(mesh.vertices.double().numpy()[mesh.faces.numpy()][None] - points[:, None, None], 2, 0)
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    numerator = np.einsum("...i,...i", a, np.cross(b, c))
    dots = [np.einsum("...i,...i", x, y) for x, y in ((a, b), (b, c), (c, a))]
    return np.arctan2(numerator, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb).sum(axis=1) / (2 * np.pi)


def test_inside_agrees_with_interpolated_values_at_sobol_points():
    values = random_grid("smooth", 3)
    mesh = marching_cubes(values, ORIGIN, UNIT)
    nodes = np.argwhere(np.ones_like(values)).astype(np.float64)
    np.testing.assert_allclose(winding_numbers(mesh, nodes), (values > 0).ravel(), atol=1e-3)
    outside = qmc.scale(qmc.Sobol(3, seed=0).random(64), [12] * 3, [20] * 3)
    np.testing.assert_allclose(winding_numbers(mesh, outside), 0, atol=1e-3)


def test_vertices_lie_where_linear_interpolation_says():
    """On edges of the grid a vertex splits the edge in the ratio of the two values."""
    values = random_grid("white", 0)
    vertices = marching_cubes(values, ORIGIN, UNIT).vertices.double().numpy()
    fraction = vertices - np.floor(vertices)
    for axis in range(3):
        rest = [other for other in range(3) if other != axis]
        on_edge = (fraction[:, rest] == 0).all(axis=1) & (vertices[:, axis] > 0)
        on_edge &= vertices[:, axis] < values.shape[axis] - 1
        low = np.floor(vertices[on_edge]).astype(int)
        high = low + np.eye(3, dtype=int)[axis]
        first, second = np.abs(values[tuple(low.T)]), np.abs(values[tuple(high.T)])
        expected = np.clip(first / (first + second), NODE_CLEARANCE, 1 - NODE_CLEARANCE)
        assert on_edge.sum() > 100
        error = np.abs(fraction[on_edge, axis] - expected)
        assert np.quantile(error, 0.97) < 1e-4
        assert error.max() < 0.01  # at the few nodes whose own value was moved away from the level


def test_a_surface_through_nodes_moves_by_the_clearance_only():
    values = np.broadcast_to(np.arange(-3.0, 4.0)[:, None, None], (7, 5, 5)).copy()
    mesh = marching_cubes(values, ORIGIN, UNIT)
    check_closed(mesh)
    assert mesh.vertices[:, 0].min() == pytest.approx(3, abs=1.1 * NODE_CLEARANCE)
    assert mesh.vertices[:, 0].max() == pytest.approx(6, abs=1.1 * NODE_CLEARANCE)


def test_values_over_thirty_decades_are_closed_too():
    generator = np.random.default_rng(0)
    for _ in range(5):
        values = np.sign(generator.standard_normal((8, 8, 8))) * 10.0 ** generator.uniform(-15, 15, (8, 8, 8))
        assert edge_uses(marching_cubes(values, ORIGIN, UNIT)) == ({1}, True)


def test_an_open_result_is_made_again_with_the_simple_table(monkeypatch):
    original = measure.marching_cubes
    methods = []

    def drop_a_face(*arguments, method, **options):
        methods.append(method)
        vertices, faces, normals, values = original(*arguments, method=method, **options)
        return vertices, faces[1:] if method == "lewiner" else faces, normals, values

    monkeypatch.setattr(marching.measure, "marching_cubes", drop_a_face)
    check_closed(marching_cubes(random_grid("signs", 0), ORIGIN, UNIT))
    assert methods == ["lewiner", "lorensen"]


def test_spacing_and_low_place_the_mesh():
    values = random_grid("smooth", 1)
    plain = marching_cubes(values, ORIGIN, UNIT).vertices
    placed = marching_cubes(values, (1.0, -2.0, 3.0), (0.5, 0.25, 2.0)).vertices
    expected = plain.numpy() * np.array([0.5, 0.25, 2.0]) + np.array([1.0, -2.0, 3.0])
    np.testing.assert_allclose(placed.numpy(), expected, atol=1e-5)
