"""Implicit functions and fields against values computed by hand or by numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyimplicit import fields
from pyimplicit.fields import SDF, TSDF, UDF, Field, Occ, implicit_function, network_field, surface_field

DISTANCES = torch.tensor([-0.5, -0.05, 0.0, 0.05, 0.5])


class Ball:
    """The exact distances of a ball, as a Surface would give them."""

    device = torch.device("cpu")

    def signed_distance(self, points: Tensor) -> Tensor:
        return points.norm(dim=1) - 0.3

    def unsigned_distance(self, points: Tensor) -> Tensor:
        return self.signed_distance(points).abs()


class Plain(nn.Module):
    """A network whose value is the point's first coordinate times the code's sum, different in training mode."""

    kind = "encoder"

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.9)

    def decode(self, points: Tensor, code: Tensor | dict[str, Tensor]) -> Tensor:
        total = sum(code.values()) if isinstance(code, dict) else code
        return self.dropout(points[..., 0]) * self.scale * total.sum()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Occ(), [1, 1, 0, 0, 0]),
        (SDF(), [-0.5, -0.05, 0, 0.05, 0.5]),
        (TSDF(0.1), [-0.1, -0.05, 0, 0.05, 0.1]),
        (UDF(), [0.5, 0.05, 0, 0.05, 0.5]),
        (UDF(0.1), [0.1, 0.05, 0, 0.05, 0.1]),
    ],
)
def test_targets(kind, expected):
    assert torch.equal(kind.target(DISTANCES), torch.tensor(expected, dtype=torch.float32))
    assert kind.target(DISTANCES.double()).dtype == torch.float64


def test_the_level_separates_perfect_predictions():
    """A network that answers perfectly is above its level exactly where `inside_is_positive` says so."""
    inside = DISTANCES < 0
    for kind in (Occ(), Occ(0.2), SDF(), TSDF()):
        target = kind.target(DISTANCES)
        answer = (target * 2 - 1) * 20 if kind.name == "occ" else target
        assert torch.equal((answer - kind.level) * (1 if kind.inside_is_positive else -1) > 0, inside)


def test_occupancy_level_is_the_logit_of_the_threshold():
    for threshold in (0.01, 0.2, 0.5, 0.9):
        assert torch.tensor(Occ(threshold).level).sigmoid().item() == pytest.approx(threshold, abs=1e-7)


def test_losses_against_numpy():
    generator = np.random.default_rng(0)
    prediction, distance = generator.normal(0, 0.2, (2, 3, 50))
    occupancy = (distance < 0).astype(np.float64)
    probability = 1 / (1 + np.exp(-prediction))
    expected = {
        Occ(): -(occupancy * np.log(probability) + (1 - occupancy) * np.log(1 - probability)),
        SDF(): np.abs(prediction - distance),
        TSDF(0.1): np.abs(np.clip(prediction, -0.1, 0.1) - np.clip(distance, -0.1, 0.1)),
        UDF(): np.abs(prediction - np.abs(distance)),
        UDF(0.1): np.abs(np.minimum(prediction, 0.1) - np.minimum(np.abs(distance), 0.1)),
    }
    for kind, per_point in expected.items():
        target = kind.target(torch.from_numpy(distance))
        mean = kind.loss(torch.from_numpy(prediction), target)
        total = kind.loss(torch.from_numpy(prediction), target, reduction="sum")
        assert mean.item() == pytest.approx(per_point.mean(), rel=1e-12)
        assert total.item() == pytest.approx(per_point.sum(axis=1).mean(), rel=1e-12)


def test_truncated_loss_has_no_gradient_beyond_tau_on_the_right_side():
    prediction = torch.tensor([0.4, 0.05, -0.4], requires_grad=True)
    TSDF(0.1).loss(prediction, torch.tensor([0.3, 0.3, 0.3]), reduction="sum").backward()
    assert prediction.grad.tolist() == [0, -1, 0]


def test_one_shape_without_a_batch_axis():
    assert SDF().loss(torch.ones(4), torch.zeros(4), reduction="sum") == 4


@pytest.mark.parametrize(
    ("prediction", "target", "reduction", "error", "words"),
    [
        (torch.zeros(2, 3, 1), torch.zeros(2, 3), "mean", ValueError, r"target: expected the prediction's shape"),
        (torch.zeros(2, 0), torch.zeros(2, 0), "mean", ValueError, "at least one point"),
        (torch.tensor(0.0), torch.tensor(0.0), "mean", ValueError, "at least one point"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.bool), "mean", TypeError, "target: expected a floating-point"),
        ([0.0], torch.zeros(1), "mean", TypeError, "prediction: expected a floating-point tensor, got list"),
        (torch.zeros(2), torch.zeros(2), "none", ValueError, "reduction: expected one of mean, sum, got 'none'"),
    ],
)
def test_loss_refuses(prediction, target, reduction, error, words):
    for kind in (Occ(), SDF(), TSDF(), UDF()):
        with pytest.raises(error, match=words):
            kind.loss(prediction, target, reduction)


def test_lookup():
    assert [implicit_function(name) for name in ("occ", "sdf", "tsdf", "udf")] == [Occ(), SDF(), TSDF(0.1), UDF(None)]
    assert implicit_function("udf", tau=0.2) == UDF(0.2)
    assert [implicit_function(name).name for name in fields.NAMES] == list(fields.NAMES)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: implicit_function("SDF"), ValueError, "name: expected one of occ, sdf, tsdf, udf, got 'SDF'"),
        (lambda: implicit_function(None), ValueError, "name: expected one of"),
        (lambda: implicit_function("sdf", tau=0.1), ValueError, "tau: expected None for 'sdf'"),
        (lambda: implicit_function("tsdf", tau=0.0), ValueError, "tau: expected a finite number above 0"),
        (lambda: implicit_function("udf", tau=math.nan), ValueError, "tau: expected a finite number above 0"),
        (lambda: TSDF("0.1"), TypeError, "tau: expected a number"),
        (lambda: Occ(1.0), ValueError, "threshold: expected a probability below 1"),
        (lambda: Occ(0.0), ValueError, "threshold: expected a finite number above 0"),
        (lambda: Field(None, SDF()), TypeError, "function: expected a callable"),
        (lambda: Field(torch.sum, "sdf"), TypeError, "kind: expected an implicit function"),
        (lambda: Field(torch.sum, SDF(), level=math.inf), ValueError, "level: expected a finite number"),
        (lambda: Field(torch.sum, SDF(), bounds=((0, 0, 0), (1, 0, 1))), ValueError, "bounds: expected"),
        (lambda: Field(torch.sum, SDF(), bounds="cube"), ValueError, "bounds: expected"),
        (lambda: Field(torch.sum, SDF())(torch.zeros(3)), ValueError, "points: expected shape"),
        (lambda: Field(torch.sum, SDF())(torch.zeros(2, 3)), ValueError, r"function: expected values of shape \[2\]"),
        (lambda: Field(torch.sum, SDF(), device="meta")(torch.zeros(2, 3)), ValueError, "points: expected a tensor on"),
        (lambda: network_field(nn.ReLU(), torch.zeros(3)), TypeError, "network: expected a network with a decode"),
        (lambda: network_field(Plain(), torch.zeros(2, 3)), ValueError, "code: expected the code of one shape"),
        (lambda: network_field(Plain(), {"grid": torch.zeros(2, 3)}), ValueError, "grid: expected the code of one"),
        (lambda: network_field(Plain(), {}), TypeError, "code: expected a tensor or a dict"),
        (lambda: network_field(Plain(), [1.0]), TypeError, "code: expected a tensor or a dict"),
        (lambda: network_field(Plain(), torch.zeros(3, device="meta")), ValueError, "code: expected a tensor on cpu"),
        (lambda: network_field(Plain(), torch.zeros(3), kind="field"), ValueError, "name: expected one of"),
        (lambda: surface_field(Plain()), TypeError, "surface: expected a Surface"),
        (lambda: surface_field(Ball(), "field"), ValueError, "name: expected one of"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_field_takes_the_level_of_its_kind():
    assert Field(torch.sum, Occ(0.2)).level == Occ(0.2).level
    assert Field(torch.sum, Occ(0.2), level=1.5).level == 1.5
    assert Field(torch.sum, SDF()).bounds == ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    assert Field(torch.sum, SDF(), bounds=torch.tensor([[0, 0, 0], [1, 2, 3]])).bounds == ((0, 0, 0), (1, 2, 3))


def test_network_field_decodes_one_code_without_gradients_in_evaluation_mode():
    network = Plain()
    network.dropout.eval()
    network.scale.requires_grad_(True)
    points = torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0]])
    for code in (torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0]]), {"a": torch.ones(1), "b": 2 * torch.ones(1)}):
        for mode in (True, False):
            network.dropout.train(mode)
            values = network_field(network, code)(points)
            torch.testing.assert_close(values, torch.tensor([0.3, 0.6]))
            assert not values.requires_grad
            assert network.training
            assert network.dropout.training is mode
    assert network_field(network, torch.ones(1))(points.double()).dtype == torch.float32


def test_network_field_default_kind():
    network = Plain()
    assert network_field(network, torch.ones(3)).kind == Occ()
    assert network_field(network, torch.ones(3)).level == 0.0
    network.kind = "auto_decoder"
    assert network_field(network, torch.ones(3)).kind == SDF()
    assert network_field(network, torch.ones(3), kind=TSDF(0.05)).kind == TSDF(0.05)
    network.kind, network.name = "encoder", "ndf"
    assert network_field(network, torch.ones(3)).kind == UDF()


def test_surface_field_gives_what_a_perfect_network_would():
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.28], [0.0, 0.0, 0.5]])
    expected = {
        Occ(): [1, 1, 0],
        SDF(): [-0.3, -0.02, 0.2],
        TSDF(0.1): [-0.1, -0.02, 0.1],
        UDF(0.25): [0.25, 0.02, 0.2],
    }
    for kind, values in expected.items():
        torch.testing.assert_close(surface_field(Ball(), kind)(points), torch.tensor(values, dtype=torch.float32))
    assert surface_field(Ball(), "occ").level == 0.5
    assert surface_field(Ball()).kind == SDF()
