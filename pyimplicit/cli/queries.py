"""Query points in a file: .npz for NumPy, .safetensors for torch, .ply for a look in a mesh viewer."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from pyimplicit.atomic import write_atomically
from pyimplicit.cli.parser import UsageError
from pyimplicit.sampling import QuerySet

SUFFIXES = (".npz", ".ply", ".safetensors")


def check_suffix(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a file that query points can be written to, else raise `UsageError`."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"argument --out: expected a file ending in {', '.join(SUFFIXES)}, got {os.fspath(path)!r}")
    return suffix


def save_queries(queries: QuerySet, path: str | os.PathLike[str]) -> None:
    """Write query points and their signed distances, with the strategy and the seed, in one piece.

    Args:
        queries: The points; any device.
        path: File ending in .npz, .safetensors or .ply. Arrays are called "points" [N, 3] and "signed_distance" [N],
            float32, mesh units, negative inside.

    Raises:
        UsageError: Another ending.
    """
    suffix = check_suffix(path)
    points = np.ascontiguousarray(queries.points.detach().cpu().numpy(), dtype="<f4")
    distance = np.ascontiguousarray(queries.signed_distance.detach().cpu().numpy(), dtype="<f4")
    facts = {"strategy": queries.strategy.name, "seed": str(queries.stream.seed)}
    if suffix == ".npz":
        stream = io.BytesIO()
        arrays = {"points": points, "signed_distance": distance, **{key: np.array(v) for key, v in facts.items()}}
        np.savez(stream, allow_pickle=False, **arrays)
        content = stream.getvalue()
    elif suffix == ".safetensors":
        from safetensors.numpy import save

        content = save({"points": points, "signed_distance": distance}, facts)
    else:
        content = _ply(points, distance, facts)
    write_atomically(path, content)


def _ply(points: np.ndarray, distance: np.ndarray, facts: dict[str, str]) -> bytes:
    """Binary PLY of points with one extra property, signed_distance."""
    head = ["ply", "format binary_little_endian 1.0", *(f"comment {key} {value}" for key, value in facts.items())]
    head.append(f"element vertex {len(points)}")
    head += [f"property float {name}" for name in ("x", "y", "z", "signed_distance")]
    body = np.concatenate([points, distance[:, None]], axis=1).tobytes()
    return ("\n".join([*head, "end_header"]) + "\n").encode("ascii") + body
