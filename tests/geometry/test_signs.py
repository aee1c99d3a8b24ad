"""Signs against the double-precision winding number, on bodies that overlap, touch, fold, or are nearly flat."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyimplicit import ops
from pyimplicit.data.procedural import ProceduralCars
from pyimplicit.geometry.signs import SurfaceSigns, find_signs
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import reference
from tests.geometry.bodies import (
    beside_edge,
    blade,
    bumpy,
    flipped,
    folded_box,
    heap,
    knot,
    random_field,
    refined_inside,
    ridge_and_lip,
    sliver_box,
    split,
)
from tests.helpers import (
    Mesh,
    around,
    box,
    bvh_of,
    diagonal,
    join,
    moved,
    rand,
    randn,
    rounded,
    soup,
    sphere,
    tetrahedron,
    torus,
    unwelded,
)

SMALL, LARGE = sphere(0.2, 3), sphere(0.4, 3)
LEFT, RIGHT = moved(sphere(0.3, 3), (-0.15, 0, 0)), moved(sphere(0.3, 3), (0.15, 0, 0))
CUBE = box((0, 0, 0), (0.3, 0.3, 0.3))
POINT_AND_SEGMENT = torch.zeros(3, 3).double() + 0.32, torch.tensor([[0, 1, 2], [0, 0, 1]])

# All of whose faces decide.
SIMPLE = {
    "tetrahedron": tetrahedron(),
    "sphere": sphere(0.4, 4),
    "torus": torus(),
    "unwelded torus": unwelded(torus()),
    "thin knot": knot(0.06),
    "thick knot": knot(0.1),
    "bumpy sphere": bumpy(0.05),
    "sliver": sliver_box(1e6),
    "thin plate": box((-0.5, -0.5, -1e-5), (0.5, 0.5, 1e-5)),
    "needle": box((-0.5, -1e-4, -1e-4), (0.5, 1e-4, 1e-4)),
    "spheres apart": join(moved(SMALL, (-0.25, 0, 0)), moved(SMALL, (0.25, 0, 0))),
    "boxes a hair apart": join(CUBE, box((0.30001, 0, 0), (0.5, 0.3, 0.3))),
    "cavity": join(LARGE, flipped(sphere(0.2, 2))),
    "body in a cavity": join(LARGE, flipped(sphere(0.3, 3)), sphere(0.2, 2)),
}
# Some of whose faces do not, and the least and the largest share of those that do.
HARD = {
    "fat knot": (knot(0.15), 0.2, 0.9),
    "very fat knot": (knot(0.25), 0, 0.9),
    "spheres overlapping": (join(LEFT, RIGHT), 0.6, 0.9),
    "spheres touching": (join(moved(LEFT, (-0.15, 0, 0)), moved(RIGHT, (0.15, 0, 0))), 0.9, 0.999),
    "sphere in a sphere": (join(LARGE, SMALL), 0.5, 0.5),
    "cavity as large as its body": (join(LARGE, flipped(LARGE)), 0, 0),
    "cavity larger than its body": (join(SMALL, flipped(LARGE)), 0, 0.5),
    "inside out": (flipped(sphere(0.4, 2)), 0, 0),
    "one inside out": (join(moved(SMALL, (-0.25, 0, 0)), moved(flipped(SMALL), (0.25, 0, 0))), 0.5, 0.5),
    "repeated": (join(torus(), torus()), 0, 0),
    "repeated a hair larger": (join(LARGE, sphere(0.4 + 1e-7, 3)), 0, 0.5),
    "flap laid back": (folded_box(), 0.8, 0.99),
    "boxes side by side": (join(split(CUBE, 3), split(moved(CUBE, (0.3, 0, 0)), 3)), 0.6, 0.9),
    "box on a box": (join(split(box((-0.5, -0.5, 0), (0.5, 0.5, 0.2)), 3), moved(CUBE, (-0.1, 0.1, 0.2))), 0.6, 0.99),
    "boxes with a common edge": (join(CUBE, moved(CUBE, (0.3, 0.3, 0))), 0, 0.9),
    "boxes with a common corner": (join(split(CUBE, 2), split(moved(CUBE, (0.3, 0.3, 0.3)), 2)), 0.9, 0.999),
    "plate thinner than rounding": (box((-0.5, -0.5, -1e-6), (0.5, 0.5, 1e-6)), 0.6, 0.7),
    "plate of no thickness": (box((-0.5, -0.5, 0), (0.5, 0.5, 0)), 0, 0),
    "blade": (blade(0.3), 0.8, 0.99),
    "sharp blade": (blade(1e-2), 0.8, 0.99),
    "rough sphere": (bumpy(0.3), 0.5, 0.95),
    "very rough sphere": (bumpy(0.8), 0, 0.5),
    "random field": (random_field(0), 0.9, 0.999),
    "heap": (heap(8, times=2), 0.3, 0.9),
    "without area": (join(torus(), POINT_AND_SEGMENT), 0.99, 0.999),
}
MESHES = SIMPLE | {name: mesh for name, (mesh, _, _) in HARD.items()}


def share(signs: SurfaceSigns) -> float:
    assert signs.sure is not None
    return float(signs.sure.double().mean())


def wrong_signs(surface: Surface, mesh: Mesh, points: Tensor, sign: str = "auto") -> int:
    """Signs that differ from the double-precision winding number, away from the surface."""
    mesh, exact = rounded(mesh), points.double().cpu()
    found = surface.signed_distance(points, sign).cpu()
    inside = reference.winding_number(exact, *mesh) > 0.5
    return int(((found < 0) != inside)[found.abs() > 1e-6 * diagonal(mesh)].sum())


def near(mesh: Mesh, count: int, seed: int = 0) -> Tensor:
    """Points from 1e-5 to 1e-2 diagonals off the surface, many of them near edges and vertices, [count, 3] float32."""
    generator = torch.Generator().manual_seed(seed)
    some = mesh[1][torch.randint(len(mesh[1]), (count,), generator=generator)]
    weights = torch.rand(count, 3, generator=generator, dtype=torch.float64) ** 3
    foot = (mesh[0][some] * (weights / weights.sum(1, keepdim=True)).unsqueeze(2)).sum(1)
    height = 10 ** (-5 + 3 * torch.rand(count, 1, generator=generator, dtype=torch.float64)) * diagonal(mesh)
    return (foot + height * torch.randn(count, 3, generator=generator, dtype=torch.float64)).float()


# ---- what is sure


@pytest.mark.parametrize("name", SIMPLE)
def test_every_face_of_simple_bodies_is_sure(name):
    signs = find_signs(bvh_of(SIMPLE[name]))
    assert (signs.is_closed, signs.is_oriented, signs.method) == (True, True, "pseudonormal")
    assert share(signs) == 1


@pytest.mark.parametrize("name", HARD)
def test_faces_at_and_behind_faults_are_not(name):
    mesh, least, most = HARD[name]
    signs = find_signs(bvh_of(mesh))
    assert signs.is_closed
    assert signs.is_oriented
    assert least <= share(signs) <= most
    assert signs.method == ("pseudonormal" if share(signs) > 0.5 else "winding")


def test_open_and_inconsistent_meshes_have_no_normals():
    vertices, faces = torus()
    turned = torch.cat([faces[:1].flip(1), faces[1:]])
    for mesh, closed, oriented in (
        ((vertices, faces[1:]), False, True),
        ((vertices, turned), True, False),
        (soup(20), False, True),
    ):
        signs = find_signs(bvh_of(mesh))
        assert (signs.is_closed, signs.is_oriented, signs.method) == (closed, oriented, "winding")
        assert signs.sure is None
        assert signs.pseudonormals is None


@pytest.mark.parametrize("index", [0, 3, 7])
def test_procedural_cars_are_mostly_sure(index):
    mesh = ProceduralCars(count=8, resolution=32).load(index)
    surface = Surface(mesh)
    assert surface.sign_method == "pseudonormal"
    assert share(surface.signs) > 0.9
    pair = mesh.vertices.double(), mesh.faces.long()
    assert wrong_signs(surface, pair, near(pair, 300)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_marching_cubes_of_random_fields_are_mostly_sure(seed):
    mesh = random_field(seed + 1, size=16)
    signs = find_signs(bvh_of(mesh))
    assert signs.method == "pseudonormal"
    assert share(signs) > 0.9


def test_which_faces_of_overlapping_spheres_are_sure():
    """Those outside of the other sphere, but for the ring in which they cross."""
    mesh = join(LEFT, RIGHT)
    bvh = bvh_of(mesh)
    signs = find_signs(bvh)
    assert signs.sure is not None
    face = bvh.triangle_face.long()
    centre = torch.where(face < len(LEFT[1]), 0.15, -0.15)[:, None] * torch.tensor([1, 0, 0])  # of the other sphere
    from_other = (mesh[0][mesh[1][face]].mean(1) - centre).norm(dim=1)
    assert signs.sure[from_other > 0.35].all()
    assert not signs.sure[from_other < 0.3].any()


def test_gentle_faces_have_gentle_neighbours_that_are_not_narrow():
    """As `LeafSides` says: within 35 degrees of all that share a corner, which are sure and at least 5.2e-4 high."""
    hard = (mesh for mesh, _, _ in HARD.values())
    for mesh in (sphere(0.4, 4), torus(), bumpy(0.1), split(CUBE, 3), random_field(1), sliver_box(1e3), *hard):
        bvh = bvh_of(mesh)
        signs = find_signs(bvh)
        sure, gentle = signs.sure, signs.gentle
        assert sure is not None
        assert gentle is not None
        corners = bvh.triangles.reshape(-1, 3, 3).double()
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        height = normals.norm(dim=1) / (corners - corners.roll(1, dims=1)).norm(dim=2).amax(1)
        normals = torch.nn.functional.normalize(normals, dim=1)
        _, vertex = torch.unique(corners.reshape(-1, 3), dim=0, return_inverse=True)
        vertex = vertex.reshape(-1, 3)
        for face in gentle.nonzero().squeeze(1)[:: max(1, int(gentle.sum()) // 200)]:
            beside = (vertex.unsqueeze(2) == vertex[face]).any(2).any(1)
            assert float((normals[beside] @ normals[face]).min()) > math.cos(math.radians(35.01))
            assert float(height[beside].min()) > 5.19e-4
            assert sure[beside].all()


def test_which_faces_are_gentle():
    """All of a fine sphere, those in the middle of a box's sides, none that cannot be relied on or are too narrow."""

    def gentle(mesh: Mesh) -> Tensor:
        found = find_signs(bvh_of(mesh)).gentle
        assert found is not None
        return found

    assert gentle(sphere(0.4, 3)).all()
    assert not gentle(CUBE).any()
    assert 0.4 < float(gentle(split(CUBE, 3)).double().mean()) < 0.9  # no corner of the middle ones is on an edge
    assert not gentle(sliver_box(1e6)).any()
    assert 0.1 < float(gentle(HARD["spheres overlapping"][0]).double().mean()) < 0.9


