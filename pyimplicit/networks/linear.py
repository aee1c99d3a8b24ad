"""Linear layers as modules, and convolutions of size 1 as linear layers."""

from __future__ import annotations

from torch import Tensor, nn

from pyimplicit.ops.linear import linear


class Linear(nn.Linear):
    """Torch's layer, with the ReLU behind it if asked for; see `linear`."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, relu: bool = False) -> None:
        super().__init__(in_features, out_features, bias)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:  # [..., C] to [..., O]
        """Return the layer's result."""
        return linear(x, self.weight, self.bias, self.relu)


def pointwise(
    layer: nn.Conv1d,
    x: Tensor,  # [..., C]
    relu: bool = False,
) -> Tensor:  # [..., O]
    """Apply a convolution of kernel size 1 to channels-last features: a matrix product, twice as fast."""
    return linear(x, layer.weight.squeeze(2), layer.bias, relu)
