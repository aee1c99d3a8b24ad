"""AIR-Net: a few anchor points with features, made by vector attention; a query attends to those nearest to it.

Paper: AIR-Nets: An Attention-Based Framework for Locally Conditioned Implicit Representations. S. Giebenhain,
B. Goldlücke. 3DV 2021. Its attention is that of Point Transformer (Zhao, Jiang, Jia, Torr, Koltun, ICCV 2021): one
weight a channel, no scaling by the width. Parameter names are the authors'; in their checkpoints encoder and decoder
are two dicts.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit import ops
from pyimplicit.checks import check_choice, check_count
from pyimplicit.networks.base import Code, Network
from pyimplicit.networks.layers import ResnetBlockFC, in_parts
from pyimplicit.networks.linear import Linear, pointwise
from pyimplicit.networks.normalisation import batch_norm
from pyimplicit.networks.vector_attention import attend, pair_sums, take
from pyimplicit.ops.farthest import AUTHORS_SKIP

# variant: (points kept by the first reduction, width and neighbours before the second one)
VARIANTS = {"300": (200, 256, 16), "3000": (500, 120, 10)}


class AIRNet(Network):
    """Attentive implicit representation network. Trained with binary cross-entropy on its logits.

    The code is a dict: "global" [B, hidden_size], "anchors" [B, anchors, 3] in the order in which they were chosen, and
    their "features" [B, anchors, hidden_size]. The first point of a cloud is always kept, so the order of a cloud
    matters.

    Args:
        variant: "300" or "3000", the size of the clouds it was made for; clouds of other sizes may be given.
        first_points: Points kept by the first reduction; the variant's if None (200, 500).
        anchors: Points kept by the second reduction.
        first_size: Width before the second reduction; the variant's if None (256, 120).
        hidden_size: Width of the encoder after it.
        first_neighbours: Points that each point attends to in the first block; the variant's if None (16, 10).
        neighbours: Points that each point attends to in the others.
        encoder_blocks: Blocks in which all anchors attend to all.
        attention_size: Width of the decoder's attention.
        decoder_size: Width of the decoder's residual blocks.
        decoder_blocks: Number of them.
        decoder_neighbours: Anchors that a query attends to, beside the global code.
        skip_near_origin: Whether the choice of points leaves out those within 0.0316 of the origin, as the authors'
            kernel does. Their weights were trained so; without it clouds have no hole there.

    Raises:
        TypeError: A size that is not a whole number.
        ValueError: An unknown variant, a size below 1, or fewer points kept than needed later.

    Source:
        Giebenhain and Goldlücke, AIR-Nets, section 3 and supplementary section on the architecture.

    Example:
        >>> import torch
        >>> small = dict(first_points=20, anchors=10, first_size=8, hidden_size=8, attention_size=8, decoder_size=8)
        >>> network = AIRNet(**small)
        >>> code = network.encode(torch.rand(2, 30, 3) - 0.5)
        >>> network.decode(torch.rand(2, 5, 3) - 0.5, code).shape
        torch.Size([2, 5])
    """

    name = "airnet"
    kind = "encoder"

    def __init__(
        self,
        *,
        variant: str = "300",
        first_points: int | None = None,
        anchors: int = 100,
        first_size: int | None = None,
        hidden_size: int = 256,
        first_neighbours: int | None = None,
        neighbours: int = 16,
        encoder_blocks: int = 3,
        attention_size: int = 200,
        decoder_size: int = 128,
        decoder_blocks: int = 5,
        decoder_neighbours: int = 7,
        skip_near_origin: bool = True,
    ) -> None:
        own_points, own_size, own_neighbours = VARIANTS[check_choice("variant", variant, tuple(VARIANTS))]
        config = {
            "first_points": check_count("first_points", own_points if first_points is None else first_points),
            "anchors": check_count("anchors", anchors),
            "first_size": check_count("first_size", own_size if first_size is None else first_size),
            "hidden_size": check_count("hidden_size", hidden_size),
            "first_neighbours": check_count(
                "first_neighbours", own_neighbours if first_neighbours is None else first_neighbours
            ),
            "neighbours": check_count("neighbours", neighbours),
            "encoder_blocks": check_count("encoder_blocks", encoder_blocks, minimum=0),
            "attention_size": check_count("attention_size", attention_size),
            "decoder_size": check_count("decoder_size", decoder_size),
            "decoder_blocks": check_count("decoder_blocks", decoder_blocks),
            "decoder_neighbours": check_count("decoder_neighbours", decoder_neighbours),
            "skip_near_origin": bool(skip_near_origin),
        }
        if config["first_points"] < anchors:
            raise ValueError(f"first_points: expected at least anchors = {anchors}, got {config['first_points']}")
        if anchors < decoder_neighbours:
            raise ValueError(f"anchors: expected at least decoder_neighbours = {decoder_neighbours}, got {anchors}")
        super().__init__(config, variant)
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)

    def encode(
        self,
        clouds: Tensor,  # [B, N, 3]
    ) -> dict[str, Tensor]:  # [B, H], [B, A, 3], [B, A, H]
        """Return the global codes, anchors and features of a batch of point clouds; see `Network.encode`.

        A cloud must have at least as many points as the first reduction keeps.
        """
        self._check_clouds(clouds)
        if clouds.shape[1] < self.config["first_points"]:
            raise ValueError(
                f"clouds: expected at least {self.config['first_points']} points, as many as the first reduction "
                f"keeps, got {clouds.shape[1]}"
            )
        shared, anchors, features = self.encoder(clouds)
        return {"global": shared, "anchors": anchors, "features": features}

    def decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,  # [B, H], [B, A, 3], [B, A, H]
    ) -> Tensor:  # [B, T]
        """Return the occupancy logits [B, T] of the points; see `Network.decode`."""
        self._check_points(points)
        anchors, width = self.config["anchors"], self.config["hidden_size"]
        shapes = {"global": (width,), "anchors": (anchors, 3), "features": (anchors, width)}
        parts = self._check_parts(code, points.shape[0], shapes)
        return self.decoder(points, *(parts[name] for name in shapes))  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    """Attention among neighbours, two reductions to fewer points, then attention among all of them."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        first, width = config["first_size"], config["hidden_size"]
        sizes = (first, width)
        points = (config["first_points"], config["anchors"])
        self.first_neighbours: int = config["first_neighbours"]
        self.neighbours: int = config["neighbours"]
        self.fc_middle = _perceptron(width, width)
        self.transformer_begin = _Transformer(first)
        self.transition_downs = nn.ModuleList()
        self.transformer_downs = nn.ModuleList()
        self.elementwise = nn.ModuleList()
        self.elementwise_extras = nn.ModuleList()
        self.fc1 = Linear(first, width) if first != width else None
        # The lists are named in one order and filled in another, both the authors': equal seeds give equal weights.
        for size, count in zip(sizes, points, strict=True):
            self.transition_downs.append(_Reduction(size, count, self.neighbours, config["skip_near_origin"]))
            self.elementwise_extras.append(_ElementwiseMLP(size))
            self.transformer_downs.append(_Transformer(size))
            self.elementwise.append(_ElementwiseMLP(width))
        self.final_transformers = nn.ModuleList(_Transformer(width) for _ in range(config["encoder_blocks"]))
        self.final_elementwise = nn.ModuleList(_ElementwiseMLP(width) for _ in range(config["encoder_blocks"]))

    def forward(
        self,
        clouds: Tensor,  # [B, N, 3]
    ) -> tuple[Tensor, Tensor, Tensor]:  # [B, H], [B, A, 3], [B, A, H]
        points = clouds
        features = self.transformer_begin(points, None, _nearest(points, points, self.first_neighbours))  # [B, N, F]
        for level in range(2):
            points, features = self.transition_downs[level](points, features)
            features = self.elementwise_extras[level](features)
            among = _nearest(points, points, self.neighbours)
            features = self.transformer_downs[level](points, features, among)
            if level == 0 and self.fc1 is not None:
                features = self.fc1(features)
            features = self.elementwise[level](features)
        for transform, each in zip(self.final_transformers, self.final_elementwise, strict=True):
            features = each(transform(points, features, None))
        # max over an axis, not amax: its gradient goes to one point where several tie
        return self.fc_middle(features.max(dim=1).values), points, features


