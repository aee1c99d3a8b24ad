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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from benchmarks.bodies import Body, closed_bodies, open_bodies
from benchmarks.harness import print_rows
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import reference

NEAR = 1e-6  # of the diagonal: a sign nearer to the surface is not counted, a distance may be off by as much
LEAST_AGREEMENT = 99.95  # percent, on meshes that have no inside
BLOCK = 256, 64  # faces and points in one step: fits the cache, and torch keeps it on one thread
CALL = 2000  # points of a call as training makes them; half of the points are asked so, half in one call
MEASURED = 1500  # points of each mesh whose distance is compared with brute force


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
