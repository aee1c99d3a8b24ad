from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor

from pyimplicit import networks
from pyimplicit.errors import ConfigError
from pyimplicit.networks.base import Code, Network
from tests.networks.small import AUTO_DECODERS, CASES, build, inputs

ENCODERS = [case for case in CASES if case not in AUTO_DECODERS]


def code_of(network: Network, condition: Tensor) -> Code:
    return network.encode(condition) if network.kind == "encoder" else condition


def without_dropout(case: str) -> dict[str, float]:
    return {"dropout": 0.0} if case in AUTO_DECODERS else {}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("batch", "points", "cloud"), [(1, 1, 1), (1, 7, 40), (3, 1, 5), (3, 17, 33)])
def test_shapes(case: str, batch: int, points: int, cloud: int) -> None:
    network = build(case).eval()
    queries, condition = inputs(network, batch, points, max(cloud, network.config.get("first_points", 1)))
    values = network(queries, condition)
    assert values.shape == (batch, points)
    assert values.isfinite().all()


@pytest.mark.parametrize("case", CASES)
def test_no_points_give_no_values(case: str) -> None:
    network = build(case).eval()
    queries, condition = inputs(network, 2, 0)
    assert network(queries, condition).shape == (2, 0)


@pytest.mark.parametrize("case", CASES)
def test_shapes_and_points_do_not_see_each_other_in_evaluation(case: str) -> None:
    network = build(case).eval()
    queries, condition = inputs(network, 3, 20)
    together = network(queries, condition)
    alone = torch.cat([network(queries[i : i + 1], condition[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    parts = torch.cat([network(part, condition) for part in queries.split(7, dim=1)], 1)
    torch.testing.assert_close(together, parts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ENCODERS)
def test_order_of_the_cloud_does_not_matter(case: str) -> None:
    network = build(case).eval()
    queries, clouds = inputs(network, 2, 20)
    order = torch.randperm(clouds.shape[1], generator=torch.Generator().manual_seed(3))
    if network.name == "airnet":  # its anchors are chosen from the first point on
        order = torch.cat([torch.tensor([0]), order[order != 0]])
    shuffled = clouds[:, order]
    torch.testing.assert_close(network(queries, clouds), network(queries, shuffled), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_weights(case: str) -> None:
    name, variant, config = CASES[case]
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        states.append(networks.create(name, variant, **config).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize("case", CASES)
def test_training_step_from_fresh_weights_reaches_the_output_and_lowers_the_loss(case: str) -> None:
    name, variant, config = CASES[case]
    torch.manual_seed(0)
    network = networks.create(name, variant, **config, **without_dropout(case)).train()
    queries, condition = inputs(network, 2, 200)
    target = torch.tanh(queries.norm(dim=2) - 0.3)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = (network(queries, condition) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for key, parameter in network.named_parameters():
        if key.startswith("encoder.transformer_begin.w_"):  # AIR-Net's authors have them and do not use them
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_agree_with_finite_differences(case: str, training: bool) -> None:
    network = build(case, dtype=torch.float64, **without_dropout(case)).train(training)
    queries, condition = inputs(network, 2, 4)
    code = code_of(network, condition)
    parts = code if isinstance(code, dict) else {"code": code}
    leaves = [part.detach().requires_grad_() for part in parts.values()]
    queries.requires_grad_()

    def decode(points: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(parts, values, strict=True))
        return network.decode(points, named if isinstance(code, dict) else named["code"])

    torch.autograd.gradcheck(decode, (queries, *leaves), eps=1e-7, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("case", CASES)
def test_config_is_json_and_rebuilds_the_network(case: str) -> None:
    network = build(case)
    config = json.loads(json.dumps(network.config))
    assert config == network.config
    twin = networks.create(network.name, network.variant, **config)
    twin.load_state_dict(network.state_dict())
    queries, condition = inputs(network, 2, 5)
    assert torch.equal(twin.eval()(queries, condition), network.eval()(queries, condition))
    assert torch.equal(copy.deepcopy(network)(queries, condition), network(queries, condition))


@pytest.mark.parametrize("case", CASES)
def test_inputs_are_left_as_they_are(case: str) -> None:
    network = build(case).eval()
    queries, condition = inputs(network, 2, 5)
    queries, condition = 2 * queries, 2 * condition  # some outside the box
    before = queries.clone(), condition.clone()
    network(queries, condition)
    assert torch.equal(queries, before[0])
    assert torch.equal(condition, before[1])


@pytest.mark.parametrize("case", CASES)
def test_bad_inputs_are_named(case: str) -> None:
    network = build(case).eval()
    queries, condition = inputs(network, 2, 5)
    code = code_of(network, condition)
    with pytest.raises(ValueError, match=r"points: expected shape \[B, T, 3\], got \[2, 5, 2\]"):
        network.decode(queries[..., :2], code)
    with pytest.raises(TypeError, match="points: expected dtype float32, got float64"):
        network.decode(queries.double(), code)
    with pytest.raises(TypeError, match="points: expected a torch tensor, got list"):
        network.decode(queries.tolist(), code)  # type: ignore[arg-type]
    if isinstance(code, dict):
        part, value = list(code.items())[-1]
        for wrong in (code | {part: value[..., 1:]}, code | {part: value[:1]}):
            with pytest.raises(ValueError, match=rf"code\['{part}'\]: expected shape"):
                network.decode(queries, wrong)
        with pytest.raises(ValueError, match=r"code: expected .*, got code"):
            network.decode(queries, {"code": value})
        with pytest.raises(TypeError, match=r"code: expected a dict of .*, got Tensor"):
            network.decode(queries, value)
    else:
        with pytest.raises(ValueError, match="code: expected shape"):
            network.decode(queries[:1], code)
        with pytest.raises(ValueError, match="code: expected shape"):
            network.decode(queries, code[..., 1:])
        with pytest.raises(TypeError, match="code: expected a torch tensor"):
            network.decode(queries, {"code": code})
    if network.kind == "auto_decoder":
        with pytest.raises(TypeError, match="is an auto-decoder"):
            network.encode(queries)
        return
    with pytest.raises(ValueError, match="clouds: expected shape"):
        network.encode(condition[0])
    with pytest.raises(ValueError, match="clouds: expected at least one shape and one point"):
        network.encode(condition[:, :0])
    condition[1, 2, 0] = torch.nan
    with pytest.raises(ValueError, match=r"clouds: expected finite values, got nan at index \[1, 2, 0\]"):
        network.encode(condition)


def test_wrong_configs_are_named() -> None:
    with pytest.raises(ConfigError, match="name: expected one of onet, convonet, ifnet, airnet, deepsdf, "):
        networks.create("pointnet")
    with pytest.raises(ConfigError, match="variant: expected None, as onet has one version only, got '3plane'"):
        networks.create("onet", "3plane")
    with pytest.raises(ValueError, match="variant: expected one of 3plane, 1plane, grid32, grid64, got '2plane'"):
        networks.create("convonet", "2plane")
    with pytest.raises(ConfigError, match="code_length"):
        networks.create("onet", code_length=3)
    with pytest.raises(ValueError, match="hidden_size: expected at least 1, got 0"):
        networks.create("onet", hidden_size=0)
    with pytest.raises(TypeError, match="hidden_size: expected a whole number"):
        networks.create("onet", hidden_size=0.5)
    with pytest.raises(ValueError, match="resolution: expected a multiple of 8"):
        networks.create("convonet", resolution=20)
    with pytest.raises(ValueError, match="resolution: expected at least 4"):
        networks.create("convonet", "grid32", resolution=3)
    with pytest.raises(ValueError, match="padding: expected at least 0"):
        networks.create("convonet", padding=-0.1)
    with pytest.raises(ValueError, match=r"hidden_size: expected more than code_size \+ 3 = 259"):
        networks.create("deepsdf", hidden_size=128)
    with pytest.raises(ValueError, match="skip_layer: expected below hidden_layers = 4, got 4"):
        networks.create("deepsdf", hidden_layers=4, skip_layer=4)
    with pytest.raises(ValueError, match="dropout: expected at least 0 and below 1, got 1"):
        networks.create("deepsdf", dropout=1)
    with pytest.raises(ValueError, match="resolution: expected at least 16, which 5 levels halve to 1, got 8"):
        networks.create("ifnet", resolution=8)
    with pytest.raises(ValueError, match="displacement: expected a finite number above 0"):
        networks.create("ndf", displacement=0.0)
    with pytest.raises(TypeError, match="output_bias: expected a number, got str"):
        networks.create("ndf", output_bias="0.1")
    with pytest.raises(ValueError, match="first_points: expected at least anchors = 100, got 50"):
        networks.create("airnet", first_points=50)
    with pytest.raises(ValueError, match="anchors: expected at least decoder_neighbours = 7, got 5"):
        networks.create("airnet", anchors=5)
    with pytest.raises(ValueError, match=r"skip_layer: expected below hidden_layers - len\(depth_epochs\) = 1"):
        networks.create("curriculum_deepsdf", hidden_layers=4, skip_layer=1)
    with pytest.raises(ValueError, match=r"depth_epochs: expected ascending epochs, got \[5, 5\]"):
        networks.create("curriculum_deepsdf", depth_epochs=[5, 5])
    with pytest.raises(TypeError, match="depth_epochs: expected a list of epochs, got int"):
        networks.create("curriculum_deepsdf", depth_epochs=200)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", ["300", "deepsdf", "curriculum"])
def test_parts_of_the_queries_give_what_all_at_once_give(
    monkeypatch: pytest.MonkeyPatch, case: str, training: bool
) -> None:
    config = {} if case == "300" else {"dropout": 0.3}
    network = build(case, dtype=torch.float64, **config).train(training)
    points, condition = inputs(network, 2, 23)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = []
    for numbers in (1 << 20, 1, 500):
        monkeypatch.setattr("pyimplicit.networks.layers.PART", numbers)
        network.load_state_dict(state)
        wanted = points.clone().requires_grad_()
        torch.manual_seed(0)  # of what is dropped
        values = network(wanted, condition)
        sources = [wanted, *network.parameters()]
        # The first block of AIR-Net has weights that are not used, as the authors' has.
        gradients = torch.autograd.grad(values.square().sum(), sources, materialize_grads=True, allow_unused=True)
        found.append((values, *gradients, *network.buffers()))
    for parts in found[1:]:
        for whole, one in zip(found[0], parts, strict=True):
            # Sums of large terms that cancel are rounded in another order.
            torch.testing.assert_close(one, whole, rtol=1e-9, atol=1e-9 * float(found[0][0].detach().square().sum()))


def test_no_shapes_give_no_values() -> None:
    network = build("deepsdf")
    assert network(torch.empty(0, 5, 3), torch.empty(0, 5)).shape == (0, 5)
