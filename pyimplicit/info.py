"""What was built, what was found on this machine, and why CUDA is or is not used."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pyimplicit import __version__

# The libraries whose version can change a result.
LIBRARIES = ("torch", "numpy", "scipy", "scikit-image", "trimesh", "safetensors")


@dataclass(frozen=True)
class Info:
    """A report on the installation; every part holds JSON values.

    Args:
        versions: Of this package, Python and the libraries that compute.
        machine: Processor, cores, memory and system.
        build: What the compiled modules say of themselves.
        cuda: Whether CUDA is used ("usable") and why or why not ("reason").
    """

    versions: dict[str, str]
    machine: dict[str, Any]
    build: dict[str, Any]
    cuda: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """All parts in one mapping."""
        return {"versions": self.versions, "machine": self.machine, "build": self.build, "cuda": self.cuda}

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        lines = []
        for title, part in self.as_dict().items():
            lines.append(title)
            lines += [f"  {key}: {_plain(value)}" for key, value in part.items()]
        return lines


def collect() -> Info:
    """Look at the installation and the machine.

    Example:
        >>> sorted(collect().as_dict())
        ['build', 'cuda', 'machine', 'versions']
    """
    return Info(versions(), machine(), *_native())


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that compute.

    Example:
        >>> "torch" in versions()
        True
    """
    found = {"pyimplicit": __version__, "python": platform.python_version()}
    return {**found, **{name: _version(name) for name in LIBRARIES}}


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in bytes and operating system."""
    found = {"processor": _processor(), "cores": available_cores(), "memory_bytes": _memory_bytes()}
    return {**found, "system": f"{platform.system()} {platform.release()}", "architecture": platform.machine()}


def available_cores() -> int:
    """Return the number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _native() -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask the compiled modules what they are; a broken one becomes its reason, for here the user looks for it."""
    try:
        from pyimplicit import _native as native

        usable, reason = native.cuda_status()
        return dict(native.build_info()), {"usable": usable, "reason": reason}
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return {"error": reason}, {"usable": False, "reason": "the compiled module could not be loaded"}


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value) or "none"
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
