"""IF-Net and NDF against a plain restatement on [B, C, T] features and torch's own gather."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit import networks, ops
from pyimplicit.fields import UDF, Occ
from pyimplicit.networks import ifnet
from pyimplicit.networks.ifnet import LEVELS
from tests.networks.small import build, inputs

State = dict[str, Tensor]


def encode(state: State, grid: Tensor, levels: int, training: bool) -> list[Tensor]:
    grids = [grid[:, None]]
    for level, (first, second, norm) in enumerate(LEVELS[:levels]):
        x = F.max_pool3d(grids[-1], 2) if level else grids[-1]
        for name in (first, second) if second else (first,):
            x = F.relu(F.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1))
        statistics = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        grids.append(F.batch_norm(x, *statistics, state[f"{norm}.weight"], state[f"{norm}.bias"], training=training))
    return grids


def decode(state: State, points: Tensor, grids: list[Tensor], padding_mode: str, align_corners: bool = True) -> Tensor:
    where = 2 * points[..., [2, 1, 0]]
    steps = torch.zeros(7, 3, dtype=points.dtype)
    for axis in range(3):
        steps[1 + 2 * axis, axis], steps[2 + 2 * axis, axis] = -0.0722, 0.0722
    displaced = where[:, None, None] + steps[:, None]  # [B, 1, 7, T, 3]
    features = torch.cat(
        [F.grid_sample(grid, displaced, padding_mode=padding_mode, align_corners=align_corners) for grid in grids], 1
    )  # [B, C, 1, 7, T]
    x = features.reshape(points.shape[0], -1, points.shape[1])  # channels, then displacements fastest
    if state["fc_0.weight"].shape[1] == x.shape[1] + 3:
        x = torch.cat([x, where.transpose(1, 2)], 1)
    for name in ("fc_0", "fc_1", "fc_2"):
        x = F.relu(F.conv1d(x, state[f"{name}.weight"], state[f"{name}.bias"]))
    return F.conv1d(x, state["fc_out.weight"], state["fc_out.bias"])[:, 0]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("case", "levels", "padding_mode"),
    [("points", 5, "border"), ("128vox", 5, "zeros"), ("svr", 6, "border"), ("ndf", 6, "border")],
)
def test_against_the_plain_restatement(case: str, levels: int, padding_mode: str, training: bool) -> None:
    network = build(case, dtype=torch.float64).train(training)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    points, clouds = inputs(network, 2, 50)
    points = 1.2 * points  # some outside
    grids = encode(state, ops.voxelise(clouds, network.config["resolution"]), levels, training)
    code = network.encode(clouds)
    assert isinstance(code, dict)
    for ours, theirs in zip(code.values(), grids, strict=True):
        torch.testing.assert_close(ours, theirs)
    expected = decode(state, points, grids, padding_mode)
    torch.testing.assert_close(network.decode(points, code), F.relu(expected) if case == "ndf" else expected)
    for key, value in network.state_dict().items():  # running statistics; in training they have moved once
        if key.endswith("num_batches_tracked"):
            assert value.item() == int(training)
        else:
            torch.testing.assert_close(value, state[key])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("case", "levels", "padding_mode"), [("points", 5, "border"), ("ndf", 6, "border")])
def test_losses_and_gradients_of_the_plain_restatement(
    case: str, levels: int, padding_mode: str, training: bool
) -> None:
    """NDF by its authors' loss, of distances clamped at 0.1, and IF-Net by its own, both summed over points."""
    kind = UDF(0.1) if case == "ndf" else Occ()
    network = build(case, dtype=torch.float64).train(training)
    points, clouds = inputs(network, 3, 60)
    distance, voxels = points.norm(dim=2) - 0.3, ops.voxelise(clouds, network.config["resolution"])
    with torch.no_grad():  # half of the answers below 0.05: on both sides of the final ReLU and of the clamp
        state = {key: value.clone() for key, value in network.state_dict().items()}
        middle = decode(state, points, encode(state, voxels, levels, training), padding_mode).median()
        network.get_parameter("fc_out.bias").add_(0.05 - middle)
    leaves = {key: value.detach().clone().requires_grad_() for key, value in network.named_parameters()}
    state = {key: value.clone() for key, value in network.named_buffers()} | leaves
    grids = encode(state, voxels, levels, training)
    answers = decode(state, points, grids, padding_mode)
    if case == "ndf":
        assert 0.1 < float((answers > 0).double().mean()) < 1
        expected = (F.relu(answers).clamp(max=0.1) - distance.abs().clamp(max=0.1)).abs().sum(1).mean()
    else:
        expected = F.binary_cross_entropy_with_logits(answers, (distance < 0).double(), reduction="none").sum(1).mean()
    loss = kind.loss(network(points, clouds), kind.target(distance), reduction="sum")
    torch.testing.assert_close(loss, expected)
    loss.backward()
    gradients = torch.autograd.grad(expected, list(leaves.values()))
    for (key, parameter), gradient in zip(network.named_parameters(), gradients, strict=True):
        assert parameter.grad is not None, key
        torch.testing.assert_close(parameter.grad, gradient, msg=lambda text, key=key: f"{key}: {text}")
    assert max(float(gradient.abs().max()) for gradient in gradients) > 0


