"""Signs and distances of `Surface` over many meshes, against sums in double precision over all of their faces.

    python -m benchmarks.verify_surface [--points 10000000] [--meshes 60]

The points of each mesh lie in and around its bounding box, beside its faces, edges and corners, and on a coarse
lattice. On closed meshes a sign, of "auto" or of "winding", is wrong where it differs from winding number > 0.5 and the
point is farther than 1e-6 of the diagonal from the surface; there must be none. Of some points the distance is compared
with that to every face; it may be off by 1e-6 of the diagonal. On open and inconsistently oriented meshes at least
99.95% of the signs must be those of winding number > 0.5. Exits with 1 if anything fails.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from benchmarks import meshes
from benchmarks.harness import print_rows
from pyimplicit.geometry.marching import marching_cubes
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import reference

Body = tuple[NDArray[np.float64], NDArray[np.int64]]  # vertices [V, 3], faces [F, 3]

NEAR = 1e-6  # of the diagonal: a sign nearer to the surface is not counted, a distance may be off by as much
LEAST_AGREEMENT = 99.95  # percent, on meshes that have no inside
BLOCK = 256, 64  # faces and points in one step: fits the cache, and torch keeps it on one thread
CALL = 2000  # points of a call as training makes them; half of the points are asked so, half in one call
MEASURED = 1500  # points of each mesh whose distance is compared with brute force


# ---- bodies


def turned(body: Body, seed: int) -> Body:
    """Rotated at random."""
    turn = trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))[:3, :3]
    return body[0] @ turn.T, body[1]


def scaled(body: Body, *by: float) -> Body:
    """Stretched along the axes."""
    return body[0] * np.array(by), body[1]


def moved(body: Body, *by: float) -> Body:
    """Displaced."""
    return body[0] + np.array(by), body[1]


def flipped(body: Body) -> Body:
    """Turned inside out."""
    return body[0], body[1][:, ::-1]


def twisted(body: Body, turns: float) -> Body:
    """Turned around z, more the higher."""
    x, y, z = body[0].T
    angle = 2 * np.pi * turns * z
    return np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle), z], 1), body[1]


def rough(body: Body, size: float, seed: int) -> Body:
    """Every vertex moved at random."""
    return body[0] + np.random.default_rng(seed).normal(0, size, body[0].shape), body[1]


def on_lattice(body: Body, step: float) -> Body:
    """Every vertex moved to the nearest node of a lattice: many faces lie in one plane, or lose their area."""
    return np.round(body[0] / step) * step, body[1]


def joined(*bodies: Body) -> Body:
    """Several bodies as one mesh."""
    return meshes.join(list(bodies))


def without(body: Body, share: float, seed: int) -> Body:
    """Some faces left out at random."""
    return body[0], body[1][np.random.default_rng(seed).random(len(body[1])) >= share]


def ball(subdivisions: int, radius: float = 0.4) -> Body:
    """An icosphere."""
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(sphere.vertices), np.asarray(sphere.faces)


def brick(x: float = 0.8, y: float = 0.5, z: float = 0.3, subdivisions: int = 0) -> Body:
    """A box."""
    box = trimesh.creation.box(extents=(x, y, z))
    for _ in range(subdivisions):
        box = box.subdivide()
    return np.asarray(box.vertices, dtype=np.float64), np.asarray(box.faces)


def prism(sides: int, height: float, radius: float = 0.4) -> Body:
    """A prism whose caps are fans around one of their corners: slivers where it has many sides."""
    angle = 2 * np.pi * np.arange(sides) / sides
    rim = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    vertices = np.concatenate([np.column_stack([rim, np.full(sides, z)]) for z in (-height / 2, height / 2)])
    k = np.arange(sides)
    after = (k + 1) % sides
    walls = [np.stack([k, after, after + sides], 1), np.stack([k, after + sides, k + sides], 1)]
    fan = np.stack([np.zeros(sides - 2, dtype=np.int64), k[1:-1], k[2:]], 1)
    return vertices, np.concatenate([*walls, fan[:, ::-1], fan + sides])


def knot(p: int, q: int, thickness: float, steps: int, sides: int) -> Body:
    """A tube along a torus knot; a thick one runs into itself."""
    at = 2 * np.pi * np.arange(steps) / steps
    reach = 0.28 + 0.12 * np.cos(q * at)
    path = np.stack([reach * np.cos(p * at), reach * np.sin(p * at), 0.12 * np.sin(q * at)], 1)
    tangent = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    out = path - 0.28 * np.stack([np.cos(p * at), np.sin(p * at), 0 * at], 1)  # from the core of the torus
    out -= tangent * (out * tangent).sum(1, keepdims=True)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    aside = np.cross(tangent, out)
    around = (2 * np.pi * np.arange(sides) / sides)[None, :, None]
    vertices = path[:, None] + thickness * (np.cos(around) * out[:, None] + np.sin(around) * aside[:, None])
    faces = meshes.ring(1, 0.1, steps, sides)[1]
    return _outwards((vertices.reshape(-1, 3), faces))


def hull(count: int, seed: int) -> Body:
    """The convex hull of random points on a sphere, slivers among its faces."""
    points = np.random.default_rng(seed).normal(size=(count, 3))
    solid = trimesh.convex.convex_hull(0.4 * points / np.linalg.norm(points, axis=1, keepdims=True))
    return np.asarray(solid.vertices), np.asarray(solid.faces)


def blob(nodes: int, waves: int, seed: int) -> Body:
    """Marching cubes of a sum of random waves, many bodies and cavities, cut off at the border."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(-0.45, 0.45, nodes)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    values = sum(np.sin(grid @ rng.normal(0, 9, 3) + rng.uniform(0, 2 * np.pi)) for _ in range(waves))
    mesh = marching_cubes(values, (-0.45,) * 3, (axis[1] - axis[0],) * 3)
    return mesh.vertices.double().numpy(), mesh.faces.numpy().astype(np.int64)


