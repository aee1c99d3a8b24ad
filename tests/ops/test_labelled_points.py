"""Points drawn and labelled in one pass: the same as drawn first and asked for afterwards."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from pyimplicit import ops
from pyimplicit.geometry import Mesh, Surface, SurfaceBatch
from pyimplicit.ops import PointSource, RowStreams, SurfaceTable, reference
from pyimplicit.ops.surface_batch import table_tensors
from tests.helpers import bvh_of, join, moved, rounded, slivers, soup, sphere, torus

# The package's name of the module is the function in it.
query_points_module = importlib.import_module("pyimplicit.ops.query_points")
ROUND = rounded(sphere(0.35, 4))  # 5,120 faces: three levels of nodes
MESHES = {
    "ring": rounded(torus(rings=80, sides=40)),
    "bodies": rounded(join(moved(sphere(0.1, 3), (0.3, 0, 0)), moved(sphere(0.15, 3), (-0.2, 0.1, 0)), torus())),
    "twice": rounded(join(ROUND, ROUND)),
    "soup": rounded(soup(3000, size=0.05)),
    "slivers": rounded(slivers()),
    "one": rounded(soup(1)),
}
# Noise from none to more than the shape is large: some searches begin at the triangle of the draw, and some do not.
SOURCES = [
    PointSource(700, 0.001, 0), PointSource(300, None, 2), PointSource(700, 0.01, 4), PointSource(77, 0.0, 6),
    PointSource(1, 0.0, 8), PointSource(100, 0.3, 10),
]  # fmt: skip


def surface_of(name: str, device: torch.device | str, prepared: bool) -> Surface:
    surface = Surface(Mesh(*MESHES[name]), device=device)
    return surface.prepare() if prepared else surface


def drawn(
    surfaces: SurfaceBatch, sources: list[PointSource], signed: bool, shapes: Tensor, keys: Tensor
) -> tuple[Tensor, Tensor]:
    table = surfaces.signed_table if signed else surfaces.table
    streams = RowStreams.of(5, keys, surfaces.device)
    return ops.labelled_query_points(table, surfaces.areas, shapes, streams, sources, signed=signed)


@pytest.fixture(params=[1, 2, 16])
def threads(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    torch.set_num_threads(count)
    return count


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("name", MESHES)
def test_the_same_as_drawn_and_asked_for(device, threads, name, prepared, signed):
    """To the last bit, with one row and with several."""
    surface = surface_of(name, device, prepared)
    batch = SurfaceBatch.single(surface)
    keys = torch.tensor([[0, 9], [0, 10], [3, 9], [2, 2], [0, 9]], device=device)
    for rows in (1, 5):
        shapes = torch.zeros(rows, dtype=torch.int64, device=device)
        points, distance = drawn(batch, SOURCES, signed, shapes, keys[:rows])
        expected, _ = ops.query_points(batch.table, batch.areas, shapes, RowStreams.of(5, keys[:rows], device), SOURCES)
        assert torch.equal(points, expected)
        assert torch.equal(distance, ops.batch_distance(points, batch.signed_table, shapes, signed=signed))
        alone = surface.signed_distance(points[0]) if signed else surface.unsigned_distance(points[0])
        assert torch.equal(distance[0], alone)


@pytest.mark.parametrize("sigma", [0.0, 1e-4, 0.001, 0.01, 0.014, 0.05])
@pytest.mark.parametrize("count", [1, 63, 64, 1_000, 40_000])
def test_any_count_and_noise(device, count, sigma):
    torch.set_num_threads(2)
    batch = SurfaceBatch.single(surface_of("ring", device, prepared=True))
    one, key = torch.zeros(1, dtype=torch.int64, device=device), torch.tensor([[7, 1]], device=device)
    points, distance = drawn(batch, [PointSource(count, sigma, 0)], True, one, key)
    assert distance.shape == (1, count)
    assert torch.equal(distance, ops.batch_distance(points, batch.signed_table, one, signed=True))


def test_points_that_noise_takes_through_the_shape(device):
    """Their first leaf is on the far side of a lens, and its side is another one than that of the nearest."""
    vertices, faces = sphere(0.45, 6)
    surface = Surface(Mesh(vertices * torch.tensor([1.0, 1.0, 0.02], dtype=vertices.dtype), faces), device=device)
    batch = SurfaceBatch.single(surface)
    one, key = torch.zeros(1, dtype=torch.int64, device=device), torch.tensor([[7, 1]], device=device)
    points, distance = drawn(batch, [PointSource(4_000, 0.014, 0)], True, one, key)
    assert torch.equal(distance, ops.batch_distance(points, batch.signed_table, one, signed=True))


def test_several_surfaces(device):
    """Each row's own leaves, wherever they stand in the table; a row alone is the same."""
    surfaces = [surface_of(name, device, prepared=place % 2 == 0) for place, name in enumerate(MESHES)]
    batch = SurfaceBatch(surfaces)
    shapes = torch.tensor([5, 0, 3, 1, 0, 4, 2], device=device)
    keys = torch.stack((shapes, torch.arange(7, device=device)), dim=1)
    points, distance = drawn(batch, SOURCES, True, shapes, keys)
    assert torch.equal(distance, ops.batch_distance(points, batch.signed_table, shapes, signed=True))
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    for row, shape in enumerate(shapes.tolist()):
        alone = drawn(SurfaceBatch.single(surfaces[shape]), SOURCES, True, zero, keys[row : row + 1])
        assert torch.equal(alone[0][0], points[row])
        assert torch.equal(alone[1][0], distance[row])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", ["bodies", "one"])
