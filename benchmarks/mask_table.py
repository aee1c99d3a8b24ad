"""The distance mask in numbers: one network with and without it on real cars, in the shape of the paper's Table IV.

    python -m benchmarks.mask_table --root PREPARED --out docs/results/mask [--steps 300] [--points 20000]

ConvONet at reduced width learns unsigned distances (clouds by the algorithm of Chibane et al.) and signed distances
(meshes) of the same cars under S_NS and S_UNI, each with a mask of 0.1 in training and generation and without.
Chamfer-L2 is the mean of both directions' mean squared distances, F-Score the harmonic mean at 1.5%, both between
`--points` points of the reconstruction, which is also how many of a dense cloud move together, and as many of the exact
surface; lengths are mesh units. A reconstruction that fails counts as a distance of sqrt(3) and an F-Score of 0.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pyimplicit.atomic import write_atomically
from pyimplicit.data import Shape
from pyimplicit.errors import ExtractionError
from pyimplicit.fields import network_field
from pyimplicit.generation import extract_dense_cloud, extract_mesh
from pyimplicit.geometry import Surface
from pyimplicit.sampling import DistanceMask
from pyimplicit.study.config import DataConfig
from pyimplicit.study.shapes import study_shapes
from pyimplicit.training import TrainConfig, TrainResult, observe_cloud, train

TAU = 0.1
THRESHOLD = 0.015
WIDTH = {"resolution": 32, "feature_size": 16, "hidden_size": 16, "decoder_size": 32, "unet_width": 16, "unet_depth": 3}
WORST = 3.0  # squared diagonal of the cube


def reconstruct(trained: TrainResult, shape: Shape, count: int, resolution: int) -> tuple[Tensor | None, str]:
    """Points [count, 3] of what a network makes of a shape, or None and why."""
    cloud = observe_cloud(shape, trained.config.cloud_size)
    distance = trained.config.mask_distance
    mask = None if distance is None else DistanceMask.from_cloud(cloud, distance)
    with torch.no_grad():
        code = trained.network.encode(cloud[None])  # type: ignore[operator]
    field = network_field(trained.network, code, trained.kind)
    try:
        if trained.kind.name == "udf":
            return extract_dense_cloud(field, count, samples=count, mask=mask), ""
        return Surface(extract_mesh(field, resolution, mask=mask)).sample_surface(count).points, ""
    except ExtractionError as error:
        return None, str(error)


def score(found: Tensor | None, shape: Shape, count: int) -> tuple[float, float]:
    """Chamfer-L2 and F-Score of points against the exact surface."""
    if found is None:
        return WORST, 0.0
    truth = Surface(shape.mesh).sample_surface(count, seed=1).points.numpy()
    to_truth = cKDTree(truth).query(found.numpy())[0]
    to_found = cKDTree(found.numpy()).query(truth)[0]
    precision, recall = (to_truth <= THRESHOLD).mean(), (to_found <= THRESHOLD).mean()
    f_score = 2 * precision * recall / max(precision + recall, 1e-12)
    return float(((to_truth**2).mean() + (to_found**2).mean()) / 2), float(f_score)


def run(options: argparse.Namespace, field: str, strategy: str, mask: float | None, shapes: Any) -> dict[str, Any]:
    config = TrainConfig(
        "convonet", network_config=WIDTH, field=field, strategy=strategy, mask_distance=mask, points_per_step=1024,
        cloud_size=1000, batch_size=4, steps=options.steps, learning_rate=1e-3, threads=1,
    )  # fmt: skip
    name = f"{field}-{config.strategy}-{'plain' if mask is None else 'mask'}-{config.digest()}"
    trained = train(config, shapes[0], options.runs / name)
    started = time.perf_counter()
    rows = []
    for shape in shapes[1]:
        found, reason = reconstruct(trained, shape, options.points, options.resolution)
        chamfer, f_score = score(found, shape, options.points)
        rows.append({"shape": shape.name, "chamfer_l2": chamfer, "f_score": f_score, "failed": reason})
    return {
        "field": field, "strategy": strategy, "mask": mask, "steps": config.steps,
        "chamfer_l2": float(np.mean([row["chamfer_l2"] for row in rows])),
        "f_score": float(np.mean([row["f_score"] for row in rows])),
        "failed": sum(bool(row["failed"]) for row in rows), "train_s": trained.seconds,
        "generate_s": time.perf_counter() - started, "shapes": rows,
    }  # fmt: skip


def table(rows: list[dict[str, Any]], options: argparse.Namespace, counts: tuple[int, int]) -> str:
    lines = [
        f"ConvONet (reduced width), {options.steps} steps, {counts[0]} training and {counts[1]} test cars, "
        f"{options.points} points of each reconstruction, mask {TAU} mesh units, seed 0. Written by "
        f"`python -m benchmarks.mask_table --steps {options.steps} --points {options.points}`.\n",
        "| field | strategy | mask | Chamfer-L2 | F-Score(1.5%) | failed |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['field']} | {row['strategy']} | {'no' if row['mask'] is None else row['mask']} "
        f"| {row['chamfer_l2']:.2e} | {row['f_score']:.3f} | {row['failed']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the prepared shapes")
    parser.add_argument("--runs", type=Path, default=Path("runs/mask"), help="folder of the trainings")
    parser.add_argument("--out", type=Path, default=Path("docs/results/mask"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--source", default="debian-cars")
    options = parser.parse_args()
    shapes = study_shapes(DataConfig(source=options.source, train=13, test=4), options.root)
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for field in ("udf", "sdf"):
        for strategy in ("S_NS", "S_UNI"):
            for mask in (None, TAU):
                rows.append(run(options, field, strategy, mask, shapes))
                print({key: value for key, value in rows[-1].items() if key != "shapes"}, flush=True)
                write_atomically(options.out / "table4.json", (json.dumps(rows, indent=1) + "\n").encode())
                text = table(rows, options, (len(shapes[0]), len(shapes[1])))
                write_atomically(options.out / "table4.md", text.encode())


if __name__ == "__main__":
    main()
