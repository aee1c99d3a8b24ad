"""The stacked runs of `bench_together`: their step is that of the runs themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bench_together import TOLERANCE, create_runs, disagreement, spheres, study_run
from benchmarks.stacked import StackedRuns
from benchmarks.stacked_functions import _Norm, register_folding, substituted
from pyimplicit.networks import onet
from pyimplicit.study.scales import NETWORKS
from pyimplicit.training.examples import draw_batch


@pytest.mark.parametrize("label", NETWORKS)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_step_of_stacked_runs_is_that_of_each(label: str) -> None:
    register_folding()
    config = study_run(label, "uniform").train_config()
    runs = create_runs(config, shapes=8, count=2)
    stacked = StackedRuns(runs)
    batches = [draw_batch(spheres(run.config, 8), run.config, 0) for run in runs]
    before = {name: value.detach().clone() for name, value in stacked.parameters.items()}
    losses, gradients = disagreement(runs, stacked, batches)
    assert losses < 1e-6
    assert gradients < TOLERANCE
    # Adam's first step is the learning rate along the sign of each gradient that is well above rounding.
    for index, run in enumerate(runs):
        for name, own in run.network.named_parameters():
            if own.grad is None:
                continue
            sure = own.grad.abs() > 1e-4
            moved = (stacked.parameters[name] - before[name])[index]
            torch.testing.assert_close(moved[sure], -config.learning_rate * own.grad[sure].sign(), rtol=0.01, atol=1e-6)
            torch.testing.assert_close(stacked.parameters[name][index][sure], own[sure], rtol=0, atol=1e-5)
        if run.codes is not None and stacked.codes is not None:
            rows = slice(8 * index, 8 * index + 8)
            torch.testing.assert_close(stacked.codes.weight[rows], run.codes.weight, rtol=0, atol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
def test_normalisation_is_torch_s(relu: bool) -> None:
    random = torch.Generator().manual_seed(0)
    shape = (2, 3, 5, 4)  # runs, shapes, points, channels
    features, weights = (torch.randn(*shape, generator=random, dtype=torch.float64) for _ in range(2))
    gamma, beta = (torch.randn(2, 3, 4, generator=random, dtype=torch.float64) for _ in range(2))
    leaves = [value.requires_grad_() for value in (features, gamma, beta)]

    def torch_s(features: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        runs = [F.batch_norm(run.flatten(0, 1), None, None, training=True).view_as(run) for run in features]
        result = gamma[:, :, None] * torch.stack(runs) + beta[:, :, None]
        return result.relu() if relu else result

    ours, expected = _Norm.apply(*leaves, 1e-5, relu)[0], torch_s(*leaves)
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad((result * weights).sum(), leaves) for result in (ours, expected)]
    torch.testing.assert_close(*gradients)


def test_substitutes_leave_no_trace() -> None:
    before = F.linear, onet.conditional_batch_norm_relu

    def fail() -> None:
        with substituted():
            assert F.linear is not before[0]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (F.linear, onet.conditional_batch_norm_relu) == before
    with substituted(("conditional_batch_norm_relu",)):
        assert F.linear is before[0]
        assert onet.conditional_batch_norm_relu is not before[1]
