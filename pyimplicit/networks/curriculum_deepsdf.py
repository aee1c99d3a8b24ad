"""Curriculum-DeepSDF: DeepSDF that is trained with few layers first; the others are faded in one after another.

Paper: Curriculum DeepSDF. Y. Duan, H. Zhu, H. Wang, L. Yi, R. Nevatia, L. J. Guibas. ECCV 2020. Layers, keys and the
trained network are DeepSDF's. The other half of the curriculum, the loss, is in `pyimplicit.training.curriculum`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pyimplicit.checks import check_count, check_number
from pyimplicit.networks.base import Code
from pyimplicit.networks.deepsdf import DeepSDF


class CurriculumDeepSDF(DeepSDF):
    """DeepSDF's decoder with progressive depth.

    `epoch` says which of the authors' epochs the training is at; None, where it starts, means all layers. Up to the
    first of `depth_epochs` only the first hidden layers are used, as many as leave one for each of `depth_epochs`; past
    each of these one more is. A new layer starts as a copy of its input and takes over within `fade_epochs`.

    Args:
        code_size: Length of the code.
        hidden_size: Width of the hidden layers; more than `code_size` + 3.
        hidden_layers: Number of hidden layers.
        skip_layer: The hidden layer (counted from 0) that sees code and point again; it must be in use from the
            start, so it is below hidden_layers - len(depth_epochs).
        dropout: Probability of dropping a hidden feature in training mode.
        depth_epochs: Last epochs without each of the layers to come, ascending.
        fade_epochs: Epochs over which a new layer takes over.

    Attributes:
        epoch: Epoch of the authors' schedule, counted from 1, or None for the whole network. It is no part of the
            state: a saved network is the whole one.

    Raises:
        TypeError: An argument of a wrong type.
        ValueError: An argument out of range.

    Source:
        Duan et al., Curriculum DeepSDF, section 3.2 (training network architecture).

    Example:
        >>> import torch
        >>> network = CurriculumDeepSDF(code_size=4, hidden_size=16, hidden_layers=6, skip_layer=1).eval()
        >>> network.epoch = 300
        >>> network.depth()
        (4, 0.5)
        >>> network.decode(torch.rand(2, 5, 3) - 0.5, torch.zeros(2, 4)).shape
        torch.Size([2, 5])
    """

    name = "curriculum_deepsdf"

    def __init__(
        self,
        *,
        code_size: int = 256,
        hidden_size: int = 512,
        hidden_layers: int = 8,
        skip_layer: int = 4,
        dropout: float = 0.2,
        depth_epochs: Sequence[int] = (200, 600, 1000),
        fade_epochs: int = 200,
    ) -> None:
        if not isinstance(depth_epochs, Sequence):
            raise TypeError(f"depth_epochs: expected a list of epochs, got {type(depth_epochs).__name__}")
        ends = [check_count("depth_epochs", end) for end in depth_epochs]
        if ends != sorted(set(ends)):
            raise ValueError(f"depth_epochs: expected ascending epochs, got {ends}")
        super().__init__(
            code_size=code_size,
            hidden_size=hidden_size,
            hidden_layers=hidden_layers,
            skip_layer=skip_layer,
            dropout=dropout,
        )
        if skip_layer >= hidden_layers - len(ends):
            raise ValueError(
                f"skip_layer: expected below hidden_layers - len(depth_epochs) = {hidden_layers - len(ends)}, as the "
                f"layers from there on are not used from the start, got {skip_layer}"
            )
        self.config |= {"depth_epochs": ends, "fade_epochs": check_count("fade_epochs", fade_epochs)}
        self._epoch: float | None = None

    @property
    def epoch(self) -> float | None:
        """Epoch of the authors' schedule, or None for the whole network."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: float | None) -> None:
        self._epoch = None if epoch is None else check_number("epoch", epoch)

    def depth(self) -> tuple[int, float]:
        """Return the number of hidden layers in use, and the share that the last of them leaves to its input."""
        ends, fade = self.config["depth_epochs"], self.config["fade_epochs"]
        if self._epoch is None:
            return self.hidden_layers, 0.0
        passed = [end for end in ends if self._epoch > end]
        bypass = max(passed[-1] + fade - self._epoch, 0) / fade if passed else 0.0
        return self.hidden_layers - len(ends) + len(passed), bypass

    def decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,  # [B, code_size]
    ) -> Tensor:  # [B, T]
        """Return the signed distances [B, T] of the points at `epoch`, negative inside; see `Network.decode`."""
        return self._decode(points, code, *self.depth())
