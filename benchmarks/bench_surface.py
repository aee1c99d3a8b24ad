"""Surface distance against other libraries and against the plain kernel body, in one run.

    python -m benchmarks.bench_surface --against open3d fcpw warp gpytoolbox --out benchmarks/results

Rates are millions of points a second in caller order, building excluded, competitors taking turns, medians. Without
`--meshes` it measures meshes made here, some of them dirty, and those it finds in `--folder`. Unsigned distances are
compared before they are timed: a peer that is off by more than 1e-4 does not count in that row, and a wrong answer of
our own ends the run. A competitor that would need longer than `--seconds` for one call is timed on the first points
alone, as many as it manages; the rows name it and how many. "ready" is a surface that has prepared all that it
prepares for many points; "fresh", for small calls, one that has not. Small calls are timed right after another of their
kind, but in the rows "cold", where all other competitors come in between.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from benchmarks.surface_peers import PEERS, RIGHT_SIGNS, Warp
from pyimplicit import _native, ops
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.geometry.surface import Surface

CPU = torch.device("cpu")
Row = dict[str, Any]
Calls = dict[str, Callable[[torch.Tensor], Any]]

FILES = ("cow", "bunny", "gripper", "airplane")  # looked for in the folder
TOLERANCE = 1e-4  # mesh units; float32 peers are off by 1e-5 on slivers, wrong ones by 1e-2
CHECKED = 3000  # points compared before they are timed
PROBED = 2000  # points from which the time of a call is estimated
LEAST = 5000  # points that even the slowest is timed on
MEMORY_FROM = 100_000  # faces from which the memory of a build stands out from that of the process


# ---- competitors


@contextmanager
def plain_bodies() -> Iterator[None]:
    """Kernels run their plain bodies, which the CPU normally leaves to their SIMD twins."""
    call = _native.call

    def plain_call(kernel: str, *arguments: Any, **keywords: Any) -> None:
        call(kernel, *arguments, **(keywords | ({"plain": True} if "plain" in keywords else {})))

    _native.call = plain_call
    try:
        yield
    finally:
        _native.call = call


def plain_distance(surface: Surface, points: torch.Tensor) -> torch.Tensor:
    """Unsigned distance by the kernel's plain body."""
    with plain_bodies():
        return surface.unsigned_distance(points)


def prepare(surface: Surface) -> float:
    """Seconds in which the surface builds what it would otherwise build after some queries."""
    start = time.perf_counter()
    surface.prepare()
    return time.perf_counter() - start


class Fresh:
    """A surface that has not been asked before, at every call: what it prepares for many points, it prepares anew."""

    def __init__(self, mesh: Mesh) -> None:
        self.surface = Surface(mesh)
        self.surface.signed_distance(torch.zeros(1, 3))  # but it knows its kind and its normals

    def unsigned_distance(self, points: torch.Tensor) -> torch.Tensor:
        """As the surface's."""
        return copy(self.surface).unsigned_distance(points)

    def signed_distance(self, points: torch.Tensor, sign: str = "auto") -> torch.Tensor:
        """As the surface's."""
        return copy(self.surface).signed_distance(points, sign)


@dataclass
class Field:
    """All that answer questions about one mesh."""

    name: str
    mesh: Mesh
    surface: Surface
    peers: dict[str, Any]
    seconds: float  # that one call of a peer may take
    exact: dict[str, list[str]] = field(default_factory=dict)  # kind of points: peers whose distances are right

    def unsigned(self, surface: Surface | Fresh) -> Calls:
        """Competitors for the unsigned distance."""
        calls: Calls = {
            "pyimplicit": surface.unsigned_distance,
            "plain body": partial(plain_distance, self.surface),
        }
        return calls | self._of_peers("unsigned")

    def signed(self, surface: Surface | Fresh) -> Calls:
        """Competitors for the signed distance."""
        calls: Calls = {
            "pyimplicit": surface.signed_distance,
            "winding": partial(surface.signed_distance, sign="winding"),
        }
        return calls | self._of_peers("signed")

    def _of_peers(self, what: str) -> Calls:
        having = {name: getattr(peer, what) for name, peer in self.peers.items() if hasattr(peer, what)}
        return {name: partial(_with_array, call) for name, call in having.items()}

    def distances(self, calls: Calls, points: torch.Tensor) -> dict[str, torch.Tensor]:
        """What each competitor answers, [N] float64."""
        return {
            name: torch.as_tensor(self.peers[name].distances(call(points)) if name in self.peers else call(points))
            .double()
            .reshape(-1)
            for name, call in calls.items()
        }


