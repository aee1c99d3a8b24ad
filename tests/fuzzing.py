"""Parsers against files that somebody, or chance, has tampered with: a typed error or a usable result, nothing else.

`python -m tests.fuzzing --seconds 60` goes on for as long as wanted and prints how often each parser was called.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import random
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import trimesh

from pyimplicit.data import read_npz
from pyimplicit.data.samples import ShapeSamples
from pyimplicit.data.store import FORMAT, HEADER, ShardReader, read_pending
from pyimplicit.errors import PyImplicitError
from pyimplicit.geometry.files import load_mesh


@dataclass(frozen=True)
class Target:
    """A parser, and a file that it reads."""

    suffix: str
    seed: bytes
    read: Callable[[Path], object]


def _meshes() -> dict[str, bytes]:
    box = trimesh.creation.box()
    files = {kind: box.export(file_type=kind) for kind in ("obj", "off", "stl", "ply", "glb")}
    files["ply text"] = box.export(file_type="ply", encoding="ascii")
    files["stl text"] = box.export(file_type="stl_ascii")
    return {kind: file if isinstance(file, bytes) else file.encode() for kind, file in files.items()}


def _read_mesh(path: Path) -> None:
    mesh = load_mesh(path)
    assert bool(torch.isfinite(mesh.vertices).all())
    assert len(mesh.faces)
    assert int(mesh.faces.min()) >= 0
    assert int(mesh.faces.max()) < len(mesh.vertices)


def _shard() -> bytes:
    mesh = trimesh.creation.box()
    samples = {
        "vertices": torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32),
        "faces": torch.tensor(np.asarray(mesh.faces), dtype=torch.int32),
        "cloud.points": torch.rand(5, 3), "pool.a-3.points": torch.rand(3, 3), "pool.a-3.occupancy": torch.ones(3) > 0,
    }  # fmt: skip
    header = {"format": FORMAT, "shapes": [[0, "box", ""]]}
    return safetensors.torch.save({f"0/{k}": v for k, v in samples.items()}, {HEADER: json.dumps(header)})


def _read_shard(path: Path) -> None:
    with ShardReader(path) as reader:
        samples = ShapeSamples.from_tensors(reader.tensors(0))
    if samples.cloud is not None:
        assert bool(torch.isfinite(samples.cloud).all())


def _npz(compression: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, array in (("points", np.zeros((9, 3), np.float16)), ("occupancies", np.zeros(2, np.uint8))):
            part = io.BytesIO()
            np.save(part, array)
            archive.writestr(f"{name}.npy", part.getvalue())
    return stream.getvalue()


def _read_pending(path: Path) -> None:
    read_pending(path)


def targets() -> dict[str, Target]:
    """Every parser under its name."""
    found = {kind: Target(f".{kind.split()[0]}", content, _read_mesh) for kind, content in _meshes().items()}
    found["shard"] = Target(".safetensors", _shard(), _read_shard)
    found["pending"] = Target(".safetensors", _shard(), _read_pending)
    found["npz"] = Target(".npz", _npz(zipfile.ZIP_STORED), read_npz)
    found["npz packed"] = Target(".npz", _npz(zipfile.ZIP_DEFLATED), read_npz)
    return found


NUMBERS = (b"0", b"-1", b"999999999999", b"1e39", b"nan", b"inf", b"2147483648", b"-0", b"1" * 400)


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Return the file with a few changes: bits, bytes, numbers, pieces doubled, moved or lost, the end cut off."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 2, 4, 8, 64)))
        kind = chance.randrange(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at:end] = chance.randbytes(end - at)
        elif kind == 2:
            data[at:end] = b""
        elif kind == 3:
            data[at:at] = data[at:end] * chance.choice((1, 2, 50))
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            data[at:end] = chance.choice(NUMBERS)
        elif kind == 6:
            data[at:end] = chance.choice((b"\xff", b"\x00", b"\x80", b"\x7f")) * (end - at)
        else:
            other = chance.randrange(len(data) + 1)
            data[at:at] = data[other : other + 40]
    return bytes(data)


def check(target: Target, content: bytes, folder: Path) -> bool:
    """Let the parser read a file; True if it was accepted. Anything but a typed error is raised."""
    path = folder / f"file{target.suffix}"
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except PyImplicitError as error:
        refused = str(error)
    else:
        return True
    assert str(path) in refused or "samples" in refused, f"the message names no file: {refused}"
    return False


def main(argv: list[str] | None = None) -> int:
    """Fuzz for some time; exits with 1 and leaves the file behind when a parser fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--only", nargs="+", choices=sorted(targets()), help="these parsers alone")
    arguments = parser.parse_args(argv)
    logging.getLogger("trimesh").disabled = True  # it says what is wrong with a file by whole tracebacks
    chosen = {name: target for name, target in targets().items() if not arguments.only or name in arguments.only}
    with tempfile.TemporaryDirectory() as scratch:
        for name, target in chosen.items():
            chance = random.Random(f"{arguments.seed} {name}")
            deadline = time.monotonic() + arguments.seconds / len(chosen)
            count = accepted = 0
            while time.monotonic() < deadline:
                content = mutate(target.seed, chance)
                try:
                    accepted += check(target, content, Path(scratch))
                except BaseException:
                    failed = Path(f"fuzz-failure{target.suffix}")
                    failed.write_bytes(content)
                    print(f"{name}: call {count}: see {failed}", file=sys.stderr)
                    raise
                count += 1
            print(f"{name:12}{count:9,} files, {accepted:,} accepted, the others refused", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
