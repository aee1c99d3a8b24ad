from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing import check, mutate, targets

TARGETS = targets()


@pytest.mark.parametrize("name", TARGETS)
def test_the_files_themselves_are_read(name: str, tmp_path: Path) -> None:
    assert check(TARGETS[name], TARGETS[name].seed, tmp_path)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_tampered_files_end_in_a_result_or_a_typed_error(name: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(TARGETS[name], mutate(TARGETS[name].seed, random.Random(seed)), Path(folder))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=300))
def test_noise_ends_in_a_typed_error(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(TARGETS[name], content, Path(folder))
