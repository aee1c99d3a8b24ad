"""What every operator must do beside its mathematics: registration, tracing, threads, processes."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from pyimplicit import ops
from pyimplicit.ops import RandomStream, reference
from tests.helpers import RecordOperators, around, bvh_of, rand, randn, rounded, soup, torus

MESH = rounded(torus())
OFFSETS = torch.tensor([[0.0, 0, 0], [0.1, 0.2, -0.3]])


def calls(device: torch.device) -> dict[str, Callable[[], Any]]:
    """One call of each public operator, large enough that several threads take part."""
    mesh = MESH[0].float().to(device), MESH[1].int().to(device)
    bvh, points = bvh_of(MESH, device), around(MESH, 3000).to(device)
    grids = [randn(2, 8, 6, 6, 6).to(device), randn(2, 5, 3, 4, 5, seed=1).to(device)]
    queries = rand(2, 3000, 3, low=-1.1, high=1.1).to(device)
    planes, weights = randn(2, 3, 8, 9, 9).to(device), rand(5000).to(device)
    cloud_grid = ops.build_cloud_grid(rand(3000, 3).to(device), 0.05)

    def closest() -> tuple[Tensor, ...]:
        hit = ops.closest_point(points.requires_grad_(), bvh)
        (slope,) = torch.autograd.grad(hit.distance.sum() + hit.point.sum(), points)
        return hit.distance, hit.point, hit.face, hit.barycentric, slope

    def signed() -> tuple[Tensor, ...]:
        distance = ops.signed_distance(points.requires_grad_(), bvh, "winding")
        return distance, torch.autograd.grad(distance.sum(), points)[0]

    table = ops.SurfaceTable.of([bvh, bvh_of(soup(50), device)], ["winding", "winding"])
    rows, shapes = points.clone().reshape(3, 1000, 3), torch.tensor([0, 1, 0], device=device)

    def batch_closest() -> tuple[Tensor, ...]:
        hit = ops.batch_closest_point(rows.requires_grad_(), table, shapes)
        (slope,) = torch.autograd.grad(hit.distance.sum() + hit.point.sum(), rows)
        return hit.distance, hit.point, hit.face, hit.barycentric, slope

    def batch_distance() -> tuple[Tensor, ...]:
        distance = ops.batch_distance(rows.requires_grad_(), table, shapes, signed=True)
        return distance, torch.autograd.grad(distance.sum(), rows)[0]

    def sampled_grids() -> tuple[Tensor, ...]:
        inputs = [*[grid.requires_grad_() for grid in grids], queries.requires_grad_()]
        features = ops.sample_grids(inputs[:2], queries, OFFSETS.to(device))
        slopes = torch.autograd.grad(features.square().sum(), inputs, create_graph=True)
        seconds = torch.autograd.grad(slopes[-1].square().sum() + slopes[0].square().sum(), inputs)
        at_constants = ops.sample_grids(inputs[:2], queries.detach(), OFFSETS.to(device)).square().sum()
        slopes += torch.autograd.grad(at_constants, inputs[:2], create_graph=True)
        seconds += torch.autograd.grad(slopes[-1].square().sum() + slopes[-2].sum(), inputs[:2])
        return features.detach(), *(slope.detach() for slope in slopes), *seconds

    def sampled_linear() -> tuple[Tensor, ...]:
        matrix = randn(7, 26, seed=5).to(device).requires_grad_()
        # Not along the matrix: that is a product of torch, which sums over the points as its threads cut them.
        inputs = [grids[0].requires_grad_(), grids[1].requires_grad_(), queries.requires_grad_()]
        result = ops.sample_grids_linear(inputs[:2], queries, matrix, None, OFFSETS.to(device), coarse=[False, True])
        return result, *torch.autograd.grad(result.sum(), inputs)

    def sampled_planes() -> tuple[Tensor, ...]:
        inputs = (planes.requires_grad_(), queries[..., :2].detach().requires_grad_())
        features = ops.sample_planes(*inputs)
        return features, *torch.autograd.grad(features.square().sum(), inputs)

    def convolved() -> tuple[Tensor, ...]:
        # as many cells and channels as minimal filtering takes
        inputs = [randn(1, 128, 20, 20, 21), randn(128, 128, 3, 3, 3, seed=1), randn(128, seed=2)]
        inputs = [values.to(device).requires_grad_() for values in inputs]
        results = ops.convolve_grids(*inputs)
        slopes = torch.autograd.grad(results.square().sum(), inputs, create_graph=True)
        seconds = torch.autograd.grad(slopes[0].square().sum() + slopes[1].sum() + slopes[2].sum(), inputs[:2])
        return results.detach(), *(slope.detach() for slope in slopes), *seconds

    cells = torch.arange(12_000, device=device).mul(7919).remainder(500).view(2, 2, 3000)
    features = randn(2, 3000, 8, seed=2).to(device)

    def scattered(operator: Callable[..., Any]) -> Callable[[], tuple[Tensor, ...]]:
        def call() -> tuple[Tensor, ...]:
            result = as_tuple(operator(features.requires_grad_(), ops.build_cell_groups(cells, 500)))
            return *result, torch.autograd.grad(result[0].square().sum(), features)[0]

        return call

    def weighted() -> tuple[Tensor, ...]:
        result = ops.linear_weights(weights.requires_grad_(), 0.5)
        return result, torch.autograd.grad(result.sum(), weights)[0]

    stream = RandomStream(3, 1, 4, 1)
    streams = ops.RowStreams.of(3, torch.tensor([[0, 4], [1, 4], [0, 5]]), device)
    areas = torch.cat([ops.build_area_table(held.triangles) for held in (bvh, bvh_of(soup(50), device))])
    sources = [ops.PointSource(500, None, 0), ops.PointSource(700, 0.1, 2), ops.PointSource(100, 0.0, 4)]
    weight = ops.DistanceWeight(10.0, 0.1)
    weight_cells = ops.WeightCells.of(
        [ops.build_weight_cells(held, weight) for held in (bvh, bvh_of(soup(50), device))]
    )
    turned = torch.linalg.qr(randn(3, 3, 3, seed=8)).Q.to(device)
    views = ops.DepthViews(turned, 40, 0.05)
    held_faces = mesh[1].int()
    return {
        "draw_depth": lambda: ops.draw_depth(mesh[0].float(), held_faces, views),
        "count_views": lambda: ops.count_views(
            points.detach(), ops.draw_depth(mesh[0].float(), held_faces, views), views, 2
        ),
        "closest_point": closest,
        "unsigned_distance": lambda: ops.unsigned_distance(points.detach(), bvh),
        "signed_distance": signed,
        "winding_number": lambda: ops.winding_number(points.detach(), bvh),
        "contains": lambda: ops.contains(points.detach(), bvh),
        "batch_closest_point": batch_closest,
        "batch_distance": batch_distance,
        "cast_rays": lambda: _ray_tensors(ops.cast_rays(points.detach(), 1 + points.detach(), bvh)),
        "sample_grids": sampled_grids,
        "sample_grids_linear": sampled_linear,
        "sample_planes": sampled_planes,
        "convolve_grids": convolved,
        "scatter_mean": scattered(ops.scatter_mean),
        "scatter_max": scattered(ops.scatter_max),
        "pool_local": scattered(ops.pool_local),
        "voxelise": lambda: ops.voxelise(rows.detach(), 20),
        "farthest_points": lambda: ops.farthest_points(rows.detach(), 100),
        "nearest_neighbours": lambda: ops.nearest_neighbours(rows.detach(), rows.detach().flip(0), 5),
        "linear_weights": weighted,
        "weighted_choice": lambda: ops.weighted_choice(weights, 700, stream),
        "weighted_choice with replacement": lambda: ops.weighted_choice(weights, 700, stream, True),
        "query_points": lambda: ops.query_points(table, areas, shapes, streams, sources),
        "labelled_query_points": lambda: ops.labelled_query_points(table, areas, shapes, streams, sources, signed=True),
        "sample_by_distance": lambda: ops.sample_by_distance(table, weight_cells, shapes, streams, 900, signed=True),
        "sample_surface": lambda: ops.sample_surface(*mesh, 3000, stream),
        "distance_mask": lambda: ops.distance_mask(points.detach(), cloud_grid),
        "distance_mask_grid": lambda: ops.distance_mask_grid(*[rand(21).sort().values.to(device)] * 3, cloud_grid),
        "uniform": lambda: ops.uniform(5000, stream, device=device),
        "normal": lambda: ops.normal(5000, stream, device=device),
    }


def _ray_tensors(hits: ops.RayHits) -> tuple[Tensor, ...]:
    return hits.t, hits.face, hits.barycentric


NAMES = list(calls(torch.device("cpu")))
OPERATORS = [name for name in NAMES if name not in ("uniform", "normal")]


def as_tuple(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def test_every_public_operator_is_here():
    public = {name for name in ops.__all__ if name[0].islower() and not name.startswith("build_")}
    assert public == set(NAMES) - {"weighted_choice with replacement"}


def test_every_public_operator_has_a_twin():
    for name in ops.__all__:
        if name[0].islower() and not name.startswith("build_"):
            assert f"`pyimplicit.ops.{name}`" in getattr(reference, name).__doc__


# ---- registration


@pytest.fixture(autouse=True)
def sums_in_order(request: pytest.FixtureRequest) -> Iterator[None]:
    """On a GPU gradients of features are summed in a fixed order only if it is asked for."""
    on_gpu = "device" in request.fixturenames and request.getfixturevalue("device").type == "cuda"
    torch.use_deterministic_algorithms(on_gpu)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(device, name):
    """Schema, shapes while tracing, autograd registration, and tracing with symbolic shapes."""
    with RecordOperators() as recorded:
        calls(device)[name]()
    assert recorded.calls
    for operator, arguments in recorded.calls:
        # The derivatives of these are refused, or are not traced: see test_interpolation.py and test_scatter.py.
        if operator.name().endswith(("_double_backward", "mean_backward", "max_backward", "local_backward")):
            arguments = tree_map_only(Tensor, Tensor.detach, arguments)
        torch.library.opcheck(operator, arguments)


def test_opcheck_covers_every_registered_operator():
    seen = set()
    for call in calls(torch.device("cpu")).values():
        with RecordOperators() as recorded:
            call()
        seen |= {operator.name() for operator, _ in recorded.calls}
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("pyimplicit::")}
    assert registered == seen


# ---- tracing


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("closest_point", (50, 3)),
        ("unsigned_distance", (50, 3)),
        ("signed_distance", (50, 3)),
        ("winding_number", (50, 3)),
        ("distance_mask", (50, 3)),
        ("linear_weights", (50,)),
        ("sample_grids", (1, 50, 3)),
        ("sample_grids_linear", (1, 50, 3)),
        ("sample_planes", (1, 50, 2)),
        ("convolve_grids", (1, 2, 3, 3, 3)),
        ("sample_surface", (3, 3)),
        ("scatter_mean", (2, 6, 3)),
        ("scatter_max", (2, 6, 3)),
        ("pool_local", (2, 6, 3)),
        ("voxelise", (2, 6, 3)),
        ("farthest_points", (2, 6, 3)),
        ("nearest_neighbours", (2, 6, 3)),
    ],
)
def test_compiled_whole(device, name, shape, backend):
    """One graph without a break, forward and backward, and the same numbers."""
    bvh, cloud_grid = bvh_of(MESH, device), ops.build_cloud_grid(rand(30, 3).to(device), 0.3)
    grid, planes = randn(1, 2, 3, 3, 3).to(device), randn(1, 2, 2, 3, 3).to(device)
    face, matrix = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device), randn(3, 4, seed=2).to(device)
    cells = torch.tensor([[0, 1, 1, 4, 4, 4], [2, 2, 3, 3, 0, 0]], device=device)
    groups, kernels = ops.build_cell_groups(cells, 5), randn(3, 2, 3, 3, 3, seed=3).to(device)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "closest_point": lambda x: ops.closest_point(x, bvh).point * 2,
        "unsigned_distance": lambda x: ops.unsigned_distance(x * 0.5, bvh) + 1,
        "signed_distance": lambda x: ops.signed_distance(x * 0.5, bvh, "winding") + 1,
        "winding_number": lambda x: ops.winding_number(x.detach(), bvh) * 2,
        "distance_mask": lambda x: ops.distance_mask(x, cloud_grid).float(),
        "linear_weights": lambda x: ops.linear_weights(x.square(), 0.5) * 3,
        "sample_grids": lambda x: ops.sample_grids([grid, grid], x, padding_mode="zeros").square(),
        "sample_grids_linear": lambda x: ops.sample_grids_linear([grid, grid], x, matrix, coarse=[True, False]),
        "sample_planes": lambda x: ops.sample_planes(planes, x).square(),
        "convolve_grids": lambda x: ops.convolve_grids(x, kernels).square(),
        "sample_surface": lambda x: ops.sample_surface(x, face, 7)[0] + 1,
        "scatter_mean": lambda x: ops.scatter_mean(x, ops.build_cell_groups(cells, 5), channels_first=True).square(),
        "scatter_max": lambda x: ops.scatter_max(x, groups)[0].square(),
        "pool_local": lambda x: ops.pool_local(x, groups).square(),
        "voxelise": lambda x: ops.voxelise(x, 4) * 2,
        "farthest_points": lambda x: ops.farthest_points(x, 4, start=1) * 2,
        "nearest_neighbours": lambda x: ops.nearest_neighbours(x * 0.5, x, 2) * 2,
    }
    function = functions[name]
    inputs = rand(*shape).to(device)
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    mine, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    actual, expected = compiled(mine), function(theirs)
    torch.testing.assert_close(actual, expected)
    assert actual.requires_grad == expected.requires_grad
    if expected.requires_grad:
        actual.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_compiled_checks_still_refuse():
    """A graph cannot branch on values, but bad ones do not pass in silence either."""
    torch._dynamo.reset()
    bvh = bvh_of(MESH)
    distance = torch.compile(lambda x: ops.unsigned_distance(x, bvh), fullgraph=True, backend="aot_eager")
    distance(torch.zeros(4, 3))
    with pytest.raises(RuntimeError, match="points: expected finite values"):
        distance(torch.full((4, 3), torch.nan))
    weights = torch.compile(lambda x: ops.linear_weights(x), fullgraph=True, backend="aot_eager")
    weights(torch.zeros(4))
    with pytest.raises(RuntimeError, match="distance: expected no negative values"):
        weights(torch.tensor([0.0, -1.0]))


# ---- threads and processes


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_on_any_number_of_threads(device, name):
    call = calls(device)[name]
    results = []
    for threads in (1, 2, 16, 1):
        torch.set_num_threads(threads)
        results.append(as_tuple(call()))
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert torch.equal(one, other)


def test_two_threads_at_once(device):
    """Callers do not disturb each other, though they share the pool."""
    torch.set_num_threads(2)
    work = calls(device)
    expected = {name: as_tuple(call()) for name, call in work.items()}

    def run(names: list[str]) -> list[tuple[str, tuple[Tensor, ...]]]:
        return [(name, as_tuple(calls(device)[name]())) for _ in range(2) for name in names]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        orders = [NAMES, NAMES[::-1], NAMES[5:] + NAMES[:5], NAMES[::2] + NAMES[1::2]]
        for answers in pool.map(run, orders):
            for name, answer in answers:
                for one, other in zip(expected[name], answer, strict=True):
                    assert torch.equal(one, other), name


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_can_call():
    """Data loaders fork: the child has none of the parent's threads and must not wait for them."""
    torch.set_num_threads(4)
    bvh, points = bvh_of(MESH), around(MESH, 2000)
    expected = ops.unsigned_distance(points, bvh)  # the pool is awake before the fork
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        ok = b"n"
        try:
            ok = b"y" if torch.equal(ops.unsigned_distance(points, bvh), expected) else b"n"
        finally:
            os.write(writing, ok)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"y"
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(ops.unsigned_distance(points, bvh), expected)


