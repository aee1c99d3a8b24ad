from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyimplicit.errors import StudyError
from pyimplicit.lock import FileLock


def test_a_lock_is_held_by_one_and_survives_its_holder_as_a_mere_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path):
        assert path.read_text() == str(os.getpid())
        with pytest.raises(StudyError, match=f"held by {os.getpid()}"), FileLock(path, busy="held by {pid}"):
            pass
    path.write_text("99999999")  # as a killed holder would leave it
    with FileLock(path):
        assert path.read_text() == str(os.getpid())
