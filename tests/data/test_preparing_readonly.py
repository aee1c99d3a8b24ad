"""A target that cannot be written, from the start or from some moment on: a typed error, and the set goes on later."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyimplicit.cli import main
from pyimplicit.data import ProceduralCars, StoredSet, prepare_set
from pyimplicit.engines import LocalEngine
from pyimplicit.errors import DataError
from tests.data.test_preparing import HERE, SMALL
from tests.engines.jobs import environment

NOBODY = 65534
CARS = ProceduralCars(8, resolution=16)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="the modes of files and mounts are POSIX")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Give up what lets root write where the mode of a folder forbids it."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that an unprivileged user owns; pytest's own are closed to others than who runs it."""
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    with unprivileged():
        if not os.access(folder, os.W_OK, effective_ids=True):
            pytest.skip(f"{folder.parent} is closed to unprivileged users")
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_set(CARS, tmp_path_factory.mktemp("whole"), SMALL, engine=HERE).content


@pytest.mark.parametrize("existing", [True, False])
def test_a_folder_without_write_permission(place: Path, expected: str, existing: bool) -> None:
    out = place / "set"
    if existing:
        out.mkdir()
    (out if existing else place).chmod(0o555)
    with unprivileged(), pytest.raises(DataError, match=f"^{out}: cannot be written: {os.strerror(errno.EACCES)}$"):
        prepare_set(CARS, out, SMALL, engine=HERE)
    assert not list(out.glob("*"))
    place.chmod(0o777)
    if existing:
        out.chmod(0o777)
    with unprivileged():
        assert prepare_set(CARS, out, SMALL, engine=HERE).content == expected


@pytest.mark.parametrize(("part", "after"), [("pending", 2), ("shards", 2), ("", 5)])
def test_a_folder_that_loses_its_write_permission(place: Path, expected: str, part: str, after: int) -> None:
    """Shapes, shards or the manifest can no longer be written while the work goes on."""

    def progress(done: int, total: int) -> None:
        if done == after:
            (place / part).chmod(0o555)

    with unprivileged():
        with pytest.raises(DataError, match=f"^{place}: cannot be written: .*{os.strerror(errno.EACCES)}"):
            prepare_set(CARS, place, SMALL, engine=HERE, progress=progress)
        (place / part).chmod(0o755)
        stored = prepare_set(CARS, place, SMALL, engine=HERE)
        assert stored.content == expected
        stored.verify()
        assert not [path for path in place.rglob("*") if path.name.endswith(".tmp")]


def test_the_command_says_it_in_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "prepare",
        "procedural",
        "--count",
        "1",
        "--processes",
        "0",
        "--cloud",
        "9",
        "--evaluation",
        "9",
        "--out",
    ]
    assert main([*command, str(place / "set")]) == 0  # imports all that the command needs, while that may be read
    capsys.readouterr()
    place.chmod(0o555)
    with unprivileged():
        code = main([*command, str(place)])
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert said[-1].endswith(f"{place}: cannot be written: {os.strerror(errno.EACCES)}")
    assert not [line for line in said if "Traceback" in line]


SCRIPT = """
import subprocess, sys
from pathlib import Path
from pyimplicit.data import prepare_set
from pyimplicit.engines import LocalEngine
from pyimplicit.errors import DataError
from tests.data.test_preparing_readonly import CARS
from tests.data.test_preparing import SMALL

def close(path):
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)

if __name__ == "__main__":
    out, part = Path(sys.argv[1]), sys.argv[2]
    def progress(done, total):
        if done == 2 and part != "all":
            close(out / part)
    if part == "all":
        out.mkdir()
        close(out)
    try:
        prepare_set(CARS, out, SMALL, engine=LocalEngine(1), progress=progress)
    except DataError as error:
        print(error)
"""


@pytest.mark.parametrize("part", ["all", "pending", "shards"])
def test_a_read_only_file_system(tmp_path: Path, expected: str, part: str) -> None:
    """Root too is refused by a mount that is read-only; it is visible to the process that does the work alone."""
    inside = ["unshare", "--user", "--map-root-user", "--mount"]
    check = [*inside, "mount", "--bind", str(tmp_path), str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(check, capture_output=True, check=False).returncode:
        pytest.skip("this system lets the tests mount nothing, not even in a namespace of their own")
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "set"
    command = [*inside, sys.executable, str(tmp_path / "script.py"), str(out), part]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(f"{out}: cannot be written: .*{os.strerror(errno.EROFS)}.*", done.stdout.strip())
    assert prepare_set(CARS, out, SMALL, engine=LocalEngine(0)).content == expected
    StoredSet(out).verify()
