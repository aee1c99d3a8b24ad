from typing import Any

compiler: str
architectures: str
runtime_version: int

def device_status() -> tuple[int, str]: ...

# The kernels that csrc/bindings/bindings.h lists: keyword-only, addresses as int.
def __getattr__(name: str) -> Any: ...
