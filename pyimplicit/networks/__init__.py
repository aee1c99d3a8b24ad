"""The networks: tensors in, tensors out. None of them sees a mesh."""

from __future__ import annotations

from pyimplicit.networks.author_state import author_codes, load_author_state
from pyimplicit.networks.base import Code, Network
from pyimplicit.networks.convonet import ConvONet
from pyimplicit.networks.deepsdf import DeepSDF
from pyimplicit.networks.latent_codes import LatentCodes
from pyimplicit.networks.onet import ONet
from pyimplicit.networks.registry import NETWORKS, create
from pyimplicit.networks.states import load_network, save_network

__all__ = [
    "NETWORKS",
    "Code",
    "ConvONet",
    "DeepSDF",
    "LatentCodes",
    "Network",
    "ONet",
    "author_codes",
    "create",
    "load_author_state",
    "load_network",
    "save_network",
]
