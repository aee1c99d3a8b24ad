"""What runs on processors with shorter vectors than this one's, which pass for such by PYIMPLICIT_LANES."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyimplicit import _native

OPS = Path(__file__).parent / "ops"
FILES = ("surface", "surface_batch", "labelled_points", "query_points", "depth_maps", "distance_mask", "farthest")


@pytest.mark.parametrize("lanes", [4, 8])
def test_kernels_with_shorter_vectors(lanes: int) -> None:
    """Their tests against twins and plain bodies, in a process that chooses among fewer instruction sets."""
    if lanes >= _native.vector_lanes():
        pytest.skip("this processor has no longer ones")
    files = [str(OPS / f"test_{name}.py") for name in FILES]
    own = {"PYIMPLICIT_LANES": str(lanes)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "twin or plain", *files]
    result = subprocess.run(
        command, env=os.environ | own, cwd=OPS.parents[1], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    told = subprocess.run(
        [sys.executable, "-c", "from pyimplicit import _native; print(_native.vector_lanes())"],
        env=os.environ | own, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == str(lanes)
