"""The Debian cars, with a small package built here in place of the real one: nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess

import numpy as np
import pytest

from pyimplicit.data import TEST_CARS, DebianCars, debian, fetch
from pyimplicit.data.debian import CAR_FILES, unpack_cars
from pyimplicit.errors import DataError
from pyimplicit.geometry.mesh import inspect_mesh

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")

# A closed body with its nose at +x, as the game has it.
WEDGE = "AC3Db\nOBJECT poly\nnumvert 4\n{nose} 0 0\n-1 0 1\n-1 0 -1\n-1 1 0\nnumsurf 4\n"
for corners in ((0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2)):
    WEDGE += "SURF 0x0\nrefs 3\n" + "".join(f"{corner} 0 0\n" for corner in corners)
WEDGE += "kids 0\n"
COPYRIGHT = "Files: data/cars/models/swift/*\nLicense: Free-Art-License\n"


@pytest.fixture
def package(tmp_path):
    """A package with two cars, one with a coarser version, and things that must be left in it."""
    tree = tmp_path / "tree"
    cars = tree / "usr/share/games/torcs/cars"
    for name, nose in (("swift/swift.acc", 3), ("swift/swift-lod1.acc", 2), ("tank/tank.acc", 4)):
        (cars / name).parent.mkdir(parents=True, exist_ok=True)
        (cars / name).write_text(WEDGE.format(nose=nose))
    (cars / "swift/swift.rgb").write_bytes(b"texture")
    (cars / "link").mkdir()
    (cars / "link/link.acc").symlink_to("/etc/hostname")
    (tree / "usr/share/games/torcs/tracks").mkdir()
    (tree / "usr/share/games/torcs/tracks/oval.acc").write_text(WEDGE)
    (tree / "usr/share/doc/torcs-data").mkdir(parents=True)
    (tree / "usr/share/doc/torcs-data/copyright").write_text(COPYRIGHT)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: torcs-data\nVersion: 1\nArchitecture: all\nMaintainer: no <no@example.org>\nDescription: cars\n"
    )
    path = tmp_path / "torcs-data_1_all.deb"
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "--root-owner-group", "-b", str(tree), str(path)], check=True, capture_output=True
    )
    return path


@pytest.fixture
def known(monkeypatch):
    """Take the small package's meshes for the expected ones."""
    digests = {
        name: hashlib.sha256(WEDGE.format(nose=nose).encode()).hexdigest() for name, nose in (("swift", 3), ("tank", 4))
    }
    monkeypatch.setattr(debian, "CAR_FILES", digests)


@pytest.fixture
def apt(tmp_path, package, monkeypatch):
    """Put an apt-get first on the path that hands out the small package and counts its calls."""
    tools = tmp_path / "tools"
    tools.mkdir()
    size = package.stat().st_size
    script = f"""#!/bin/sh
case "$*" in
  *--print-uris*) echo "'somewhere' {package.name} {size} SHA256:0" ;;
  *) echo called >> {tmp_path}/calls; test ! -e {tmp_path}/offline || {{ echo "E: Failed to fetch" >&2; exit 100; }}
     cp {package} . ;;
esac
"""
    (tools / "apt-get").write_text(script)
    (tools / "apt-get").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tmp_path


