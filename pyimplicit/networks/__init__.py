"""The networks: tensors in, tensors out. None of them sees a mesh."""

from __future__ import annotations

from pyimplicit.networks.airnet import AIRNet
from pyimplicit.networks.author_state import author_codes, load_author_state
from pyimplicit.networks.base import Code, Network
from pyimplicit.networks.convonet import ConvONet
from pyimplicit.networks.curriculum_deepsdf import CurriculumDeepSDF
from pyimplicit.networks.deepsdf import DeepSDF
from pyimplicit.networks.ifnet import IFNet
from pyimplicit.networks.latent_codes import LatentCodes
from pyimplicit.networks.ndf import NDF
from pyimplicit.networks.onet import ONet
from pyimplicit.networks.registry import NETWORKS, create
from pyimplicit.networks.states import load_network, save_network

__all__ = [
    "NDF",
    "NETWORKS",
    "AIRNet",
    "Code",
    "ConvONet",
    "CurriculumDeepSDF",
    "DeepSDF",
    "IFNet",
    "LatentCodes",
    "Network",
    "ONet",
    "author_codes",
    "create",
    "load_author_state",
    "load_network",
    "save_network",
]
