#!/usr/bin/env bash
# On a machine with a GPU: build for it, run the tests marked cuda, the GPU benchmarks, and last the memory checker over
# one call of each operator. Uses the active Python with its torch and build tools, and no network; what that Python
# lacks (trimesh, say) can lie as wheels in the folder $WHEELS. Results land in benchmarks/results (or $RESULTS). What
# fails does not keep the rest from running; the names of failed parts come last.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${RESULTS:-benchmarks/results}
failed=()
part() { # part NAME COMMAND...
  local name=$1 status=0
  shift
  "$@" || status=$?
  [ $status -eq 0 ] || failed+=("$name ($status)")
}
has() { "$python" -c "import $1" 2>/dev/null; }

set -e
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
cmake -S . -B build/gpu -G Ninja -DPYIMPLICIT_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=native \
  -DPython_EXECUTABLE="$(command -v "$python")" -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PWD/pyimplicit" >/dev/null
cmake --build build/gpu
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "${WHEELS:-}" ]; then
  "$python" -m pip install -q --no-index --no-deps --upgrade --target build/gpu/site "$WHEELS"/*.whl
  PYTHONPATH="$PWD/build/gpu/site:$PYTHONPATH"
fi
set +e
"$python" -m pyimplicit info

tests=(tests) benchmarks=(sampling linear_weights interpolation distance_mask points) against=()
if ! has trimesh; then
  echo "trimesh is not installed: only the tests of the operators and the benchmarks that need no mesh run"
  tests=(tests/ops --ignore tests/ops/test_overlap.py) benchmarks=(interpolation points)
  failed+=("trimesh is missing")
fi
# Newer libraries than those the project is tested with may call something of theirs deprecated.
options=(-q -m cuda --tb short -W default::DeprecationWarning -W default::FutureWarning)
parallel=()
has xdist && parallel=(-n 6)
part tests "$python" -m pytest "${options[@]}" "${parallel[@]}" "${tests[@]}"

has warp && against=(--against warp)
if has trimesh; then
  part bench_surface "$python" -m benchmarks.bench_surface --device cuda "${against[@]}" \
    --counts 2000 100000 10000000 --out "$results"
fi
for name in "${benchmarks[@]}"; do
  more=()
  [ "$name" = distance_mask ] && more=(--against warp) # those of the CPU would take most of the time
  part "bench_$name" "$python" -m "benchmarks.bench_$name" --device cuda "${more[@]}" --out "$results"
done

if command -v compute-sanitizer >/dev/null; then
  # Every kernel once under the memory checker; each allocation by itself, so that none hides behind its neighbour.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout -k 5 150 compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$python" -m pytest "${options[@]}" tests/ops/test_operators.py -k test_gpu_agrees_with_cpu
  case $? in
    0) ;;
    124 | 137) echo "memcheck: stopped at its time limit" ;;
    *) failed+=(memcheck) ;;
  esac
fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
