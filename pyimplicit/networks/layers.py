"""Blocks that more than one network is made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResnetBlockFC(nn.Module):
    """Two linear layers with ReLUs before them, beside a shortcut; starts as its shortcut, as the last weight is 0.

    Args:
        in_size: Features in.
        out_size: Features out; `in_size` if None. The hidden layer has the smaller of both.

    Source:
        Occupancy Networks: Learning 3D Reconstruction in Function Space (Mescheder et al. 2019), supplementary
        section on network architectures.

    Example:
        >>> block = ResnetBlockFC(4)
        >>> x = torch.randn(2, 5, 4)
        >>> torch.equal(block(x), x + block.fc_1.bias)
        True
    """

    def __init__(self, in_size: int, out_size: int | None = None) -> None:
        super().__init__()
        out_size = in_size if out_size is None else out_size
        hidden_size = min(in_size, out_size)
        self.fc_0 = nn.Linear(in_size, hidden_size)
        self.fc_1 = nn.Linear(hidden_size, out_size)
        self.shortcut = nn.Linear(in_size, out_size, bias=False) if in_size != out_size else None
        nn.init.zeros_(self.fc_1.weight)

    def forward(
        self,
        x: Tensor,  # [..., N, in_size - P]
        shared: Tensor | None = None,  # [..., 1, P]
    ) -> Tensor:  # [..., N, out_size]
        """Apply the block to x, or to cat[x, shared repeated N times], which is not formed.

        A linear layer of a concatenation is the sum of two linear layers, and the one of `shared` runs once.
        """
        hidden = self.fc_1(F.relu(_linear(self.fc_0, F.relu(x), None if shared is None else F.relu(shared))))
        shortcut = x if self.shortcut is None else _linear(self.shortcut, x, shared)
        return torch.add(hidden, shortcut)


def _linear(layer: nn.Linear, x: Tensor, shared: Tensor | None) -> Tensor:
    if shared is None:
        return layer(x)  # type: ignore[no-any-return]
    own = x.shape[-1]
    return F.linear(x, layer.weight[:, :own]) + F.linear(shared, layer.weight[:, own:], layer.bias)


class CellGroups:
    """The points of a batch of clouds grouped by the cell they lie in: built once a cloud, pooled many times.

    Several partitions of space (the three planes of ConvONet) are grouped together and pooled in one pass.

    Args:
        cells: [K, B, N] int64 index of each point's cell under each of K partitions, in [0, cell_count).
        cell_count: Cells of one partition.

    Example:
        >>> groups = CellGroups(torch.tensor([[[0, 2, 2]]]), cell_count=4)
        >>> features = torch.tensor([[[1.0], [5.0], [3.0]]])
        >>> groups.max_of_own_cells(features).flatten().tolist()
        [1.0, 5.0, 5.0]
        >>> groups.mean_map(features).flatten().tolist()
        [1.0, 0.0, 4.0, 0.0]
    """

    def __init__(self, cells: Tensor, cell_count: int) -> None:
        self.partitions, self.batch, self.count = cells.shape
        self.cell_count = cell_count
        groups = self.partitions * self.batch
        first = torch.arange(groups, device=cells.device).mul_(cell_count)
        self.flat = (cells + first.view(self.partitions, self.batch, 1)).flatten()  # [K * B * N]
        # A stable order keeps the points of a cell in the cloud's order, so that a tie goes to the first of them.
        sorted_cells, order = self.flat.sort(stable=True)
        _, rank, sizes = torch.unique_consecutive(sorted_cells, return_inverse=True, return_counts=True)
        own = torch.empty_like(rank)
        own[order] = rank
        rows = self.batch * self.count
        self.members = order.remainder(rows)  # [K * B * N] row of `features` of each member, cell after cell
        self.ends = F.pad(sizes.cumsum(0), (1, 0))  # [occupied + 1] where the members of each occupied cell start
        self.own = own.view(self.partitions, rows).T.contiguous()  # [B * N, K] the occupied cell of each point

    def max_of_own_cells(
        self,
        features: Tensor,  # [B, N, C]
    ) -> Tensor:  # [B, N, C]
        """Return, for each point, the maximum over the points of its cell, summed over the K partitions.

        Where points of a cell tie (clouds drawn with replacement hold duplicates), the gradient goes to the first one
        only, so it is not shared out as `torch.amax` would.
        """
        rows = features.flatten(0, 1)
        best = F.embedding_bag(self.members, rows, self.ends, mode="max", include_last_offset=True)
        return F.embedding_bag(self.own, best, mode="sum").view_as(features)

    def mean_map(
        self,
        features: Tensor,  # [B, N, C]
    ) -> Tensor:  # [K, B, cell_count, C]
        """Return the mean over the points of each cell, 0 where a cell is empty."""
        channels = features.shape[-1]
        total = self.partitions * self.batch * self.cell_count
        rows = features.flatten(0, 1).repeat(self.partitions, 1)
        sizes = torch.bincount(self.flat, minlength=total).clamp_(min=1).to(features.dtype)
        sums = features.new_zeros(total, channels).index_add(0, self.flat, rows)
        return (sums / sizes[:, None]).view(self.partitions, self.batch, self.cell_count, channels)
