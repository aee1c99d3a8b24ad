"""The distance mask against brute force and a KD-tree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from pyimplicit import ops
from pyimplicit.ops import reference
from pyimplicit.ops.cloud_grid import sort_by_torch
from pyimplicit.ops.distance_mask import _arguments, _distance_mask_grid_op
from tests.helpers import rand, sphere


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [1e-6, 0.01, 0.1, 0.7, 100.0])
def test_mask_equals_twin(device, dtype, distance):
    cloud, points = rand(500, 3, low=-0.5, high=0.5), rand(3000, 3, seed=1, low=-0.8, high=0.8, dtype=dtype)
    points[:500] = cloud  # distance 0 counts at any radius
    mask = ops.distance_mask(points.to(device), ops.build_cloud_grid(cloud, distance).to(device))
    assert mask.dtype == torch.bool
    assert torch.equal(mask.cpu(), reference.distance_mask(points, cloud, distance))
    assert mask[:500].all()


@pytest.mark.parametrize("distance", [1e-5, 0.003, 0.03, 0.1, 5.0])
def test_mask_equals_tree_on_many_points(device, distance):
    """120,000 points, half of them near the cloud, decided by another library."""
    cloud = (sphere(0.4, 4)[0] + 0.01 * rand(1026, 3, dtype=torch.float64)).float()
    points = rand(120_000, 3, seed=2, low=-0.5, high=0.5)
    points[::2] = cloud[torch.arange(60_000) % len(cloud)] + 1.2 * distance * rand(60_000, 3, seed=3, low=-1)
    nearest, _ = cKDTree(cloud.double().numpy()).query(points.double().numpy(), workers=2)
    mask = ops.distance_mask(points.to(device), ops.build_cloud_grid(cloud.to(device), distance)).cpu().numpy()
    undecided = np.abs(nearest - distance) <= 1e-12 * distance
    assert undecided.sum() < 10
    assert np.array_equal(mask[~undecided], (nearest <= distance)[~undecided])
    assert mask.sum() > 0


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 40),
    distance=st.floats(1e-4, 10),
    stretch=st.tuples(*[st.sampled_from([0.0, 1e-3, 1.0, 50.0])] * 3),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
)
def test_any_cloud_equals_twin(seed, size, distance, stretch, offset):
    """Flat, long and far-away clouds."""
    cloud = rand(size, 3, seed=seed, low=-1) * torch.tensor(stretch) + offset
    points = cloud[torch.arange(100) % size].double() + distance * rand(
        100, 3, seed=seed + 1, low=-1, dtype=torch.float64
    )
    mask = ops.distance_mask(points, ops.build_cloud_grid(cloud, distance))
    assert torch.equal(mask, reference.distance_mask(points, cloud, distance))


def test_exactly_at_the_distance_counts(device):
    grid = ops.build_cloud_grid(torch.zeros(1, 3, device=device), 0.5)
    points = torch.tensor([[0.5, 0, 0], [0, -0.5, 0], [0.3, 0.4, 0], [0.5, 1e-3, 0]], dtype=torch.float64)
    assert ops.distance_mask(points.to(device), grid).tolist() == [True, True, True, False]


def test_any_shape_of_points(device):
    cloud, points = rand(50, 3).to(device), rand(2, 5, 7, 3, seed=1).to(device)
    grid = ops.build_cloud_grid(cloud, 0.2)
    mask = ops.distance_mask(points, grid)
    assert mask.shape == (2, 5, 7)
    assert torch.equal(mask, reference.distance_mask(points, cloud, 0.2))
    turned = points.permute(2, 0, 1, 3)
    assert torch.equal(ops.distance_mask(turned, grid), mask.permute(2, 0, 1))
    assert ops.distance_mask(points[0, 0, 0], grid).shape == ()
    assert ops.distance_mask(points[:0], grid).shape == (0, 5, 7)


def test_far_points_are_far(device):
    grid = ops.build_cloud_grid(rand(50, 3).to(device), 0.2)
    points = torch.tensor([[1e30, 0, 0], [0, -1e30, 0], [0.5, 0.5, 1e300]], dtype=torch.float64, device=device)
    assert not ops.distance_mask(points, grid).any()


def test_the_grid_stays_small():
    """However small the distance, the grid has at most 2 Mi cells."""
    grid = ops.build_cloud_grid(rand(1000, 3), 1e-9)
    assert len(grid.cell_start) <= 2**21 + 1
    assert int(grid.cell_start[-1]) == 1000


@pytest.mark.parametrize("shape", [(1, 3), (500, 3), (30_000, 3), (4, 300, 3)])
def test_sorting_by_torch_is_the_same(shape):
    """What a GPU does, on any device."""
    cloud = rand(*shape, low=-0.5, high=0.5).mul(40).round().div(40)  # many on the sides of cells, many coincide
    grid = ops.build_cloud_grid(cloud, 0.1)
    items = 1 if grid.batch is None else grid.batch
    ordered, start = sort_by_torch(cloud, items, list(grid.low), grid.cell_size, grid.size)
    assert torch.equal(ordered, grid.cloud)
    assert torch.equal(start, grid.cell_start)


# ---- batches of clouds


def test_each_row_is_compared_with_its_own_cloud(device):
    clouds, points = rand(5, 40, 3), rand(5, 6, 50, 3, seed=1, low=-0.2, high=1.2)
    grid = ops.build_cloud_grid(clouds.to(device), 0.15)
    mask = ops.distance_mask(points.to(device), grid)
    assert torch.equal(mask.cpu(), reference.distance_mask(points, clouds, 0.15))
    for row in range(5):
        alone = ops.build_cloud_grid(clouds[row].to(device), 0.15)
        assert torch.equal(ops.distance_mask(points[row].to(device), alone), mask[row])
    assert ops.distance_mask(points[:, 0, :0].to(device), grid).shape == (5, 0)


def test_the_grid_of_many_clouds_stays_small():
    grid = ops.build_cloud_grid(rand(64, 10, 3), 1e-9)
    assert len(grid.cell_start) <= 2**21 + 1
    assert int(grid.cell_start[-1]) == 640
    assert ops.build_mask_cells(grid) is None


# ---- grids of nodes


def check_grid(axes, cloud, distance):
    """The rows of bits against the plain body, and both against a KD-tree of all nodes."""
    grid = ops.build_cloud_grid(cloud, distance)
    mask = ops.distance_mask_grid(*axes, grid)
    plain = _distance_mask_grid_op(*[axis.double() for axis in axes], *_arguments(grid), True)
    assert torch.equal(mask, plain[0])
    nodes = torch.stack(torch.meshgrid(*[axis.double() for axis in axes], indexing="ij"), -1)
    nearest, _ = cKDTree(cloud.double().numpy()).query(nodes.numpy(), workers=2)
    assert np.array_equal(mask.numpy(), nearest <= distance)
    return mask


@pytest.mark.parametrize("distance", [1e-4, 0.004, 0.03, 0.1, 0.5, 3.0])
@pytest.mark.parametrize("count", [1, 30, 3000])
def test_grid_equals_tree(distance, count):
    """Nodes of the cube, in numbers that are no multiples of a tile or a word."""
    cloud = rand(count, 3, seed=count, low=-0.45, high=0.45)
    axes = [torch.linspace(-0.5, 0.5, nodes, dtype=torch.float64).float() for nodes in (29, 34, 67)]
    check_grid(axes, cloud, distance)


@pytest.mark.parametrize("count", [3000, 40_000])
def test_grid_around_a_surface_equals_tree(count):
    """Both sizes of cells, 300 nodes along z: more than one piece of work."""
    cloud = sphere(0.4, 3)[0][torch.arange(count) % 258] + 0.05 * rand(count, 3, seed=1, low=-1, dtype=torch.float64)
    axes = [torch.linspace(-0.5, 0.5, nodes, dtype=torch.float64).float() for nodes in (41, 37, 300)]
    mask = check_grid(axes, cloud.float(), 0.1)
    assert 0.1 < float(mask.float().mean()) < 0.9


def test_grid_of_nodes_exactly_at_the_distance():
    """A lattice of points and of nodes: thousands of distances that are the radius to the last bit."""
    axis = torch.arange(-16, 17) / 32
    cloud = torch.cartesian_prod(*[axis[::8]] * 3)
    for distance in (0.125, 0.15625, 0.25):
        mask = check_grid([axis.float()] * 3, cloud.float(), distance)
        assert 0 < mask.sum() <= mask.numel()
    alone = ops.distance_mask_grid(*[axis] * 3, ops.build_cloud_grid(torch.zeros(1, 3), 5 / 32))
    assert bool(alone[16 + 3, 16 + 4, 16])
    assert bool(alone[16, 16 + 3, 16 - 4])
    assert not bool(alone[16 + 3, 16 + 4, 16 + 1])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 60),
    distance=st.floats(1e-3, 3),
    nodes=st.tuples(*[st.integers(1, 12)] * 3),
    stretch=st.tuples(*[st.sampled_from([0.0, 1e-3, 1.0, 20.0])] * 3),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
    even=st.booleans(),
)
def test_any_grid_equals_twin(seed, size, distance, nodes, stretch, offset, even):
    """Flat, long and far-away clouds; nodes evenly spaced or not, also several at one place."""
    cloud = rand(size, 3, seed=seed, low=-1) * torch.tensor(stretch) + offset
    axes = []
    for i, count in enumerate(nodes):
        steps = torch.linspace(0, 1, count) if even else rand(count, seed=seed + i).sort().values
        axes.append((offset + (2 * steps.double() - 1) * max(1.0, stretch[i])).float())
    mask = ops.distance_mask_grid(*axes, ops.build_cloud_grid(cloud, distance))
    assert torch.equal(mask, reference.distance_mask_grid(*axes, cloud, distance))


def test_grid_of_a_batch(device):
    clouds = rand(3, 50, 3).to(device)
    axis = torch.linspace(0, 1, 9, device=device)
    mask = ops.distance_mask_grid(axis, axis[:7], axis[2:], ops.build_cloud_grid(clouds, 0.1))
    assert mask.shape == (3, 9, 7, 7)
    assert torch.equal(
        mask.cpu(), reference.distance_mask_grid(axis.cpu(), axis[:7].cpu(), axis[2:].cpu(), clouds.cpu(), 0.1)
    )


def test_empty_grid(device):
    axis = torch.linspace(0, 1, 4, device=device)
    assert ops.distance_mask_grid(axis, axis[:0], axis, ops.build_cloud_grid(rand(5, 3).to(device), 0.1)).shape == (
        4,
        0,
        4,
    )


# ---- cells of known state


@pytest.mark.parametrize("count", [1, 400, 30_000])
@pytest.mark.parametrize("offset", [0.0, -300.0])
def test_cells_never_change_the_answer(device, count, offset):
    """Points all over, and on the very edges of the cells."""
    cloud = (rand(count, 3, low=-0.4, high=0.4, dtype=torch.float64) + offset).float().to(device)
    grid = ops.build_cloud_grid(cloud, 0.1)
    cells = ops.build_mask_cells(grid)
    assert {0, 1, 2} >= set(cells.state.unique().tolist()) >= {0, 2}
    points = rand(60_000, 3, seed=1, low=-0.6, high=0.6, dtype=torch.float64).to(device) + offset
    edges = torch.tensor(cells.low, device=device) + cells.cell_size * torch.randint(
        0, 65, (30_000, 3), generator=torch.Generator().manual_seed(3)
    ).to(device)
    for some in (points, points.float(), edges.double()):
        assert torch.equal(ops.distance_mask(some, grid, cells), ops.distance_mask(some, grid))


def test_cells_leave_little_to_the_exact_test():
    cells = ops.build_mask_cells(ops.build_cloud_grid(sphere(0.4, 4)[0].float(), 0.1))
    assert float((cells.state == ops.MaskCells.BOUNDARY).float().mean()) < 0.2
    assert float((cells.state == ops.MaskCells.NEAR).float().mean()) > 0.2


def test_no_cells_for_a_small_distance():
    assert ops.build_mask_cells(ops.build_cloud_grid(rand(100, 3), 0.01)) is None


CLOUD, POINTS = torch.zeros(4, 3), torch.zeros(2, 3)
GRID, BATCH, AXIS = ops.build_cloud_grid(CLOUD, 0.1), ops.build_cloud_grid(torch.zeros(3, 4, 3), 0.1), torch.arange(3.0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.build_cloud_grid(CLOUD[:0], 0.1), ValueError, "cloud: expected at least one point"),
        (lambda: ops.build_cloud_grid(CLOUD.double(), 0.1), TypeError, "cloud: expected dtype float32"),
        (lambda: ops.build_cloud_grid(CLOUD[:, :2], 0.1), ValueError, r"cloud: expected shape \[M, 3\]"),
        (lambda: ops.build_cloud_grid(CLOUD.tolist(), 0.1), TypeError, "cloud: expected a torch tensor, got list"),
        (lambda: ops.build_cloud_grid(CLOUD + math.nan, 0.1), ValueError, "cloud: expected finite"),
        (lambda: ops.build_cloud_grid(CLOUD, 0), ValueError, "distance: expected a finite number above 0"),
        (lambda: ops.build_cloud_grid(CLOUD, math.nan), ValueError, "distance"),
        (lambda: ops.build_cloud_grid(CLOUD, math.inf), ValueError, "distance"),
        (lambda: ops.build_cloud_grid(CLOUD, None), TypeError, "distance: expected a number, got NoneType"),
        (lambda: ops.build_cloud_grid(CLOUD.reshape(1, 1, 4, 3), 0.1), ValueError, r"cloud: expected shape \[M, 3\]"),
        (lambda: ops.build_cloud_grid(torch.zeros(2, 0, 3), 0.1), ValueError, "cloud: expected at least one point"),
        (
            lambda: ops.distance_mask(POINTS, BATCH),
            ValueError,
            r"points: expected shape \[3, ..., 3\], one row a cloud",
        ),
        (lambda: ops.distance_mask(POINTS[0], BATCH), ValueError, r"points: expected shape \[3, ..., 3\]"),
        (lambda: ops.distance_mask_grid(AXIS.flip(0), AXIS, AXIS, GRID), ValueError, "x: expected ascending"),
        (lambda: ops.distance_mask_grid(AXIS, POINTS, AXIS, GRID), ValueError, r"y: expected shape \[nodes\]"),
        (lambda: ops.distance_mask_grid(AXIS, AXIS, AXIS * math.nan, GRID), ValueError, "z: expected finite"),
        (lambda: ops.distance_mask_grid(AXIS, AXIS, AXIS.long(), GRID), TypeError, "z: expected dtype"),
        (lambda: ops.distance_mask(POINTS[:, :2], GRID), ValueError, r"points: expected shape \[..., 3\]"),
        (lambda: ops.distance_mask(torch.tensor(1.0), GRID), ValueError, "points: expected shape"),
        (lambda: ops.distance_mask(POINTS.int(), GRID), TypeError, "points: expected dtype float32 or float64"),
        (lambda: ops.distance_mask(POINTS + math.inf, GRID), ValueError, "points: expected finite"),
        (lambda: ops.distance_mask(POINTS * math.nan, GRID), ValueError, "points: expected finite"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
