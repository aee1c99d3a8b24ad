"""The bodies that draw points give the same bits where products and sums are fused, as nvcc does it by default.

No GPU is needed for it: the host's compiler fuses, too, if it is asked to. The tests marked `cuda` compare with a real
one.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

SOURCE = Path(__file__).parent / "draws.cpp"
HEADERS = SOURCE.parents[2] / "csrc"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))


def _run(folder: Path, name: str, *flags: str) -> bytes:
    """What the program writes, compiled with `flags`."""
    assert COMPILER is not None
    program = folder / name
    subprocess.run([COMPILER, "-std=c++17", "-O2", f"-I{HEADERS}", *flags, str(SOURCE), "-o", str(program)], check=True)
    return subprocess.run([str(program)], check=True, capture_output=True).stdout


def _have_fused_operations() -> bool:
    try:
        return " fma " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.skipif(platform.machine() != "x86_64" or not _have_fused_operations(), reason="this processor cannot fuse")
def test_fused_products_change_no_draw(tmp_path: Path) -> None:
    apart = _run(tmp_path, "apart", "-ffp-contract=off")
    fused = _run(tmp_path, "fused", "-ffp-contract=fast", "-mfma", "-D__CUDA_ARCH__=900")
    unguarded = _run(tmp_path, "unguarded", "-ffp-contract=fast", "-mfma")
    marks = [float(np.frombuffer(written[:8])[0]) for written in (apart, fused, unguarded)]
    assert marks[0] == 0
    assert marks[1] == marks[2] == 2.0**-60  # these two did fuse
    assert len(apart) > 4_000_000
    assert fused[8:] == apart[8:]
    assert unguarded[8:] != apart[8:]  # what would come out if the bodies did not ask for each rounding
