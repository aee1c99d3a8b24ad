"""Metrics of a mesh against the evaluators that the networks' authors use, in one run.

python -m benchmarks.bench_evaluation [--mesh car.obj] [--samples 100000] [--rounds 5]

Nearest samples: both directions, building included, against scipy's KD-tree (AIR-Nets, DeepSDF), the same with all
threads, and pykdtree (IF-Net; left out where it is not installed). Whole shapes: a prepared reference, a new
prediction; theirs is trimesh's samples and a KD-tree's distances without any IoU, ours has the IoU of 100,000 points.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks import meshes
from benchmarks.harness import alternate, parse_arguments, print_rows, save
from pyimplicit.evaluation import Protocol, Reference, evaluate
from pyimplicit.evaluation.samples import Samples
from pyimplicit.geometry.mesh import Mesh, normalize_mesh
from pyimplicit.geometry.surface import Surface
from pyimplicit.ops import RandomStream

Points = NDArray[np.floating[Any]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mesh", type=Path, help="mesh to measure; a bumpy ball without")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(__doc__, arguments, add_options)
    if options.device != "cpu":
        print("metrics are measured on the CPU")
        return
    device = torch.device("cpu")
    truth = normalize_mesh(meshes.read(options.mesh) if options.mesh else meshes.ball())
    moved = Mesh(truth.vertices * torch.tensor([0.99, 1.0, 1.0]), truth.faces)
    nearest = _nearest(truth, moved, options.samples, device, options.rounds)
    print_rows("nearest samples, both directions", nearest)
    whole = _whole(truth, moved, options.samples, device, options.rounds)
    print_rows("all metrics of a shape", whole)
    print(save("evaluation", nearest + whole, device, options.out))


def _nearest(truth: Mesh, moved: Mesh, count: int, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    a, b = (Samples.of_surface(Surface(mesh), count, RandomStream(index)) for index, mesh in enumerate((truth, moved)))
    x, y = a.points.numpy(), b.points.numpy()

    def ours() -> Points:
        # Without what the two keep from call to call.
        first, second = Samples(a.points, None), Samples(b.points, None)
        return np.concatenate([part.length.numpy() for part in (first.to_samples(second), second.to_samples(first))])

    def tree(workers: int) -> Points:
        return np.concatenate([cKDTree(two).query(one, workers=workers)[0] for one, two in ((x, y), (y, x))])

    competitors: dict[str, Callable[[], Any]] = {
        "pyimplicit": ours,
        "scipy": lambda: tree(1),
        "scipy, all threads": lambda: tree(torch.get_num_threads()),
    }
    try:
        from pykdtree.kdtree import KDTree

        competitors["pykdtree"] = lambda: [KDTree(two).query(one) for one, two in ((x, y), (y, x))]
    except ImportError:
        print("pykdtree: not installed, left out")
    np.testing.assert_allclose(ours(), tree(1), atol=1e-7)
    return [_row("nearest samples", count, alternate(competitors, device, rounds))]


def _whole(truth: Mesh, moved: Mesh, count: int, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    vertices, faces = moved.vertices.numpy(), moved.faces.numpy()
    stored = Surface(truth).sample_surface(count)
    points, normals = stored.points.numpy(), stored.normals.numpy()
    apart = Protocol(samples=count, nearest="samples", sampling="independent")
    reference = Reference.from_mesh(truth, preset=apart)
    to_surface = Reference.from_mesh(truth, preset=dataclasses.replace(apart, nearest="surface"))

    def theirs() -> float:
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        drawn, face = mesh.sample(count, return_index=True)
        of_face = mesh.face_normals[face]
        complete, nearest = cKDTree(drawn).query(points)
        one = np.abs((normals * of_face[nearest]).sum(axis=1)).mean()
        accurate, nearest = cKDTree(points).query(drawn)
        two = np.abs((of_face * normals[nearest]).sum(axis=1)).mean()
        assert 0 < one + two <= 2 + 1e-6
        return float(0.5 * (complete.mean() + accurate.mean()))

    competitors: dict[str, Callable[[], Any]] = {
        "pyimplicit": lambda: evaluate(moved, reference),
        "pyimplicit, to the surface": lambda: evaluate(moved, to_surface),
        "trimesh and scipy, no IoU": theirs,
    }
    # Theirs are other random samples of the same surfaces.
    assert abs(theirs() / evaluate(moved, reference).chamfer_l1 - 1) < 0.1
    return [_row("all metrics", count, alternate(competitors, device, rounds))]


def _row(what: str, count: int, seconds: dict[str, float]) -> dict[str, Any]:
    times = {f"{name} ms": value * 1e3 for name, value in seconds.items()}
    peers = [value for name, value in seconds.items() if not name.startswith("pyimplicit")]
    return {"what": what, "samples": count, **times, "ratio to the best": min(peers) / seconds["pyimplicit"]}


if __name__ == "__main__":
    main()
