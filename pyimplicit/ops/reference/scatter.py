"""Twins of the features of points pooled over the cells they lie in."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from pyimplicit.ops.scatter import CellGroups


def scatter_mean(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
    *,
    channels_first: bool = False,
) -> Tensor:
    """Twin of `pyimplicit.ops.scatter_mean`, by `torch.Tensor.index_add`; it looks at `groups.cells` only."""
    maps: list[Tensor] = []
    for cells in groups.cells.long().flatten(0, 1):  # cloud after cloud, for each partition
        cloud = features[len(maps) % features.shape[0]].double()
        sums = cloud.new_zeros(groups.cell_count, cloud.shape[1]).index_add(0, cells, cloud)
        maps.append(sums / torch.bincount(cells, minlength=groups.cell_count).clamp(min=1)[:, None])
    means = torch.stack(maps).to(features.dtype).view(*groups.cells.shape[:2], groups.cell_count, -1)
    means = means.transpose(2, 3) if channels_first else means
    return means if groups.several else means[0]


def scatter_max(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
) -> tuple[Tensor, Tensor]:
    """Twin of `pyimplicit.ops.scatter_max`, by `torch.max` over the points of each cell."""
    batch, _, channels = features.shape
    shape = (*groups.cells.shape[:2], groups.cell_count, channels)
    values, points = features.new_zeros(shape), torch.full(shape, -1, device=features.device)
    for k, b in itertools.product(range(shape[0]), range(batch)):
        for cell in set(groups.cells[k, b].tolist()):
            members = (groups.cells[k, b] == cell).nonzero()[:, 0]
            highest = features[b, members].max(0).values
            equal = (features[b, members] == highest) | features[b, members].isnan()
            first = members[equal.to(torch.uint8).argmax(0)]
            values[k, b, cell] = features[b].gather(0, first[None])[0]
            points[k, b, cell] = first
    return (values, points) if groups.several else (values[0], points[0])


def pool_local(
    features: Tensor,  # [B, N, C]
    groups: CellGroups,
) -> Tensor:
    """Twin of `pyimplicit.ops.pool_local`: `scatter_max`, gathered back."""
    values = scatter_max(features, groups)[0].reshape(*groups.cells.shape[:2], groups.cell_count, features.shape[2])
    own = groups.cells.long()[..., None].expand(-1, -1, -1, features.shape[2])
    return values.gather(2, own).sum(0)
