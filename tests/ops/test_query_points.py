"""Points drawn in one pass for many surfaces: against their twin, and the same alone as in company."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from pyimplicit import _native, ops
from pyimplicit.ops import PointSource, RandomStream, RowStreams, SurfaceTable, reference
from pyimplicit.ops.surface_batch import table_tensors
from tests.helpers import bvh_of, chi_square_fits, rounded, soup, torus

# The package's name of the module is the function in it.
query_points_module = importlib.import_module("pyimplicit.ops.query_points")
MESHES = [rounded(torus()), rounded(soup(300)), rounded(torus(0.3, 0.05, 40, 8))]
SOURCES = [PointSource(300, None, 0), PointSource(500, 0.05, 2), PointSource(77, 0.0, 4)]
SHAPES = [2, 0, 1, 0]
KEYS = [[2, 9], [0, 9], [1, 0], [0, 10]]


def prepared(device):
    bvhs = [bvh_of(mesh, device) for mesh in MESHES]
    areas = [ops.build_area_table(bvh.triangles) for bvh in bvhs]
    return bvhs, areas, SurfaceTable.of(bvhs, ["winding"] * len(bvhs))


def corners_of(bvh):
    return bvh.triangles.double().reshape(-1, 3, 3) / bvh.scale + bvh.center


def test_against_the_twin(device):
    bvhs, areas, table = prepared(device)
    shapes, streams = torch.tensor(SHAPES, device=device), RowStreams.of(5, torch.tensor(KEYS), device)
    points, face = ops.query_points(table, torch.cat(areas), shapes, streams, SOURCES)
    meshes = [(corners_of(bvh), bvh.triangle_face, area) for bvh, area in zip(bvhs, areas, strict=True)]
    expected, expected_face = reference.query_points(meshes, shapes, streams, SOURCES)
    assert torch.equal(face, expected_face)
    torch.testing.assert_close(points, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 63, 64, 1_500])
def test_the_twin_of_the_cpu_draws_the_same_points(count):
    _, areas, table = prepared("cpu")
    sources = [PointSource(count, None, 0), PointSource(count, 0.05, 2), PointSource(7, 0.0, 4)]
    counts, purposes = [source.count for source in sources], [source.purpose for source in sources]
    arguments = (
        *table_tensors(table), torch.cat(areas), torch.tensor(SHAPES), torch.tensor(KEYS), 5, counts, purposes,
        [-1.0, 0.05, 0.0], 0.5, True,
    )  # fmt: skip
    fast, plain = (query_points_module._query_points_kernel(*arguments, plain=plain) for plain in (False, True))
    assert torch.equal(fast[0], plain[0])
    assert torch.equal(fast[1], plain[1])


def test_faces_are_left_out_where_nobody_asks(device):
    _, areas, table = prepared(device)
    shapes, streams = torch.tensor(SHAPES, device=device), RowStreams.of(5, torch.tensor(KEYS), device)
    with_faces, _ = ops.query_points(table, torch.cat(areas), shapes, streams, SOURCES)
    points, face = ops.query_points(table, torch.cat(areas), shapes, streams, SOURCES, faces=False)
    assert face is None
    assert torch.equal(points, with_faces)


def test_a_row_does_not_depend_on_the_others(device):
    bvhs, areas, table = prepared(device)
    shapes, streams = torch.tensor(SHAPES, device=device), RowStreams.of(5, torch.tensor(KEYS), device)
    together, _ = ops.query_points(table, torch.cat(areas), shapes, streams, SOURCES)
    for row, (shape, key) in enumerate(zip(SHAPES, KEYS, strict=True)):
        alone = SurfaceTable.of([bvhs[shape]], ["winding"])
        one = RowStreams.of(5, torch.tensor([key]), device)
        points, _ = ops.query_points(
            alone, areas[shape], torch.zeros(1, dtype=torch.int64, device=device), one, SOURCES
        )
        assert torch.equal(points[0], together[row])


def test_triangles_are_chosen_by_area(device):
    bvh = bvh_of(MESHES[1], device)
    table, one = SurfaceTable.of([bvh], ["winding"]), torch.zeros(1, dtype=torch.int64, device=device)
    row = RowStreams.of(1, RandomStream(1), device)
    points, face = ops.query_points(
        table, ops.build_area_table(bvh.triangles), one, row, [PointSource(200_000, 0.0, 0)]
    )
    vertices, faces = MESHES[1]
    corners = vertices[faces].double()
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    counts = torch.bincount(face[0].cpu(), minlength=len(areas)).double()
    assert chi_square_fits(counts, 200_000 * areas / areas.sum())
    distance = ops.unsigned_distance(points[0], bvh)
    assert float(distance.max()) < 1e-6


def test_faces_without_area_are_never_drawn(device):
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [3, 0, 0]], device="cpu")
    faces = torch.tensor([[0, 1, 3], [0, 1, 2], [1, 3, 4], [0, 0, 0]])
    bvh = ops.build_bvh(vertices, faces).to(device)
    row, one = RowStreams.of(1, RandomStream(1), device), torch.zeros(1, dtype=torch.int64, device=device)
    table = SurfaceTable.of([bvh], ["winding"])
    _, face = ops.query_points(table, ops.build_area_table(bvh.triangles), one, row, [PointSource(5000, 0.0, 0)])
    assert set(face.unique().tolist()) == {1}


@pytest.mark.parametrize("weights", ["even", "heavy", "one", "zeros", "tiny"])
def test_alias_tables_carry_their_weights(weights):
    """The share that every entry receives, added up from the table itself, is its weight."""
    count = 1000
    generator = torch.Generator().manual_seed(3)
    values = {
        "even": torch.ones(count, dtype=torch.float64),
        "heavy": torch.rand(count, generator=generator, dtype=torch.float64).pow(-3),
        "one": torch.zeros(count, dtype=torch.float64).index_fill(0, torch.tensor([417]), 2.0),
        "zeros": torch.rand(count, generator=generator, dtype=torch.float64).round(),
        "tiny": 1e-290 * torch.rand(count, generator=generator, dtype=torch.float64),
    }[weights]
    entries, total = torch.empty(count, 2, dtype=torch.int32), torch.empty(1, dtype=torch.float64)
    _native.call(
        "build_alias_table", torch.device("cpu"), weights=values, count=count, entries=entries.data_ptr(), stride=8,
        total=total,
    )  # fmt: skip
    share, other = entries[:, 0].view(torch.float32).double(), entries[:, 1].long()
    assert bool(((share >= 0) & (share <= 1)).all())
    received = share.index_add(0, other, 1 - share) / count
    torch.testing.assert_close(received, values / values.sum(), rtol=1e-5, atol=2e-7 / count)
    assert bool((received[values == 0] == 0).all())
    assert total.item() == pytest.approx(float(values.sum()))


def test_errors():
    bvh = bvh_of(MESHES[0])
    table, areas = SurfaceTable.of([bvh], ["winding"]), ops.build_area_table(bvh.triangles)
    row, one = RowStreams.of(1, RandomStream(1)), torch.tensor([0])
    good = [PointSource(3, 0.1, 0)]
    for call, words in (
        (lambda: ops.query_points(table, areas, one, row, []), "sources: expected between 1 and 16, got 0"),
        (lambda: ops.query_points(table, areas, one, row, good * 17), "sources: expected between 1 and 16, got 17"),
        (lambda: ops.query_points(table, areas, one + 1, row, good), r"shapes: expected numbers in 0..0, got 1..1"),
        (lambda: ops.query_points(table, areas[:5], one, row, good), "areas: expected shape"),
        (lambda: ops.query_points(table, areas, torch.tensor([0, 0]), row, good), "streams.keys: expected shape"),
        (lambda: ops.query_points(table, areas, one, row, good, 0.0), "half_side: expected a finite number above 0"),
        (lambda: query_points_module.PointSources(()), "sources: expected between 1 and 16, got 0"),
        (lambda: PointSource(0, 0.1, 0), "count: expected at least 1"),
        (lambda: PointSource(1, -0.1, 0), "sigma: expected a finite number"),
        (lambda: PointSource(1, math.nan, 0), "sigma: expected a finite number"),
        (lambda: PointSource(1, 0.1, 1 << 16), "purpose: expected less than"),
        (lambda: RowStreams.of(1, torch.tensor([[0, -1]])), "keys: expected 0 to"),
        (lambda: RowStreams.of(-1, torch.tensor([[0, 1]])), "seed: expected at least 0"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="seed: expected a whole number, got float"):
        RowStreams.of(1.0, RandomStream(1))
    flat = ops.build_bvh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="faces: expected a mesh of positive, finite area"):
        ops.build_area_table(flat.triangles)


def test_branches_are_apart():
    streams = RowStreams.of(7, torch.tensor([[0, 0]]))
    seeds = {streams.branch(number).seed for number in range(1000)} | {7}
    assert len(seeds) == 1001
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert streams.branch(3).seed == streams.branch(3).seed
