"""Fusion: the visible hull of faulty meshes, with solids whose volume is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyimplicit.geometry.fusion import OFFSET
from pyimplicit.geometry.mesh import Mesh, flip_faces, inspect_mesh, take_faces
from pyimplicit.geometry.surface import Surface
from pyimplicit.geometry.watertight import make_watertight
from tests.geometry.shapes import ball, cube, join
from tests.geometry.test_watertight import faulty_balls

RESOLUTION = 48
CELL = 1 / RESOLUTION


def hull(mesh: Mesh, resolution: int = RESOLUTION):
    result, report = make_watertight(mesh, "fusion", resolution)
    assert inspect_mesh(result).is_solid
    assert report.method == "fusion"
    return result, report


@pytest.mark.parametrize("fault", ["turned faces", "inner wall", "doubled"])
def test_a_faulty_ball_becomes_the_ball(fault):
    mesh = faulty_balls()[fault]
    result, report = hull(mesh)
    side = float((mesh.bounds[1] - mesh.bounds[0]).max())
    cell = side / RESOLUTION
    radius = result.vertices.norm(dim=1)
    assert radius.min() > side / 2 - 0.5 * cell
    assert radius.max() < side / 2 + (OFFSET + 0.5) * cell
    assert report.bodies_kept == 1
    assert report.largest_output_to_input < (OFFSET + 0.5) * cell
    thicker = (1 + 2 * (OFFSET + 0.3) * cell / side) ** 3
    assert report.after.volume < np.pi / 6 * side**3 * thicker


def test_what_is_seen_through_a_hole_is_outside():
    """A ball without its top is a bowl: its inside is seen, and its wall gets a thickness of its own."""
    result, report = hull(faulty_balls()["hole"])
    inside = Surface(result).contains(torch.zeros(1, 3))
    assert not bool(inside[0])
    assert report.after.volume < 0.2


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_a_sheet_gets_a_thickness_and_no_holes(tilt):
    corners = np.array([[-0.5, 0, -0.4], [0.5, 0, -0.4], [0.5, tilt, 0.4], [-0.5, tilt, 0.4]])
    result, report = hull(Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]])))
    assert report.bodies_kept == 1
    area = report.before.area
    assert report.after.volume == pytest.approx(2 * OFFSET * CELL * area, rel=0.35)
    # A disc with handles would have another Euler characteristic.
    edges = len(result.faces) * 3 // 2
    assert len(result.vertices) - edges + len(result.faces) == 2


def test_a_closed_room_is_filled():
    walls = join(cube(-0.5, 0.5), flip_faces(cube(-0.45, 0.45)))
    walls = take_faces(walls, np.arange(len(walls.faces) - 1))  # the lining is open: not a solid as it is
    result, report = make_watertight(join(walls, ball(0.2)), "fusion", 32)
    assert report.method == "fusion"
    assert inspect_mesh(result).is_solid
    assert report.after.volume > 0.95
    assert report.bodies_kept == 1


def test_result_does_not_depend_on_the_order_of_faces_or_threads():
    mesh = faulty_balls()["turned faces"]
    order = np.random.default_rng(3).permutation(len(mesh.faces))
    first, _ = hull(mesh)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    second, _ = hull(mesh)
    torch.set_num_threads(threads)
    assert torch.equal(first.vertices, second.vertices)
    shuffled, _ = hull(take_faces(mesh, order))
    assert shuffled.vertices.shape == first.vertices.shape
    assert (shuffled.vertices - first.vertices).abs().max() < 1e-4
