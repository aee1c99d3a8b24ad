"""Meshes, points and small tools for the tests of operators, surfaces and strategies."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from pyimplicit import ops

Mesh = tuple[Tensor, Tensor]  # vertices [V, 3] float64, faces [F, 3] int64


def rand(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers from a generator of their own."""
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (low + (high - low) * values).to(dtype)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers from a generator of their own."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# ---- meshes, oriented outwards where they are closed


def box(
    low: tuple[float, float, float] = (-0.4, -0.3, -0.2), high: tuple[float, float, float] = (0.4, 0.3, 0.2)
) -> Mesh:
    """An axis-aligned box of twelve faces."""
    ends = torch.tensor([low, high], dtype=torch.float64)
    corners = torch.stack([ends[torch.tensor([i & 1, i >> 1 & 1, i >> 2]), torch.arange(3)] for i in range(8)])
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    return corners, torch.tensor([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))])


def tetrahedron() -> Mesh:
    """The regular tetrahedron on alternate corners of the cube [-1, 1]^3."""
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    return corners, torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])


def torus(big: float = 0.32, small: float = 0.12, rings: int = 24, sides: int = 12) -> Mesh:
    """A torus around z: closed, with a hole, neither convex nor star-shaped."""
    u, v = torch.meshgrid(torch.arange(rings), torch.arange(sides), indexing="ij")
    a, b = (2 * math.pi * u / rings).double(), (2 * math.pi * v / sides).double()
    vertices = torch.stack([(big + small * b.cos()) * a.cos(), (big + small * b.cos()) * a.sin(), small * b.sin()], -1)

    def at(i: Tensor, j: Tensor) -> Tensor:
        return (i % rings * sides + j % sides).reshape(-1)

    lower = torch.stack([at(u, v), at(u + 1, v), at(u + 1, v + 1)], 1)
    upper = torch.stack([at(u, v), at(u + 1, v + 1), at(u, v + 1)], 1)
    return vertices.reshape(-1, 3), torch.cat([lower, upper])


def sphere(radius: float = 0.4, subdivisions: int = 2) -> Mesh:
    """A subdivided octahedron pushed out to the sphere."""
    vertices = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
    for _ in range(subdivisions):
        ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
        edges, edge = ends.unique(dim=0, return_inverse=True)
        ab, bc, ca = (edge + len(vertices)).chunk(3)
        vertices = torch.cat([vertices, torch.nn.functional.normalize(vertices[edges].mean(1), dim=1)])
        a, b, c = faces.unbind(1)
        faces = torch.cat([torch.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return radius * vertices, faces


def soup(count: int = 200, seed: int = 0, size: float = 0.2) -> Mesh:
    """Unconnected random triangles in the cube [-0.5, 0.5]^3."""
    corners = rand(count, 1, 3, seed=seed, low=-0.5, high=0.5, dtype=torch.float64)
    corners = corners + size * randn(count, 3, 3, seed=seed + 1, dtype=torch.float64)
    return corners.reshape(-1, 3), torch.arange(3 * count).reshape(count, 3)


def slivers(count: int = 300, aspect: float = 1e6, seed: int = 0) -> Mesh:
    """Triangles as long as 1 and as thin as 1 / aspect."""
    start = rand(count, 3, seed=seed, low=-0.5, high=0.5, dtype=torch.float64)
    along, aside = (torch.nn.functional.normalize(randn(count, 3, seed=seed + i, dtype=torch.float64)) for i in (1, 2))
    aside = torch.nn.functional.normalize(torch.linalg.cross(along, aside, dim=1))
    middle = start + rand(count, 1, seed=seed + 3, dtype=torch.float64) * along + aside / aspect
    corners = torch.stack([start, start + along, middle], 1)
    return corners.float().double().reshape(-1, 3), torch.arange(3 * count).reshape(count, 3)


def join(*meshes: Mesh) -> Mesh:
    """Several meshes as one."""
    vertices, faces, before = [], [], 0
    for corners, indices in meshes:
        vertices.append(corners)
        faces.append(indices + before)
        before += len(corners)
    return torch.cat(vertices), torch.cat(faces)


def moved(mesh: Mesh, by: tuple[float, float, float]) -> Mesh:
    """The mesh displaced."""
    return mesh[0] + torch.tensor(by, dtype=torch.float64), mesh[1]


def unwelded(mesh: Mesh) -> Mesh:
    """The mesh as an STL file stores it: three vertices of its own for every face."""
    return mesh[0][mesh[1]].reshape(-1, 3), torch.arange(mesh[1].numel()).reshape(-1, 3)


def rounded(mesh: Mesh) -> Mesh:
    """The mesh that float32 vertices describe, for oracles in double precision."""
    return mesh[0].float().double(), mesh[1]


def diagonal(mesh: Mesh) -> float:
    """Diagonal of the bounding box."""
    return float((mesh[0].amax(0) - mesh[0].amin(0)).norm())


def around(mesh: Mesh, count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Points in the doubled bounding box, a third of them near the surface."""
    vertices, faces = mesh
    low, high = vertices.amin(0), vertices.amax(0)
    wide = (low + high) / 2 + (high - low).amax() * rand(count, 3, seed=seed, low=-1, high=1, dtype=torch.float64)
    some = faces[torch.randint(len(faces), (count // 3,), generator=torch.Generator().manual_seed(seed))]
    mix = rand(count // 3, 3, seed=seed + 1, dtype=torch.float64)
    near = (vertices[some] * (mix / mix.sum(1, keepdim=True)).unsqueeze(2)).sum(1)
    wide[: count // 3] = near + 0.01 * diagonal(mesh) * randn(count // 3, 3, seed=seed + 2, dtype=torch.float64)
    return wide.to(dtype)


def special_points(mesh: Mesh) -> Tensor:
    """All vertices, middles of edges and middles of faces, [*, 3] float64."""
    corners = mesh[0][mesh[1]]
    return torch.cat([corners.reshape(-1, 3), (corners + corners.roll(1, 1)).reshape(-1, 3) / 2, corners.mean(1)])


def bvh_of(mesh: Mesh, device: torch.device | str = "cpu") -> ops.SurfaceBVH:
    """The hierarchy of a mesh."""
    return ops.build_bvh(*mesh).to(device)


# ---- tools


class RecordOperators(TorchDispatchMode):
    """Notes every call of a pyimplicit operator, forward or backward, with its raw arguments, whatever their layout."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "pyimplicit":
            self.calls.append((func, tree_map_only(Tensor, _without_history, args)))
        return func(*args, **(kwargs or {}))


def _without_history(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def chi_square_fits(observed: Tensor, expected: Tensor) -> bool:
    """Whether counts fit the expected ones, at a level that a right sampler fails once in 10,000 seeds."""
    from scipy.stats import chi2

    assert float(expected.min()) >= 5, "too few in a cell for the test to mean anything"
    statistic = float(((observed - expected).square() / expected).sum())
    return statistic < float(chi2.ppf(1 - 1e-4, len(expected) - 1))
