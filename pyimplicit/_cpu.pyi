from typing import Any

compiler: str
cuda_build: str

class BvhBuilder:
    def __init__(self, *, triangles: int, count: int, executor: tuple[int, int]) -> None: ...
    @property
    def nodes(self) -> int: ...
    @property
    def leaves(self) -> int: ...
    def write(
        self,
        *,
        boxes: int,
        links: int,
        moments: int,
        leaf_first: int,
        frames: int,
        sorted: int,
        order: int,
    ) -> None: ...

# The kernels that csrc/bindings/bindings.h lists: keyword-only, addresses as int.
def __getattr__(name: str) -> Any: ...
