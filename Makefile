# Everything here sets itself up: a virtual environment in .venv with the versions of constraints.txt.
#
#   make study       the main job: a small study of sampling strategies, ends with a table and a report
#   make test        the tests
#   make check       lint, types, tests
#   make gpu-check   on a machine with a GPU: build, tests marked cuda, GPU benchmarks (no network, no environment)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT ?= runs/study

# Only the machine's own card, or one architecture where there is none: building for all of them is for wheels.
CUDA_ARCHITECTURES ?= $(shell nvidia-smi >/dev/null 2>&1 && echo native || echo 90)
BUILD_FLAGS := -C cmake.define.PYIMPLICIT_CUDA_ARCHITECTURES=$(CUDA_ARCHITECTURES)

SOURCES := CMakeLists.txt pyproject.toml constraints.txt $(wildcard csrc/*/*)

.PHONY: help install test lint types check study study-tiny wheels bench verify gpu-check sanitize clean

help:
	@sed -n '3,6p' Makefile

install: $(VENV)/ready

$(VENV)/ready: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt scikit-build-core pybind11 cmake ninja
	$(PIP) install -q -c constraints.txt --no-build-isolation $(BUILD_FLAGS) -e '.[dev]'
	touch $@

test: install
	$(BIN)/python -m pytest -n 2 -m "not cuda" tests pyimplicit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

check: lint types test

study: install
	$(BIN)/pyimplicit study --scale small --out $(OUT)

study-tiny: install
	$(BIN)/pyimplicit study --scale tiny --out runs/tiny

# A wheel without and a wheel with CUDA, each imported and used in an environment of its own.
wheels:
	PYTHON=$(PYTHON) tests/wheels/check.sh off
	PYTHON=$(PYTHON) tests/wheels/check.sh auto

bench: install
	$(BIN)/python -m benchmarks --out benchmarks/results/local

# Signs and distances at ten million points over dozens of meshes, against sums over all faces; then cars from their
# exact fields through every extractor; minutes.
verify: install
	$(BIN)/python -m benchmarks.verify_surface
	$(BIN)/python -m benchmarks.verify_extraction --count 5

# The tests of the kernels once more, on a module that checks its memory accesses and its arithmetic. They run beside a
# copy of the package, because the installed one would be found first; -S leaves its finder out. What the checks report
# bypasses Python, so that only Python's own output may be captured; libstdc++ has to be there for exceptions.
SANITIZED := build/sanitize
SANITIZE_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1
SANITIZE_TESTS ?= tests/ops tests/geometry tests/sampling

sanitize: install
	mkdir -p $(SANITIZED)
	rm -rf $(SANITIZED)/pyimplicit $(SANITIZED)/tests
	cp -r pyimplicit tests pyproject.toml $(SANITIZED)
	rm -f $(SANITIZED)/pyimplicit/*.so
	$(BIN)/cmake -S . -B $(SANITIZED)/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS="$(SANITIZE_FLAGS)" -DPYIMPLICIT_CUDA=off \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/$(SANITIZED)/pyimplicit
	$(BIN)/cmake --build $(SANITIZED)/cmake
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	libraries=$$(for name in libasan.so libstdc++.so; do $${CXX:-c++} -print-file-name=$$name; done) && \
	cd $(SANITIZED) && LD_PRELOAD=$$(echo $$libraries) ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  PYTHONPATH=$$site $(CURDIR)/$(BIN)/python -S -m pytest -q --capture=sys -m "not cuda" $(SANITIZE_TESTS)

# Uses the Python that is active, with the torch it has.
gpu-check:
	tests/gpu_check.sh

clean:
	rm -rf build dist wheels .pytest_cache .mypy_cache .ruff_cache
