"""What every network is: a module with a name, its constructor arguments as a config, `encode` and `decode`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pyimplicit.checks import check_finite, check_tensor

Code = Tensor | dict[str, Tensor]
"""What describes a shape to a decoder; axis 0 of every tensor counts the shapes."""


class Network(nn.Module):
    """Base of all networks: maps query points and a code to one value a point.

    A network never sees a mesh, knows no loss and applies no final squashing of its own beyond its paper's: networks
    trained on occupancy return logits, the others distances.

    Attributes:
        name: The name `create` knows it by.
        variant: Which of the paper's versions this is, or None where there is one only.
        kind: "encoder" (the code comes from a point cloud) or "auto_decoder" (the code is optimised per shape).
        rectified: Whether a ReLU keeps the answers from falling below 0. Where it holds them at 0 nothing is learned.
        config: The constructor arguments, resolved, as plain values that JSON can hold.
        code_size: Length of the code vector; None where a code is not a vector.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["encoder", "auto_decoder"]]
    rectified: ClassVar[bool] = False

    def __init__(self, config: dict[str, Any], variant: str | None = None, code_size: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.variant = variant
        self.code_size = code_size

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters, and the one that points, clouds and codes must have."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def encode(
        self,
        clouds: Tensor,  # [B, N, 3]
    ) -> Code:
        """Return the codes of a batch of point clouds.

        Args:
            clouds: [B, N, 3], the network's dtype, in mesh units, finite.

        Raises:
            TypeError: The network is an auto-decoder, or `clouds` has another dtype.
            ValueError: A wrong shape or device, or values that are not finite.
        """
        raise TypeError(f"{self.name} is an auto-decoder and has no encoder: optimise a code [B, {self.code_size}]")

    def decode(
        self,
        points: Tensor,  # [B, T, 3]
        code: Code,
    ) -> Tensor:  # [B, T]
        """Return one value for each query point.

        Args:
            points: [B, T, 3], the network's dtype, in mesh units.
            code: The codes of the same B shapes, as `encode` returned them or as [B, code_size].

        Returns:
            [B, T]. Differentiable with respect to points, code and parameters.

        Raises:
            TypeError: A wrong type or dtype.
            ValueError: A wrong shape or device.
        """
        raise NotImplementedError

    def forward(
        self,
        points: Tensor,  # [B, T, 3]
        condition: Tensor,  # [B, N, 3] clouds for an encoder network, [B, code_size] codes for an auto-decoder
    ) -> Tensor:  # [B, T]
        """Encode `condition` if there is an encoder, then decode; the one call that wrappers such as DDP need."""
        return self.decode(points, self.code_of(condition))

    def code_of(self, condition: Tensor) -> Code:
        """Return the code that `forward` decodes: that of clouds [B, N, 3], or the codes [B, code_size] themselves.

        Under autocast it comes in the network's dtype.
        """
        if self.kind == "auto_decoder":
            return condition
        code = self.encode(condition)
        if isinstance(code, dict):
            return {name: part.to(self.dtype) for name, part in code.items()}
        return code.to(self.dtype)

    def own_key(self, author_key: str) -> str:
        """Return this network's name of a parameter or buffer that the authors' state_dict calls `author_key`."""
        return author_key

    def _check_clouds(self, clouds: Tensor) -> Tensor:
        check_tensor("clouds", clouds, ("B", "N", 3), (self.dtype,), self.device)
        if clouds.shape[0] == 0 or clouds.shape[1] == 0:
            raise ValueError(f"clouds: expected at least one shape and one point each, got {list(clouds.shape)}")
        return check_finite("clouds", clouds)

    def _check_points(self, points: Tensor) -> Tensor:
        return check_tensor("points", points, ("B", "T", 3), (self.dtype,), self.device)

    def _check_code(self, code: Code, batch: int, *shape: int) -> Tensor:
        return check_tensor("code", code, (batch, *shape), (self.dtype,), self.device)

    def _check_parts(self, code: Code, batch: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Return the tensors of a code that is a dict, each of its shape after the batch axis."""
        if not isinstance(code, dict):
            raise TypeError(f"code: expected a dict of {', '.join(shapes)}, got {type(code).__name__}")
        if set(code) != set(shapes):
            raise ValueError(f"code: expected {', '.join(shapes)}, got {', '.join(map(str, code)) or 'nothing'}")
        for name, shape in shapes.items():
            check_tensor(f"code[{name!r}]", code[name], (batch, *shape), (self.dtype,), self.device)
        return code
