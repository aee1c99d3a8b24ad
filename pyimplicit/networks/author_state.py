"""Weights of the original authors' checkpoints, loaded into our networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyimplicit.errors import CheckpointError
from pyimplicit.networks.base import Network
from pyimplicit.networks.states import compare_states

# Where the authors' training scripts put the weights in a checkpoint, beside the optimiser's state and counters.
WEIGHTS = ("model", "model_state_dict")
PARTS = tuple({f"encoder{ending}": "encoder.", f"decoder{ending}": "decoder."} for ending in ("_state_dict", ""))
CODES = "codes"


def load_author_state(network: Network, state_dict: Mapping[str, Any]) -> None:
    """Copy the weights of a checkpoint of the original authors into `network`.

    Accepted are a state_dict or a whole checkpoint that holds one (under "model", "model_state_dict", or split in
    "encoder_state_dict" and "decoder_state_dict"), with or without the `module.` prefix of DataParallel. Where encoder
    and decoder come from two files, pass {"encoder": ..., "decoder": ...}. For DeepSDF and Curriculum-DeepSDF also with
    or without the prefix `decoder.`, and with either naming of weight normalisation; a latent table beside the weights
    is not part of the network, see `author_codes`.

    This package never unpickles. Read a `.pth` or `.pt` file with `torch.load(path, weights_only=True)`, once, and
    keep the network with `save_network`.

    Args:
        network: Built with the config that the weights were made for. Unchanged if an error is raised.
        state_dict: The authors' names to tensors.

    Raises:
        TypeError: `state_dict` is not a mapping.
        CheckpointError: Keys are missing, unknown, or of another shape; the message names them.

    Example:
        >>> from pyimplicit.networks import create
        >>> config = dict(code_size=4, hidden_size=16, hidden_layers=2, skip_layer=1)
        >>> source, target = create("deepsdf", **config), create("deepsdf", **config)
        >>> wrapped = {f"module.{key}": value for key, value in source.state_dict().items()}
        >>> load_author_state(target, {"epoch": 2001, "model_state_dict": wrapped})
        >>> torch.equal(source.lin1.weight, target.lin1.weight)
        True
    """
    state = _unwrap(state_dict)
    if network.kind == "auto_decoder":
        state.pop(CODES, None)
    renamed: dict[str, Any] = {}
    for key, value in state.items():
        own = network.own_key(key)
        if own in renamed:
            raise CheckpointError(f"state_dict: {key} is a second name of {own}, which is there already")
        renamed[own] = value
    compare_states(network, renamed, "state_dict")
    with torch.no_grad():
        for key, value in network.state_dict(keep_vars=True).items():
            value.copy_(renamed[key])


def author_codes(checkpoint: Mapping[str, Any] | Tensor) -> Tensor:
    """Return the latent codes [n, size] of an authors' LatentCodes file, in any of its forms.

    Args:
        checkpoint: A tensor [n, size] or [n, 1, size], or a mapping with one under "latent_codes" (there possibly as
            the state of an embedding, {"weight": ...}) or under "codes".

    Raises:
        CheckpointError: Nothing of the kind is there.

    Example:
        >>> author_codes({"epoch": 2001, "latent_codes": {"weight": torch.zeros(5, 4)}}).shape
        torch.Size([5, 4])
    """
    codes: Any = checkpoint
    for key in ("latent_codes", CODES, "weight"):
        if isinstance(codes, Mapping) and key in codes:
            codes = codes[key]
    if not isinstance(codes, Tensor):
        found = ", ".join(map(str, codes)) if isinstance(codes, Mapping) else type(codes).__name__
        raise CheckpointError(f"checkpoint: expected a table of latent codes, found {found or 'nothing'}")
    if codes.dim() == 3 and codes.shape[1] == 1:
        codes = codes.squeeze(1)
    if codes.dim() != 2 or not codes.is_floating_point():
        raise CheckpointError(f"checkpoint: expected float codes [n, size], got {list(codes.shape)} {codes.dtype}")
    table: Tensor = codes.detach().clone()
    return table


def _unwrap(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state_dict of a checkpoint, without the prefixes of DataParallel."""
    if not isinstance(checkpoint, Mapping):
        raise TypeError(f"state_dict: expected a mapping of names to tensors, got {type(checkpoint).__name__}")
    state: dict[str, Any] | None = None
    for key in WEIGHTS:
        if isinstance(checkpoint.get(key), Mapping):
            state = _without_module(checkpoint[key])
    for parts in PARTS:
        if state is None and all(isinstance(checkpoint.get(part), Mapping) for part in parts):
            state = {
                prefix + key: value
                for part, prefix in parts.items()
                for key, value in _without_module(checkpoint[part]).items()
            }
    return _without_module(checkpoint) if state is None else state


def _without_module(state: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).removeprefix("module."): value for key, value in state.items()}
