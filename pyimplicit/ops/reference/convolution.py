"""Twin of the convolution."""

from __future__ import annotations

import torch
from torch import Tensor


def convolve_grids(
    grids: Tensor,  # [B, C, D, H, W]
    weight: Tensor,  # [O, C, 3, 3, 3]
    bias: Tensor | None = None,  # [O]
) -> Tensor:  # [B, O, D, H, W]
    """Twin of `pyimplicit.ops.convolve_grids`: one product for each of the 27 places of a kernel."""
    padded = torch.nn.functional.pad(grids.double(), (1,) * 6)
    depth, height, width = grids.shape[2:]
    results = padded.new_zeros(grids.shape[0], weight.shape[0], depth, height, width)
    for a in range(3):
        for b in range(3):
            for c in range(3):
                part = padded[:, :, a : a + depth, b : b + height, c : c + width]
                results = results + torch.einsum("bidhw,oi->bodhw", part, weight[:, :, a, b, c].double())
    if bias is not None:
        results = results + bias.double()[:, None, None, None]
    return results.to(grids.dtype)
