"""Networks by name."""

from __future__ import annotations

import inspect
from typing import Any

from pyimplicit.errors import ConfigError
from pyimplicit.networks.airnet import AIRNet
from pyimplicit.networks.base import Network
from pyimplicit.networks.convonet import ConvONet
from pyimplicit.networks.curriculum_deepsdf import CurriculumDeepSDF
from pyimplicit.networks.deepsdf import DeepSDF
from pyimplicit.networks.ifnet import IFNet
from pyimplicit.networks.ndf import NDF
from pyimplicit.networks.onet import ONet

NETWORKS: dict[str, type[Network]] = {
    network.name: network for network in (ONet, ConvONet, IFNet, AIRNet, DeepSDF, CurriculumDeepSDF, NDF)
}


def create(name: str, variant: str | None = None, **config: Any) -> Network:
    """Build a network with fresh weights, drawn from torch's global generator.

    Args:
        name: One of `NETWORKS`: "onet", "convonet", "ifnet", "airnet", "deepsdf", "curriculum_deepsdf", "ndf".
        variant: The version of a network that has several ("3plane", "1plane", "grid32", "grid64" for "convonet";
            "points", "128vox", "svr" for "ifnet"; "300", "3000" for "airnet"); its main one, the first, if None.
        config: Constructor arguments that differ from the authors' values.

    Returns:
        The network, in training mode, float32, on the default device.

    Raises:
        ConfigError: An unknown name, variant or argument.
        TypeError: An argument of a wrong type.
        ValueError: An argument out of range.

    Example:
        >>> network = create("onet", code_size=16, hidden_size=16, decoder_size=16)
        >>> network.name, network.kind, network.config["code_size"]
        ('onet', 'encoder', 16)
    """
    if name not in NETWORKS:
        raise ConfigError(f"name: expected one of {', '.join(NETWORKS)}, got {name!r}")
    network = NETWORKS[name]
    known = set(inspect.signature(network).parameters)
    unknown = sorted(set(config) - (known - {"variant"}))
    if unknown:
        raise ConfigError(
            f"config: expected arguments of {name} ({', '.join(sorted(known - {'variant'}))}), got {', '.join(unknown)}"
        )
    if variant is None:
        return network(**config)
    if "variant" not in known:
        raise ConfigError(f"variant: expected None, as {name} has one version only, got {variant!r}")
    return network(variant=variant, **config)
