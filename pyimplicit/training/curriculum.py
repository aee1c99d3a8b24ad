"""Curriculum-DeepSDF's schedule: how strict the loss is at each epoch, and where in it a training of any length is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

from pyimplicit.checks import check_count
from pyimplicit.fields import SDF, TSDF, ImplicitFunction

Kind = TypeVar("Kind", bound=ImplicitFunction)


@dataclass(frozen=True)
class Curriculum:
    """The authors' stages of the loss. The network's own stages, its depth, are in its config.

    Epochs count from 1. The loss changes at the epochs of `loss_epochs`, a new layer comes after them: at epochs 200,
    600 and 1000 the loss is that of the next stage already, and the network still that of the last one.

    Args:
        epochs: Epochs of the whole training, which a shorter or longer one is mapped to.
        loss_epochs: First epoch of each stage but the first, ascending.
        tolerances: Surface tolerance of each stage, mesh units.
        hard_weights: Weight of hard and half-hard points in each stage.

    Raises:
        TypeError, ValueError: Stages that do not fit together.

    Source:
        Duan et al., "Curriculum DeepSDF", section 4.1; the epochs are those of the authors' code.

    Example:
        >>> curriculum = Curriculum()
        >>> curriculum.kind(TSDF(0.1), epoch=700)
        TSDF(tau=0.1, tolerance=0.0025, hard_weight=0.2)
        >>> curriculum.epoch(step=50, steps=100)  # half of a training of 100 steps
        1001
    """

    epochs: int = 2001
    loss_epochs: tuple[int, ...] = (200, 600, 1000)
    tolerances: tuple[float, ...] = (0.025, 0.01, 0.0025, 0.0)
    hard_weights: tuple[float, ...] = (0.0, 0.1, 0.2, 0.5)

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs)
        if list(self.loss_epochs) != sorted(set(self.loss_epochs)):
            raise ValueError(f"loss_epochs: expected ascending epochs, got {self.loss_epochs}")
        for name in ("tolerances", "hard_weights"):
            if len(getattr(self, name)) != len(self.loss_epochs) + 1:
                raise ValueError(
                    f"{name}: expected one more than the {len(self.loss_epochs)} loss_epochs, got {getattr(self, name)}"
                )
        for tolerance, hard_weight in zip(self.tolerances, self.hard_weights, strict=True):
            SDF(tolerance, hard_weight)  # checks both

    def epoch(self, step: int, steps: int) -> int:
        """Return the epoch, from 1 to `epochs`, that `step` (0 is the first) of `steps` falls into.

        A training of `epochs` equal epochs is in its own epoch; any other one is stretched or shrunk to them.
        """
        return 1 + step * self.epochs // steps

    def kind(self, kind: Kind, epoch: int | None = None) -> Kind:
        """Return `kind` with the loss of `epoch`, or of the end of training and of the search for codes if None.

        Kinds that are no signed distances have no curriculum and are returned as they are.
        """
        if not isinstance(kind, SDF | TSDF):
            return kind
        stage = len(self.loss_epochs) if epoch is None else sum(epoch >= first for first in self.loss_epochs)
        return dataclasses.replace(kind, tolerance=self.tolerances[stage], hard_weight=self.hard_weights[stage])
