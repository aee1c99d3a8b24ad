"""The figures of the paper, to be shown beside one's own and to recommend from where there are none.

Source: Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction", tables I to IV.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = 'Liu and Yang, "Analysis of Sampling Strategies for Implicit 3D Reconstruction"'

# The paper's types of networks, by our names.
TYPES: dict[str, tuple[str, ...]] = {
    "MLP": ("onet", "airnet"),
    "Convolution": ("convonet", "ifnet"),
    "Auto-decoder": ("deepsdf", "curriculum_deepsdf"),
}

_COLUMNS = (
    *("uniform", "hybrid_far_surface", "hybrid_near_surface", "balanced_surface"),
    *("few_uniform_near_surface", "near_surface", "few_surface_near_surface"),
)


def _row(*values: float | None) -> dict[str, float | None]:
    return dict(zip(_COLUMNS, values, strict=True))


#: Table I, F-Score(1.5%) by network and field, then by strategy; None is a failed run ("/").
F_SCORES: dict[tuple[str, str], dict[str, float | None]] = {
    ("onet", "occ"): _row(0.89, 0.90, 0.91, 0.91, 0.90, 0.89, 0.90),
    ("onet", "sdf"): _row(0.86, 0.89, 0.89, 0.92, 0.67, 0.74, 0.62),
    ("onet", "tsdf"): _row(0.87, 0.89, 0.90, 0.90, 0.85, 0.84, 0.67),
    ("ifnet", "occ"): _row(0.99, 0.99, 0.99, 0.99, 0.99, 0.32, 0.99),
    ("ifnet", "sdf"): _row(0.99, 0.98, 0.99, 0.99, 0.98, 0.16, 0.99),
    ("ifnet", "tsdf"): _row(0.99, 0.99, 0.99, 0.99, 0.99, 0.24, 0.99),
    ("deepsdf", "occ"): _row(None, None, None, 0.87, 0.90, 0.89, 0.88),
    ("deepsdf", "sdf"): _row(0.80, 0.88, 0.90, 0.89, 0.87, 0.89, 0.88),
    ("deepsdf", "tsdf"): _row(None, None, 0.90, 0.90, 0.88, 0.87, 0.88),
}


@dataclass(frozen=True)
class DensityCost:
    """Dense (20,000 points) against sparse (2,000) under S_BS: IoU, and multiples of one training iteration."""

    sparse_iou: float
    dense_iou: float
    memory: float
    time: float


#: Table II, by network.
DENSITY: dict[str, DensityCost] = {
    "onet": DensityCost(0.88, 0.87, 2.85, 1.97),
    "ifnet": DensityCost(0.94, 0.87, 1.49, 2.63),
    "deepsdf": DensityCost(0.88, 0.92, 6.27, 7.66),
}
SPARSE, DENSE = 2_000, 20_000

#: Table III, the D-Score of each strategy over the six networks.
D_SCORES: dict[str, float] = {
    "uniform": 0.140,
    "hybrid_far_surface": 0.106,
    "hybrid_near_surface": 0.065,
    "few_uniform_near_surface": 0.079,
    "balanced_surface": 0.059,
    "near_surface": 0.226,
    "few_surface_near_surface": 0.057,
    "linear": 0.049,
}

#: Table IV, ConvONet with UDF: Chamfer-L2 and F-Score(1.5%) by strategy and whether the mask (tau = 0.1) was on.
MASK: dict[tuple[str, bool], tuple[float, float]] = {
    ("near_surface", False): (1.2e-2, 0.67),
    ("near_surface", True): (1.4e-4, 0.92),
    ("uniform", False): (9.1e-4, 0.49),
    ("uniform", True): (3.4e-4, 0.68),
}


def network_type(network: str) -> str:
    """Return the paper's type of a network.

    Example:
        >>> network_type("ifnet")
        'Convolution'
    """
    return next(kind for kind, networks in TYPES.items() if network in networks)
