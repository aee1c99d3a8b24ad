"""Ray casting against brute force, and rays aimed where two faces meet."""

from __future__ import annotations

import pytest
import torch

from pyimplicit import ops
from pyimplicit.ops import reference
from tests.helpers import bvh_of, join, moved, rand, randn, rounded, slivers, soup, sphere, tetrahedron, torus

MESHES = {
    "tetrahedron": tetrahedron(),
    "torus": torus(),
    "soup": soup(300),
    "slivers": slivers(),
    "bodies": join(sphere(0.2, 1), moved(torus(), (0.1, 0.0, 0.2))),
}
every_mesh = pytest.mark.parametrize("mesh", [rounded(mesh) for mesh in MESHES.values()], ids=MESHES.keys())


@every_mesh
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_hit_equals_twin(device, mesh, dtype):
    origins, directions = rand(400, 3, low=-0.7, high=0.7, dtype=dtype), randn(400, 3, seed=1, dtype=dtype)
    # Half of them at faces: random rays pass slivers by.
    weights = rand(200, 3, seed=2, low=0.2, high=0.8, dtype=torch.float64)
    aims = mesh[0][mesh[1][torch.arange(200) % len(mesh[1])]]
    aims = (aims * (weights / weights.sum(1, keepdim=True)).unsqueeze(2)).sum(1)
    directions[:200] = (aims - origins[:200].double()).to(dtype)
    bvh = bvh_of(mesh, device)
    found = ops.cast_rays(origins.to(device), directions.to(device), bvh)
    expected = reference.cast_rays(origins, directions, *mesh)
    # A ray that grazes an edge may be decided either way by the twin, which is not watertight.
    alike = found.hit.cpu() == expected.hit
    assert float(alike.double().mean()) >= (0.99 if dtype == torch.float64 else 0.97)
    both = alike & expected.hit
    assert int(both.sum()) > 20
    assert torch.allclose(found.t.cpu()[both], expected.t[both], rtol=1e-4, atol=1e-5)
    assert bool(torch.isinf(found.t[~found.hit]).all())
    assert bool((found.barycentric[~found.hit] == 0).all())
    # The named face and its barycentric coordinates give the point on the ray.
    corners = mesh[0].to(dtype)[mesh[1]][found.face.cpu()[both]]
    there = (found.barycentric.cpu()[both].unsqueeze(2) * corners).sum(1)
    on_ray = origins[both] + found.t.cpu()[both].unsqueeze(1) * directions[both]
    assert torch.allclose(there, on_ray, atol=2e-5)
    anywhere = ops.cast_rays(origins.to(device), directions.to(device), bvh, any_hit=True)
    assert torch.equal(anywhere.hit, found.hit)
    assert bool((anywhere.t >= found.t).all())


def test_rays_at_edges_and_corners_never_slip_through(device):
    vertices, faces = rounded(sphere(0.4, 2))
    corners = vertices[faces].float()
    middles = (corners + corners.roll(1, 1)) / 2
    targets = torch.cat([vertices.float(), middles.reshape(-1, 3), corners.mean(1)])
    # From the middle of the ball every ray must leave it, whatever it is aimed at.
    for start in ([0.0, 0.0, 0.0], [0.03, -0.05, 0.01]):
        origins = torch.tensor(start).expand_as(targets)
        found = ops.cast_rays(origins.to(device), (targets - origins).to(device), bvh_of((vertices, faces), device))
        assert bool(found.hit.all())
        assert torch.allclose(found.t.cpu(), torch.ones(len(targets)), atol=1e-4)


def test_axis_aligned_rays_on_the_planes_of_boxes(device):
    bvh = bvh_of(rounded(sphere(0.4, 1)), device)
    for axis in range(3):
        directions = torch.eye(3)[axis].expand(4, 3).contiguous().to(device)
        signs = torch.tensor([[0.0, 0.0], [0.0, 1e-3], [1e-3, 0.0], [0.0, -0.0]])
        others = [k for k in range(3) if k != axis]
        origins = torch.zeros(4, 3)
        origins[:, axis] = -2
        origins[:, others] = signs
        assert bool(ops.cast_rays(origins.to(device), directions, bvh).hit.all())
        assert not bool(ops.cast_rays(origins.to(device), -directions, bvh).hit.any())


def test_parameter_counts_lengths_of_the_direction(device):
    bvh = bvh_of((torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]])), device)
    origins = torch.tensor([[0.2, 0.2, 3.0], [0.2, 0.2, -3.0], [0.9, 0.9, 3.0]], device=device)
    directions = torch.tensor([[0.0, 0, -6], [0, 0, 1.5], [0, 0, -1]], device=device)
    found = ops.cast_rays(origins, directions, bvh)
    assert found.t.tolist() == [0.5, 2.0, torch.inf]
    assert found.face.tolist() == [0, 0, -1]


def test_bad_rays_are_refused():
    bvh = bvh_of(rounded(tetrahedron()))
    good = torch.ones(4, 3)
    for origins, directions, error, words in (
        (good, torch.zeros(4, 3), ValueError, "directions: expected no direction of length 0"),
        (good, torch.ones(3, 3), ValueError, r"directions: expected shape \[4, 3\], got \[3, 3\]"),
        (good, good.double(), TypeError, "directions: expected dtype float32, got float64"),
        (good * torch.nan, good, ValueError, "origins: expected finite"),
        (good.int(), good, TypeError, "origins: expected dtype"),
    ):
        with pytest.raises(error, match=words):
            ops.cast_rays(origins, directions, bvh)
    assert ops.cast_rays(torch.empty(0, 3), torch.empty(0, 3), bvh).hit.shape == (0,)
