"""The only importer of the compiled modules: picks one by device and hands it addresses, a stream or a thread count."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pyimplicit.errors import NativeError

try:
    from pyimplicit import _cpu
except ImportError as error:  # an incomplete installation: every later call would fail less clearly
    raise ImportError(
        "pyimplicit: the compiled module _cpu is missing or does not load; install the package with `pip install .`"
    ) from error

_cuda: ModuleType | None = None
_cuda_import_error = ""
try:
    from pyimplicit import _cuda as _cuda_module

    _cuda = _cuda_module
except ImportError as error:
    # A broken GPU stack must never break the CPU; the reason is kept for `cuda_status`.
    _cuda_import_error = str(error)


def _use_torch_threads() -> bool:
    """Have CPU kernels run on the threads of torch's own operators; whether its OpenMP runtime could be reached."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        loaded = ctypes.CDLL(str(library), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        # Those of the runtime that torch's library is bound to.
        symbols = {"run": loaded.GOMP_parallel, "number": loaded.omp_get_thread_num}
    except (OSError, AttributeError):  # another system or another build: the kernels have threads of their own
        return False
    _cpu.use_team(**{name: ctypes.cast(symbol, ctypes.c_void_p).value for name, symbol in symbols.items()})
    return True


_SHARES_THREADS = _use_torch_threads()

_NUMBERS = frozenset((int, float, bool))

_SUFFIX = {
    torch.float32: "_float32",
    torch.float64: "_float64",
    torch.bfloat16: "_bfloat16",
    torch.float16: "_float16",
}


def cuda_status() -> tuple[bool, str]:
    """Whether kernels can run on a GPU here, and in one sentence why or why not."""
    if _cuda is None:
        built = str(_cpu.cuda_build)
        return False, f"the CUDA module does not load: {_cuda_import_error}" if built == "on" else built
    devices, reason = _cuda.device_status()
    if devices == 0:
        return False, f"the CUDA module is built, but no device can be used ({reason or 'none found'})"
    if not torch.cuda.is_available():
        return False, "the CUDA module is built and a device is there, but this torch cannot use it"
    return True, f"{devices} device(s)"


def build_info() -> dict[str, str]:
    """What was compiled, and what of it this processor uses: compilers, vectors, GPU architectures, CUDA runtime."""
    info = {
        "cpu_compiler": str(_cpu.compiler),
        "cpu_vectors": f"{vector_lanes()} float32",
        "cpu_matrix_unit": "AMX" if have_matrix_unit() else "none",
        "cpu_threads": "torch's" if _SHARES_THREADS else "own",
        "cuda_build": str(_cpu.cuda_build),
    }
    if _cuda is not None:
        info["cuda_compiler"] = str(_cuda.compiler)
        info["cuda_architectures"] = str(_cuda.architectures)
        info["cuda_runtime"] = f"{_cuda.runtime_version // 1000}.{_cuda.runtime_version % 1000 // 10} (static)"
    return info


def call(kernel: str, device: torch.device, dtype: torch.dtype | None = None, **arguments: Any) -> None:
    """Run `kernel` on `device`: tensors go as addresses, tuples of tensors as tuples of them, None as a null address.

    Args:
        kernel: Name in the family's `csrc/bindings/*_bindings.h`, without its type.
        device: Where it runs. Every tensor must already be there and contiguous in the layout the kernel expects.
        dtype: For kernels that come in several (float32 and float64, some in bfloat16 and float16 too), else None.
        **arguments: The kernel's keyword arguments but its executor.

    Raises:
        NativeError: `device` is a GPU and the CUDA module cannot be used; or CUDA reports a failure.
    """
    executor: tuple[int, int]
    if device.type == "cpu":
        module: ModuleType = _cpu
        executor = (-1, torch.get_num_threads())
    elif device.type == "cuda":
        if _cuda is None:
            raise NativeError(f"pyimplicit::{kernel} on {device}: {cuda_status()[1]}")
        module = _cuda
        stream = torch.cuda.current_stream(device)
        executor = (stream.device.index, stream.cuda_stream)
    else:
        raise NativeError(f"pyimplicit::{kernel}: expected a cpu or cuda device, got {device}")
    name = kernel if dtype is None else kernel + _SUFFIX[dtype]
    values = {
        key: value.data_ptr() if (kind := type(value)) is Tensor else value if kind in _NUMBERS else _value(value)
        for key, value in arguments.items()
    }  # without a call for each: they would cost as much as a small kernel
    try:
        if module is _cpu:
            getattr(module, name)(**values, executor=executor)
        else:  # the module makes the device the thread's current one; torch makes the one before it so again
            with torch.cuda.device(executor[0]):
                getattr(module, name)(**values, executor=executor)
    except RuntimeError as error:
        raise NativeError(f"pyimplicit::{kernel} on {device}: {error}") from error


def _value(value: Any) -> Any:
    if type(value) in _NUMBERS:  # before the slower questions
        return value
    if isinstance(value, Tensor):
        return value.data_ptr()
    if isinstance(value, tuple):
        return tuple([part.data_ptr() if type(part) is Tensor else _value(part) for part in value])  # a list is faster
    return 0 if value is None else value


def largest_magnitude(values: Tensor) -> float:
    """Largest magnitude of a contiguous float32 or float64 CPU tensor; infinite or NaN if one of its values is."""
    kernel = _cpu.largest_magnitude_float32 if values.dtype == torch.float32 else _cpu.largest_magnitude_float64
    largest: float = kernel(values=values.data_ptr(), count=values.numel(), executor=(-1, torch.get_num_threads()))
    return largest


def fill_zeros(values: Tensor) -> None:
    """Set all elements of a dense CPU tensor to zero, past the caches, on this library's own threads."""
    _cpu.fill_zeros(
        memory=values.data_ptr(), bytes=values.numel() * values.element_size(), executor=(-1, torch.get_num_threads())
    )


def have_matrix_unit() -> bool:
    """Whether this processor has a matrix unit that `row_products` and `weight_products` can use."""
    have: bool = _cpu.have_matrix_unit()
    return have


def vector_lanes() -> int:
    """Numbers of the longest vectors of float32 that this processor has and the kernels were compiled for."""
    lanes: int = _cpu.vector_lanes
    return lanes


def keep_heap(largest: int) -> bool:
    """Have the C library's allocator keep freed pieces of so many bytes, -1 for all; False if it cannot be told."""
    told: bool = _cpu.keep_heap(largest=largest)
    return told


def build_bvh(triangles: Tensor) -> dict[str, Tensor]:
    """Build the hierarchy of `csrc/surface/bvh.h` over triangles [F, 9] float32 on the CPU; arrays named as there."""
    count = triangles.shape[0]
    builder = _cpu.BvhBuilder(triangles=triangles.data_ptr(), count=count, executor=(-1, torch.get_num_threads()))
    nodes, leaves = builder.nodes, builder.leaves
    arrays = {
        "boxes": triangles.new_empty(nodes, 8, 8),
        "links": triangles.new_empty(nodes, 8, dtype=torch.int32),
        "moments": triangles.new_empty(nodes, 13, 8),
        "leaf_first": triangles.new_empty(leaves + 1, dtype=torch.int32),
        "frames": triangles.new_empty(leaves, 15, 8),
        "triangles": torch.empty_like(triangles),
    }
    order = triangles.new_empty(count, dtype=torch.int32)
    addresses = {name: array.data_ptr() for name, array in arrays.items()}
    addresses["sorted"] = addresses.pop("triangles")
    builder.write(**addresses, order=order.data_ptr())
    return {**arrays, "triangle_face": order}