def test_what_a_leaf_knows_of_its_faces():
    """A bit for each face that is there, that can be relied on, and that is gentle."""
    surface = Surface(*rounded(HARD["box on a box"][0]))
    hierarchy, signs = surface.signed_hierarchy, surface.signs
    assert hierarchy.leaf_sides is not None
    assert surface.hierarchy.leaf_sides is None
    for leaf, sides in enumerate(hierarchy.leaf_sides.tolist()):
        slots = range(int(hierarchy.leaf_first[leaf]), int(hierarchy.leaf_first[leaf + 1]))
        assert sides & 0xFF == (1 << len(slots)) - 1
        assert sides >> 8 & 0xFF == sum(int(signs.sure[slot]) << lane for lane, slot in enumerate(slots))
        assert sides >> 16 == sum(int(signs.gentle[slot]) << lane for lane, slot in enumerate(slots))


def test_threads_change_nothing():
    for mesh in (knot(0.15), heap(8, times=2), random_field(0)):
        bvh = bvh_of(mesh)
        torch.set_num_threads(1)
        alone = find_signs(bvh)
        for threads in (2, 5):
            torch.set_num_threads(threads)
            together = find_signs(bvh)
            assert torch.equal(alone.sure, together.sure)
            assert torch.equal(alone.gentle, together.gentle)
            assert torch.equal(alone.pseudonormals, together.pseudonormals)


