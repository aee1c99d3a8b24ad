"""AIR-Net against a plain restatement with loops over points."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyimplicit import networks
from tests.networks.small import build, inputs

State = dict[str, Tensor]


def part(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix + "."): value for key, value in state.items() if key.startswith(prefix + ".")}


def linear(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.linear(x, weight.flatten(1), state.get(f"{name}.bias"))


def perceptron(state: State, name: str, x: Tensor) -> Tensor:
    return linear(state, f"{name}.2", F.relu(linear(state, f"{name}.0", x)))


def normalise(state: State, name: str, x: Tensor, training: bool) -> Tensor:
    norm = part(state, name)  # over [B, C, N], as the authors' layers
    statistics = norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"]
    return F.batch_norm(x.transpose(1, 2), *statistics, training=training).transpose(1, 2)


def attention(query: Tensor, keys: Tensor, values: Tensor, position: Tensor, state: State, gamma: str) -> Tensor:
    """One query [C] and its neighbours [K, C]; a softmax for each channel."""
    weights = perceptron(state, gamma, query - keys + position)
    return (weights.exp() / weights.exp().sum(0) * (values + position)).sum(0)


def order_by_distance(query: Tensor, points: Tensor, count: int) -> Tensor:
    return (points - query).square().sum(1).argsort()[:count]


def transformer(state: State, points: Tensor, features: Tensor | None, count: int | None, training: bool) -> Tensor:
    rows = []
    for b in range(len(points)):
        for i, point in enumerate(points[b]):
            among = torch.arange(points.shape[1]) if count is None else order_by_distance(point, points[b], count)
            position = perceptron(state, "fc_delta", point - points[b, among])
            if features is None:
                weights = perceptron(state, "fc_gamma", position).softmax(0)
                rows.append((weights * position).sum(0))
                continue
            query = linear(state, "w_qs", features[b, i])
            keys, values = (linear(state, name, features[b, among]) for name in ("w_ks", "w_vs"))
            rows.append(features[b, i] + attention(query, keys, values, position, state, "fc_gamma"))
    return normalise(state, "bn", torch.stack(rows).view(len(points), points.shape[1], -1), training)


def set_abstraction(
    state: State, points: Tensor, features: Tensor, count: int, neighbours: int, training: bool
) -> tuple[Tensor, Tensor]:
    chosen = torch.tensor([farthest_by_loops(cloud, count, True) for cloud in points])
    centres = torch.stack([cloud[picked] for cloud, picked in zip(points, chosen, strict=True)])
    own = torch.stack([rows[picked] for rows, picked in zip(features, chosen, strict=True)])

    def attend(queries: Tensor, ending: str) -> Tensor:
        rows = []
        for b in range(len(points)):
            for i, centre in enumerate(centres[b]):
                among = order_by_distance(centre, points[b], neighbours)
                position = perceptron(state, "fc_delta1", points[b, among] - centre)
                query = linear(state, f"w_qs{ending}", queries[b, i])
                keys, values = (linear(state, name + ending, features[b, among]) for name in ("w_ks", "w_vs"))
                rows.append(attention(query, keys, values, position, state, f"fc_gamma{ending or 1}"))
        return torch.stack(rows).view(len(points), count, -1)

    first = attend(own, "")
    hidden = F.relu(normalise(state, "bn1", linear(state, "conv1", first), training))
    first = normalise(state, "bnorm0", first + linear(state, "conv2", hidden), training)
    second = attend(first, "2")
    return centres, normalise(state, "bnorm2", normalise(state, "bnorm1", first + second, training) + own, training)


def elementwise(state: State, x: Tensor, training: bool) -> Tensor:
    hidden = F.relu(normalise(state, "bn1", linear(state, "conv1", x), training))
    hidden = F.relu(normalise(state, "bn2", linear(state, "conv2", hidden), training))
    return normalise(state, "bn3", x + hidden, training)


def encode(state: State, config: dict[str, int], clouds: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    begin = part(state, "transformer_begin")
    points, features = clouds, transformer(begin, clouds, None, config["first_neighbours"], training)
    for level, count in enumerate((config["first_points"], config["anchors"])):
        down = part(state, f"transition_downs.{level}.sa")
        points, features = set_abstraction(down, points, features, count, config["neighbours"], training)
        features = elementwise(part(state, f"elementwise_extras.{level}"), features, training)
        among = part(state, f"transformer_downs.{level}")
        features = transformer(among, points, features, config["neighbours"], training)
        if level == 0 and "fc1.weight" in state:
            features = linear(state, "fc1", features)
        features = elementwise(part(state, f"elementwise.{level}"), features, training)
    for block in range(config["encoder_blocks"]):
        features = transformer(part(state, f"final_transformers.{block}"), points, features, None, training)
        features = elementwise(part(state, f"final_elementwise.{block}"), features, training)
    return perceptron(state, "fc_middle", features.amax(1)), points, features


def decode(state: State, config: dict[str, int], points: Tensor, code: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    shared, anchors, features = code
    ct1 = part(state, "ct1")
    rows = []
    for b in range(len(points)):
        for point in points[b]:
            near = order_by_distance(point, anchors[b], config["decoder_neighbours"])
            position = perceptron(ct1, "fc_delta", point - anchors[b, near])
            position = torch.cat([position, torch.zeros_like(position[:1])])
            both = [
                (linear(ct1, f"w_{name}s", features[b, near]), linear(ct1, f"w_{name}_global", shared[b]))
                for name in "kv"
            ]
            keys, values = (torch.cat([local, single[None]]) for local, single in both)
            rows.append(attention(linear(ct1, "w_qs", shared[b]), keys, values, position, ct1, "fc_gamma"))
    seen = torch.stack(rows).view(*points.shape[:2], -1)
    x = linear(state, "init_enc", seen)
    for block in range(config["decoder_blocks"]):
        x = x + linear(state, f"fc_c.{block}", seen)
        hidden = F.relu(linear(state, f"blocks.{block}.fc_0", F.relu(x)))
        x = x + linear(state, f"blocks.{block}.fc_1", hidden)
    return linear(state, "fc_out", F.relu(x))[..., 0]


def farthest_by_loops(cloud: Tensor, count: int, skip: bool) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        best, best_distance = 0, -1.0
        for index, point in enumerate(cloud):
            if skip and point.square().sum() <= 1e-3:
                continue
            distance = min((point - cloud[other]).square().sum().item() for other in chosen)
            if distance > best_distance:
                best, best_distance = index, distance
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", ["300", "3000"])
def test_against_the_plain_restatement(case: str, training: bool) -> None:
    network = build(case, dtype=torch.float64).train(training)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    points, clouds = inputs(network, 2, 6, cloud=20)
    code = network.encode(clouds)
    assert isinstance(code, dict)
    expected = encode(part(state, "encoder"), network.config, clouds, training)
    for ours, theirs in zip(code.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    values = decode(part(state, "decoder"), network.config, points, expected)
    torch.testing.assert_close(network.decode(points, code), values)
    for key, value in network.state_dict().items():  # running statistics; in training they have moved once
        if key.endswith("num_batches_tracked"):
            assert value.item() == int(training)
        else:
            torch.testing.assert_close(value, state[key])


def test_duplicates_in_a_cloud_change_nothing_but_the_pooling_in_training() -> None:
    # With neighbours enough for every copy, attention to each point twice is attention to it once.
    small = {"first_points": 8, "anchors": 4, "neighbours": 99, "first_neighbours": 99, "decoder_neighbours": 3}
    network = build("300", dtype=torch.float64, **small).eval()
    points, clouds = inputs(network, 1, 10, cloud=9)
    torch.testing.assert_close(network(points, torch.cat([clouds, clouds], 1)), network(points, clouds))


def test_a_small_cloud_is_refused() -> None:
    network = build("300")
    with pytest.raises(
        ValueError, match="clouds: expected at least 12 points, as many as the first reduction keeps, got 5"
    ):
        network.encode(torch.rand(2, 5, 3))


@pytest.mark.parametrize(("variant", "count"), [("300", 5_847_225), ("3000", 4_491_409)])
def test_size_of_the_authors_networks(variant: str, count: int) -> None:
    with torch.device("meta"):
        network = networks.create("airnet", variant)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
