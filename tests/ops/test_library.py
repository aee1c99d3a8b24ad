"""An operator called directly or through torch's dispatcher: whoever follows operators sees it, and none is fooled."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from pyimplicit import ops


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def weights(distance):
    return ops.linear_weights(distance, 0.1)


DISTANCE = torch.tensor([0.0, 0.05, 0.2])


def test_modes_see_the_operator():
    with Recorder() as recorder:
        weights(DISTANCE)
    assert "pyimplicit.linear_weights.default" in recorder.names


def test_profiler_sees_the_operator():
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        weights(DISTANCE)
    assert "pyimplicit::linear_weights" in {event.name for event in profiled.events()}


def test_traces_hold_the_operator():
    graph = make_fx(lambda x: torch.ops.pyimplicit.linear_weights(x, 0.1, 10.0))(DISTANCE)
    assert "pyimplicit.linear_weights" in graph.code


def test_fake_tensors_stay_fake_outside_their_mode():
    mode = FakeTensorMode()
    with mode:
        fake = torch.empty(7, 3)
    grids = torch.zeros(1, 1, 2, 2, 2)
    with mode:
        out = ops.sample_grids(mode.from_tensor(grids), fake[None])
    assert out.shape == (1, 7, 1)
    assert type(out).__name__ == "FakeTensor"


def test_derivatives_are_kept():
    distance = DISTANCE.clone().requires_grad_()
    weights(distance).sum().backward()
    assert torch.allclose(distance.grad, torch.tensor([-10.0, -10.0, 0.0]))
    with torch.no_grad():
        assert not weights(distance).requires_grad


def test_gradients_inside_a_list_are_kept():
    grid = torch.ones(1, 1, 2, 2, 2, requires_grad=True)
    ops.sample_grids([grid], torch.zeros(1, 1, 3)).sum().backward()
    assert torch.allclose(grid.grad, torch.full_like(grid, 0.125))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of the parts it loads for this
def test_forward_derivatives_are_never_dropped():
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="linear_weights"):
        weights(forward_ad.make_dual(DISTANCE, torch.ones(3)))


def test_lazily_negated_tensors_are_read_as_their_values():
    negated = torch.complex(torch.zeros(3), -DISTANCE).conj().imag  # torch only notes that the sign changes
    assert negated.is_neg()
    assert torch.equal(weights(negated), weights(negated.clone().resolve_neg()))


def test_inference_mode():
    with torch.inference_mode():
        assert weights(DISTANCE).is_inference()