def _with_array(call: Callable[[Any], Any], points: torch.Tensor) -> Any:
    return call(points.numpy())


# ---- rows


def build_rows(name: str, mesh: Mesh, peers: list[str]) -> list[Row]:
    """Build times in milliseconds, our memory per triangle, and by how much each build lets a process grow."""
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    calls: dict[str, Callable[[], Any]] = {"pyimplicit": partial(ops.build_bvh, mesh.vertices, mesh.faces)}
    calls |= {peer: partial(PEERS[peer], vertices, faces) for peer in peers}
    seconds = alternate(calls, CPU, rounds=3 if len(faces) > MEMORY_FROM else 5)
    bvh = ops.build_bvh(mesh.vertices, mesh.faces)
    held = sum(value.nbytes for value in vars(bvh).values() if isinstance(value, torch.Tensor))
    others = [seconds[peer] for peer in peers]
    row: Row = {"mesh": name, "faces": len(faces), "bytes/face": held / len(faces)}
    row |= {f"{key} ms": value * 1e3 for key, value in seconds.items()}
    row["ratio"] = min(others) / seconds["pyimplicit"] if others else None
    surface = Surface(mesh)
    row["prepare ms"] = prepare(surface) * 1e3
    start = time.perf_counter()
    surface.signed_distance(torch.zeros(1, 3))  # inspects the mesh and makes its pseudonormals if it has any
    row["signs ms"] = (time.perf_counter() - start) * 1e3
    if len(faces) >= MEMORY_FROM:
        row |= {f"{key} MB": build_memory(key, vertices, faces) for key in calls}
    return [row]


def build_memory(builder: str, vertices: np.ndarray, faces: np.ndarray) -> float | None:
    """Megabytes by which a fresh process that has built something small before grows at most in a build.

    None where the system does not let a process forget its earlier peak.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_grown, builder, torch.get_num_threads(), vertices, faces).result()


def _grown(builder: str, threads: int, vertices: np.ndarray, faces: np.ndarray) -> float | None:
    torch.set_num_threads(threads)

    def build(vertices: np.ndarray, faces: np.ndarray) -> Any:
        if builder == "pyimplicit":
            return ops.build_bvh(torch.from_numpy(vertices), torch.from_numpy(faces))
        return PEERS[builder](vertices, faces)

    small = meshes.ball(3)
    build(small.vertices.numpy(), small.faces.numpy())  # code, threads and first blocks are there from here on
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        kept = build(vertices, faces)
        grown = _status("VmHWM") - before
    except OSError:
        return None
    del kept
    return grown / 1e3


def _status(entry: str) -> float:
    """A line of the process's status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(entry))


def check(on: Field, points: torch.Tensor) -> tuple[list[str], Row]:
    """Compare all exact distances with the plain body in double precision.

    Returns:
        The peers that are right, and the columns to print.
    """
    expected = plain_distance(on.surface, points.double())
    found = on.distances(on.unsigned(on.surface), points)
    off = {key: float((value - expected).abs().nan_to_num(torch.inf).max()) for key, value in found.items()}
    for own in ("pyimplicit", "plain body"):
        if off[own] > TOLERANCE:
            raise SystemExit(f"{on.name}: {own} is off by {off[own]:.2g}")
    right = [peer for peer in off if peer in on.peers and off[peer] <= TOLERANCE]
    wrong = [f"{peer} {off[peer]:.2g}" for peer in off if peer in on.peers and peer not in right]
    largest = max(value for value in off.values() if value <= TOLERANCE)
    return right, {"difference": largest} | ({"wrong": ", ".join(wrong)} if wrong else {})


