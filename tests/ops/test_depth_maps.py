"""Depth maps and what they see past: against their twins, against rays, at the edges."""

from __future__ import annotations

import math

import pytest
import torch

from pyimplicit import ops
from pyimplicit.ops import DepthViews, depth_maps, reference
from tests.helpers import bvh_of, rand, randn, soup, torus

MESHES = {"torus": torus(), "soup": soup(60)}


def views_of(count, size, pixel, device, seed=3):
    return DepthViews(torch.linalg.qr(randn(count, 3, 3, seed=seed)).Q.float().to(device), size, pixel)


@pytest.mark.parametrize("name", list(MESHES))
def test_maps_equal_their_twin(device, name):
    vertices, faces = (part.to(device) for part in MESHES[name])
    views = views_of(4, 37, 0.06, device)
    depth = ops.draw_depth(vertices.float(), faces.int(), views)
    expected = reference.draw_depth(vertices.float(), faces.int(), views)
    same = torch.isfinite(depth) == torch.isfinite(expected)
    assert same.float().mean() > 0.999  # a pixel's center may fall on a silhouette
    both = torch.isfinite(depth) & torch.isfinite(expected)
    assert both.float().mean() > 0.05
    assert ((depth - expected).abs()[both] < 1e-4).float().mean() > 0.995  # or on the edge of what hides the rest


def test_maps_are_what_rays_see(device):
    vertices, faces = torus()
    views = views_of(3, 64, 0.05, device)
    depth = ops.draw_depth(vertices.float().to(device), faces.int().to(device), views)
    bvh = bvh_of((vertices, faces), device)
    axis = (torch.arange(64, device=device) + 0.5 - 32) * 0.05
    for rotation, image in zip(views.rotations, depth, strict=True):
        right, up, forward = rotation
        row, column = torch.meshgrid(axis, axis, indexing="ij")
        origins = (column[..., None] * right + row[..., None] * up).reshape(-1, 3) - 10 * forward
        hits = ops.cast_rays(origins, forward.expand_as(origins).contiguous(), bvh)
        seen = torch.where(hits.hit, hits.t - 10, math.inf).reshape(64, 64)
        agree = (seen - image).abs() < 1e-3
        assert (agree | (seen == image)).float().mean() > 0.995


def test_no_ray_slips_between_faces():
    """A closed fan seen from above, drawn at many shifts: every pixel well inside is covered."""
    angle = torch.arange(40) * (2 * math.pi / 40)
    rim = torch.stack((angle.cos(), angle.sin(), torch.zeros(40)), 1)
    vertices = torch.cat((torch.zeros(1, 3), rim)).float()
    faces = torch.stack((torch.zeros(40), 1 + torch.arange(40), 1 + (torch.arange(40) + 1) % 40), 1).int()
    views = DepthViews(torch.eye(3)[None], 101, 0.015)
    for shift in rand(20, 3) * 0.01:
        shifted = vertices + torch.tensor([1.0, 1.0, 0.0]) * shift
        depth = ops.draw_depth(shifted, faces, views)
        axis = (torch.arange(101) + 0.5 - 50.5) * 0.015
        inside = axis[:, None].square() + axis.square() < 0.7**2
        assert torch.isfinite(depth[0][inside]).all()


def test_counts_equal_their_twin(device):
    vertices, faces = (part.to(device) for part in torus())
    views = views_of(9, 50, 0.06, device)
    depth = ops.draw_depth(vertices.float(), faces.int(), views)
    points = (4 * rand(4000, 3) - 2).to(device)
    for enough in (1, 4, 9):
        seen = ops.count_views(points, depth, views, enough)
        assert (seen == reference.count_views(points, depth, views, enough)).float().mean() > 0.995
        assert int(seen.max()) == enough


@pytest.mark.parametrize("count", [1, 511, 513, 5000])
@pytest.mark.parametrize("enough", [1, 3, 20, 25])
def test_the_twin_of_the_cpu_counts_the_same(count, enough):
    vertices, faces = torus()
    views = views_of(20, 50, 0.06, "cpu")
    depth = ops.draw_depth(vertices.float(), faces.int(), views)
    points = (4 * rand(count, 3) - 2).float()
    points[::7] *= torch.tensor([1e30, -1e38, 1e4])[torch.arange(len(points[::7])) % 3, None]
    arguments = (points, depth, views.rotations, views.size, views.pixel, enough)
    fast, plain = (depth_maps._count_views_kernel(*arguments, plain=plain) for plain in (False, True))
    assert torch.equal(fast, plain)


def test_what_views_see_past_is_outside(device):
    vertices, faces = (part.to(device) for part in torus())
    views = views_of(40, 200, 0.02, device)
    depth = ops.draw_depth(vertices.float(), faces.int(), views)
    points = (3 * rand(3000, 3) - 1.5).to(device)
    bvh = bvh_of((vertices, faces), device)
    distance = ops.unsigned_distance(points, bvh)
    inside = ops.contains(points, bvh)
    clear = distance > 0.05
    seen = ops.count_views(points, depth, views) > 0
    assert not bool((seen & inside & clear).any())
    assert bool(seen[~inside & clear].all())


def test_the_same_on_any_number_of_threads():
    vertices, faces = soup(200)
    views = views_of(5, 60, 0.05, "cpu")
    before = torch.get_num_threads()
    maps = []
    for threads in (1, 2, 16):
        torch.set_num_threads(threads)
        maps.append(ops.draw_depth(vertices.float(), faces.int(), views))
    torch.set_num_threads(before)
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])


def test_refusals():
    views = DepthViews(torch.eye(3)[None], 4, 1.0)
    corners, faces = torch.eye(3), torch.tensor([[0, 1, 2]], dtype=torch.int32)
    depth = ops.draw_depth(corners, faces, views)
    for call, error, message in [
        (lambda: DepthViews(torch.eye(3), 4, 1.0), ValueError, "rotations: expected shape"),
        (lambda: DepthViews(torch.eye(3)[None], 0, 1.0), ValueError, "size"),
        (lambda: DepthViews(torch.eye(3)[None], 20_000, 1.0), ValueError, "size: expected at most 16384"),
        (lambda: DepthViews(torch.eye(3)[None], 4, 0.0), ValueError, "pixel"),
        (lambda: DepthViews(torch.full((1, 3, 3), math.nan), 4, 1.0), ValueError, "rotations: expected finite"),
        (lambda: ops.draw_depth(corners * math.inf, faces, views), ValueError, "vertices: expected finite"),
        (lambda: ops.draw_depth(corners.double(), faces, views), TypeError, "vertices: expected dtype"),
        (lambda: ops.draw_depth(corners, faces + 1, views), ValueError, "faces: expected indices"),
        (lambda: ops.draw_depth(corners, faces, 3), TypeError, "views: expected DepthViews"),
        (lambda: ops.count_views(corners, depth[:, :2], views), ValueError, "depth: expected shape"),
        (lambda: ops.count_views(corners, depth, views, 0), ValueError, "enough"),
        (lambda: ops.count_views(corners * math.nan, depth, views), ValueError, "points: expected finite"),
    ]:
        with pytest.raises(error, match=message):
            call()
