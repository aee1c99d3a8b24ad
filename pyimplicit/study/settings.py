"""Plain settings: reading them, comparing them, and checks that name the key at fault."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pyimplicit.errors import ConfigError


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read the mapping in a YAML or JSON file, an empty file being an empty one."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path}: not found") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"configuration file {path}: {' '.join(str(error).split())}") from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"configuration file {path}: expected a mapping of keys to values")
    return values or {}


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def differing_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the values that differ between two nested mappings.

    Example:
        >>> differing_keys({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
        ['b.c']
    """
    keys = []
    for key in sorted({*ours, *theirs}):
        one, other = ours.get(key), theirs.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            keys += differing_keys(one, other, f"{prefix}{key}.")
        elif one != other or (key in ours) != (key in theirs):
            keys.append(f"{prefix}{key}")
    return keys


def check_list(key: str, values: object, *, may_be_empty: bool = False) -> tuple[Any, ...]:
    """Return a list or tuple as a tuple, else raise."""
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise ConfigError(f"{key}: expected a list, got {values!r}")
    if not values and not may_be_empty:
        raise ConfigError(f"{key}: expected at least one entry, got an empty list")
    return tuple(values)


def check_distinct(key: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `values` if no two are equal, else raise."""
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ConfigError(f"{key}: expected each entry once, got {', '.join(twice)} more than once")
    return values


def check_whole(key: str, value: object, minimum: int) -> int:
    """Return a whole number of at least `minimum`, else raise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{key}: expected a whole number of at least {minimum}, got {value!r}")
    return value


def check_keys(prefix: str, values: Mapping[str, Any], cls: type) -> None:
    """Raise at the first key that is no field of the dataclass `cls`."""
    known = [f.name for f in dataclasses.fields(cls)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{prefix}{key}: unknown key{hint(str(key), known)}; known are {', '.join(known)}")


def hint(word: str, known: Collection[str]) -> str:
    """Return a remark on the known word that `word` is nearly, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