def blocks(cells: int, share: float, seed: int) -> Body:
    """Random cells of a lattice, filled: bodies touch along edges and at corners, points are as near to many faces."""
    filled = np.pad(np.random.default_rng(seed).random((cells,) * 3) < share, 1)
    quads = []
    for axis in range(3):
        for step in (1, -1):
            x, y, z = np.nonzero(filled & ~np.roll(filled, -step, axis))
            corner = np.stack([x, y, z], 1)
            if step > 0:
                corner[:, axis] += 1
            u, v = np.eye(3, dtype=np.int64)[[(axis + 1) % 3, (axis + 2) % 3]]
            sides = [corner, corner + u, corner + u + v, corner + v]
            quads.append(np.stack(sides if step > 0 else sides[::-1], 1))
    corners = np.concatenate(quads).reshape(-1, 3)
    vertices, index = np.unique(corners, axis=0, return_inverse=True)
    a, b, c, d = index.reshape(-1, 4).T
    return vertices / cells - 0.5, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def _outwards(body: Body) -> Body:
    a, b, c = body[0][body[1].T]
    return body if float((np.cross(a, b) * c).sum()) > 0 else flipped(body)


def closed_bodies() -> Iterator[tuple[str, Body]]:
    """Name, vertices and faces of meshes that are closed and oriented, 12 to 5,120 faces."""
    yield "tetrahedron", _outwards((np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]), FOUR))
    yield "regular tetrahedron", _outwards((np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]), FOUR))
    yield "box", brick()
    yield "cube, turned", turned(brick(0.5, 0.5, 0.5), 1)
    yield "cube in pieces", brick(1, 1, 1, 3)
    yield "plate, 1e-4 thick", brick(1, 0.8, 1e-4, 2)
    yield "plate, 1e-5 thick, turned", turned(brick(1, 0.8, 1e-5, 2), 2)
    yield "needle", turned(brick(1, 1e-3, 1e-3, 2), 3)
    for subdivisions in range(5):
        yield f"ball {subdivisions}", ball(subdivisions)
    yield "egg", turned(scaled(ball(3), 1, 0.4, 0.15), 4)
    yield "pancake", turned(scaled(ball(3), 1, 1, 1e-3), 5)
    yield "spike", turned(scaled(ball(2), 1, 1e-3, 1e-3), 6)
    yield "rough ball", rough(ball(3), 0.01, 7)
    yield "very rough ball", rough(ball(3), 0.04, 8)  # runs into itself
    yield "ball on a lattice", on_lattice(ball(3), 1 / 16)
    yield "ball on a coarse lattice", on_lattice(ball(2), 1 / 8)
    yield "ring", meshes.ring(0.3, 0.12, 24, 12)
    yield "thin ring", meshes.ring(0.4, 0.004, 60, 6)
    yield "fat ring", meshes.ring(0.2, 0.19, 24, 16)
    yield "ring that runs into itself", meshes.ring(0.2, 0.25, 24, 16)
    yield "twisted ring", twisted(scaled(meshes.ring(0.3, 0.1, 32, 12), 1, 0.6, 2), 2)
    yield "ring on a lattice", on_lattice(meshes.ring(0.3, 0.12, 24, 12), 1 / 32)
    yield "twisted box", twisted(brick(0.3, 0.2, 0.9, 3), 1)
    yield "hard twisted box", twisted(brick(0.3, 0.1, 0.9, 3), 4)
    for sides, height in ((3, 0.5), (16, 1e-3), (200, 0.4), (400, 1e-2), (300, 4)):
        yield f"prism, {sides} sides, {height:g} high", turned(prism(sides, height), sides)
    yield "prism, aspect 1e6", turned(prism(64, 1e-6 * 40), 9)
    yield "pin, aspect 1e4", turned(prism(40, 1, 1e-4), 10)
    yield "trefoil", knot(2, 3, 0.04, 120, 8)
    yield "trefoil, self-crossing", knot(2, 3, 0.1, 90, 8)
    yield "knot 3, 4", knot(3, 4, 0.03, 160, 6)
    yield "knot 2, 7, self-crossing", knot(2, 7, 0.07, 160, 6)
    yield "hull of 12", hull(12, 11)
    yield "hull of 400", hull(400, 12)
    yield "hull of 1000, flat", scaled(hull(1000, 13), 1, 1, 0.01)
    for seed, nodes in enumerate((8, 12, 14)):
        yield f"isosurface {nodes}", blob(nodes, 6, 20 + seed)
    yield "isosurface 16, unturned waves", blob(16, 2, 24)
    yield "blocks 4", blocks(4, 0.5, 25)
    yield "blocks 6", blocks(6, 0.4, 26)
    yield "blocks 5, nearly full", blocks(5, 0.85, 27)
    yield "two balls", joined(moved(ball(2), 0.2, 0, 0), moved(ball(3), -0.2, 0.05, 0))
    yield "ten overlapping bodies", joined(*(_somewhere(k) for k in range(10)))
    yield "thirty boxes", joined(*(moved(turned(brick(0.2, 0.3, 0.1), k), *_spread(k, 0.4)) for k in range(30)))
    yield (
        "linked rings",
        joined(meshes.ring(0.25, 0.06, 24, 10), moved(_upright(meshes.ring(0.25, 0.06, 24, 10)), 0.25)),
    )
    yield "bricks that touch", joined(*(moved(brick(0.25, 0.25, 0.25), k / 4, k % 2 / 4, 0) for k in range(4)))
    yield "ball with a cavity", joined(ball(3), flipped(ball(2, 0.25)))
    yield "ball in a cavity", joined(ball(3), flipped(ball(2, 0.3)), ball(2, 0.15))
    yield "ring with a hollow", joined(meshes.ring(0.3, 0.12, 24, 12), flipped(meshes.ring(0.3, 0.08, 24, 12)))
    yield "ball twice", joined(ball(2), ball(2))
    yield "ring three times", joined(*[meshes.ring(0.3, 0.1, 16, 10)] * 3)
    yield "two balls one inside out", joined(moved(ball(2), 0.25, 0, 0), moved(flipped(ball(2)), -0.25, 0, 0))
    yield "ring in pieces", _unwelded(meshes.ring(0.3, 0.12, 24, 12))
    yield "tiny ball", scaled(ball(2), 1e-6, 1e-6, 1e-6)
    yield "huge knot", scaled(knot(2, 3, 0.04, 100, 6), 1e6, 1e6, 1e6)
    yield "ball 1e3 away", moved(ball(2), 1e3, -1e3, 2e2)
    yield "box 1e6 away", moved(turned(brick(), 30), -1e6, 3e5, 1e6)
    yield "ring 1e6 away", moved(meshes.ring(0.3, 0.12, 24, 12), 1e6, 0, 0)
    yield "overlapping balls 1e5 away", moved(joined(moved(ball(2), 0.2, 0, 0), ball(3)), 0, 1e5, -1e5)
    yield "knot 3e4 away", moved(knot(2, 3, 0.05, 90, 6), 3e4, 3e4, 3e4)


