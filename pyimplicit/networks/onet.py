"""ONet: one code for the whole shape, and a decoder whose batch normalisation is conditioned on it.

Paper: Occupancy Networks: Learning 3D Reconstruction in Function Space. L. Mescheder, M. Oechsle, M. Niemeyer,
S. Nowozin, A. Geiger. CVPR 2019. This is its point cloud completion network. Parameter names are the authors'.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit.checks import check_count
from pyimplicit.networks.base import Code, Network
from pyimplicit.networks.layers import ResnetBlockFC
from pyimplicit.networks.linear import pointwise
from pyimplicit.networks.normalisation import conditional_batch_norm_relu


class ONet(Network):
    """Occupancy network for point clouds. Trained with binary cross-entropy on its logits.

    In training mode the decoder's batch normalisation uses the statistics of the query points of the batch, so a
    network trained on points near the surface is evaluated on a grid with statistics of other points. This is
    inherent to the network.

    Args:
        code_size: Length of the code.
        hidden_size: Width of the encoder.
        decoder_size: Width of the decoder.
        encoder_blocks: Residual blocks of the encoder.
        decoder_blocks: Residual blocks of the decoder.

    Raises:
        TypeError: A size that is not a whole number.
        ValueError: A size below 1.

    Source:
        Mescheder et al., Occupancy Networks, supplementary section on network architectures.

    Example:
        >>> network = ONet(code_size=8, hidden_size=8, decoder_size=8)
        >>> code = network.encode(torch.rand(2, 30, 3) - 0.5)
        >>> network.decode(torch.rand(2, 5, 3) - 0.5, code).shape
        torch.Size([2, 5])
    """

    name = "onet"
    kind = "encoder"

    def __init__(
        self,
        *,
        code_size: int = 512,
        hidden_size: int = 512,
        decoder_size: int = 256,
        encoder_blocks: int = 5,
        decoder_blocks: int = 5,
    ) -> None:
        config = {
            "code_size": check_count("code_size", code_size),
            "hidden_size": check_count("hidden_size", hidden_size),
            "decoder_size": check_count("decoder_size", decoder_size),
            "encoder_blocks": check_count("encoder_blocks", encoder_blocks),
            "decoder_blocks": check_count("decoder_blocks", decoder_blocks),
        }
        super().__init__(config, code_size=code_size)
        # In the authors' order: equal seeds give equal weights.
        self.decoder = _Decoder(code_size, decoder_size, decoder_blocks)
        self.encoder = _Encoder(code_size, hidden_size, encoder_blocks)

    def encode(
        self,
        clouds: Tensor,  # [B, N, 3]
    ) -> Tensor:  # [B, code_size]
        """Return the codes [B, code_size] of a batch of point clouds; see `Network.encode`."""
        return self.encoder(self._check_clouds(clouds))  # type: ignore[no-any-return]

    def decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,  # [B, code_size]
    ) -> Tensor:  # [B, T]
        """Return the occupancy logits [B, T] of the points; see `Network.decode`.

        In training mode B * T must be at least 2, as batch normalisation needs a variance.
        """
        self._check_points(points)
        code = self._check_code(code, points.shape[0], self.config["code_size"])
        if self.training and points.shape[0] * points.shape[1] < 2:
            raise ValueError("points: expected at least 2 in training mode (batch normalisation), got fewer")
        return self.decoder(points, code)  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    """PointNet of residual blocks that see, beside each point's features, their maximum over the cloud."""

    def __init__(self, code_size: int, hidden_size: int, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.fc_pos = nn.Linear(3, 2 * hidden_size)
        for index in range(blocks):
            self.add_module(f"block_{index}", ResnetBlockFC(2 * hidden_size, hidden_size))
        self.fc_c = nn.Linear(hidden_size, code_size)

    def forward(self, clouds: Tensor) -> Tensor:
        features = self.get_submodule("block_0")(self.fc_pos(clouds))  # [B, N, hidden_size]
        for index in range(1, self.blocks):
            # max over an axis, not amax: its gradient goes to one point where duplicates tie
            pooled = features.max(dim=1, keepdim=True).values
            features = self.get_submodule(f"block_{index}")(features, pooled)
        return self.fc_c(F.relu(features.max(dim=1).values))  # type: ignore[no-any-return]


class _Decoder(nn.Module):
    """Residual blocks whose normalisation is scaled and shifted by the code."""

    def __init__(self, code_size: int, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.fc_p = nn.Conv1d(3, width, 1)
        for index in range(blocks):
            self.add_module(f"block{index}", _ConditionalBlock(code_size, width))
        self.bn = _ConditionalBatchNorm(code_size, width)
        self.fc_out = nn.Conv1d(width, 1, 1)

    def forward(self, points: Tensor, code: Tensor) -> Tensor:
        features = pointwise(self.fc_p, points)  # [B, T, width]
        for index in range(self.blocks):
            features = self.get_submodule(f"block{index}")(features, code)
        return pointwise(self.fc_out, self.bn(features, code)).squeeze(2)


class _ConditionalBlock(nn.Module):
    def __init__(self, code_size: int, width: int) -> None:
        super().__init__()
        self.bn_0 = _ConditionalBatchNorm(code_size, width)
        self.bn_1 = _ConditionalBatchNorm(code_size, width)
        self.fc_0 = nn.Conv1d(width, width, 1)
        self.fc_1 = nn.Conv1d(width, width, 1)
        nn.init.zeros_(self.fc_1.weight)

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        hidden = pointwise(self.fc_0, self.bn_0(features, code))
        return features + pointwise(self.fc_1, self.bn_1(hidden, code))


class _ConditionalBatchNorm(nn.Module):
    """relu(gamma(code) * normalised + beta(code)); starts with gamma = 1 and beta = 0, blind to the code."""

    def __init__(self, code_size: int, width: int) -> None:
        super().__init__()
        self.conv_gamma = nn.Conv1d(code_size, width, 1)
        self.conv_beta = nn.Conv1d(code_size, width, 1)
        self.bn = nn.BatchNorm1d(width, affine=False)
        nn.init.zeros_(self.conv_gamma.weight)
        nn.init.zeros_(self.conv_beta.weight)
        nn.init.ones_(self.conv_gamma.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.conv_beta.bias)  # type: ignore[arg-type]

    def forward(
        self,
        features: Tensor,  # [B, T, width]
        code: Tensor,  # [B, code_size]
    ) -> Tensor:  # [B, T, width]
        gamma = pointwise(self.conv_gamma, code)[:, None]  # [B, 1, width]
        beta = pointwise(self.conv_beta, code)[:, None]
        if self.training:  # the statistics run over the points of all shapes
            return conditional_batch_norm_relu(self.bn, features, gamma[:, 0], beta[:, 0])
        mean, variance = self.bn.running_mean, self.bn.running_var
        assert mean is not None  # both are kept, as track_running_stats is on
        assert variance is not None
        scale = gamma * torch.rsqrt(variance + self.bn.eps)
        return torch.addcmul(beta - mean * scale, features, scale).relu_()  # one pass over the points instead of two
