"""DeepSDF: no encoder; a code per shape is optimised together with one decoder of code and point.

Paper: DeepSDF: Learning Continuous Signed Distance Functions for Shape Representation. J. J. Park, P. Florence,
J. Straub, R. Newcombe, S. Lovegrove. CVPR 2019. Layer names are the authors'; their weight normalisation is kept as
torch's parametrization, so `lin0.weight_g` is here `lin0.parametrizations.weight.original0` and `weight_v`
`original1`; `load_author_state` maps them.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pyimplicit.checks import check_between, check_count
from pyimplicit.networks.base import Code, Network
from pyimplicit.networks.layers import in_parts, part_size, relu_dropout
from pyimplicit.ops.linear import linear


class DeepSDF(Network):
    """Decoder of signed distances in (-1, 1) from a code and a point. Trained with an L1 loss on clamped values.

    Args:
        code_size: Length of the code.
        hidden_size: Width of the hidden layers; more than `code_size` + 3, as the layer before `skip_layer` is
            narrowed by that much.
        hidden_layers: Number of hidden layers.
        skip_layer: The hidden layer (counted from 0) that sees code and point again; from 1 to hidden_layers - 1.
        dropout: Probability of dropping a hidden feature in training mode.

    Raises:
        TypeError: An argument of a wrong type.
        ValueError: An argument out of range.

    Source:
        Park et al., DeepSDF, section 4 and supplementary section on network architecture.

    Example:
        >>> network = DeepSDF(code_size=4, hidden_size=16, hidden_layers=3, skip_layer=2)
        >>> network.decode(torch.rand(2, 5, 3) - 0.5, torch.zeros(2, 4)).shape
        torch.Size([2, 5])
    """

    name = "deepsdf"
    kind = "auto_decoder"

    def __init__(
        self,
        *,
        code_size: int = 256,
        hidden_size: int = 512,
        hidden_layers: int = 8,
        skip_layer: int = 4,
        dropout: float = 0.2,
    ) -> None:
        config = {
            "code_size": check_count("code_size", code_size),
            "hidden_size": check_count("hidden_size", hidden_size),
            "hidden_layers": check_count("hidden_layers", hidden_layers, minimum=2),
            "skip_layer": check_count("skip_layer", skip_layer),
            "dropout": check_between("dropout", dropout, 0, 1),
        }
        if hidden_size <= code_size + 3:
            raise ValueError(
                f"hidden_size: expected more than code_size + 3 = {code_size + 3}, by which the layer before the skip "
                f"is narrowed, got {hidden_size}"
            )
        if skip_layer >= hidden_layers:
            raise ValueError(f"skip_layer: expected below hidden_layers = {hidden_layers}, got {skip_layer}")
        super().__init__(config, code_size=code_size)
        self.hidden_layers = hidden_layers
        self.skip_layer = skip_layer
        self.dropout = float(dropout)
        input_size = code_size + 3
        for index in range(hidden_layers):
            in_size = input_size if index == 0 else hidden_size
            out_size = hidden_size - input_size if index + 1 == skip_layer else hidden_size
            self.add_module(f"lin{index}", weight_norm(nn.Linear(in_size, out_size)))
        self.add_module(f"lin{hidden_layers}", nn.Linear(hidden_size, 1))

    def decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,  # [B, code_size]
    ) -> Tensor:  # [B, T]
        """Return the signed distances [B, T] of the points, negative inside; see `Network.decode`."""
        return self._decode(points, code, self.hidden_layers)

    def _decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,  # [B, code_size]
        layers: int,
        bypass: float = 0.0,
    ) -> Tensor:  # [B, T]
        """Decode with the first `layers` hidden layers, of the last of which a share `bypass` is its input."""
        self._check_points(points)
        code = self._check_code(code, points.shape[0], self.config["code_size"])

        count, entries = points.shape[1], points.shape[0] * self.config["hidden_size"]
        linears = [cast(nn.Linear, self.get_submodule(f"lin{k}")) for k in (*range(layers), self.hidden_layers)]
        weights = [(layer.weight, layer.bias) for layer in linears]  # normalised ones are put together at each access
        kept: list[Tensor] | None = None
        if self.training and self.dropout and part_size(count, entries, points) < count:
            # Drawn as for all points at once: what is dropped does not depend on the parts.
            tables = (points.new_empty(*points.shape[:2], len(weight), dtype=torch.bool) for weight, _ in weights[:-1])
            kept = [table.bernoulli_(1 - self.dropout) for table in tables]

        def decode(part: slice) -> Tensor:
            own = points[:, part]
            hidden = own.new_empty(*own.shape[:2], 0)
            for index, (weight, bias) in enumerate(weights[:-1]):
                before = hidden
                if index == 0 or index == self.skip_layer:
                    hidden = _linear_of_code(weight, bias, hidden, own, code)
                else:
                    hidden = linear(hidden, weight, bias)
                if bypass and index + 1 == layers:
                    hidden = before * bypass + hidden * (1 - bypass)
                drawn = None if kept is None else kept[index][:, part]
                hidden = relu_dropout(hidden, self.dropout, self.training, drawn)
            return torch.tanh(F.linear(hidden, *weights[-1])).squeeze(2)

        return in_parts(decode, count, entries, points)

    def own_key(self, author_key: str) -> str:
        """Return our name: without `decoder.`, a normalised weight's length and direction named as torch does."""
        key = author_key.removeprefix("decoder.")
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            if key.endswith(f".{old}"):
                key = f"{key.removesuffix(old)}parametrizations.weight.{new}"
        return key


def _linear_of_code(
    weight: Tensor,  # [out, H + C + 3]
    bias: Tensor,  # [out]
    hidden: Tensor,  # [B, T, H]
    points: Tensor,  # [B, T, 3]
    code: Tensor,  # [B, C]
) -> Tensor:  # [B, T, out]
    """Apply a linear layer to cat[hidden, code, points], with the code's share computed once a shape.

    The code is the same for the T points of a shape, so it acts as a bias and is never repeated.
    """
    width, code_size = hidden.shape[2], code.shape[1]
    own = torch.cat([weight[:, :width], weight[:, width + code_size :]], 1)
    shared = F.linear(code, weight[:, width : width + code_size], bias)  # [B, out]
    return linear(torch.cat([hidden, points], 2), own) + shared[:, None]
