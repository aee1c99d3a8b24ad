"""Fields for the benchmarks of extraction: exact distances at a network's price."""

from __future__ import annotations

import torch

from pyimplicit import networks
from pyimplicit.fields import SDF, UDF, Field, network_field
from pyimplicit.geometry import Surface

SHELL = 0.02  # level of unsigned fields, mesh units


def dear_field(surface: Surface, network: str = "convonet", unsigned: bool = False) -> Field:
    """The exact distances of a surface, but every point also asks a network of its authors' width.

    A network without training has no surface worth extracting; so it is asked, and its answer left out.
    """
    torch.manual_seed(0)
    idle = networks.create(network).to(surface.device).eval()
    with torch.no_grad():
        cloud = surface.sample_surface(int(idle.config.get("first_points", 3_000))).points
        size = idle.code_size or 1
        code = idle.encode(cloud[None]) if idle.kind == "encoder" else torch.zeros(1, size, device=surface.device)
    decoder = network_field(idle, code)

    def values(points: torch.Tensor) -> torch.Tensor:
        distance = surface.unsigned_distance(points) if unsigned else surface.signed_distance(points)
        return distance + 0.0 * decoder(points)

    return Field(values, UDF() if unsigned else SDF(), SHELL if unsigned else 0.0, device=surface.device)
