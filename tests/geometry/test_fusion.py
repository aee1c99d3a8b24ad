"""Fusion: the visible hull of faulty meshes, with solids whose volume is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyimplicit.geometry.fusion import DISTANCE, PINNED, VisibleHull, draw_in, pin_covers, visible_hull_field
from pyimplicit.geometry.marching import marching_cubes
from pyimplicit.geometry.mesh import Mesh, flip_faces, inspect_mesh, normalize_mesh, take_faces
from pyimplicit.geometry.surface import Surface
from pyimplicit.geometry.watertight import make_watertight
from tests.geometry.shapes import ball, cube, join
from tests.geometry.test_watertight import faulty_balls

RESOLUTION = 48
CELL = 1 / RESOLUTION


def hull(mesh: Mesh, resolution: int = RESOLUTION, detail: int = 1):
    result, report = make_watertight(mesh, "fusion", resolution, detail=detail)
    assert inspect_mesh(result).is_solid
    assert report.method == "fusion"
    return result, report


@pytest.mark.parametrize("detail", [1, 2])
@pytest.mark.parametrize("fault", ["turned faces", "inner wall", "doubled"])
def test_a_faulty_ball_becomes_the_ball(fault, detail):
    mesh = faulty_balls()[fault]
    result, report = hull(mesh, detail=detail)
    side = float((mesh.bounds[1] - mesh.bounds[0]).max())
    cell = side / RESOLUTION / detail
    radius = result.vertices.norm(dim=1)
    assert radius.min() > side / 2 - 0.5 * cell
    assert radius.max() < side / 2 + (DISTANCE + 0.05) * cell
    assert report.bodies_kept == 1
    assert report.largest_output_to_input < (DISTANCE + 0.1) * cell
    thicker = (1 + 2 * DISTANCE * cell / side) ** 3
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
    assert report.after.volume == pytest.approx(2 * DISTANCE * CELL * area, rel=0.1)
    # A disc with handles would have another Euler characteristic.
    edges = len(result.faces) * 3 // 2
    assert len(result.vertices) - edges + len(result.faces) == 2


@pytest.mark.parametrize(("at", "then"), [(0.1, 0.1), (0.5, 0.25), (0.75, 0.25), (1.125, 0.875), (1.5, 1.5), (3, 3)])
def test_near_vertices_are_drawn_in_and_far_ones_stay(at, then):
    """Far ones belong to faces that close a pocket; between both, vertices go less and less far. In cells."""
    below = Surface(cube(-0.5, 0.5))
    corners = np.array([[-0.1, 0.5 + at * CELL, 0], [0.1, 0.5 + at * CELL, 0], [0, 0.5 + at * CELL, -0.2]])
    triangle = Mesh(corners, np.array([[0, 1, 2]]))
    drawn = draw_in(triangle, VisibleHull(below, CELL))
    assert torch.equal(drawn.faces, triangle.faces)
    assert torch.equal(drawn.vertices[:, [0, 2]], triangle.vertices[:, [0, 2]])
    torch.testing.assert_close((drawn.vertices[:, 1] - 0.5) / CELL, torch.full((3,), float(then)), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def soup():
    """Triangles in all directions: their visible hull and what is extracted of it."""
    corners = np.random.default_rng(0).uniform(-0.5, 0.5, (60, 1, 3))
    corners = (corners + np.random.default_rng(1).uniform(-0.2, 0.2, (60, 3, 3))).reshape(-1, 3)
    mesh = normalize_mesh(Mesh(corners, np.arange(180).reshape(-1, 3)))
    shell = VisibleHull(Surface(mesh), CELL)
    field, origin = visible_hull_field(shell, mesh.bounds.double().numpy())
    return shell, marching_cubes(-field, origin, (CELL, CELL, CELL)), origin


def louvred_box(strips: int = 4, gap: float = 3 * CELL) -> Mesh:
    """Six walls of strips: through the gaps views see far into the box, where no face is near."""
    width = (1 - (strips - 1) * gap) / strips
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    corners = []
    for axis, side, strip in np.ndindex(3, 2, strips):
        flat = np.empty((4, 3))
        flat[:, axis] = side - 0.5
        flat[:, (axis + 1) % 3] = square[:, 0] - 0.5
        flat[:, (axis + 2) % 3] = square[:, 1] * width + strip * (width + gap) - 0.5
        corners.append(flat)
    faces = np.arange(4 * len(corners)).reshape(-1, 4)
    return Mesh(np.concatenate(corners), np.concatenate((faces[:, [0, 1, 2]], faces[:, [0, 2, 3]])))


@pytest.mark.parametrize("detail", [1, 2, 3])
@pytest.mark.parametrize("shape", ["soup", "louvres"])
def test_nodes_where_the_surface_can_pass_have_the_field_of_the_hull(shape, detail, soup, monkeypatch):
    surface = soup[0].surface if shape == "soup" else Surface(louvred_box())
    shell = VisibleHull(surface, CELL, detail)
    asked = []
    field_of = VisibleHull.field
    monkeypatch.setattr(VisibleHull, "field", lambda self, points: asked.append(len(points)) or field_of(self, points))
    field, origin = visible_hull_field(shell, surface.mesh.bounds.double().numpy())
    axes = [torch.from_numpy(origin[k] + np.arange(field.shape[k]) * shell.cell).float() for k in range(3)]
    exact = field_of(shell, torch.cartesian_prod(*axes)).reshape(field.shape)
    field = torch.from_numpy(field)
    near = (exact + 0.5 * shell.cell).abs() < 1.5 * shell.cell
    assert int(near.sum()) > 1000
    torch.testing.assert_close(field[near], exact[near], rtol=0, atol=0)
    # Of a thinner gap that views see into, far from faces, the coarser grid may have no node.
    assert float(((field < 0) != (exact < 0)).float().mean()) < 3e-3
    assert len(asked) == (2 if detail == 1 else 3)
    assert sum(asked) < 0.8 * field.numel()


def test_vertices_far_from_faces_are_put_where_views_stop(soup):
    shell, extracted, origin = soup
    pinned = pin_covers(extracted, shell, origin)
    nodes = (extracted.vertices.double() - torch.tensor(origin, dtype=torch.float64)) / CELL
    on_edge = (nodes - nodes.round()).abs().sort(dim=1).values[:, 1] < 0.01
    assert not on_edge.all()  # some lie inside a cell
    far = (shell.surface.unsigned_distance(extracted.vertices) > PINNED * CELL) & on_edge
    assert int(far.sum()) > 100
    assert torch.equal(pinned.vertices[~far], extracted.vertices[~far])
    steps = torch.cat((torch.eye(3), -torch.eye(3)))[:, None] * CELL / 16
    for mesh, least, most in ((extracted, 0, 0.4), (pinned, 1, 1)):
        at = mesh.vertices[far]
        stops = (shell.field(at) < 0) != (shell.field((at + steps).reshape(-1, 3)) < 0).view(6, -1)
        assert least <= float(stops.any(dim=0).float().mean()) <= most
    assert inspect_mesh(pinned).is_solid
    # Each is on an edge of its own, so no two meet and no face turns over.
    assert len(pinned.vertices.unique(dim=0)) == len(extracted.vertices.unique(dim=0))
    before, after = (Surface(part).face_normals(torch.arange(len(part.faces))) for part in (extracted, pinned))
    assert float((before * after).sum(dim=1).min()) > 0


def test_no_face_turns_over(soup):
    """Corners of one face have their nearest points on different walls."""
    shell, extracted, origin = soup
    pinned = pin_covers(extracted, shell, origin)
    drawn = draw_in(pinned, shell)
    before, after = (Surface(part).face_normals(torch.arange(len(part.faces))) for part in (pinned, drawn))
    assert float((before * after).sum(dim=1).min()) > 0
    assert inspect_mesh(drawn).is_solid


def test_a_closed_room_is_filled():
    walls = join(cube(-0.5, 0.5), flip_faces(cube(-0.45, 0.45)))
    walls = take_faces(walls, np.arange(len(walls.faces) - 1))  # the lining is open: not a solid as it is
    result, report = make_watertight(join(walls, ball(0.2)), "fusion", 32)
    assert report.method == "fusion"
    assert inspect_mesh(result).is_solid
    assert report.after.volume > 0.95
    assert report.bodies_kept == 1


def test_a_finer_grid_keeps_a_narrow_gap_open():
    """Two walls with a gap that views see into, and in whose middle no node of the grid of their cells is."""
    gap, middle = 2.3 * CELL, 0.5 * CELL
    parts = []
    for begin, end in ((-0.5, middle - gap / 2), (middle + gap / 2, 0.5)):
        wall = cube(-0.5, 0.5)
        vertices = wall.vertices * torch.tensor([end - begin, 1, 1]) + torch.tensor([(begin + end) / 2, 0, 0])
        parts.append(Mesh(vertices, wall.faces))
    walls = join(*parts, *parts)
    walls = take_faces(walls, np.arange(len(walls.faces) - 1))  # twice each, and one face once: not a solid as it is
    in_gap = torch.cartesian_prod(torch.tensor([middle]), *[torch.linspace(-0.45, 0.45, 40)] * 2)
    reached = []
    for detail in (1, 2):
        result, report = hull(walls, detail=detail)
        assert report.detail == detail
        outside = Surface(result).signed_distance(in_gap) > 0
        reached.append(float(outside.float().mean()))
    assert reached[1] > reached[0] + 0.1


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
