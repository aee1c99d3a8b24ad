"""Codes of auto-decoders: their penalty in training, and their search for shapes never seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyimplicit.checks import check_count, check_finite, check_positive, check_tensor
from pyimplicit.errors import TrainingError
from pyimplicit.fields import ImplicitFunction
from pyimplicit.networks import Network
from pyimplicit.training.seeds import generator


def code_penalty(
    codes: Tensor,  # [B, C]
    weight: float,
    epoch: float,
    warmup_epochs: int,
    form: str = "norm",
) -> Tensor:
    """Return the penalty of a batch of codes: `weight` * min(1, epoch / warmup) * mean of what `form` says.

    Args:
        codes: [B, C].
        weight: Of the whole.
        epoch: Epochs so far.
        warmup_epochs: Epochs over which the penalty rises.
        form: "norm", the Euclidean norm, or "square", the mean square of a code's entries.

    Source: Park et al., "DeepSDF", in the form of the authors' training code (the norm, where the article's text has
    its square); Duan et al., "Curriculum DeepSDF", whose code has the mean square.

    Example:
        >>> round(code_penalty(torch.tensor([[3.0, 4.0]]), weight=0.1, epoch=50, warmup_epochs=100).item(), 6)
        0.25
    """
    size: Tensor = torch.linalg.vector_norm(codes, dim=1) if form == "norm" else codes.square()
    return weight * min(1.0, epoch / warmup_epochs) * size.mean()


@dataclass(frozen=True)
class CodeSearch:
    """How the code of an unseen shape is found, with the network fixed.

    Source: Park et al., "DeepSDF", section on inference; the defaults are those of the authors' code.
    """

    # Adam steps.
    steps: int = 800
    # Learning rate; a tenth of it from half of the steps on.
    learning_rate: float = 5e-3
    # Points per shape and step, drawn with replacement from the given ones; 0 takes all of them at each step.
    points_per_step: int = 8_000
    # Standard deviation of the first code.
    initial_std: float = 0.01
    # Weight of the mean square of the code in the loss.
    regularization: float = 1e-4
    # Shapes optimised at once; a matter of memory and speed only.
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Check every field."""
        check_count("steps", self.steps)
        check_positive("learning_rate", self.learning_rate)
        check_count("points_per_step", self.points_per_step, minimum=0)
        check_positive("initial_std", self.initial_std)
        check_count("batch_size", self.batch_size)
        if self.regularization < 0:
            raise ValueError(f"regularization: expected at least 0, got {self.regularization}")


def infer_codes(
    network: Network,
    kind: ImplicitFunction,
    points: Tensor,  # [S, N, 3]
    signed_distance: Tensor,  # [S, N]
    search: CodeSearch | None = None,
    *,
    seed: int = 0,
) -> Tensor:
    """Find the codes whose fields match labelled points of unseen shapes.

    The network is evaluated without dropout and stays as it was. All shapes start from one random code and use the
    same positions of their point lists, so a shape's code depends neither on its place nor on the other shapes.

    Args:
        network: A trained auto-decoder.
        kind: The implicit function it was trained on; gives targets and loss.
        points: Labelled points of each shape, [S, N, 3] float32 on the network's device.
        signed_distance: Their signed distances, negative inside, [S, N] float32.
        search: Steps, learning rate and the like; the authors' by default.
        seed: Keys the first code and the choice of points.

    Returns:
        The codes, [S, network.code_size] float32.

    Raises:
        ValueError: The network is no auto-decoder, or the points do not fit or are not finite.
        TrainingError: The loss stopped being finite.
    """
    if network.kind != "auto_decoder":
        raise ValueError(f"network: expected an auto-decoder, got {network.name}, which encodes a cloud instead")
    device = next(network.parameters()).device
    search = search or CodeSearch()
    check_tensor("points", points, ("S", "N", 3), (torch.float32,), device)
    check_tensor("signed_distance", signed_distance, tuple(points.shape[:2]), (torch.float32,), device)
    check_finite("points", points)
    check_finite("signed_distance", signed_distance)
    if not points.shape[0] or not points.shape[1]:
        raise ValueError(f"points: expected at least one shape and one point, got shape {list(points.shape)}")
    with _frozen(network):
        found = [
            _search(network, kind, some_points, some_distances, search, seed)
            for some_points, some_distances in zip(
                torch.split(points, search.batch_size), torch.split(signed_distance, search.batch_size), strict=True
            )
        ]
    return torch.cat(found)


def _search(
    network: Network,
    kind: ImplicitFunction,
    points: Tensor,  # [B, N, 3]
    signed_distance: Tensor,  # [B, N]
    search: CodeSearch,
    seed: int,
) -> Tensor:
    """Run the search for one batch of shapes; return the codes [B, C]."""
    assert network.code_size is not None  # every auto-decoder has one
    first = torch.randn(network.code_size, generator=generator(seed, "code")) * search.initial_std
    codes = first.to(points.device).repeat(len(points), 1).requires_grad_()
    optimizer = torch.optim.Adam([codes], lr=search.learning_rate)
    target = kind.target(signed_distance)
    count = points.shape[1]
    for step in range(search.steps):
        if step == search.steps // 2:
            optimizer.param_groups[0]["lr"] = search.learning_rate / 10
        some_points, some_target = points, target
        if 0 < search.points_per_step < count:
            chosen = torch.randint(count, (search.points_per_step,), generator=generator(seed, "points", step))
            chosen = chosen.to(points.device)
            some_points, some_target = points[:, chosen], target[:, chosen]
        # The mean over the batch times its size is the sum of the shapes' own losses: no shape weighs on another.
        loss = kind.loss(network.decode(some_points, codes), some_target, reduction="mean") * len(points)
        loss = loss + search.regularization * codes.square().mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if not bool(torch.isfinite(codes).all()):
        raise TrainingError(f"the search for codes diverged within {search.steps} steps")
    return codes.detach()


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Put `network` into evaluation mode with fixed parameters, and back into its former state at the end."""
    modes = {module: module.training for module in network.modules()}
    flags = {parameter: parameter.requires_grad for parameter in network.parameters()}
    try:
        network.eval()
        for parameter in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
        for module, mode in modes.items():
            module.training = mode
