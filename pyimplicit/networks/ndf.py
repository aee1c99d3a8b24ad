"""NDF: unsigned distances from the features of a voxel grid.

Paper: Neural Unsigned Distance Fields for Implicit Function Learning. J. Chibane, A. Mir, G. Pons-Moll. NeurIPS 2020.
Its layers and parameter names are those of IF-Net's single-view network, of any grid size; a ReLU keeps its answers
from falling below 0.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pyimplicit.checks import check_count, check_number, check_positive
from pyimplicit.networks.base import Code
from pyimplicit.networks.ifnet import DISPLACEMENT, VARIANTS, FeatureGrids


class NDF(FeatureGrids):
    """Neural unsigned distance field. Trained with an L1 loss on clamped distances in mesh units.

    Args:
        resolution: Nodes per axis of the voxel grid.
        width: Channels of the finest level; the next ones have 2, 4, 8, 8 and 8 times as many.
        hidden_size: Width of the layers that read the features; the first one has twice as many.
        displacement: Distance to the six points around a query point, in units in which the cube's half edge is 1.
        align_corners: Whether the outermost nodes of a grid lie on the faces of the cube, as the authors trained.
        output_bias: Where the last layer's bias starts. The final ReLU has no gradient where its input is negative,
            and with torch's own start up to 90% of the points begin there; a start above 0 keeps the network alive.
            None takes torch's, as the authors did.

    Raises:
        TypeError: An argument of a wrong type.
        ValueError: An argument out of range.

    Source:
        Chibane et al., Neural Unsigned Distance Fields, section 3 and supplementary section on the architecture.

    Example:
        >>> import torch
        >>> network = NDF(resolution=32, width=2, hidden_size=8)
        >>> code = network.encode(torch.rand(2, 30, 3) - 0.5)
        >>> bool((network.decode(torch.rand(2, 5, 3) - 0.5, code) >= 0).all())
        True
    """

    name = "ndf"
    rectified = True

    def __init__(
        self,
        *,
        resolution: int = 256,
        width: int = 16,
        hidden_size: int = 256,
        displacement: float = DISPLACEMENT,
        align_corners: bool = True,
        output_bias: float | None = 0.1,
    ) -> None:
        config = {
            "resolution": check_count("resolution", resolution),
            "width": check_count("width", width),
            "hidden_size": check_count("hidden_size", hidden_size),
            "displacement": check_positive("displacement", displacement),
            "align_corners": bool(align_corners),
            "output_bias": None if output_bias is None else check_number("output_bias", output_bias),
        }
        levels, _, padding_mode, with_coordinates = VARIANTS["svr"]
        super().__init__(config, None, levels=levels, padding_mode=padding_mode, with_coordinates=with_coordinates)
        if config["output_bias"] is not None:
            nn.init.constant_(self.fc_out.bias, config["output_bias"])  # type: ignore[arg-type]

    def decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,  # [B, C, R', R', R'] each
    ) -> Tensor:  # [B, T]
        """Return the unsigned distances [B, T] of the points, in mesh units; see `Network.decode`."""
        return F.relu(super().decode(points, code))
