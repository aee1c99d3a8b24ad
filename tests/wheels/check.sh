#!/usr/bin/env bash
# Build a wheel with PYIMPLICIT_CUDA=$1 (off, auto or on), install it in a fresh environment, import and use it.
set -euo pipefail
cuda=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/env"
pip=("$work/env/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install -q -c "$top/constraints.txt" scikit-build-core pybind11 cmake ninja
PYIMPLICIT_CUDA=$cuda "${pip[@]}" wheel -q --no-deps --no-build-isolation \
  -C build-dir="$work/build" -C cmake.define.PYIMPLICIT_CUDA_ARCHITECTURES="${CUDA_ARCHITECTURES:-90}" \
  -w "$work/wheels" "$top"
"${pip[@]}" install -q -c "$top/constraints.txt" torch
"${pip[@]}" install -q -c "$top/constraints.txt" "$work"/wheels/*.whl

# Every module of the source tree must have travelled.
missing=$(comm -23 <(cd "$top" && find pyimplicit -name '*.py' | sort) \
  <("$work/env/bin/python" -m zipfile -l "$work"/wheels/*.whl | awk '/\.py /{print $1}' | sort))
if [ -n "$missing" ]; then
  echo "not in the wheel:" "$missing" >&2
  exit 1
fi

cd "$work"  # so that the installed package is imported, not the source tree
CUDA=$cuda "$work/env/bin/python" - <<'PYTHON'
import os

import torch

import pyimplicit as pim
from pyimplicit import _native

corners = torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0, 0.4, 0], [0, 0, 0.4]])
surface = pim.Surface(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
queries = pim.sample_queries(surface, "S_BS", 100)
assert queries.points.shape == (100, 3) and bool(queries.signed_distance.isfinite().all())
built = _native.build_info()["cuda_build"]
if os.environ["CUDA"] == "off":
    assert built != "on", built
if os.environ["CUDA"] == "on":
    assert built == "on", built
PYTHON
"$work/env/bin/pyimplicit" info
ls -l "$work"/wheels/*.whl | awk '{print "wheel:", $5, "bytes"}'
