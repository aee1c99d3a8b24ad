"""Curves of a training for TensorBoard, if wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyimplicit.errors import ConfigError

Scalars = Callable[..., None]


@contextmanager
def open_scalars(log_dir: str | os.PathLike[str] | None, done: int = 0) -> Iterator[Scalars]:
    """Write curves into `log_dir`; yields `scalars(step, name=value, ...)`, which does nothing without a folder.

    Args:
        log_dir: The folder TensorBoard is pointed at, or None.
        done: Steps that the run continues after; what an interrupted one wrote beyond them is hidden.

    Raises:
        ConfigError: A folder is given and TensorBoard is not installed.
    """
    if log_dir is None:
        yield lambda step, **values: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("log_dir: needs TensorBoard; install pyimplicit[tensorboard]") from error
    writer = SummaryWriter(os.fspath(log_dir), purge_step=done + 1 if done else None)  # type: ignore[no-untyped-call]

    def scalars(step: int, **values: float) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]

    try:
        yield scalars
    finally:
        writer.close()  # type: ignore[no-untyped-call]