def open_bodies() -> Iterator[tuple[str, Body]]:
    """Name, vertices and faces of meshes with holes or faces the wrong way round."""
    heap, house = meshes.soup(60), meshes.abbey(pieces=60)
    yield "soup of boxes", (heap.vertices.double().numpy(), heap.faces.numpy())
    yield "small abbey", (house.vertices.double().numpy(), house.faces.numpy())
    yield "ball with a hole", (ball(3)[0], ball(3)[1][60:])
    yield "ball with many holes", without(ball(3), 0.1, 1)
    # Not quite half: in the plane of a symmetric cut the winding number is 0.5 up to the last digit.
    vertices, faces = meshes.ring(0.3, 0.12, 24, 12)
    yield "half a ring", (vertices, faces[vertices[faces].mean(1) @ (0.2, 1, 0.1) > 0.02])
    yield "box without a lid", (brick()[0], brick()[1][2:])
    random = np.random.default_rng(2)
    vertices, faces = knot(2, 3, 0.05, 100, 8)
    yield "knot, some faces flipped", (vertices, np.where(random.random((len(faces), 1)) < 0.1, faces[:, ::-1], faces))
    triangles = random.uniform(-0.4, 0.4, (200, 1, 3)) + random.normal(0, 0.1, (200, 3, 3))
    yield "random triangles", (triangles.reshape(-1, 3), np.arange(600).reshape(200, 3))


