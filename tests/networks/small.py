"""Networks at widths that run in milliseconds, with weights that no zero initialisation silences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyimplicit import networks
from pyimplicit.networks.base import Network

MAPS = {"feature_size": 6, "hidden_size": 8, "decoder_size": 8, "unet_width": 4, "unet_depth": 2}
GRIDS = {"width": 2, "hidden_size": 8}
ANCHORS = {
    "first_points": 12,
    "anchors": 6,
    "hidden_size": 8,
    "neighbours": 4,
    "encoder_blocks": 2,
    "attention_size": 7,
    "decoder_size": 8,
    "decoder_neighbours": 3,
}
CASES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "onet": ("onet", None, {"code_size": 10, "hidden_size": 8, "decoder_size": 12}),
    "3plane": ("convonet", "3plane", {"resolution": 8, **MAPS}),
    "1plane": ("convonet", "1plane", {"resolution": 12, **MAPS}),
    "grid32": ("convonet", "grid32", {"resolution": 7, **MAPS}),
    "grid64": ("convonet", "grid64", {"resolution": 6, **MAPS}),
    "points": ("ifnet", "points", {"resolution": 16, **GRIDS}),
    "128vox": ("ifnet", "128vox", {"resolution": 18, **GRIDS}),
    "svr": ("ifnet", "svr", {"resolution": 32, **GRIDS}),
    "ndf": ("ndf", None, {"resolution": 32, **GRIDS}),
    "300": ("airnet", "300", {**ANCHORS, "first_size": 8, "first_neighbours": 6}),
    "3000": ("airnet", "3000", {**ANCHORS, "first_size": 6, "first_neighbours": 3}),
    "deepsdf": ("deepsdf", None, {"code_size": 5, "hidden_size": 16, "hidden_layers": 4, "skip_layer": 2}),
    "curriculum": (
        "curriculum_deepsdf",
        None,
        {"code_size": 5, "hidden_size": 16, "hidden_layers": 5, "skip_layer": 1},
    ),
}
AUTO_DECODERS = ("deepsdf", "curriculum")


def build(case: str, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> Network:
    """The network of a case, every parameter drawn afresh so that no block is the identity."""
    name, variant, small = CASES[case]
    torch.manual_seed(seed)
    network = networks.create(name, variant, **{**small, **config}).to(dtype)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            parameter.copy_(torch.randn(parameter.shape) * (0.3 if parameter.dim() > 1 else 0.1))
            if key.endswith("original0") or (parameter.dim() == 1 and key.endswith("weight")):
                parameter.add_(1.0)
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return network


def inputs(network: Network, batch: int, points: int, cloud: int = 40, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Query points [B, T, 3] and what the code is made from: clouds [B, N, 3] or codes [B, code_size]."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.rand(batch, points, 3, generator=generator, dtype=network.dtype) - 0.5
    if network.kind == "encoder":
        return queries, torch.rand(batch, cloud, 3, generator=generator, dtype=network.dtype) - 0.5
    assert network.code_size is not None
    return queries, torch.randn(batch, network.code_size, generator=generator, dtype=network.dtype)
