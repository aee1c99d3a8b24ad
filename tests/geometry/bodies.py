"""Closed, oriented meshes that are hard for signs: bodies that overlap, touch, fold, or are nearly flat."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import normalize

from pyimplicit.geometry.marching import marching_cubes
from tests.helpers import Mesh, box, join, moved, randn, sphere, tetrahedron, torus, unwelded


def flipped(mesh: Mesh) -> Mesh:
    """The mesh inside out."""
    return mesh[0], mesh[1].flip(1)


def outwards(mesh: Mesh) -> Mesh:
    """The mesh, its faces turned round if its volume is negative."""
    corners = mesh[0][mesh[1]]
    return (
        mesh if float((torch.linalg.cross(corners[:, 0], corners[:, 1]) * corners[:, 2]).sum()) > 0 else flipped(mesh)
    )


def knot(thickness: float, rings: int = 160, sides: int = 12) -> Mesh:
    """A tube along a trefoil; from a thickness of about 0.13 on it passes through itself."""
    angle = 2 * math.pi * torch.arange(rings, dtype=torch.float64) / rings
    reach = 0.3 + 0.12 * (3 * angle).cos()
    middle = torch.stack([reach * (2 * angle).cos(), reach * (2 * angle).sin(), 0.12 * (3 * angle).sin()], 1)
    along = normalize(middle.roll(-1, 0) - middle.roll(1, 0), dim=1)
    aside = normalize(torch.linalg.cross(along, torch.tensor([0.0, 0, 1]).double().expand_as(along)), dim=1)
    above = torch.linalg.cross(aside, along)
    turn = 2 * math.pi * torch.arange(sides, dtype=torch.float64) / sides
    circle = turn.cos()[:, None] * aside[:, None] + turn.sin()[:, None] * above[:, None]
    i, k = torch.meshgrid(torch.arange(rings), torch.arange(sides), indexing="ij")
    return outwards(((middle[:, None] + thickness * circle).reshape(-1, 3), _quads(i, k, rings, sides)))


def _quads(i: Tensor, k: Tensor, rings: int, sides: int) -> Tensor:
    def at(i: Tensor, k: Tensor) -> Tensor:
        return (i % rings * sides + k % sides).reshape(-1)

    lower = torch.stack([at(i, k), at(i + 1, k), at(i + 1, k + 1)], 1)
    return torch.cat([lower, torch.stack([at(i, k), at(i + 1, k + 1), at(i, k + 1)], 1)])


def extruded(outline: list[tuple[float, float]], layers: int) -> Mesh:
    """A body along y with the same star-shaped outline of (x, z) everywhere; its first corner sees all others."""
    x, z = torch.tensor(outline, dtype=torch.float64).T
    y = torch.linspace(-0.97, 0.97, layers + 1, dtype=torch.float64)
    vertices = torch.stack([x.expand(layers + 1, -1), y[:, None].expand(-1, len(x)), z.expand(layers + 1, -1)], 2)
    i, k = torch.meshgrid(torch.arange(layers), torch.arange(len(x)), indexing="ij")
    start = torch.stack([torch.zeros(len(x) - 2).long(), torch.arange(1, len(x) - 1), torch.arange(2, len(x))], 1)
    faces = torch.cat([_quads(i, k, layers + 1, len(x)), start, start.flip(1) + layers * len(x)])
    return outwards((vertices.reshape(-1, 3), faces))


def ridge_and_lip(slope: float, wall: float, step: float, layers: int) -> Mesh:
    """A roof, and a body whose wall crosses it 1e-7 beyond the ridge and hangs over the ridge by 4e-6.

    Args:
        slope: Of the roof on one side of the ridge, degrees; it is level on the other.
        wall: Of the underside of the hanging part, degrees.
        step: Length of the faces across the ridge.
        layers: Along it.
    """
    down, up = math.radians(slope), math.radians(wall)
    level = [(-step * i, 0.0) for i in range(4)]
    falling = [(step * i * math.cos(down), -step * i * math.sin(down)) for i in range(3, 0, -1)]
    last = falling[0]
    roof = [(-0.05, -0.5), (last[0] + 0.2, -0.5), (last[0] + 0.2, last[1] - 0.1), *falling, *level, (-0.5, -0.1)]
    lip = [(1e-7 - step * i * math.sin(up), 4.05e-6 + step * i * math.cos(up)) for i in range(3, -1, -1)]
    other = [(0.25, 0.3), (-0.2, 0.4), *lip, (1e-7, -0.02), (0.3, -0.02), (0.3, 0.4)]
    return join(extruded(roof, layers), extruded(other, layers))


def split(mesh: Mesh, times: int = 1) -> Mesh:
    """Each face cut into four, at the middles of its edges."""
    vertices, faces = mesh
    for _ in range(times):
        ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
        edges, edge = ends.unique(dim=0, return_inverse=True)
        ab, bc, ca = (edge + len(vertices)).chunk(3)
        vertices = torch.cat([vertices, vertices[edges].mean(1)])
        a, b, c = faces.unbind(1)
        faces = torch.cat([torch.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return vertices, faces


def refined_inside(mesh: Mesh, chosen: Tensor, times: int, seed: int = 0) -> Mesh:
    """The chosen faces [F] bool cut into three, again and again, at points in their middle; edges stay as they are."""
    vertices, faces = mesh
    rest, faces = faces[~chosen], faces[chosen]
    for time in range(times):
        weights = 0.3 + torch.rand(len(faces), 3, generator=torch.Generator().manual_seed(seed + time)).double()
        middle = len(vertices) + torch.arange(len(faces))
        vertices = torch.cat([vertices, (vertices[faces] * (weights / weights.sum(1, True))[:, :, None]).sum(1)])
        a, b, c = faces.unbind(1)
        faces = torch.cat([torch.stack(t, 1) for t in ((a, b, middle), (b, c, middle), (c, a, middle))])
    return vertices, torch.cat([rest, faces])


def blade(angle: float, times: int = 3) -> Mesh:
    """A prism whose edge at x = -0.5 is as sharp as the angle, radians; many faces, so that they part in the tree."""
    half = math.tan(angle / 2)
    edge, upper, lower = [-0.5, 0.0], [0.5, half], [0.5, -half]
    corners = torch.tensor([[*point, z] for z in (-0.5, 0.5) for point in (edge, upper, lower)], dtype=torch.float64)
    sides = [(0, 2, 1), (3, 4, 5), (0, 1, 4), (0, 4, 3), (1, 2, 5), (1, 5, 4), (2, 0, 3), (2, 3, 5)]
    return split(outwards((corners, torch.tensor(sides).flip(1))), times)


def beside_edge(count: int, seed: int = 0) -> Tensor:
    """Points around the edge of `blade`, from 1e-6 to 0.1 away, [count, 3] float32."""
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        return torch.rand(count, generator=generator, dtype=torch.float64)

    def either(share: float) -> Tensor:
        return torch.where(uniform() < share, 1.0, -1.0)

    along, above = 10 ** (4 * uniform() - 6) * either(0.7), 10 ** (5 * uniform() - 6) * either(0.5)
    return torch.stack([along - 0.5, above, uniform() - 0.5], 1).float()


def folded_box() -> Mesh:
    """A box with a flap: part of its top is pulled out and laid back onto the rest of it."""
    vertices, faces = split(box((-0.4, -0.4, -0.2), (0.4, 0.4, 0.2)), 3)
    on_top = (vertices[:, 2] > 0.19) & (vertices[:, :2].abs() < 0.15).all(1)
    vertices = vertices.clone()
    vertices[on_top, 0] += 0.25  # past their neighbours, in the plane of the top
    return vertices, faces


def bumpy(noise: float, seed: int = 0, subdivisions: int = 4) -> Mesh:
    """A sphere with bumps; noise in units of its edges."""
    vertices, faces = sphere(0.4, subdivisions)
    bumps = 1 + 0.08 * (22 * vertices[:, :1]).sin() * (17 * vertices[:, 1:2]).cos()
    edge = float((vertices[faces[:, 0]] - vertices[faces[:, 1]]).norm(dim=1).mean())
    return vertices * bumps + noise * edge * randn(len(vertices), 3, seed=seed, dtype=torch.float64), faces


def sliver_box(aspect: float = 1e6) -> Mesh:
    """A box with two points on its top, so near to one edge that the triangle between them and the edge is a sliver."""
    vertices, faces = box((0, 0, 0), (1, 1, 1))
    points = torch.tensor([[0.3, 1 / aspect, 1], [0.6, 1 / aspect, 1]], dtype=torch.float64)
    one, other = len(vertices), len(vertices) + 1
    a, b, c, d = 4, 5, 7, 6  # the top, counter-clockwise from (0, 0)
    top = (vertices[faces][:, :, 2] == 1).all(1)
    new = [(a, b, one), (b, other, one), (b, c, other), (c, d, other), (d, one, other), (d, a, one)]
    return torch.cat([vertices, points]), torch.cat([faces[~top], torch.tensor(new)])


def random_field(seed: int, size: int = 24) -> Mesh:
    """Marching cubes of smoothed noise."""
    rng = np.random.default_rng(seed)
    values = gaussian_filter(rng.normal(size=(size,) * 3), 1.5)
    mesh = marching_cubes(values, (-0.5,) * 3, (1 / (size - 1),) * 3)
    return mesh.vertices.double(), mesh.faces.long()


def heap(bodies: int, seed: int = 0, times: int = 0) -> Mesh:
    """Boxes lying across each other."""
    parts = []
    for body in range(bodies):
        turn = torch.linalg.qr(randn(3, 3, seed=seed + body, dtype=torch.float64))[0]
        sides = 0.05 + 0.25 * torch.rand(3, generator=torch.Generator().manual_seed(seed + body)).double()
        vertices, faces = split(box(tuple((-sides).tolist()), tuple(sides.tolist())), times)
        shift = 0.3 * randn(3, seed=seed + 1000 + body, dtype=torch.float64)
        parts.append(outwards((vertices @ turn, faces)))
        parts[-1] = moved(parts[-1], tuple(shift.tolist()))
    return join(*parts)


def twisted(mesh: Mesh, turns: float = 1.5) -> Mesh:
    """The mesh turned about the z axis, the more the higher."""
    angle = 2 * math.pi * turns * mesh[0][:, 2]
    x, y, z = mesh[0].unbind(1)
    return torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos(), z], 1), mesh[1]


#: One body each.
SIMPLE = {
    "tetrahedron": tetrahedron(),
    "box": box(),
    "flat box": box((-0.5, -0.5, -1e-4), (0.5, 0.5, 1e-4)),
    "sphere": sphere(),
    "torus": torus(),
    "twisted torus": twisted(torus()),
    "unwelded torus": unwelded(torus()),
}
#: Bodies that meet, hold one another, or have faces without area.
HARD = {
    "overlapping bodies": join(sphere(0.3, 1), moved(torus(), (0.1, 0.0, 0.1)), box()),
    "touching boxes": join(box((0, 0, 0), (0.3, 0.3, 0.3)), box((0.3, 0, 0), (0.5, 0.3, 0.3))),
    "cavity": join(sphere(0.4), flipped(sphere(0.2, 1))),
    "repeated body": join(sphere(0.3, 1), sphere(0.3, 1)),
    "with faces without area": join(torus(), (torch.zeros(3, 3).double() + 0.32, torch.tensor([[0, 1, 2], [0, 0, 1]]))),
}
