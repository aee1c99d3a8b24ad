"""The table of codes that an auto-decoder is trained with, one row a shape."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit.checks import check_count, check_positive, check_tensor


class LatentCodes(nn.Module):
    """Codes [count, size] to be optimised together with an auto-decoder.

    Only the rows that a batch looked up change in a step: the gradient is sparse, and `optimizer` returns the Adam
    that leaves absent rows and their moments alone (with a dense gradient they would drift on by momentum). Rows are
    kept within the ball of radius `max_norm` by `project_`, called after each step. As rows are also projected at the
    start, a looked-up code is always in the ball, and the numbers are those of a table renormalised at lookup, without
    a parameter changing inside a forward pass.

    Args:
        count: Number of shapes.
        size: Length of a code.
        std: Standard deviation of the normal distribution that entries start from; 1 / sqrt(size) if None.
        max_norm: Largest Euclidean norm of a code; None for no bound.
        seed: If given, the rows are drawn from this seed alone, else from torch's global generator.

    Raises:
        TypeError: An argument of a wrong type.
        ValueError: An argument out of range.

    Source:
        Park et al., DeepSDF: Learning Continuous Signed Distance Functions for Shape Representation, section 4.

    Example:
        >>> codes = LatentCodes(10, 4, seed=0)
        >>> codes(torch.tensor([3, 7])).shape
        torch.Size([2, 4])
        >>> bool((codes.weight.norm(dim=1) <= 1.0001).all())
        True
    """

    def __init__(
        self,
        count: int,
        size: int,
        std: float | None = None,
        max_norm: float | None = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        check_count("count", count)
        check_count("size", size)
        std = 1 / math.sqrt(size) if std is None else check_positive("std", std)
        self.max_norm = None if max_norm is None else check_positive("max_norm", max_norm)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(count, size, generator=generator) * std)
        self.project_()

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.weight.shape[0]

    @property
    def size(self) -> int:
        """Length of a row."""
        return self.weight.shape[1]

    def forward(
        self,
        indices: Tensor,  # [B]
    ) -> Tensor:  # [B, size]
        """Look up rows.

        Args:
            indices: [B] int64 row numbers, on the table's device.

        Raises:
            TypeError: Another dtype.
            ValueError: A wrong shape or device, or an index outside the table.
        """
        check_tensor("indices", indices, ("B",), (torch.int64,), self.weight.device)
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self.count:
            raise ValueError(
                f"indices: expected values from 0 to {self.count - 1}, got {int(indices.min())} to {int(indices.max())}"
            )
        return F.embedding(indices, self.weight, sparse=True)

    @torch.no_grad()
    def project_(
        self,
        indices: Tensor | None = None,  # [B]
    ) -> None:
        """Scale rows whose norm exceeds `max_norm` back onto the sphere of that radius, in place.

        Args:
            indices: The rows to look at, such as those of the batch; all rows if None.
        """
        if self.max_norm is None:
            return
        rows = self.weight if indices is None else self.weight[indices]
        rows = rows * (self.max_norm / rows.norm(dim=1, keepdim=True)).clamp_(max=1)
        self.weight[slice(None) if indices is None else indices] = rows

    def optimizer(self, learning_rate: float) -> torch.optim.SparseAdam:
        """Return the optimiser to use: Adam that touches the looked-up rows only.

        Its state is dense tensors and one step count, as `torch.optim.Adam` keeps them.
        """
        return torch.optim.SparseAdam([self.weight], lr=check_positive("learning_rate", learning_rate))
