"""Closing meshes: each fault alone, with solids whose volume is known, and what the report says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pyimplicit.errors import MeshError
from pyimplicit.geometry.mesh import Mesh, flip_faces, inspect_mesh, merge_vertices, take_faces
from pyimplicit.geometry.surface import Surface
from pyimplicit.geometry.visibility import visible_sides
from pyimplicit.geometry.watertight import make_watertight
from tests.geometry.shapes import CORNERS, SIDES, ball, cube, join


def loosen(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices[mesh.faces.long()].reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))


def test_a_solid_is_returned_as_it_is():
    mesh = ball()
    result, report = make_watertight(mesh)
    assert result is mesh
    assert report.method == "none"
    assert (report.input_to_output, report.output_to_input, report.hidden_faces, report.flipped_faces) == (0, 0, 0, 0)
    assert "kept as it was" in report.summary()


def test_loose_faces_are_welded_and_an_inverted_solid_is_turned():
    result, report = make_watertight(loosen(flip_faces(ball())))
    assert inspect_mesh(result).is_solid
    assert report.method == "none"
    assert report.flipped_faces == len(result.faces)
    assert not report.before.is_closed
    assert torch.equal(result.vertices, merge_vertices(loosen(flip_faces(ball()))).vertices)


def faulty_balls() -> dict[str, Mesh]:
    mesh = ball()
    faces = mesh.faces.numpy()
    turned = faces.copy()
    chosen = np.random.default_rng(0).random(len(faces)) < 0.3
    turned[chosen] = turned[chosen][:, ::-1]
    centre = mesh.vertices[mesh.faces.long()].mean(dim=1)
    lining = flip_faces(Mesh(mesh.vertices * 0.93, mesh.faces))
    punctured = take_faces(join(mesh, lining), np.r_[3 : 2 * len(faces)])
    wall = Mesh(np.array([[-0.3, -0.3, 0], [0.3, -0.3, 0], [0, 0.3, 0]]), np.array([[0, 1, 2]]))
    return {
        "hole": take_faces(mesh, centre[:, 1].numpy() < 0.42),
        "turned faces": Mesh(mesh.vertices, turned),
        "all inside out": take_faces(flip_faces(mesh), np.arange(5, len(faces))),
        "lining": punctured,
        "inner wall": join(mesh, wall),
        "doubled": Mesh(mesh.vertices, np.concatenate([faces, faces[:200]])),
        "degenerate": Mesh(mesh.vertices, np.concatenate([faces[4:], [[0, 0, 5], [7, 7, 7]]])),
    }


@pytest.mark.parametrize("fault", faulty_balls())
def test_each_fault_of_a_ball_is_repaired(fault):
    mesh = faulty_balls()[fault]
    result, report = make_watertight(mesh, resolution=48)
    after = inspect_mesh(result)
    assert after.is_solid
    assert after.components == 1
    assert report.method == "winding"
    # The icosphere's own volume is 1.6% below the ball's; the grid costs well under 1%, the hole's lid about 1%.
    assert after.volume == pytest.approx(inspect_mesh(ball()).volume, rel=0.025)
    distance = result.vertices.norm(dim=1) - 0.5
    assert distance.abs().median() < 0.003
    assert report.after == after
    assert report.output_to_input < 0.01


def test_vertices_lie_on_the_input_not_on_grid_steps():
    mesh = take_faces(ball(subdivisions=4), np.r_[2 : 20 * 4**4])
    result, report = make_watertight(mesh, resolution=32)
    distance = Surface(ball(subdivisions=4)).unsigned_distance(result.vertices)
    assert distance.quantile(0.99) < 0.05 / 32
    assert report.input_to_output < 0.1 / 32


def test_overlapping_solids_become_one_and_small_ones_are_dropped():
    speck = ball(0.06, 2)
    bodies = join(cube(0.0, 1.0), cube(0.5, 1.5), Mesh(speck.vertices + 2.0, speck.faces))
    holed = take_faces(bodies, np.arange(1, len(bodies.faces)))
    result, report = make_watertight(holed, resolution=64)
    assert (report.bodies_kept, report.bodies_dropped) == (1, 1)
    assert inspect_mesh(result).volume == pytest.approx(2 - 0.125, rel=0.03)
    assert "1 small bodies dropped" in report.summary()


def test_a_cavity_is_kept_only_when_all_faces_count():
    hollow = join(ball(0.5), flip_faces(ball(0.3)), Mesh(CORNERS * 0.1 - 0.05, SIDES[:-1]))
    shell, _ = make_watertight(hollow, resolution=48, outer_shell=False)
    full, report = make_watertight(hollow, resolution=48)
    volume = inspect_mesh(ball(0.5)).volume
    assert inspect_mesh(full).volume == pytest.approx(volume, rel=0.01)
    assert inspect_mesh(shell).volume == pytest.approx(volume - inspect_mesh(ball(0.3)).volume, rel=0.02)
    assert report.hidden_faces >= len(ball(0.3).faces)


def test_place_and_size_of_the_input_are_kept():
    lidless = Mesh(1000 + 40 * CORNERS, SIDES[:-2])
    result, report = make_watertight(lidless, resolution=32)
    low, high = result.bounds
    assert (low - 1000).abs().max() < 1.5
    assert (high - 1040).abs().max() < 1.5
    assert report.output_to_input < 3


def test_same_input_same_output():
    mesh = faulty_balls()["hole"]
    one, other = make_watertight(mesh, resolution=24)[0], make_watertight(mesh, resolution=24)[0]
    assert torch.equal(one.vertices, other.vertices)
    assert torch.equal(one.faces, other.faces)


def test_the_report_is_json():
    report = make_watertight(faulty_balls()["hole"], resolution=24)[1]
    back = json.loads(json.dumps(report.as_dict()))
    assert back["before"]["is_closed"] is False
    assert back["after"]["is_closed"] is True
    assert back["resolution"] == 24
    assert "before: " in report.summary()


def test_what_encloses_nothing_or_is_misused_is_refused():
    sheet = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    with pytest.raises(MeshError, match="nothing is enclosed at resolution 16: 3 vertices"):
        make_watertight(sheet, resolution=16)
    with pytest.raises(MeshError, match="without extent"):
        make_watertight(Mesh(np.ones((3, 3)), np.array([[0, 1, 2]])))
    with pytest.raises(ValueError, match="method: expected one of winding, fusion, got 'magic'"):
        make_watertight(sheet, method="magic")
    with pytest.raises(ValueError, match="resolution: expected at least 8"):
        make_watertight(sheet, resolution=4)
    with pytest.raises(ValueError, match="resolution: expected 8 to 1024 cells, got 5000"):
        make_watertight(sheet, resolution=5000)
    with pytest.raises(ValueError, match="detail: expected 1 for the method winding, got 2"):
        make_watertight(sheet, detail=2)
    with pytest.raises(ValueError, match="detail: expected at most 4 at resolution 256, got 5"):
        make_watertight(sheet, "fusion", detail=5)
    with pytest.raises(TypeError, match="expected a Mesh"):
        make_watertight(CORNERS)


def test_visibility_tells_outer_from_inner_faces_and_fronts_from_backs():
    mesh = join(ball(0.5), ball(0.2))
    front, back = visible_sides(Surface(mesh))
    outer = np.arange(len(mesh.faces)) < len(ball().faces)
    # From half of all directions the front is seen, with a mean cosine of 1/2.
    assert front[outer] == pytest.approx(0.25, abs=0.05)
    assert back[outer].max() < 0.02
    assert np.quantile((front + back)[~outer], 0.99) < 0.02
    front, back = visible_sides(Surface(flip_faces(ball(0.5))))
    assert back == pytest.approx(0.25, abs=0.05)