# ---- signs


@pytest.mark.parametrize("mesh", [sphere(0.4, 4), bumpy(0.05), knot(0.1), random_field(2), torus()])
def test_signs_beside_edges_and_vertices_are_those_of_double_precision(device, mesh):
    """Many points, most of them nearest to an edge or a vertex, where float32 relies on gentle faces."""
    mesh = rounded(mesh)
    surface, generator = Surface(*mesh, device=device), torch.Generator().manual_seed(0)
    corners = mesh[0][mesh[1]]
    for foot in (corners[:, 0], corners[:, :2].mean(1)):
        for size in (1e-5, 3e-4, 1e-3, 1e-2):
            arm = torch.nn.functional.normalize(torch.randn(foot.shape, generator=generator), dim=1)
            points = (foot + size * arm.double()).float().to(device)
            one, other = surface.signed_distance(points), surface.signed_distance(points.double())
            assert not ((one < 0) != (other < 0))[other.abs() > 2e-6].any()


@pytest.mark.parametrize("layers", [8, 32])
@pytest.mark.parametrize("slope", [25, 33])
def test_signs_below_a_lip_that_is_nearer_to_a_face_than_rounding(device, slope, layers):
    """The lip belongs to a wall that crosses the face beside it."""
    wall = 91 - slope
    surface = Surface(*ridge_and_lip(slope, wall, 0.05, layers), device=device)
    assert surface.sign_method == "pseudonormal"
    along, turn, height = rand(3, 4000, dtype=torch.float64)
    away, angle = 10 ** (-3.6 + 0.6 * height), math.radians(wall) + 0.2 * (turn - 0.5)
    points = torch.stack([away * angle.cos(), 1.9 * along - 0.95, away * angle.sin()], 1).float().to(device)
    found, exact = surface.signed_distance(points), surface.signed_distance(points.double())
    assert (exact < 0).all()
    assert (found < 0).all()


