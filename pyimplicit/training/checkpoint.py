"""Checkpoints of training: one safetensors file that is written in one piece and read without executing anything.

The file holds the network, the codes, the optimiser's moments and the losses so far as tensors, and the config, the
step and a checksum as JSON in its header. It is written beside its final place, flushed to the disk and moved there
in one operation, so a reader finds either the old checkpoint or the new one, whenever the writer is killed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pyimplicit.atomic import write_atomically
from pyimplicit.errors import CheckpointError, ConfigError
from pyimplicit.training.config import TrainConfig

FORMAT = "pyimplicit-training"
VERSION = 2
# Files of version 1, from one process and without gradient scaling, are read as well.
_READABLE = (1, VERSION)
#: Name of the checkpoint in a run's directory.
CHECKPOINT_FILE = "checkpoint.safetensors"

_SECTIONS = ("network", "codes", "optimizer", "progress")
# Zip archives (torch.save today) and pickles of protocols 2 to 5 (torch.save before).
_PICKLE_MARKS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after `step` steps: all that is needed to continue it exactly."""

    config: TrainConfig
    data: str  # digest of the training shapes
    names: tuple[str, ...]  # of the training shapes
    step: int
    seconds: float  # spent on training so far
    network: Mapping[str, Tensor]
    codes: Mapping[str, Tensor]  # empty for encoder networks
    optimizer: Mapping[str, Tensor]
    losses: Tensor  # [step] float64
    processes: int = 1  # that shared each step


def save_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
    """Write `checkpoint` to the file `path` in one piece; an older one there is replaced.

    Args:
        checkpoint: What to write.
        path: The file; its directory must exist.

    Raises:
        CheckpointError: The file cannot be written.
    """
    sections = (checkpoint.network, checkpoint.codes, checkpoint.optimizer, {"losses": checkpoint.losses})
    tensors = {
        f"{section}.{name}": tensor.detach().cpu().contiguous().clone()
        for section, values in zip(_SECTIONS, sections, strict=True)
        for name, tensor in values.items()
    }
    run = {
        "config": checkpoint.config.to_dict(),
        "data": checkpoint.data,
        "names": checkpoint.names,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "processes": checkpoint.processes,
    }
    header = {"version": VERSION, "run": run, "checksum": _checksum(run, tensors)}
    try:
        # safetensors writes its metadata in no fixed order: one entry keeps equal states equal bytes.
        write_atomically(Path(path), save(tensors, {FORMAT: json.dumps(header, sort_keys=True)}))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the checkpoint in the file `path`, or in the run's directory `path`.

    Nothing in the file is executed: a pickle, whatever its name, is refused unread.

    Raises:
        CheckpointError: The file is missing, truncated, corrupt, of another format, or a pickle.
    """
    file = Path(path)
    file = file / CHECKPOINT_FILE if file.is_dir() else file
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    if content.startswith(_PICKLE_MARKS):
        raise CheckpointError(f"{file}: expected a safetensors file, got a pickle or zip archive, never loaded")
    try:
        tensors = load(content)
        metadata = _metadata(content)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{file}: truncated or not a safetensors file: {error}") from error
    try:
        header = json.loads(metadata[FORMAT])
        version, run, checksum = header["version"], header["run"], header["checksum"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: not a checkpoint of training, its header says nothing of one") from error
    if version not in _READABLE:
        raise CheckpointError(f"{file}: expected version {VERSION} or an earlier one, got {version!r}")
    if checksum != _checksum(run, tensors):
        raise CheckpointError(f"{file}: corrupt, its checksum does not match its content")
    return _assemble(file, run, tensors)


def _assemble(file: Path, run: dict[str, Any], tensors: Mapping[str, Tensor]) -> Checkpoint:
    """Return the checkpoint of a description and tensors whose checksum was right."""
    sections: dict[str, dict[str, Tensor]] = {section: {} for section in _SECTIONS}
    for name, tensor in tensors.items():
        section, _, key = name.partition(".")
        sections[section][key] = tensor
    try:
        config = TrainConfig.from_dict(run["config"])
    except ConfigError as error:
        raise CheckpointError(f"{file}: its config is not one of this version: {error}") from error
    return Checkpoint(
        config=config,
        data=run["data"],
        names=tuple(run["names"]),
        step=run["step"],
        seconds=run["seconds"],
        network=sections["network"],
        codes=sections["codes"],
        optimizer=sections["optimizer"],
        losses=sections["progress"]["losses"],
        processes=run.get("processes", 1),
    )


def _metadata(content: bytes) -> dict[str, str]:
    """Return the free metadata in the header of a safetensors file that has been parsed already."""
    size = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def _checksum(run: Any, tensors: Mapping[str, Tensor]) -> str:
    """Return the BLAKE2b hash of the description of a run, and of the name, shape, dtype and bytes of every tensor."""
    hasher = hashlib.blake2b(json.dumps(run, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        hasher.update(f"\x1f{name}\x1f{tuple(tensor.shape)}\x1f{tensor.dtype}\x1f".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()