@needs_dpkg
def test_the_cars_and_the_licence_are_unpacked_and_nothing_else(package, tmp_path, known):
    folder = unpack_cars(package, tmp_path / "out")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == [
        "LICENCE",
        "manifest.json",
        "meshes/swift/swift-lod1.acc",
        "meshes/swift/swift.acc",
        "meshes/tank/tank.acc",
    ]
    assert (folder / "LICENCE").read_text() == COPYRIGHT
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [file["licence"] for file in manifest["files"]] == ["Free-Art-License", "Free-Art-License", "GPL-2+"]
    assert manifest["package"] == "torcs-data_1_all.deb"
    assert manifest["package_sha256"] == hashlib.sha256(package.read_bytes()).hexdigest()
    for file in manifest["files"]:
        content = (folder / file["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])


@needs_dpkg
def test_changed_meshes_are_refused_unless_asked_for(package, tmp_path, known):
    debian.CAR_FILES["tank"] = "0" * 64
    debian.CAR_FILES["gone"] = "0" * 64
    with pytest.raises(DataError, match="the meshes of gone, tank are not the expected ones"):
        unpack_cars(package, tmp_path / "out")
    assert unpack_cars(package, tmp_path / "other", verify=False).is_dir()


@needs_dpkg
@pytest.mark.parametrize("content", [b"", b"not a package", b"!<arch>\ndebian-binary   "])
def test_what_is_no_package_is_refused(tmp_path, content):
    (tmp_path / "bad.deb").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.deb: not a readable Debian package"):
        unpack_cars(tmp_path / "bad.deb", tmp_path / "out")


@needs_dpkg
def test_a_truncated_package_is_refused(package, tmp_path, known):
    package.write_bytes(package.read_bytes()[:-400])
    with pytest.raises(DataError, match="torcs-data_1_all"):
        unpack_cars(package, tmp_path / "out")


@needs_dpkg
def test_fetch_downloads_once_and_mends_what_was_damaged(apt, known):
    calls: list[tuple[int, int]] = []
    folder = fetch("debian-cars", root=apt / "data", progress=lambda done, total: calls.append((done, total)))
    assert folder == apt / "data" / "debian-cars"
    assert calls[-1][0] == calls[-1][1] > 0
    assert all(done <= total for done, total in calls)
    assert os.listdir(apt / "data") == ["debian-cars"]  # nothing temporary is left
    fetch("debian-cars", root=apt / "data")
    assert (apt / "calls").read_text().count("called") == 1
    (folder / "meshes/tank/tank.acc").write_text("damaged")
    fetch("debian-cars", root=apt / "data")
    assert (apt / "calls").read_text().count("called") == 2
    assert DebianCars(apt / "data").load(1).faces.shape == (4, 3)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="not a readable manifest"):
        DebianCars(apt / "data")
    fetch("debian-cars", root=apt / "data")
    assert len(DebianCars(apt / "data")) == 2


@needs_dpkg
def test_offline_leaves_nothing_behind(apt):
    (apt / "offline").touch()
    with pytest.raises(DataError, match=r"apt-get download torcs-data failed: E: Failed to fetch .*offline"):
        fetch("debian-cars", root=apt / "data")
    assert os.listdir(apt / "data") == []


def test_without_apt_get_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="apt-get not found"):
        fetch("debian-cars", root=tmp_path / "data")
    with pytest.raises(ValueError, match="name: expected debian-cars, got 'cars'"):
        fetch("cars")


@needs_dpkg
def test_the_source_lists_main_meshes_and_turns_the_front(apt, known):
    fetch("debian-cars", root=apt / "data")
    cars = DebianCars(apt / "data")
    assert (cars.name, cars.names(), cars.groups()) == ("debian-cars", ["swift", "tank"], ["swift", "tank"])
    everything = DebianCars(apt / "data", lods=True)
    assert everything.names() == ["swift", "swift-lod1", "tank"]
    assert everything.groups() == ["swift", "swift", "tank"]
    report = inspect_mesh(cars.load(0))
    assert report.bounds == ((-3, 0, -1), (1, 1, 1))  # the nose, at +3 in the file, points to -x
    assert report.is_solid  # turned, not mirrored
    assert cars.fingerprint(0) != cars.fingerprint(1)
    with pytest.raises(IndexError, match="index"):
        cars.load(2)


def test_cars_that_were_not_fetched(tmp_path):
    with pytest.raises(DataError, match="pyimplicit data fetch debian-cars"):
        DebianCars(tmp_path)


def test_the_split_is_of_known_cars():
    assert len(CAR_FILES) == 17
    assert set(TEST_CARS) < set(CAR_FILES)
    assert len(set(TEST_CARS)) == 4
    assert np.all([len(digest) == 64 for digest in CAR_FILES.values()])
