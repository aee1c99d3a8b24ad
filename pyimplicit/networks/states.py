"""Networks on disk: tensors in safetensors, the config as JSON in its header. No pickle, no partly written file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pyimplicit.atomic import write_atomically
from pyimplicit.errors import CheckpointError
from pyimplicit.networks.base import Network
from pyimplicit.networks.registry import create

HEADER = "pyimplicit.network"
FORMAT = 1
# How zip archives (torch.save) and pickle protocols 2 to 5 begin.
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
# A message names this many keys; a wrong file would otherwise fill the screen.
NAMED_KEYS = 8


def save_network(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network's weights and config to a safetensors file.

    The file appears whole or not at all: it is written beside its place, flushed to the disk and renamed.

    Args:
        network: Any network of `create`.
        path: Usually ends in `.safetensors`. Its folder must exist. An existing file is replaced.

    Raises:
        OSError: The folder is missing or cannot be written.

    Example:
        >>> import tempfile
        >>> from pyimplicit.networks import create
        >>> network = create("onet", code_size=4, hidden_size=4, decoder_size=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_network(network, f"{folder}/onet.safetensors")
        ...     load_network(f"{folder}/onet.safetensors").config == network.config
        True
    """
    header = {"format": FORMAT, "name": network.name, "variant": network.variant, "config": network.config}
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomically(path, save(tensors, {HEADER: json.dumps(header)}))


def load_network(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Network:
    """Read a network that `save_network` wrote.

    Args:
        path: The file.
        device: Where to put the network.

    Returns:
        The network in evaluation mode, with the dtype it was saved in.

    Raises:
        CheckpointError: The file is missing, damaged, a pickle, from something else, or its tensors are not those of
            its config.
    """
    header, tensors = _read(Path(path))
    try:
        # On the meta device a config costs no memory, so a hostile one is caught by the comparison below.
        with torch.device("meta"):
            network = create(header["name"], header["variant"], **header["config"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its config cannot be built: {error}") from error
    compare_states(network, tensors, str(path))
    network.load_state_dict(tensors, assign=True)
    return network.to(device).eval()


def compare_states(network: Network, state: Mapping[str, Any], source: str) -> None:
    """Raise `CheckpointError` naming the keys if `state` is not a complete state of `network`.

    Keys and shapes must be equal, integers must be integers and floats floats; the width of floats may differ.
    """
    own = network.state_dict()
    problems = []
    if missing := [key for key in own if key not in state]:
        problems.append(f"missing {_named(missing)}")
    if unknown := [key for key in state if key not in own]:
        problems.append(f"unknown {_named(unknown)}")
    wrong = [
        f"{key} (expected {_form(own[key])}, got {_form(state[key])})"
        for key in own
        if key in state and not _fits(own[key], state[key])
    ]
    if wrong:
        problems.append(f"unfit {_named(wrong)}")
    if problems:
        title = network.name if network.variant is None else f"{network.name} {network.variant}"
        raise CheckpointError(f"{source}: not a state of this {title}: {'; '.join(problems)}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # clones: the tensors must not depend on the mapped file afterwards
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        # only now: the length that a sound file begins with can look like the start of a pickle
        if start.startswith(PICKLES):
            raise CheckpointError(
                f"{path}: expected safetensors, got a pickle or torch.save archive, which can run code when loaded and "
                "is refused; see load_author_state for weights of the original authors"
            ) from None
        raise CheckpointError(f"{path}: not a safetensors file, or damaged: {error}") from error
    try:
        header = json.loads(metadata[HEADER])
        known = header["format"] == FORMAT and isinstance(header["name"], str) and isinstance(header["config"], dict)
        known = known and isinstance(header["variant"], str | None)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: holds no network header that save_network wrote") from error
    if not known:
        raise CheckpointError(f"{path}: its network header is of an unknown format, expected format {FORMAT}")
    return header, tensors


def _fits(own: Tensor, other: object) -> bool:
    return (
        isinstance(other, Tensor)
        and own.shape == other.shape
        and own.is_floating_point() == other.is_floating_point()
        and not other.is_complex()
    )


def _form(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _named(keys: list[str]) -> str:
    more = len(keys) - NAMED_KEYS
    return ", ".join(keys[:NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")
