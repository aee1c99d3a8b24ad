"""Bodies that are hard on signs and distances: closed ones, and ones that have no inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import trimesh
from numpy.typing import NDArray

from benchmarks import meshes
from pyimplicit.geometry.marching import marching_cubes

Body = tuple[NDArray[np.float64], NDArray[np.int64]]  # vertices [V, 3], faces [F, 3]


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
