#!/usr/bin/env bash
# On a machine with a GPU: build for it, run the tests marked cuda, the memory checker over the kernels' tests, and the
# GPU benchmarks. Uses the active Python with its torch and build tools, and no network. Results land in
# benchmarks/results (or $RESULTS).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${RESULTS:-benchmarks/results}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
cmake -S . -B build/gpu -G Ninja -DPYIMPLICIT_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=native \
  -DPython_EXECUTABLE="$(command -v "$python")" -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PWD/pyimplicit" >/dev/null
cmake --build build/gpu
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m pyimplicit info || true

"$python" -m pytest -q -m cuda tests
if command -v compute-sanitizer >/dev/null; then
  # The kernels once more under the memory checker; slow, so only the operators' own tests.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 150 compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$python" -m pytest -q -m cuda tests/ops -k "twin" ||
    { status=$?; [ $status -eq 124 ] && echo "memcheck: stopped at its time limit" || exit $status; }
fi
against=()
"$python" -c "import warp" 2>/dev/null && against=(--against warp)
"$python" -m benchmarks.bench_surface --device cuda "${against[@]}" --counts 2000 100000 10000000 --out "$results"
for name in sampling linear_weights interpolation distance_mask points; do
  "$python" -m "benchmarks.bench_$name" --device cuda --out "$results"
done
