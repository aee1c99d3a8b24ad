"""A lock that one process holds on a folder's work."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from pyimplicit.errors import PyImplicitError, StudyError

if os.name == "nt":
    import msvcrt
else:
    import fcntl


class FileLock:
    """A lock that the operating system drops when its holder ends, however it ends.

    The file holds the holder's process id for people to read. It stays behind, unlocked: a stale one keeps nobody out.

    Args:
        path: The lock file; its folder exists.
        patience: Seconds to wait for another holder.
        busy: Message of the error, `{pid}` standing for the holder.
        error: Type of the error.

    Raises:
        PyImplicitError: `error`, on entering, if another process still holds the lock after `patience` seconds.
    """

    def __init__(
        self,
        path: Path,
        patience: float = 0.0,
        busy: str = "{path} is locked by process {pid}",
        error: type[PyImplicitError] = StudyError,
    ) -> None:
        self.path = path
        self.patience = patience
        self.busy = busy
        self.error = error
        self._stream: IO[str] | None = None

    def __enter__(self) -> FileLock:
        stream = open(self.path, "a+", encoding="utf-8")  # held open for as long as the lock
        deadline = time.monotonic() + self.patience
        while not _try_lock(stream):
            if time.monotonic() >= deadline:
                stream.seek(0)
                holder = stream.read().strip() or "unknown"
                stream.close()
                raise self.error(self.busy.format(pid=holder, path=self.path))
            time.sleep(0.05)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.truncate(0)
            self._stream.close()
            self._stream = None


def _try_lock(stream: IO[str]) -> bool:
    """Take the lock without waiting; False if another open file has it."""
    try:
        if os.name == "nt":
            # Far behind the text, so that the holder's number stays readable: Windows locks are mandatory.
            stream.seek(1 << 20)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
