"""The layers: a module imports only from lower ones, and the native code knows nothing of torch."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyimplicit"

# Each part of the package and its layer. A part may import itself and parts of lower numbers.
LAYERS = {
    "errors": 0,
    "checks": 0,
    "atomic": 0,
    "seeds": 0,
    "lock": 1,
    "engines": 1,
    "_native": 1,
    "ops": 2,
    "info": 2,
    "geometry": 3,
    "sampling": 4,
    "networks": 4,
    "fields": 5,
    "generation": 6,
    "evaluation": 6,
    "data": 7,
    "training": 8,
    "study": 9,
    "cli": 10,
    "__main__": 11,
    "": 11,  # pyimplicit/__init__.py, which names what is public
}
# Tighter than the numbers: networks take tensors and never see a mesh.
ALLOWED = {
    "networks": {"errors", "checks", "atomic", "ops"},
    "errors": set(),
    "checks": set(),
    "atomic": {"errors"},
    "lock": {"errors"},
    "engines": {"errors"},  # so that a worker does not import torch before its job does
}
# The folders of csrc, and those that each may include from besides itself.
NATIVE = {
    "base": set(),
    "surface": {"base"},
    "points": {"base"},
    "mask": {"base"},
    "interpolation": {"base"},
    "networks": {"base"},
    "sampling": {"base", "surface"},
    "bindings": {"base", "surface", "points", "mask", "interpolation", "networks", "sampling"},
}
PYTHON_FILES = {Path("csrc/bindings") / name for name in ("binding_base.h", "cpu.cpp", "cuda.cu")}
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [path for path in sorted((ROOT / "csrc").rglob("*")) if path.suffix in {".h", ".cpp", ".cu", ".cuh"}]


def part_of(module: str) -> str:
    """ "geometry" for "pyimplicit.geometry.surface", "" for "pyimplicit"."""
    return module.split(".")[1] if "." in module else ""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> list[tuple[str, int]]:
    """Every pyimplicit module that a file imports, anywhere in it, with the line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "pyimplicit"]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            source = node.module or ""
            if source == "pyimplicit":
                # The version is a constant above all layers; any other name must be a part of the package.
                names = [alias.name for alias in node.names if alias.name != "__version__"]
                found += [(f"pyimplicit.{name}", node.lineno) for name in names]
            elif source.startswith("pyimplicit."):
                found.append((source, node.lineno))
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_downwards(path):
    own = part_of(module_name(path))
    assert own in LAYERS, f"{own} has no layer: give it one in this file"
    for module, line in imported_modules(path):
        other = part_of(module)
        if other in ("_cpu", "_cuda"):
            assert own == "_native", f"{path}:{line}: only _native imports {other}"
        elif other != own:
            assert other in LAYERS, f"{path}:{line}: {module} has no layer"
            assert LAYERS[other] < LAYERS[own], f"{path}:{line}: {own} must not import {module}"
            allowed = ALLOWED.get(own)
            assert allowed is None or other in allowed, f"{path}:{line}: {own} must not import {module}"


def test_checks_run_no_kernels():
    assert "_native" not in (PACKAGE / "checks.py").read_text()
    assert "torch" not in (PACKAGE / "errors.py").read_text()


def test_only_native_names_the_compiled_modules():
    """Also where they would be reached without an import statement."""
    for path in MODULES:
        if module_name(path) != "pyimplicit._native":
            assert not re.search(r"\b_native\._(cpu|cuda)\b|import_module\([^)]*_c(pu|uda)\b", path.read_text()), path


def test_native_code_includes_no_torch_and_no_python():
    """Python is known to the bindings alone, torch to nobody."""
    assert SOURCES
    for path in SOURCES:
        for include in re.findall(r"^\s*#\s*include\s*[<\"]([^>\"]+)", path.read_text(), re.MULTILINE):
            assert not re.search(r"torch|ATen|c10|caffe2", include), f"{path}: {include}"
            if path.relative_to(ROOT) not in PYTHON_FILES:
                assert not re.search(r"[Pp]ython|pybind11", include), f"{path}: {include}"


def test_native_includes_go_downwards():
    assert {path.parent.name for path in SOURCES} == set(NATIVE)
    for path in SOURCES:
        assert path.parent.parent == ROOT / "csrc", f"{path}: expected one level of folders"
        for include in re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(), re.MULTILINE):
            folder, _, _ = include.partition("/")
            assert (ROOT / "csrc" / include).is_file(), f"{path}: {include} is not a path below csrc"
            own = path.parent.name
            assert folder == own or folder in NATIVE[own], f"{path}: {own} must not include {include}"


def test_networks_never_name_a_mesh_module():
    for path in (PACKAGE / "networks").rglob("*.py"):
        assert "pyimplicit.geometry" not in path.read_text(), path


def test_the_test_sees_every_kind_of_import(tmp_path):
    file = tmp_path / "x.py"
    file.write_text(
        "import pyimplicit.study\nfrom pyimplicit import ops, _cpu\nfrom pyimplicit.data.cars import STYLES\n"
        "import os\ndef f():\n    import pyimplicit.training as t\n"
    )
    modules = [module for module, _ in imported_modules(file)]
    assert sorted(modules) == [
        "pyimplicit._cpu",
        "pyimplicit.data.cars",
        "pyimplicit.ops",
        "pyimplicit.study",
        "pyimplicit.training",
    ]
    assert [part_of(module) for module in ("pyimplicit", "pyimplicit.cli.parser")] == ["", "cli"]
