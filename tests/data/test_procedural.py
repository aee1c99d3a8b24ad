"""Procedural cars: closed, in place, repeatable, and different from each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyimplicit.data import ProceduralCars
from pyimplicit.data.car_field import car_field
from pyimplicit.data.cars import STYLES, draw_car
from pyimplicit.geometry.mesh import inspect_mesh


@pytest.mark.parametrize("index", range(len(STYLES) * 2))
def test_every_style_is_one_closed_outward_body_in_the_cube(index):
    mesh = ProceduralCars(count=100, resolution=48).load(index)
    report = inspect_mesh(mesh)
    assert report.is_solid
    assert report.components == 1
    assert report.non_manifold_edges == report.degenerate_faces == report.unreferenced_vertices == 0
    (x0, y0, z0), (x1, y1, z1) = report.bounds
    assert (x0, x1) == (-0.5, 0.5)  # the length is the longest side
    assert y0 == -y1
    assert z0 == -z1
    assert 0.1 < y1 < 0.35
    assert 0.15 < z1 < 0.35
    assert 0.02 < report.volume < 0.25


def test_cars_are_mirror_symmetric():
    values, _, _ = car_field(draw_car(0, 4), 40)
    assert np.array_equal(values, values[:, :, ::-1])


def test_a_car_depends_on_seed_and_index_alone():
    one = ProceduralCars(count=5, seed=7, resolution=24).load(4)
    again = ProceduralCars(count=500, seed=7, resolution=24).load(4)
    other = ProceduralCars(count=5, seed=8, resolution=24).load(4)
    assert torch.equal(one.vertices, again.vertices)
    assert torch.equal(one.faces, again.faces)
    assert one.vertices.shape != other.vertices.shape or not torch.equal(one.vertices, other.vertices)


PINNED = (4.504001041412781, 0.33378846948078744, "wing", True)


def test_the_stream_of_lengths_is_pinned():
    # These words of Philox are part of the data set: another numpy must draw the same.
    car = draw_car(0, 0)
    assert car.style == "sedan"
    assert (car.length, car.wheel_radius, car.spoiler, car.mirrors) == PINNED


def test_front_is_towards_minus_x_and_up_is_y():
    vertices = ProceduralCars(count=11, resolution=48).load(10).vertices  # a pickup: cabin in front, bed behind
    roof = vertices[vertices[:, 1] > vertices[:, 1].max() - 0.03]
    assert roof[:, 0].mean() < 0.05
    ground = vertices[vertices[:, 1] < vertices[:, 1].min() + 0.01]  # the wheels: two axles, two sides
    assert (ground[:, 0] < -0.2).any()
    assert (ground[:, 0] > 0.2).any()
    assert (ground[:, 0].abs() > 0.1).all()
    assert (ground[:, 2].abs() > 0.08).all()


def occupancy(index: int) -> np.ndarray:
    """The car's solid on 32 cells a side of the unit cube, by scaling the field's nodes as the mesh is."""
    car = draw_car(0, index)
    values, origin, spacing = car_field(car, 64)
    inside = np.argwhere(values < 0) * spacing + np.array(origin)
    low, high = inside.min(axis=0), inside.max(axis=0)
    cells = ((inside - (low + high) / 2) / (high - low).max() + 0.5) * 31.999
    grid = np.zeros((32, 32, 32), dtype=bool)
    grid[tuple(cells.astype(int).T)] = True
    return grid


def test_three_thousand_cars_differ_from_each_other():
    drawn = {draw_car(0, index) for index in range(3000)}
    assert len(drawn) == 3000
    grids = [occupancy(index) for index in np.random.default_rng(0).choice(3000, 20, replace=False)]
    overlaps = [(a & b).sum() / (a | b).sum() for k, a in enumerate(grids) for b in grids[:k]]
    assert 0.5 < np.mean(overlaps) < 0.8
    assert max(overlaps) < 0.97


def test_wheel_arches_show():
    car = draw_car(0, 0)
    values, origin, spacing = car_field(car, 64)
    # Just outside the tyre, in its arch, there is air; as far from the wheel there is body.
    ring = car.wheel_radius + car.arch_gap * 0.55
    column = round((car.front_axle - origin[0]) / spacing)
    row = round((car.wheel_radius + ring - origin[1]) / spacing)
    outer = round((car.width / 2 * 0.9 - origin[2]) / spacing)
    assert values[column, row, outer] > 0
    assert values[column, row, values.shape[2] // 2] < 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"count": 0}, ValueError, "count: expected at least 1"),
        ({"count": 1.5}, TypeError, "count: expected a whole number"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 2**64}, ValueError, "seed"),
        ({"resolution": 8}, ValueError, "resolution: expected at least 16"),
        ({"resolution": "64"}, TypeError, "resolution"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        ProceduralCars(**arguments)


@pytest.mark.parametrize(("index", "error"), [(3, IndexError), (-1, ValueError), (0.0, TypeError), (True, TypeError)])
def test_bad_indices_are_refused(index, error):
    with pytest.raises(error, match="index"):
        ProceduralCars(count=3).load(index)


def test_names_are_unique_and_each_is_its_own_group():
    cars = ProceduralCars(count=3000)
    assert len(set(cars.names())) == len(cars) == 3000
    assert cars.groups() == cars.names()
    assert len({cars.fingerprint(index) for index in range(3000)}) == 3000
    assert (
        cars.fingerprint(1)
        != ProceduralCars(seed=1).fingerprint(1)
        != ProceduralCars(seed=1, resolution=80).fingerprint(1)
    )