def test_hierarchy_and_grid_can_be_pickled_for_workers():
    bvh, cloud_grid, points = bvh_of(MESH), ops.build_cloud_grid(rand(50, 3), 0.1), around(MESH, 100)
    copied, copied_grid = pickle.loads(pickle.dumps((bvh, cloud_grid)))
    assert torch.equal(ops.unsigned_distance(points, copied), ops.unsigned_distance(points, bvh))
    assert torch.equal(ops.distance_mask(points, copied_grid), ops.distance_mask(points, cloud_grid))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_gpu_agrees_with_cpu(name):
    """Distances to 1e-6 of the size, drawn numbers bit by bit but for the last one of transcendental functions."""
    mine, theirs = (as_tuple(calls(torch.device(where))[name]()) for where in ("cuda", "cpu"))
    # Where two faces are as near either may be named.
    skip = {2, 3} if name in ("closest_point", "batch_closest_point") else set()
    for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        if place in skip:
            continue
        if other.is_floating_point():
            off = (one.cpu() - other).abs() > 2e-4 * (1 + other.abs())
            assert float(off.float().mean()) < 2e-3
        else:
            assert torch.equal(one.cpu(), other)


def test_soup_signs_agree_with_brute_force():
    """At least 99.9% of signs of a triangle soup are those of the exact winding number."""
    mesh = rounded(soup(400, size=0.1))
    points = around(mesh, 6000)
    found = ops.signed_distance(points, bvh_of(mesh), "winding") < 0
    agree = found == (reference.winding_number(points.double(), *mesh) > 0.5)
    assert float(agree.double().mean()) >= 0.999


def test_messages_name_the_operator():
    with pytest.raises(NotImplementedError, match=re.escape("pyimplicit::winding_number cannot be differentiated")):
        ops.winding_number(torch.zeros(1, 3, requires_grad=True), bvh_of(MESH)).sum().backward()
