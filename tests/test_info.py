from __future__ import annotations

import json
import os
import platform

import pytest
import torch

from pyimplicit import _native
from pyimplicit.info import available_cores, collect


def test_what_is_reported_is_what_is_there() -> None:
    info = collect()
    assert info.versions["python"] == platform.python_version()
    assert info.versions["torch"] == torch.__version__
    assert info.machine["cores"] == available_cores() >= 1
    assert info.build == _native.build_info()
    assert (info.cuda["usable"], info.cuda["reason"]) == _native.cuda_status()
    assert json.loads(json.dumps(info.as_dict())) == info.as_dict()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no processor affinity")
def test_cores_are_those_this_process_may_use() -> None:
    assert available_cores() == len(os.sched_getaffinity(0))


def test_lines_name_the_reason_for_cuda() -> None:
    lines = collect().lines()
    reason = _native.cuda_status()[1]
    assert any(line.startswith("  reason: ") and reason in line for line in lines)
    assert any(line.startswith("  usable: ") and line.endswith(("yes", "no")) for line in lines)


def test_a_broken_native_module_becomes_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> tuple[bool, str]:
        raise OSError("libfoo.so:\n cannot open")

    monkeypatch.setattr(_native, "cuda_status", broken)
    info = collect()
    assert info.build == {"error": "libfoo.so: cannot open"}
    assert not info.cuda["usable"]
