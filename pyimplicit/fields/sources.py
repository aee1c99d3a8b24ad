"""What a field's values come from: a trained network, or exact geometry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pyimplicit.fields.field import UNIT_CUBE, Bounds, Field
from pyimplicit.fields.implicit_functions import SDF, UDF, ImplicitFunction, Occ, implicit_function


def network_field(
    network: nn.Module,
    code: Tensor | Mapping[str, Tensor],
    kind: ImplicitFunction | str | None = None,
    bounds: Bounds = UNIT_CUBE,
) -> Field:
    """Return the field that a network decodes from the code of one shape.

    The network is asked in evaluation mode, with gradients only if the points require them; modules in training mode
    are put back into it after each call. Points are converted to the dtype of the network's parameters, never moved to
    another device.

    Args:
        network: Anything with `decode(points [1, N, 3], code) -> values [1, N]`.
        code: The code of one shape: [code_size] or [1, ...], or a dict of tensors [1, ...], on the network's device.
        kind: What the network was trained for. None stands for the default of its type: "occ" for encoder networks,
            "sdf" for auto-decoders, "udf" for NDF. A name stands for that function with its default arguments.
        bounds: Lowest and highest corner of the box the shape lies in, in mesh units.

    Returns:
        A Field on the network's device; for "occ" its values are logits.

    Raises:
        TypeError, ValueError: A code of more than one shape or on another device, or an unknown kind.

    Example:
        >>> class Ball(nn.Module):
        ...     def decode(self, points, code):
        ...         return points.norm(dim=2) - code
        >>> network_field(Ball(), torch.tensor([0.3]), kind="sdf")(torch.zeros(2, 3))
        tensor([-0.3000, -0.3000])
    """
    decode = getattr(network, "decode", None)
    if not callable(decode):
        raise TypeError(f"network: expected a network with a decode method, got {type(network).__name__}")
    parameter = next(iter(network.parameters()), None)
    tensors = dict(code) if isinstance(code, Mapping) else {"code": code}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise TypeError(f"code: expected a tensor or a dict of tensors, got {type(code).__name__}")
    device = next(iter(tensors.values())).device if parameter is None else parameter.device
    for name, value in tensors.items():
        if value.device != device:
            raise ValueError(f"{name}: expected a tensor on {device}, the network's device, got one on {value.device}")
        if name == "code" and value.dim() == 1:
            tensors[name] = value = value[None]
        if value.dim() == 0 or value.shape[0] != 1:
            raise ValueError(f"{name}: expected the code of one shape, [1, ...], got {list(value.shape)}")
    one_code: Any = tensors if isinstance(code, Mapping) else tensors["code"]
    dtype = None if parameter is None else parameter.dtype

    def decode_points(points: Tensor) -> Tensor:
        with torch.set_grad_enabled(points.requires_grad), _evaluation_mode(network):
            values: Tensor = decode(points[None].to(dtype or points.dtype), one_code)  # [1, N]
        return values.reshape(values.shape[1:]) if values.shape[:1] == (1,) else values

    if kind is None and getattr(network, "name", None) == "ndf":
        kind = UDF()
    if kind is None:
        kind = SDF() if getattr(network, "kind", None) == "auto_decoder" else Occ()
    return Field(decode_points, _resolve(kind), bounds=bounds, device=device)


class DistanceSurface(Protocol):
    """What `surface_field` asks of a surface."""

    @property
    def device(self) -> torch.device | str:
        """Where its points must be."""
        ...

    def signed_distance(self, points: Tensor) -> Tensor:
        """Return signed distances [N], negative inside."""
        ...

    def unsigned_distance(self, points: Tensor) -> Tensor:
        """Return unsigned distances [N]."""
        ...


def surface_field(surface: DistanceSurface, kind: ImplicitFunction | str = "sdf", bounds: Bounds = UNIT_CUBE) -> Field:
    """Return the exact field of a surface: the values a perfect network would give.

    Args:
        surface: A Surface. "udf" asks for unsigned distances only, so it need not be closed.
        kind: An implicit function or its name.
        bounds: Lowest and highest corner of the box the surface lies in, in mesh units.

    Returns:
        A Field on the surface's device. For "occ" its values are occupancies 0 or 1, not logits, and its level is 0.5.

    Raises:
        TypeError, ValueError: Not a surface, or an unknown kind.

    Example:
        >>> from pyimplicit.geometry.surface import Surface
        >>> corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
        >>> surface_field(Surface(corners, faces), "occ")(torch.tensor([[0.1, 0.1, 0.1], [-0.1, 0.1, 0.1]]))
        tensor([1., 0.])
    """
    if not callable(getattr(surface, "signed_distance", None)):
        raise TypeError(f"surface: expected a Surface, got {type(surface).__name__}")
    function = _resolve(kind)

    def distance_values(points: Tensor) -> Tensor:
        if function.name == "udf":
            return function.target(surface.unsigned_distance(points))
        return function.target(surface.signed_distance(points))

    level = 0.5 if function.name == "occ" else function.level
    return Field(distance_values, function, level, bounds, torch.device(surface.device))


def _resolve(kind: ImplicitFunction | str) -> ImplicitFunction:
    return implicit_function(kind) if isinstance(kind, str) else kind


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