FOUR = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]])


def _spread(seed: int, size: float) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-size, size, 3)


def _somewhere(seed: int) -> Body:
    kinds: list[Callable[[], Body]] = [lambda: ball(1, 0.2), brick, lambda: meshes.ring(0.2, 0.08, 12, 8)]
    return moved(scaled(turned(kinds[seed % 3](), seed), 0.6, 0.6, 0.6), *_spread(seed, 0.2))


def _upright(body: Body) -> Body:
    x, y, z = body[0].T
    return np.stack([x, -z, y], 1), body[1]


def _unwelded(body: Body) -> Body:
    return body[0][body[1]].reshape(-1, 3), np.arange(body[1].size).reshape(-1, 3)


# ---- points and their exact answers


def points_around(vertices: Tensor, faces: Tensor, count: int, seed: int) -> Tensor:
    """Points [count, 3] float64: half in the widened box, four tenths beside the surface, the rest on a lattice."""
    random = torch.Generator().manual_seed(seed)
    low, high = vertices.amin(0), vertices.amax(0)
    middle, reach = (low + high) / 2, 0.6 * (high - low) + 0.05 * (high - low).amax()
    diagonal = float((high - low).norm())
    points = torch.rand(count, 3, generator=random, dtype=torch.float64) * 2 - 1
    lattice = count // 10
    points[:lattice] = (points[:lattice] * 8).round() / 8
    points = middle + reach * points

    beside = count * 4 // 10
    weights = torch.rand(beside, 3, generator=random, dtype=torch.float64)
    weights[: beside // 3, 0] = 0  # on an edge
    weights[: beside // 8, 1] = 0  # on a corner
    weights /= weights.sum(1, keepdim=True)
    face = faces[torch.randint(len(faces), (beside,), generator=random)]
    feet = (vertices[face] * weights.unsqueeze(2)).sum(1)
    sizes = torch.tensor([3e-6, 3e-5, 1e-3, 1e-2, 1e-1], dtype=torch.float64)
    noise = torch.randn(beside, 3, generator=random, dtype=torch.float64)
    points[-beside:] = feet + diagonal * sizes[torch.arange(beside) % len(sizes)].unsqueeze(1) * noise
    return points[torch.randperm(count, generator=random)]


def winding_numbers(points: Tensor, vertices: Tensor, faces: Tensor, pool: ThreadPoolExecutor) -> Tensor:
    """The sum of all solid angles over 4 pi, in double precision, [N].

    As `pyimplicit.ops.reference.winding_number`, with which it is compared, but axis by axis and in blocks that stay in
    the cache: some three times as fast.

    Source:
        Van Oosterom and Strackee, "The Solid Angle of a Plane Triangle", 1983.
    """
    triangles = [
        some.permute(1, 2, 0).unsqueeze(3).contiguous()  # [3 corners, 3 axes, f, 1]
        for some in torch.split(vertices[faces], BLOCK[0])
    ]

    def of(some: Tensor) -> Tensor:
        columns = some.T.contiguous()
        return torch.stack([_angles(columns, corners) for corners in triangles]).sum(0) / (2 * math.pi)

    return torch.cat(list(pool.map(of, torch.split(points, BLOCK[1]))))


def _angles(points: Tensor, corners: Tensor) -> Tensor:
    """Half the solid angle of all triangles [3, 3, f, 1] from each of the points [3, n], [n]."""
    a, b, c = ([corner[k] - points[k] for k in range(3)] for corner in corners)
    la, lb, lc = _dot(a, a).sqrt_(), _dot(b, b).sqrt_(), _dot(c, c).sqrt_()
    across = [torch.addcmul(b[i] * c[j], b[j], c[i], value=-1) for i, j in ((1, 2), (2, 0), (0, 1))]
    determinant = _dot(a, across)
    denominator = (la * lb).mul_(lc).addcmul_(_dot(a, b), lc).addcmul_(_dot(b, c), la).addcmul_(_dot(c, a), lb)
    # In the plane of a face the angle is 0; on the face itself it is undecided between 2 pi and -2 pi.
    return torch.where(determinant == 0, 0.0, torch.atan2(determinant, denominator)).sum(0)


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return (a[0] * b[0]).addcmul_(a[1], b[1]).addcmul_(a[2], b[2])


# ---- the comparison


@dataclass
class Verdict:
    """What was found on one mesh."""

    name: str
    faces: int
    method: str  # what "auto" is
    points: int
    wrong_auto: int
    wrong_winding: int
    error: float  # of the distance, in diagonals
    is_closed: bool

    @property
    def passed(self) -> bool:
        """Whether this mesh fails nothing."""
        wrong = max(self.wrong_auto, self.wrong_winding)
        right = wrong == 0 if self.is_closed else 100 * (1 - wrong / self.points) >= LEAST_AGREEMENT
        return right and self.error <= NEAR


def compare(name: str, body: Body, count: int, seed: int, is_closed: bool, pool: ThreadPoolExecutor) -> Verdict:
    """Ask the surface and the sums over all faces about the same points."""
    vertices, faces = torch.from_numpy(body[0]), torch.from_numpy(np.ascontiguousarray(body[1], dtype=np.int64))
    low, high = vertices.amin(0), vertices.amax(0)
    diagonal = float((high - low).norm())
    points = points_around(vertices, faces, count, seed)
    if float(vertices.abs().max()) < 10 * diagonal:  # near the origin float32 is enough, and what most people have
        vertices, asked = vertices.float().double(), points.float()
        points = asked.double()
    else:
        asked = points
    surface = Surface(vertices, faces)
    expected = winding_numbers(points, vertices, faces, pool)
    some = slice(0, count, max(1, count // MEASURED))
    # A point in the plane of a face is rounded to one of its sides, so that near the surface the two may differ by 1.
    exact = reference.unsigned_distance(points[some], vertices, faces)
    clear = exact > NEAR * diagonal
    twin = reference.winding_number(points[some][::10], vertices, faces)
    if bool(((twin - expected[some][::10]).abs() > 1e-6)[clear[::10]].any()):
        raise SystemExit(f"{name}: the sums over all faces contradict each other")

    wrong, error = [], 0.0
    for sign in ("auto", "winding"):
        calls = [asked[: count // 2], *torch.split(asked[count // 2 :], CALL)]
        found = torch.cat([surface.signed_distance(call, sign) for call in calls]).double()
        error = max(error, float((found[some].abs() - exact).abs().nan_to_num(torch.inf).max()) / diagonal)
        differing = (found < 0) != (expected > 0.5)
        distance = reference.unsigned_distance(points[differing], vertices, faces) if differing.any() else exact[:0]
        wrong.append(int((distance > NEAR * diagonal).sum()))
    return Verdict(name, len(faces), surface.sign_method, count, wrong[0], wrong[1], error, is_closed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000_000, help="on closed meshes, all together")
    parser.add_argument("--meshes", type=int, help="closed meshes, from the first; all by default")
    parser.add_argument("--only", default="", help="meshes with this in their name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    everything = [(*case, True) for case in list(closed_bodies())[: options.meshes]]
    everything += [(*case, False) for case in open_bodies()]
    # Its number seeds a mesh's points: alone it gets the points it got among all.
    cases = [(seed, *case) for seed, case in enumerate(everything) if options.only in case[0]]
    if not cases:
        parser.error(f"no mesh has {options.only!r} in its name")
    count = -(-options.points // max(1, sum(is_closed for *_, is_closed in everything)))
    start, verdicts = time.perf_counter(), []
    with ThreadPoolExecutor(options.threads) as pool, Progress(transient=True) as progress:
        task = progress.add_task("", total=sum(len(body[1]) for _, _, body, _ in cases))
        for seed, name, body, is_closed in cases:
            progress.update(task, description=name)
            verdicts.append(compare(name, body, count, options.seed + seed, is_closed, pool))
            progress.advance(task, len(body[1]))

    print_rows(
        "signs and distances against sums over all faces",
        [
            {"mesh": case.name, "faces": case.faces, "auto is": case.method, "points": case.points}
            | {"wrong auto": case.wrong_auto, "wrong winding": case.wrong_winding, "error / diagonal": case.error}
            | {"": "" if case.passed else "FAILED"}
            for case in verdicts
        ],
    )
    for words, is_closed in (("closed meshes", True), ("open or inconsistently oriented meshes", False)):
        part = [case for case in verdicts if case.is_closed == is_closed]
        points = sum(case.points for case in part)
        wrong = [sum(case.wrong_auto for case in part), sum(case.wrong_winding for case in part)]
        error = max((case.error for case in part), default=0.0)
        print(
            f"{len(part)} {words}: {points:,} points, wrong signs {wrong[0]:,} (auto) and {wrong[1]:,} (winding),"
            f" largest error {error:.1e} of the diagonal"
        )
    failed = [case.name for case in verdicts if not case.passed]
    print(f"failed: {', '.join(failed)}" if failed else "passed", f"after {time.perf_counter() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