@pytest.mark.parametrize("sign", ["auto", "pseudonormal"])
@pytest.mark.parametrize("name", MESHES)
def test_signs_equal_the_winding_number(device, name, sign):
    mesh = MESHES[name]
    points = torch.cat([near(mesh, 400), around(mesh, 200)]).to(device)
    surface = Surface(*mesh, device=device)
    assert wrong_signs(surface, mesh, points, sign) == 0
    assert wrong_signs(surface.prepare(), mesh, points, sign) == 0


@pytest.mark.parametrize("angle", [1.2, 0.8, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4])
def test_signs_beside_a_blade(device, angle):
    """Beside its edge a blade is thinner than rounding, and a search may take one of its sides for the other."""
    mesh = blade(angle)
    points = beside_edge(4000).to(device)
    assert wrong_signs(Surface(*mesh, device=device), mesh, points, "pseudonormal") == 0


@pytest.mark.parametrize("seed", range(3))
def test_signs_beside_a_blade_of_unlike_sides(device, seed):
    """Its sides part in the tree, and no point takes over a sign: a search may end on the wrong side."""
    angle = 1e-3
    whole = blade(angle, times=0)
    on_top = (whole[0][whole[1]][:, :, 1] >= 0).all(1) & (whole[0][whole[1]][:, :, 1] > 0).any(1)
    surface = Surface(*split(refined_inside(whole, on_top, 6)), device=device)
    points = beside_edge(100_000, seed)
    bvh = replace(surface.signed_hierarchy, is_closed=False, start_distance=None)
    found = ops.signed_distance(points.to(device), bvh, "pseudonormal").cpu()
    x, y, z = points.double().unbind(1)
    inside = (y.abs() < math.tan(angle / 2) * (x + 0.5)) & (x < 0.5) & (z.abs() < 0.5)
    assert not ((found < 0) != inside)[found.abs() > 2e-6].any()


@pytest.mark.parametrize("thickness", [1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("sign", ["auto", "winding"])
def test_signs_beside_thin_plates(device, thickness, sign):
    """Their sides are slivers that float32 cannot see the solid angle of."""
    mesh = box((-0.5, -0.5, -thickness), (0.5, 0.5, thickness))
    points = torch.cat([near(mesh, 3000), around(mesh, 500)]).to(device)
    assert wrong_signs(Surface(*mesh, device=device), mesh, points, sign) == 0


def test_far_away_is_outside(device):
    """From afar the two sides of a plate are equally near; its far one would call it the inside."""
    mesh = split(box((-0.5, -0.5, -1e-5), (0.5, 0.5, 1e-5)), 3)
    surface = Surface(*mesh, device=device)
    assert surface.sign_method == "pseudonormal"
    directions = torch.nn.functional.normalize(randn(500, 3), dim=1)
    for distance in (1, 30, 1e4, 1e10):
        points = (distance * directions).to(device)
        assert bool((surface.signed_distance(points, "pseudonormal") > 0).all())


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    bodies=st.integers(1, 4),
    kinds=st.lists(st.sampled_from(["box", "sphere", "torus", "knot"]), min_size=4, max_size=4),
    inside_out=st.booleans(),
    touching=st.booleans(),
)
def test_signs_of_any_bodies(seed, bodies, kinds, inside_out, touching):
    """Bodies anywhere, across each other or not; on a coarse grid their faces often lie in one plane."""
    shapes = {"box": box(), "sphere": sphere(0.3, 2), "torus": torus(rings=12, sides=8), "knot": knot(0.15, 30, 6)}
    shift = 0.3 * randn(bodies, 3, seed=seed, dtype=torch.float64)
    if touching:
        shift = (shift / 0.1).round() * 0.1
    parts = [moved(shapes[kind], tuple(by.tolist())) for kind, by in zip(kinds, shift, strict=False)]
    if inside_out:
        parts[-1] = flipped(parts[-1])
    mesh = join(*parts)
    points = torch.cat([near(mesh, 150, seed), around(mesh, 90, seed)])
    assert wrong_signs(Surface(*mesh), mesh, points, "pseudonormal") == 0
