"""Fixtures shared by all tests: the devices there are, and one thread each, because other tests run beside these."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from pyimplicit import _native

# Without it torch refuses matrix products on a GPU where sums are to have a fixed order; read when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

DEVICES = ["cpu"]
if _native.cuda_status()[0]:
    DEVICES.append(pytest.param("cuda", marks=pytest.mark.cuda))


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that kernels can run on here."""
    # With its index, because that is how tensors name it.
    return torch.empty(0, device=request.param).device


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for every test, whatever the one before did: several on a busy machine wait for each other."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