class _Transformer(nn.Module):
    """Vector attention of every point to its neighbours, added to its features and normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(width)
        self.fc_delta = _perceptron(3, width)
        self.fc_gamma = _perceptron(width, width)
        self.w_qs = Linear(width, width, bias=False)
        self.w_ks = Linear(width, width, bias=False)
        self.w_vs = Linear(width, width, bias=False)

    def forward(
        self,
        points: Tensor,  # [B, N, 3]
        features: Tensor | None,  # [B, N, C]; None where only positions are known, and the w_* are not used
        neighbours: Tensor | None,  # [B, N, K]; None for all points
    ) -> Tensor:  # [B, N, C]
        known = None if features is None else (self.w_qs(features), -self.w_ks(features), self.w_vs(features))

        def work(part: slice) -> Tensor:
            among = None if neighbours is None else neighbours[:, part]
            position = self.fc_delta(points[:, part, None] - take(points, among))  # [B, n, K, C]
            if known is None:
                return attend(self.fc_gamma(position), None, None, position)
            queries, against, values = known
            weights = self.fc_gamma(pair_sums(queries[:, part], against, among, position))
            return attend(weights, values, among, position)

        batch, count, _ = points.shape
        pairs = count if neighbours is None else neighbours.shape[2]
        attended = in_parts(work, count, batch * pairs * self.bn.num_features, points)
        return batch_norm(self.bn, attended if features is None else features + attended)


class _Reduction(nn.Module):
    """Keep some points, far from each other, and let each attend twice to its neighbours among all."""

    def __init__(self, width: int, count: int, neighbours: int, skip_near_origin: bool) -> None:
        super().__init__()
        self.sa = _SetAbstraction(width, count, neighbours, skip_near_origin)

    def forward(self, points: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.sa(points, features)  # type: ignore[no-any-return]


class _SetAbstraction(nn.Module):
    def __init__(self, width: int, count: int, neighbours: int, skip_near_origin: bool) -> None:
        super().__init__()
        self.count = count
        self.neighbours = neighbours
        self.skip_near_origin = skip_near_origin
        self.bnorm0 = nn.BatchNorm1d(width)
        self.bnorm1 = nn.BatchNorm1d(width)
        self.bnorm2 = nn.BatchNorm1d(width)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv1 = nn.Conv1d(width, width, 1)
        self.conv2 = nn.Conv1d(width, width, 1)
        self.fc_delta1 = _perceptron(3, width)
        self.fc_gamma1 = _perceptron(width, width)
        self.fc_gamma2 = _perceptron(width, width)
        self.w_qs = Linear(width, width, bias=False)
        self.w_ks = Linear(width, width, bias=False)
        self.w_vs = Linear(width, width, bias=False)
        self.w_qs2 = Linear(width, width, bias=False)
        self.w_ks2 = Linear(width, width, bias=False)
        self.w_vs2 = Linear(width, width, bias=False)

    def forward(
        self,
        points: Tensor,  # [B, N, 3]
        features: Tensor,  # [B, N, C]
    ) -> tuple[Tensor, Tensor]:  # [B, M, 3], [B, M, C]
        skip = AUTHORS_SKIP if self.skip_near_origin else None
        chosen = ops.farthest_points(points, self.count, skip_squared_length=skip)  # [B, M]
        centres = take(points, chosen[..., None])[:, :, 0]  # [B, M, 3]
        own = take(features, chosen[..., None])[:, :, 0]  # [B, M, C]
        among = _nearest(centres, points, self.neighbours)  # [B, M, K]
        position = self.fc_delta1(take(points, among) - centres[:, :, None])  # [B, M, K, C]

        weights = self.fc_gamma1(pair_sums(self.w_qs(own), -self.w_ks(features), among, position))
        first = attend(weights, self.w_vs(features), among, position)
        hidden = F.relu(batch_norm(self.bn1, pointwise(self.conv1, first)))
        first = batch_norm(self.bnorm0, first + pointwise(self.conv2, hidden))

        weights = self.fc_gamma2(pair_sums(self.w_qs2(first), -self.w_ks2(features), among, position))
        second = attend(weights, self.w_vs2(features), among, position)
        both = batch_norm(self.bnorm1, first + second)
        return centres, batch_norm(self.bnorm2, both + own)


class _ElementwiseMLP(nn.Module):
    """Two layers on each point, added to it and normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 1)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 1)
        self.bn2 = nn.BatchNorm1d(width)
        self.bn3 = nn.BatchNorm1d(width)

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu(batch_norm(self.bn1, pointwise(self.conv1, features)))
        hidden = F.relu(batch_norm(self.bn2, pointwise(self.conv2, hidden)))
        return batch_norm(self.bn3, features + hidden)


