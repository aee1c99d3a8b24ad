from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pyimplicit import fields
from pyimplicit.networks import create
from pyimplicit.training import CodeSearch, infer_codes
from pyimplicit.training.latent import code_penalty
from tests.training.shapes import DEEPSDF

SDF = fields.SDF()


class Balls(nn.Module):
    """An auto-decoder whose code is the radius, so the right code is known."""

    kind, name, code_size = "auto_decoder", "balls", 1

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.9)

    def decode(self, points: Tensor, code: Tensor) -> Tensor:
        return self.dropout(self.scale * points.norm(dim=2) - code)


def labelled(radii: list[float], count: int = 300) -> tuple[Tensor, Tensor]:
    points = torch.rand(len(radii), count, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    return points, points.norm(dim=2) - torch.tensor(radii)[:, None]


def test_the_right_codes_are_found() -> None:
    points, signed_distance = labelled([0.1, 0.25, 0.4])
    search = CodeSearch(steps=300, points_per_step=100, learning_rate=0.01)
    codes = infer_codes(Balls(), SDF, points, signed_distance, search)  # type: ignore[arg-type]
    assert torch.allclose(codes[:, 0], torch.tensor([0.1, 0.25, 0.4]), atol=2e-3)
    assert not codes.requires_grad


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_code_depends_on_its_own_shape_only(batch_size: int) -> None:
    torch.manual_seed(0)
    network = create("deepsdf", **DEEPSDF)
    points, signed_distance = labelled([0.1, 0.25, 0.4])
    search = CodeSearch(steps=30, points_per_step=50, batch_size=batch_size)
    together = infer_codes(network, SDF, points, signed_distance, search, seed=3)
    alone = infer_codes(network, SDF, points[2:], signed_distance[2:], search, seed=3)
    assert torch.allclose(together[2:], alone, atol=1e-5)
    reversed_order = infer_codes(network, SDF, points.flip(0), signed_distance.flip(0), search, seed=3)
    assert torch.allclose(together, reversed_order.flip(0), atol=1e-5)


def test_the_search_is_a_function_of_the_seed() -> None:
    torch.manual_seed(0)
    network = create("deepsdf", **DEEPSDF)
    points, signed_distance = labelled([0.3])
    search = CodeSearch(steps=10, points_per_step=50)
    codes = [infer_codes(network, SDF, points, signed_distance, search, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


def test_the_network_is_left_as_it_was() -> None:
    network = Balls()
    network.scale.requires_grad_(False)
    network.dropout.eval()
    points, signed_distance = labelled([0.3])
    infer_codes(network, SDF, points, signed_distance, CodeSearch(steps=2))  # type: ignore[arg-type]
    assert network.training
    assert not network.dropout.training
    assert not network.scale.requires_grad
    assert network.scale.item() == 1.0


def test_fewer_steps_than_the_learning_rate_needs_to_drop() -> None:
    points, signed_distance = labelled([0.3])
    assert infer_codes(Balls(), SDF, points, signed_distance, CodeSearch(steps=1)).shape == (1, 1)  # type: ignore[arg-type]


def test_bad_arguments_are_named() -> None:
    network = create("deepsdf", **DEEPSDF)
    points, signed_distance = labelled([0.3])
    with pytest.raises(ValueError, match="network: expected an auto-decoder, got onet"):
        infer_codes(create("onet", code_size=4, hidden_size=4, decoder_size=4), SDF, points, signed_distance)
    with pytest.raises(ValueError, match="signed_distance: expected shape"):
        infer_codes(network, SDF, points, signed_distance[:, :5])
    with pytest.raises(ValueError, match="points: expected finite values"):
        infer_codes(network, SDF, points * torch.nan, signed_distance)
    with pytest.raises(ValueError, match="points: expected at least one shape"):
        infer_codes(network, SDF, points[:0], signed_distance[:0])
    for name, value in [("steps", 0), ("learning_rate", 0.0), ("points_per_step", -1), ("regularization", -1.0)]:
        with pytest.raises(ValueError, match=f"^{name}: "):
            CodeSearch(**{name: value})  # type: ignore[arg-type]


def test_the_penalty_is_the_authors() -> None:
    codes = torch.tensor([[0.6, 0.8], [0.0, 2.0]])
    assert code_penalty(codes, 1e-4, epoch=50, warmup_epochs=100).item() == pytest.approx(1e-4 * 0.5 * 1.5)
    assert code_penalty(codes, 1e-4, epoch=500, warmup_epochs=100).item() == pytest.approx(1e-4 * 1.5)
    assert code_penalty(codes, 1e-4, epoch=0, warmup_epochs=100).item() == 0.0
    square = code_penalty(codes, 1e-4, epoch=50, warmup_epochs=100, form="square")
    assert square.item() == pytest.approx(1e-4 * 0.5 * codes.square().mean().item())
