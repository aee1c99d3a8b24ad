"""What the runs of a study differ in: networks, fields, strategies, densities, masks, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyimplicit.errors import ConfigError
from pyimplicit.sampling import resolve_strategy
from pyimplicit.study.settings import check_distinct, check_list, check_whole, hint

# The fields a study compares. An unsigned distance has no sign change to find: it ends in a dense cloud, not a mesh.
FIELDS = ("occ", "sdf", "tsdf", "udf")

# The variants of each network, the default first. NDF is left out: it is none of the paper's six.
VARIANTS: dict[str, tuple[str | None, ...]] = {
    "onet": (None,),
    "convonet": ("3plane", "1plane", "grid32", "grid64"),
    "ifnet": ("points", "128vox", "svr"),
    "airnet": ("300", "3000"),
    "deepsdf": (None,),
    "curriculum_deepsdf": (None,),
}

# What the runs of a study differ in: the keys that a part of the matrix may give values of its own.
AXES = ("networks", "fields", "strategies", "densities", "masks", "seeds")


def split_network(entry: str) -> tuple[str, str | None]:
    """Split "convonet:grid32" into name and variant, the default variant where none is named.

    Raises:
        ConfigError: An unknown network or variant.
    """
    name, _, variant = entry.partition(":") if isinstance(entry, str) else (str(entry), "", "")
    if name not in VARIANTS:
        raise ConfigError(f"networks: expected one of {', '.join(VARIANTS)}, got {entry!r}{hint(name, VARIANTS)}")
    known = VARIANTS[name]
    if not variant:
        return name, known[0]
    if variant not in known:
        wanted = ", ".join(v for v in known if v) or "none"
        raise ConfigError(f"networks: expected a variant of {name} ({wanted}), got {variant!r}")
    return name, variant


_LABELS = {
    "onet": "ONet",
    "convonet": "ConvONet",
    "ifnet": "IF-Net",
    "airnet": "AIR-Net",
    "deepsdf": "DeepSDF",
    "curriculum_deepsdf": "Curriculum-DeepSDF",
}


def network_label(network: str, variant: str | None) -> str:
    """Return the network's name as its authors write it, with a variant that is not the default."""
    label = _LABELS.get(network, network)
    return label if variant in (None, VARIANTS.get(network, (None,))[0]) else f"{label} {variant}"


def check_axes(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the axes of a matrix checked and in their canonical form; errors name `prefix` and the key."""
    networks = check_list(f"{prefix}networks", values["networks"])
    names = tuple(":".join(filter(None, split_network(name))) for name in networks)
    axes: dict[str, Any] = {
        "networks": check_distinct(f"{prefix}networks", names),
        "strategies": _strategy_names(f"{prefix}strategies", values["strategies"]),
        "fields": _fields_by_network(f"{prefix}fields", values["fields"], names),
    }
    for key, minimum in (("seeds", 0), ("densities", 1)):
        found = check_list(f"{prefix}{key}", values[key], may_be_empty=key == "densities")
        axes[key] = check_distinct(
            f"{prefix}{key}", tuple(check_whole(f"{prefix}{key}", value, minimum) for value in found)
        )
    masks = check_list(f"{prefix}masks", values["masks"])
    for mask in masks:
        if mask is not None and (isinstance(mask, bool) or not isinstance(mask, (int, float)) or not 0 < mask < 2):
            raise ConfigError(f"{prefix}masks: expected distances above 0 and below 2, or null, got {mask!r}")
    axes["masks"] = check_distinct(f"{prefix}masks", tuple(None if mask is None else float(mask) for mask in masks))
    return axes


def _strategy_names(key: str, values: object) -> tuple[str, ...]:
    try:
        return check_distinct(key, tuple(resolve_strategy(value).name for value in check_list(key, values)))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"{key}: {error}") from error


def _fields_by_network(key: str, fields: object, entries: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    networks = list(dict.fromkeys(split_network(entry)[0] for entry in entries))
    if isinstance(fields, (list, tuple)):
        fields = dict.fromkeys(networks, fields)
    if not isinstance(fields, Mapping):
        raise ConfigError(f"{key}: expected a list or a mapping from networks to lists, got {fields!r}")
    result = {}
    for network, names in fields.items():
        if network not in networks:
            raise ConfigError(f"{key}: expected networks of this study ({', '.join(networks)}), got {network!r}")
        listed = check_list(f"{key}.{network}", [names] if isinstance(names, str) else names)
        for name in listed:
            if name not in FIELDS:
                raise ConfigError(f"{key}.{network}: expected one of {', '.join(FIELDS)}, got {name!r}")
        result[network] = check_distinct(f"{key}.{network}", listed)
    return result