class _Decoder(nn.Module):
    """Attention of a query to its nearest anchors and the global code, then residual blocks that see the result."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, size, blocks = config["decoder_size"], config["attention_size"], config["decoder_blocks"]
        self.ct1 = _CrossAttention(config["hidden_size"], size, config["decoder_neighbours"])
        self.init_enc = Linear(size, width)
        self.blocks = nn.ModuleList(ResnetBlockFC(width) for _ in range(blocks))
        self.fc_c = nn.ModuleList(Linear(size, width) for _ in range(blocks))
        self.fc_out = Linear(width, 1)

    def forward(self, points: Tensor, shared: Tensor, anchors: Tensor, features: Tensor) -> Tensor:
        seen = self.ct1(points, shared, anchors, features)  # [B, T, S]
        hidden = self.init_enc(seen)  # [B, T, width]
        for inject, block in zip(self.fc_c, self.blocks, strict=True):
            hidden = block(hidden + inject(seen))
        return self.fc_out(F.relu(hidden)).squeeze(2)  # type: ignore[no-any-return]


class _CrossAttention(nn.Module):
    def __init__(self, in_size: int, size: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.fc_delta = _perceptron(3, size)
        self.fc_gamma = _perceptron(size, size)
        self.w_k_global = Linear(in_size, size, bias=False)
        self.w_v_global = Linear(in_size, size, bias=False)
        self.w_qs = Linear(in_size, size, bias=False)
        self.w_ks = Linear(in_size, size, bias=False)
        self.w_vs = Linear(in_size, size, bias=False)

    def forward(
        self,
        points: Tensor,  # [B, T, 3]
        shared: Tensor,  # [B, H]
        anchors: Tensor,  # [B, A, 3]
        features: Tensor,  # [B, A, H]
    ) -> Tensor:  # [B, T, S]
        near = _nearest(points, anchors, self.neighbours)  # [B, T, K]
        query = self.w_qs(shared)  # [B, S]
        keys, values = query[:, None] - self.w_ks(features), self.w_vs(features)  # [B, A, S]
        # The global code lies nowhere, so its weight and value are the same for all points of a shape.
        global_weight = self.fc_gamma(query - self.w_k_global(shared))  # [B, S]
        global_value = self.w_v_global(shared)  # [B, S]

        def work(part: slice) -> Tensor:
            own = near[:, part]
            position = self.fc_delta(points[:, part, None] - take(anchors, own))  # [B, t, K, S]
            weights = self.fc_gamma(pair_sums(None, keys, own, position))
            return attend(weights, values, own, position, (global_weight, global_value))

        batch, count, pairs = near.shape
        return in_parts(work, count, batch * pairs * values.shape[2], points)


def _perceptron(in_size: int, size: int) -> nn.Sequential:
    return nn.Sequential(Linear(in_size, size, relu=True), nn.Identity(), Linear(size, size))


def _nearest(
    queries: Tensor,  # [B, M, 3]
    points: Tensor,  # [B, N, 3]
    count: int,
) -> Tensor:  # [B, M, min(count, N)]
    return ops.nearest_neighbours(queries, points, min(count, points.shape[1]))
