"""Twins of the depth maps of a surface, and of what they say of points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyimplicit.ops.depth_maps import DepthViews


def draw_depth(vertices: Tensor, faces: Tensor, views: DepthViews) -> Tensor:
    """Twin of `pyimplicit.ops.draw_depth`, every pixel against every face."""
    axis = (torch.arange(views.size, device=vertices.device) + 0.5 - views.size / 2).double() * views.pixel
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    at = torch.stack((column, row), -1)[:, :, None]  # [size, size, 1, 2]
    maps = []
    for rotation in views.rotations.double():
        corners = (vertices.double() @ rotation.T)[faces.long()]  # [F, 3, 3]
        a, b, c = corners[..., :2].unbind(1)

        def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
            return (q - p)[..., 0] * (r - p)[..., 1] - (q - p)[..., 1] * (r - p)[..., 0]

        weights = torch.stack((area(b, c, at), area(c, a, at), area(a, b, at)), -1)
        total = area(a, b, c)
        inside = ((weights >= 0).all(-1) | (weights <= 0).all(-1)) & (total != 0)
        depth = (weights * corners[..., 2]).sum(-1) / total
        maps.append(torch.where(inside, depth, math.inf).amin(-1))
    return torch.stack(maps).float()


def count_views(points: Tensor, depth: Tensor, views: DepthViews, enough: int = 1) -> Tensor:
    """Twin of `pyimplicit.ops.count_views`."""
    seen = torch.zeros(len(points), dtype=torch.int32, device=points.device)
    for rotation, image in zip(views.rotations.double(), depth.double(), strict=True):
        across, down, along = (points.double() @ rotation.T).unbind(1)
        column, row = ((place / views.pixel + views.size / 2).floor().long() for place in (across, down))
        beside = (column < 0) | (column >= views.size) | (row < 0) | (row >= views.size)
        before = image[row.clamp(0, views.size - 1), column.clamp(0, views.size - 1)]
        seen += beside | (along < before)
    return seen.clamp(max=enough)
