"""The door to the compiled modules: which one is used, and what it says when there is none."""

from __future__ import annotations

import inspect
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pyimplicit import _native, ops
from pyimplicit.errors import NativeError

ROOT = Path(__file__).parents[1]


def test_build_info_says_what_was_compiled():
    info = _native.build_info()
    assert info["cpu_compiler"]
    assert info["cuda_build"]
    if _native._cuda is not None:
        assert {"cuda_compiler", "cuda_architectures", "cuda_runtime"} <= set(info)


def test_cuda_status_gives_a_reason():
    usable, reason = _native.cuda_status()
    assert isinstance(usable, bool)
    assert reason
    assert usable == (_native._cuda is not None and torch.cuda.is_available() and _native._cuda.device_status()[0] > 0)


def test_missing_cuda_module_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(_native, "_cuda", None)
    monkeypatch.setattr(_native, "_cuda_import_error", "libcuda.so.1: cannot open")
    usable, reason = _native.cuda_status()
    assert not usable
    assert reason
    with pytest.raises(NativeError, match=r"pyimplicit::uniform on cuda:0: ."):
        _native.call("uniform", torch.device("cuda:0"), torch.float32)


def test_other_devices_are_refused():
    with pytest.raises(NativeError, match="pyimplicit::uniform: expected a cpu or cuda device, got meta"):
        ops.uniform(3, ops.RandomStream(), device="meta")


def test_arguments_go_by_name_only():
    """Two addresses swapped by position would be memory errors; a wrong or missing name is a TypeError."""
    for name in dir(_native._cpu):
        function = getattr(_native._cpu, name)
        if callable(function) and not name.startswith("_"):
            with pytest.raises(TypeError):
                function(0)
    with pytest.raises(TypeError):
        _native.call("uniform", torch.device("cpu"), torch.float32, wrong=1)


def test_a_call_on_another_gpu_leaves_the_current_one_current(monkeypatch):
    """By stand-ins, as there are seldom two: the kernel runs within torch's own switch, on torch's stream."""
    seen = []

    @contextmanager
    def switched(index):
        seen.append(f"to {index}")
        yield
        seen.append("back")

    module = SimpleNamespace(uniform_float32=lambda **given: seen.append(given))
    monkeypatch.setattr(_native, "_cuda", module)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda device: SimpleNamespace(device=device, cuda_stream=77 + device.index)
    )
    monkeypatch.setattr(torch.cuda, "device", switched)
    _native.call("uniform", torch.device("cuda:1"), torch.float32, count=3, values=None)
    assert seen == ["to 1", {"count": 3, "values": 0, "executor": (1, 78)}, "back"]


@pytest.mark.skipif(_native._cuda is None, reason="the CUDA module was not built")
def test_both_modules_hold_the_same_kernels():
    def kernels(module: object) -> set[str]:
        return {name for name, value in inspect.getmembers(module, callable) if not name.startswith("_")}

    # A hierarchy and its signs are built on the CPU and uploaded; on a GPU, torch checks values and sorts points.
    only_on_the_cpu = {
        "BvhBuilder", "gather_corners_float32", "gather_corners_float64", "largest_magnitude_float32",
        "largest_magnitude_float64", "weld_corners", "match_edges", "label_bodies", "measure_bodies", "measure_faces",
        "build_pseudonormals", "group_cells", "cloud_box", "sort_cloud", "build_alias_table", "build_area_table",
        "fill_zeros", "keep_heap", "convolve_grids", "convolution_gradients", "choose_distinct_float32",
        "choose_distinct_float64", "channel_moments_float32", "channel_moments_float64", "channel_products_float32",
        "channel_products_float64", "channel_affine_float32", "channel_affine_float64",
        "channel_affine_gradient_float32", "channel_affine_gradient_float64", "row_products", "weight_products",
        "have_matrix_unit", "pair_sums", "pair_sum_gradients", "vector_attention", "vector_attention_gradients",
        "use_team",
    }  # fmt: skip
    assert kernels(_native._cuda) - {"device_status"} == kernels(_native._cpu) - only_on_the_cpu


def test_the_gil_is_released():
    """Kernels are bound with a call guard that lets other Python threads run."""
    assert "gil_scoped_release" in (ROOT / "csrc" / "bindings" / "binding_base.h").read_text()


def test_a_broken_cuda_module_does_not_break_the_cpu():
    """In a fresh process where the CUDA module cannot be imported, the CPU works and the reason is kept."""
    code = (
        "import sys; sys.modules['pyimplicit._cuda'] = None\n"
        "from pyimplicit import _native, ops\n"
        "assert ops.uniform(2, ops.RandomStream()).shape == (2, 3)\n"
        "assert not _native.cuda_status()[0]\n"
        "print(_native.cuda_status()[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
