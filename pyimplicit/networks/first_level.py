"""The finest level of IF-Net and NDF in training: convolution of a voxel grid, ReLU, batch normalisation, pooling.

A grid of 128^3 cells holds some thousands set ones. Wherever no set cell is near, the convolution gives its bias, so
the level has one value a channel there, and its gradients one sum: only blocks of 2x2x2 cells (what the pooling makes
one cell of) that a set cell can reach are computed. The numbers are those of the dense layers, but for rounding.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit.networks.normalisation import update_statistics
from pyimplicit.ops import memory

# Where more of the blocks are reached than this, the dense layers are no slower.
LARGEST_SHARE = 0.25


def first_level(
    grids: Tensor,  # [B, 1, R, R, R]
    convolution: nn.Module,
    norm: nn.BatchNorm3d,
) -> tuple[Tensor, Tensor] | None:  # [B, C, R, R, R], [B, C, R/2, R/2, R/2], both channels last
    """Return the level's normalised features and their maximum over blocks; None where the dense layers should run.

    Updates the running statistics of `norm` as its own forward pass in training mode does.

    Args:
        grids: Values of the cells; 0 means empty. Must not require a gradient.
        convolution: 3x3x3 with zero padding and a bias.
        norm: Normalisation of the ReLU of the convolution.
    """
    assert isinstance(convolution, nn.Conv3d)
    assert convolution.bias is not None
    batch, _, size = grids.shape[:3]
    half = size // 2
    if size % 2 or grids.requires_grad or torch.compiler.is_compiling():
        return None
    device = grids.device.type
    if torch.is_autocast_enabled(device):  # few cells are computed, so there is little that halves could save
        with torch.autocast(device, enabled=False):
            return first_level(grids, convolution, norm)
    blocks = _reached_blocks(grids)  # [n, 4]: shape, and block along each axis
    if len(blocks) > LARGEST_SHARE * batch * half**3:
        return None
    channels = convolution.out_channels
    kernel = _block_kernel(convolution.weight)
    inside = F.linear(_patches(grids, blocks), kernel).view(-1, 8, channels)
    inside = (inside + convolution.bias).relu()  # [n, 8, C]
    outside = convolution.bias.relu()  # [C]

    count, many = batch * size**3, batch * size**3 - 8 * len(blocks)
    mean = (inside.sum((0, 1)) + many * outside) / count
    variance = ((inside - mean).square().sum((0, 1)) + many * (outside - mean).square()) / count
    update_statistics(norm, mean.detach(), variance.detach(), count)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    inside = (inside - mean) * scale + norm.bias
    outside = (outside - mean) * scale + norm.bias

    flat = _flat(blocks, half)
    corners = _flat(torch.cat([blocks[:, :1], 2 * blocks[:, 1:]], 1), size)
    steps = [(a * size + b) * size + c for a, b, c in product(range(2), repeat=3)]
    cells = (corners[:, None] + torch.tensor(steps, device=grids.device)).flatten()
    features = _spread(inside.flatten(0, 1), outside, cells, (batch, size, size, size))
    # max over an axis, not amax: its gradient goes to one cell where several tie, to the first one as in max_pool3d
    pooled = _spread(inside.max(1).values, outside, flat, (batch, half, half, half))
    return features.movedim(4, 1), pooled.movedim(4, 1)


def _spread(rows: Tensor, background: Tensor, cells: Tensor, shape: tuple[int, ...]) -> Tensor:
    return _Spread.apply(rows, background, cells, shape)  # type: ignore[no-any-return, no-untyped-call]


class _Spread(torch.autograd.Function):
    """One value a channel everywhere, but for some rows."""

    @staticmethod
    def forward(
        context: Any,
        rows: Tensor,  # [n, C]
        background: Tensor,  # [C]
        cells: Tensor,  # [n]: where the rows go, each place once
        shape: tuple[int, ...],
    ) -> Tensor:  # [*shape, C]
        context.save_for_backward(cells)
        full = (*shape, rows.shape[1])
        strides = torch.empty(full, device="meta").stride()
        spread = memory.empty(full, strides, rows.dtype, rows.device)
        line = background.repeat(shape[-1])  # long lines are filled faster than short ones
        spread.view(-1, len(line)).copy_(line)
        spread.view(-1, rows.shape[1]).index_copy_(0, cells, rows)
        return spread

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (cells,) = context.saved_tensors
        channels, lines = gradient.shape[-1], gradient.reshape(-1, gradient.shape[-2] * gradient.shape[-1])
        rows = lines.view(-1, channels).index_select(0, cells)
        # A product with ones over long lines: three times as fast as a sum over short ones.
        total = torch.mv(lines.t(), lines.new_ones(len(lines))).view(-1, channels).sum(0)
        return rows, total - rows.sum(0), None, None


def _reached_blocks(grids: Tensor) -> Tensor:
    """Return the blocks [n, 4] with a set cell in them or beside them, in order."""
    batch, half = grids.shape[0], grids.shape[2] // 2
    set_cells = grids[:, 0].nonzero()  # [m, 4]
    reached = grids.new_zeros((batch, half, half, half), dtype=torch.bool)
    for steps in product((-1, 1), repeat=3):
        near = (set_cells[:, 1:] + torch.tensor(steps, device=grids.device)).div_(2, rounding_mode="floor")
        reached[(set_cells[:, 0], *near.clamp_(0, half - 1).unbind(1))] = True
    return reached.nonzero()


def _patches(
    grids: Tensor,  # [B, 1, R, R, R]
    blocks: Tensor,  # [n, 4]
) -> Tensor:  # [n, 64]
    """Return the 4x4x4 cells that a block's convolution sees."""
    wide = grids.shape[2] + 2
    corners = _flat(torch.cat([blocks[:, :1], 2 * blocks[:, 1:]], 1), wide)
    steps = [(a * wide + b) * wide + c for a, b, c in product(range(4), repeat=3)]
    return F.pad(grids, (1,) * 6).flatten()[corners[:, None] + torch.tensor(steps, device=grids.device)]


def _block_kernel(
    weight: Tensor,  # [C, 1, 3, 3, 3]
) -> Tensor:  # [8 C, 64]
    """Return the convolution as a matrix from the 4x4x4 cells of a patch to the 2x2x2 of a block."""
    shifted = [F.pad(weight[:, 0], (c, 1 - c, b, 1 - b, a, 1 - a)) for a, b, c in product(range(2), repeat=3)]
    return torch.stack(shifted).flatten(2).flatten(0, 1)


def _flat(
    places: Tensor,  # [n, 4]
    size: int,
) -> Tensor:  # [n]
    """Return the row of each place in a batch of grids of `size` cells an axis."""
    return ((places[:, 0] * size + places[:, 1]) * size + places[:, 2]) * size + places[:, 3]