def signs_alike(on: Field, points: torch.Tensor) -> Row:
    """The share of points, farther than 1e-4 from the surface, at which two answers have the same sign.

    Of our two methods, and of our winding numbers and each peer's signs.
    """
    found = on.distances(on.signed(on.surface), points)
    away = found["winding"].abs() > TOLERANCE
    negative = {key: value[away] < 0 for key, value in found.items()}
    share = {
        key: float((value == negative["winding"]).double().mean()) * 100
        for key, value in negative.items()
        if key != "winding"
    }
    return {"auto %": share["pyimplicit"]} | {f"{peer} %": share[peer] for peer in share if peer in on.peers}


def rates(
    calls: Calls, points: torch.Tensor, seconds: float, rounds: int, warm_turns: bool
) -> tuple[dict[str, float], dict[str, int]]:
    """Mpoints/s of each competitor, and for those too slow for all of the points how many they were timed on.

    Our own kernel always gets all points: it sorts them, so that fewer would be another task.
    """
    given: dict[str, int] = {}
    for name, call in calls.items():
        some = points[:PROBED]
        start = time.perf_counter()
        call(some)
        per_point = (time.perf_counter() - start) / len(some)
        given[name] = len(points)
        if name not in ("pyimplicit", "winding"):
            given[name] = min(len(points), max(LEAST, int(seconds / per_point)))
    bound: dict[str, Callable[[], Any]] = {
        name: partial(call, points[: given[name]].contiguous()) for name, call in calls.items()
    }
    found = alternate(bound, CPU, rounds, warm_turns=warm_turns)
    return (
        {name: given[name] / value / 1e6 for name, value in found.items()},
        {name: number for name, number in given.items() if number < len(points)},
    )


def query_rows(on: Field, counts: list[int], signed: bool) -> list[Row]:
    """Rates of every competitor that answers, for uniform and near points."""
    rows = []
    for where in ("uniform", "near"):
        points = points_of(on.mesh, where, max(*counts, CHECKED))
        if signed:
            right, remarks = on.exact.get(where, list(on.peers)), signs_alike(on, points[:CHECKED])
        else:
            right, remarks = check(on, points[:CHECKED])
            on.exact[where] = right
        for count in counts:
            for start, surface in surfaces_for(on, count).items():
                calls = on.signed(surface) if signed else on.unsigned(surface)
                rounds = 15 if count < 10_000 else 5
                speed, fewer = rates(calls, points[:count], on.seconds, rounds, count <= PROBED and start != "cold")
                row: Row = {"mesh": on.name, "points": where, "N": count, "start": start}
                row |= speed
                row["ratio"] = _ratio(speed, "pyimplicit", right)
                if signed:
                    row["winding ratio"] = _ratio(speed, "winding", [peer for peer in right if peer in RIGHT_SIGNS])
                if fewer:
                    row["on fewer points"] = ", ".join(f"{name} {number // 1000}k" for name, number in fewer.items())
                rows.append(row | remarks)
                print_rows("", rows[-1:])
    return rows


def points_of(mesh: Mesh, where: str, count: int) -> torch.Tensor:
    """Uniform or near points [count, 3]."""
    return meshes.points_uniform(count) if where == "uniform" else meshes.points_near(mesh, count)


def surfaces_for(on: Field, count: int) -> dict[str, Surface | Fresh]:
    """The surface, prepared; for small calls also with cold caches, and one that is not prepared."""
    small = {"cold": on.surface, "fresh": Fresh(on.mesh)} if count <= PROBED else {}
    return {"ready": on.surface, **small}


def _ratio(speed: dict[str, float], own: str, others: list[str]) -> float | None:
    best = max((speed[name] for name in others if name in speed), default=None)
    return speed[own] / best if best else None


