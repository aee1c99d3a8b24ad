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

SOURCES := CMakeLists.txt pyproject.toml constraints.txt $(wildcard csrc/*)

.PHONY: help install test lint types check study study-tiny wheels bench gpu-check sanitize clean

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

# Uses the Python that is active, with the torch it has.
gpu-check:
	tests/gpu_check.sh

clean:
	rm -rf build dist wheels .pytest_cache .mypy_cache .ruff_cache