def test_against_the_twin(device, name, signed):
    mesh = MESHES[name]
    bvh = bvh_of(mesh, device)
    areas, table = ops.build_area_table(bvh.triangles), SurfaceTable.of([bvh], ["winding"])
    shapes, streams = torch.zeros(1, dtype=torch.int64), RowStreams.of(5, torch.tensor([[0, 9]]))
    sources = [PointSource(150, 0.001, 0), PointSource(50, None, 2), PointSource(100, 0.1, 4)]
    found = ops.labelled_query_points(
        table, areas, shapes.to(device), RowStreams.of(5, streams.keys, device), sources, signed=signed
    )
    corners = bvh.triangles.double().reshape(-1, 3, 3).cpu() / bvh.scale + bvh.center.cpu()
    drawn_on = [(corners, bvh.triangle_face.cpu(), areas.cpu())]
    expected = reference.labelled_query_points(drawn_on, [mesh], shapes, streams, sources, signed=signed)
    torch.testing.assert_close(found[0].cpu(), expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[1].cpu(), expected[1].float(), rtol=0, atol=3e-6)


def test_the_twin_of_the_cpu_gives_the_same():
    batch = SurfaceBatch.single(surface_of("ring", "cpu", prepared=True))
    counts, purposes = [source.count for source in SOURCES], [source.purpose for source in SOURCES]
    sigmas = [-1.0 if source.sigma is None else source.sigma for source in SOURCES]
    arguments = (
        *table_tensors(batch.signed_table), batch.areas, torch.tensor([0, 0]), torch.tensor([[1, 2], [3, 4]]), 5,
        counts, purposes, sigmas, 0.5, True,
    )  # fmt: skip
    fast, plain = (query_points_module._labelled_points_kernel(*arguments, plain=plain) for plain in (False, True))
    assert torch.equal(fast[0], plain[0])
    torch.testing.assert_close(fast[1], plain[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ring", "bodies", "twice", "soup"])
def test_nothing_near_a_leaf_is_outside_its_neighbourhood(name):
    """From the arrays: what is not below a leaf's node is not within its reach, and the leaf itself is below."""
    bvh = bvh_of(MESHES[name])
    rows = bvh.frames[:, 14]
    center, reach, node = rows[:, :3], rows[:, 3], rows[:, 4].contiguous().view(torch.int32)
    leaves, links = bvh.frames.shape[0], bvh.links.tolist()

    def below(top: int) -> set[int]:
        held, open_nodes = set(), [top]
        while open_nodes:
            for link in links[open_nodes.pop()]:
                if link >= 0:
                    open_nodes.append(link)
                elif link != -(2**31):
                    held.add(~link)
        return held

    sets = {top: below(top) for top in node.unique().tolist()}
    first = bvh.leaf_first.tolist()
    held_reach = 0
    for leaf in range(leaves):
        inside = sets[int(node[leaf])]
        assert leaf in inside
        if reach[leaf] <= 0:
            continue
        held_reach += 1
        outside = torch.ones(bvh.triangles.shape[0], dtype=torch.bool)
        for one in inside:
            outside[first[one] : first[one + 1]] = False
        corners = bvh.triangles[outside].reshape(-1, 3)
        away = (corners - center[leaf]).norm(dim=1).min()  # of corners: not below the distance of triangles
        assert float(away) >= float(reach[leaf])
        assert float(away) < 100 * float(reach[leaf])
    if name != "soup":  # whose boxes overlap
        assert held_reach > leaves / 4


def test_leaves_of_triangles(device):
    """The table's, against where each leaf begins; of several surfaces one behind the other, each its own numbers."""
    bvhs = [bvh_of(MESHES[name], device) for name in ("soup", "one", "ring")]
    expected = []
    for bvh in bvhs:
        first = bvh.leaf_first.tolist()
        expected += [leaf for leaf in range(len(first) - 1) for _ in range(first[leaf], first[leaf + 1])]
    table = SurfaceTable.of(bvhs, ["winding"] * 3)
    assert table.triangle_leaf.tolist() == expected
    assert table.triangle_leaf.dtype == torch.int32


def test_infinite_noise_and_far_points(device):
    """What overflows is refused by name; what does not is measured as by a call of its own."""
    surface = surface_of("ring", device, prepared=False)
    batch = SurfaceBatch.single(surface)
    one, key = torch.zeros(1, dtype=torch.int64, device=device), torch.tensor([[0, 0]], device=device)
    with pytest.raises(ValueError, match=r"points: expected finite values, got -?inf"):
        drawn(batch, [PointSource(1000, 3e38, 0)], False, one, key)
    for sigma in (1e20, 1e29, 1e31):
        points, distance = drawn(batch, [PointSource(100, sigma, 0)], False, one, key)
        assert torch.equal(distance, ops.batch_distance(points, batch.table, one, signed=False))


def test_no_vertex_is_beyond_the_reach_of_a_table():
    """By which points are known to be finite without a look at them."""
    for size, offset in ((1.0, (0, 0, 0)), (1e-6, (3, -7, 0.5)), (1e20, (0, -4e20, 1))):
        vertices, faces = MESHES["ring"]
        moved_there = vertices.double() * size + torch.tensor(offset, dtype=torch.float64)
        table = SurfaceTable.of([ops.build_bvh(moved_there, faces)], ["winding"])
        largest = float(moved_there.abs().max())
        assert largest <= table.reach <= 2 * largest + 2 * size
    small, large = (ops.build_bvh(vertices.double() * size, faces) for size in (1.0, 50.0))
    assert SurfaceTable.of([small, large, small], ["winding"] * 3).reach == SurfaceTable.of([large], ["winding"]).reach


@pytest.mark.parametrize("signed", [False, True])
def test_compiled_whole(device, signed):
    """One graph without a break, and the same bits."""
    batch = SurfaceBatch.single(surface_of("ring", device, prepared=True))
    table, areas, shapes = batch.signed_table, batch.areas, batch.all_shapes
    keys = torch.tensor([[0, 9]], device=device)

    def draw(seed: Tensor) -> tuple[Tensor, Tensor]:
        sources = [PointSource(700, 0.001, 0), PointSource(300, None, 2)]
        points, distance = ops.labelled_query_points(
            table, areas, shapes, RowStreams(5, keys + seed), sources, signed=signed
        )
        return points * 2, distance * 2

    torch._dynamo.reset()
    seed = torch.tensor(3, device=device)
    found = torch.compile(draw, fullgraph=True, backend="aot_eager")(seed)
    assert all(torch.equal(one, other) for one, other in zip(found, draw(seed), strict=True))


def test_strided_arrays(device):
    bvh = bvh_of(MESHES["ring"], device)
    table, areas = SurfaceTable.of([bvh], ["winding"]), ops.build_area_table(bvh.triangles)
    shapes = torch.zeros(2, dtype=torch.int64, device=device)
    keys = torch.tensor([[0, 9], [0, 10]], device=device)
    strided = areas.t().contiguous().t(), RowStreams(5, keys.t().contiguous().t())
    for function in (ops.query_points, lambda *given: ops.labelled_query_points(*given, signed=True)):
        found = function(table, strided[0], shapes, strided[1], SOURCES)
        expected = function(table, areas, shapes, RowStreams.of(5, keys), SOURCES)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_batch_that_was_first_asked_without_gradients():
    """What it keeps is no inference tensor."""
    batch = SurfaceBatch([surface_of("one", "cpu", prepared=False), surface_of("ring", "cpu", prepared=False)])
    batch.prepare()
    assert batch.signed_table is not None
    with torch.inference_mode():
        batch.signed_distance(torch.zeros(2, 5, 3))
    points = torch.full((2, 5, 3), 0.1, requires_grad=True)
    batch.signed_distance(points).sum().backward()
    assert points.grad is not None
    assert bool(points.grad.isfinite().all())


def test_errors():
    bvh = bvh_of(MESHES["one"])
    table, areas = SurfaceTable.of([bvh], ["winding"]), ops.build_area_table(bvh.triangles)
    row, one = RowStreams.of(1, torch.tensor([[0, 0]])), torch.tensor([0])
    with pytest.raises(ValueError, match="sources: expected between 1 and 16, got 0"):
        ops.labelled_query_points(table, areas, one, row, [], signed=False)
    with pytest.raises(ValueError, match=r"shapes: expected numbers in 0..0, got 1..1"):
        ops.labelled_query_points(table, areas, one + 1, row, [PointSource(1, 0.1, 0)], signed=True)