def gpu_rows(name: str, mesh: Mesh, counts: list[int], with_warp: bool) -> list[Row]:
    """The same on the GPU, against warp on the same GPU and our CPU."""
    device = torch.device("cuda")
    surface, on_cpu = Surface(mesh, device=device), Surface(mesh)
    prepare(surface)
    prepare(on_cpu)
    peer = Warp(mesh.vertices.numpy(), mesh.faces.numpy(), "cuda") if with_warp else None
    rows = []
    for where in ("uniform", "near"):
        for count in counts:
            host = points_of(mesh, where, count)
            points = host.to(device)
            calls: dict[str, Callable[[], Any]] = {
                "pyimplicit": partial(surface.unsigned_distance, points),
                "signed": partial(surface.signed_distance, points),
                "winding": partial(surface.signed_distance, points, sign="winding"),
            }
            if peer is not None:
                calls["warp"] = partial(peer.query, points, "unsigned")
                calls["warp signed"] = partial(peer.query, points, "signed")
            seconds = alternate(calls, device)
            speed = {key: count / value / 1e6 for key, value in seconds.items()}
            start = time.perf_counter()
            expected = on_cpu.unsigned_distance(host)
            speed["cpu"] = count / (time.perf_counter() - start) / 1e6
            off = float((surface.unsigned_distance(points).cpu() - expected).abs().max())
            row: Row = {"mesh": name, "points": where, "N": count} | speed
            row["ratio"] = _ratio(speed, "pyimplicit", ["warp"])
            row["winding ratio"] = _ratio(speed, "winding", ["warp signed"])
            rows.append(row | {"difference": off})
            print_rows("", rows[-1:])
    return rows


# ---- what is measured


def default_meshes(folder: Path, device: str) -> dict[str, Mesh]:
    """Those of the folder that are there, and those made here."""
    chosen = {name: meshes.read(folder / f"{name}.npz") for name in FILES if (folder / f"{name}.npz").exists()}
    missing = [name for name in FILES if name not in chosen]
    if missing:
        print(f"not in {folder}, left out: {', '.join(missing)}")
    if "bunny" in chosen and device == "cpu":
        chosen["bunny1m"] = meshes.refined(chosen["bunny"])
    chosen |= {"ball": meshes.ball(), "soup": meshes.soup()}
    if device == "cpu":
        chosen |= {"cluster": meshes.cluster(), "abbey": meshes.abbey()}
    return chosen


def main(arguments: list[str] | None = None) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--against", nargs="*", default=[], choices=list(PEERS))
        parser.add_argument("--meshes", nargs="*", type=Path, default=[], help="mesh files or .npz, not the usual ones")
        parser.add_argument("--folder", type=Path, default=Path("data/meshes"), help="holds NAME.npz with v and f")
        parser.add_argument("--refine", nargs="*", default=[], help="names of meshes to add with 16 times the faces")
        parser.add_argument("--counts", nargs="*", type=int, default=[2_000, 100_000, 1_000_000])
        parser.add_argument("--seconds", type=float, default=0.4, help="that one call of a peer may take")

    options = parse_arguments(__doc__, arguments, add)
    start = time.perf_counter()
    chosen = {path.stem: meshes.read(path) for path in options.meshes}
    chosen = chosen or default_meshes(options.folder, options.device)
    for name in options.refine:
        chosen[f"{name}16x"] = meshes.refined(chosen[name])
    parts: dict[str, list[Row]] = {"build": [], "unsigned": [], "signed": []}
    for name, mesh in chosen.items():
        print(f"\n{name}: {Surface(mesh).report.summary()}", flush=True)
        if options.device == "cuda":
            parts["unsigned"] += gpu_rows(name, mesh, options.counts, "warp" in options.against)
            continue
        parts["build"] += build_rows(name, mesh, options.against)
        peers = {peer: PEERS[peer](mesh.vertices.numpy(), mesh.faces.numpy()) for peer in options.against}
        on = Field(name, mesh, Surface(mesh), peers, options.seconds)
        prepare(on.surface)
        parts["unsigned"] += query_rows(on, options.counts, signed=False)
        parts["signed"] += query_rows(on, options.counts, signed=True)
    print_rows("build", parts["build"])
    print_rows("unsigned distance, Mpoints/s", parts["unsigned"])
    print_rows("signed distance, Mpoints/s", parts["signed"])
    rows = [{"what": what} | row for what, part in parts.items() for row in part]
    print(f"\n{time.perf_counter() - start:.0f} s")
    print(save("surface", rows, torch.device(options.device), options.out))


if __name__ == "__main__":
    main()
