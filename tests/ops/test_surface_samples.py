"""Surface points against their twin and their distribution."""

from __future__ import annotations

import math

import pytest
import torch

from pyimplicit import ops
from pyimplicit.ops import RandomStream, reference
from tests.helpers import box, chi_square_fits, rand, soup, sphere, torus


@pytest.mark.parametrize("mesh", [box(), torus(), soup(50)], ids=["box", "torus", "soup"])
@pytest.mark.parametrize("count", [1, 1000])
def test_samples_equal_twin(device, mesh, count):
    vertices, faces = mesh[0].float().to(device), mesh[1].int().to(device)
    stream = RandomStream(5, 4, 3, 2)
    points, face = ops.sample_surface(vertices, faces, count, stream)
    table = ops.build_area_table(vertices[faces.long()].reshape(-1, 9)).cpu()
    expected_points, expected_face = reference.sample_surface(vertices.cpu(), faces.cpu(), count, stream, table)
    assert torch.equal(face.cpu(), expected_face)
    torch.testing.assert_close(points.cpu(), expected_points, rtol=1e-6, atol=1e-6)


def test_samples_of_strided_arrays(device):
    vertices, faces = torus()
    vertices, faces = vertices.float().to(device), faces.int().to(device)
    wide = torch.cat([vertices, vertices], 1)[:, :3]
    turned = faces.T.contiguous().T
    assert not wide.is_contiguous()
    for one, other in zip(ops.sample_surface(wide, turned, 100), ops.sample_surface(vertices, faces, 100), strict=True):
        assert torch.equal(one, other)


def test_samples_are_area_uniform(device):
    """Counts over faces of very different areas, and the mean place within a face."""
    vertices, faces = sphere()
    stretched = vertices * torch.tensor([1.0, 0.3, 2.0], dtype=torch.float64)
    points, face = ops.sample_surface(stretched.float().to(device), faces.int().to(device), 100_000, 9)
    corners = stretched.float().double()[faces]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1) / 2
    assert chi_square_fits(torch.bincount(face.cpu(), minlength=len(faces)).double(), 100_000 * areas / areas.sum())

    triangle = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], device=device)
    points, _ = ops.sample_surface(triangle, torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device), 60_000)
    x, y = points[:, 0].double().cpu(), points[:, 1].double().cpu()
    assert bool(((x >= 0) & (y >= 0) & (x + y <= 1 + 1e-6)).all())
    cells = (x * 6).long().clamp(max=5) * 6 + (y * 6).long().clamp(max=5)
    counts = torch.bincount(cells, minlength=36).double().reshape(6, 6)
    i, j = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    below, cut = i + j < 5, i + j == 5
    observed = torch.cat([counts[below], counts[cut]])
    expected = torch.cat([torch.full((15,), 2 / 36), torch.full((6,), 1 / 36)]).double() * 60_000
    assert chi_square_fits(observed, expected)


def test_no_samples_on_faces_without_area(device):
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0]], device=device)
    faces = torch.tensor([[0, 1, 3], [0, 0, 1], [0, 1, 2], [0, 1, 3]], dtype=torch.int32, device=device)
    _, face = ops.sample_surface(vertices, faces, 1000)
    assert bool((face == 2).all())


def test_a_table_made_before_changes_nothing(device):
    """Neither do threads."""
    vertices, faces = soup(3000)
    scale = 10 ** (-6 * rand(3000, 1, 1, seed=4, dtype=torch.float64))
    corners = vertices[faces]
    spread = (corners[:, :1] + scale * (corners - corners[:, :1])).reshape(-1, 3).float().to(device)
    faces = faces.int().to(device)
    table = ops.build_area_table(spread.reshape(-1, 9))
    expected = reference.sample_surface(spread.cpu(), faces.cpu(), 20_000, 8, table.cpu())[1]
    for threads in (1, 2, 16):
        torch.set_num_threads(threads)
        for given in (table, None):
            assert torch.equal(ops.sample_surface(spread, faces, 20_000, 8, given)[1].cpu(), expected)


# ---- errors

TRIANGLE = torch.eye(3)
FACE = torch.tensor([[0, 1, 2]], dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.sample_surface(TRIANGLE.double(), FACE, 1), TypeError, "vertices: expected dtype float32"),
        (lambda: ops.sample_surface(TRIANGLE[:, :2], FACE, 1), ValueError, r"vertices: expected shape \[V, 3\]"),
        (lambda: ops.sample_surface(TRIANGLE, FACE.long(), 1), TypeError, "faces: expected dtype int32"),
        (lambda: ops.sample_surface(TRIANGLE, FACE[:, :2], 1), ValueError, r"faces: expected shape \[F, 3\]"),
        (lambda: ops.sample_surface(TRIANGLE, FACE + 1, 1), ValueError, r"faces: expected indices in 0..2, got 1..3"),
        (lambda: ops.sample_surface(TRIANGLE, FACE - 1, 1), ValueError, r"faces: expected indices in 0..2, got -1..1"),
        (lambda: ops.sample_surface(TRIANGLE, FACE[:0], 1), ValueError, "faces: expected a mesh of positive"),
        (lambda: ops.sample_surface(torch.ones(3, 3), FACE, 1), ValueError, "faces: expected a mesh of positive"),
        (lambda: ops.sample_surface(TRIANGLE * math.nan, FACE, 1), ValueError, "faces: expected a mesh of positive"),
        (lambda: ops.sample_surface(TRIANGLE, FACE, 0), ValueError, "count: expected at least 1"),
        (
            lambda: ops.sample_surface(TRIANGLE, FACE, 1, 0, FACE[:, :2].expand(2, 2)),
            ValueError,
            "table: expected shape",
        ),
        (lambda: ops.build_area_table(TRIANGLE), ValueError, r"corners: expected shape \[F, 9\]"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