def test_corners_may_be_faces_of_cells() -> None:
    network = build("points", dtype=torch.float64, align_corners=False).eval()
    state = dict(network.state_dict())
    points, clouds = inputs(network, 2, 30)
    grids = encode(state, ops.voxelise(clouds, 16), 5, training=False)
    torch.testing.assert_close(network(points, clouds), decode(state, points, grids, "border", align_corners=False))


def test_a_voxel_grid_is_as_good_as_the_cloud_it_came_from() -> None:
    network = build("128vox").eval()
    points, clouds = inputs(network, 2, 20)
    assert torch.equal(network(points, clouds), network(points, ops.voxelise(clouds, 18)))
    with pytest.raises(ValueError, match=r"clouds: expected shape \[B, 18, 18, 18\], got \[2, 16, 16, 16\]"):
        network.encode(ops.voxelise(clouds, 16))


def test_one_cell_cannot_be_normalised_in_training() -> None:
    network = build("points").train()
    with pytest.raises(ValueError, match="clouds: expected at least 2 in training mode, as the coarsest of 5 levels"):
        network.encode(torch.zeros(1, 4, 3))
    network.encode(torch.zeros(2, 4, 3))


def test_a_fresh_ndf_is_alive_and_may_start_as_its_authors_did() -> None:
    small = {"resolution": 32, "width": 2, "hidden_size": 8}
    network = networks.create("ndf", **small)
    assert network.get_parameter("fc_out.bias").item() == pytest.approx(0.1)
    torch.manual_seed(3)
    other = networks.create("ndf", output_bias=None, **small)
    torch.manual_seed(3)
    plain = networks.create("ifnet", "svr", **small)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in plain.state_dict().items())
    points, clouds = inputs(network, 2, 200)
    assert (network(points, clouds) > 0).double().mean() > 0.9


@pytest.mark.parametrize(
    ("name", "variant", "count"),
    [("ifnet", "points", 2_550_881), ("ifnet", "svr", 4_623_457), ("ndf", None, 4_623_457)],
)
def test_size_of_the_authors_networks(name: str, variant: str | None, count: int) -> None:
    with torch.device("meta"):
        network = networks.create(name, variant)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_autocast_is_near_float32_and_pools_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finer levels are within what bfloat16 can tell apart, and nothing is converted for the pooling."""
    network = networks.create("ifnet", resolution=32, width=4, hidden_size=8).train()
    clouds = torch.rand(2, 20, 3) - 0.5
    expected = network.encode(clouds)
    pooled = []
    pool = ifnet.pool_beside

    def pool_beside(grids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled.append(pool(grids)[1].dtype)
        return pool(grids)

    monkeypatch.setattr(ifnet, "pool_beside", pool_beside)
    with torch.autocast("cpu", torch.bfloat16):
        found = network.encode(clouds)
    assert pooled == 3 * [torch.bfloat16]
    assert torch.equal(found["grid_1"], expected["grid_1"])
    for name in ("grid_2", "grid_3"):
        assert found[name].dtype == torch.bfloat16
        assert (found[name] - expected[name]).abs().mean() < 0.03 * expected[name].abs().mean()
