"""The sets of Debian packages, with small packages built here in place of the real ones: nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import zipfile

import pytest
import torch

from pyimplicit.data import DEBIAN_SETS, DebianMeshes, Source, Split, debian, debian_sets, fetch
from pyimplicit.data.debian import unpack_set
from pyimplicit.data.debian_sets import parse_set, place_mesh, read_set
from pyimplicit.errors import DataError
from pyimplicit.geometry import Mesh
from pyimplicit.geometry.mesh import inspect_mesh

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")

# A closed body with its nose at +x, as TORCS has it, and a sheet behind it.
FACES = ((0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2))
SURFACES = "numsurf 4\n" + "".join("SURF 0x0\nrefs 3\n" + "".join(f"{k} 0 0\n" for k in face) for face in FACES)
WEDGE = "AC3Db\nOBJECT poly\nnumvert 4\n{nose} 0 0\n-1 0 1\n-1 0 -1\n-1 1 0\n" + SURFACES + "kids 0\n"
WAKE = 'OBJECT poly\nname "Wake"\nnumvert 3\n-9 0 0\n-1 0 1\n-1 0 -1\nnumsurf 1\nSURF 0x0\nrefs 3\n'
WAKE += "0 0 0\n1 0 0\n2 0 0\nkids 0\n"
# The same in centimetres, with z up and its nose at +y, as Trigger Rally has it.
RALLY = "v 0 300 0\nv 100 -100 0\nv -100 -100 0\nv 0 -100 100\n"
RALLY += "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in FACES)

SWIFT, TANK, FERRY = WEDGE.format(nose=3), WEDGE.format(nose=4), WEDGE.format(nose=5) + WAKE
COPYRIGHT = "Files: data/cars/models/swift/*\nLicense: Free-Art-License\n"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


GAME = {
    "name": "debian-cars", "about": "two cars", "packages": {"game-data": {"licence": "FAL", "turn": "-x y -z"}},
    "shapes": [
        {"name": "swift", "group": "swift", "split": "train", "package": "game-data",
         "file": "usr/share/games/swift/swift.acc", "sha256": digest(SWIFT)},
        {"name": "tank", "group": "tank", "split": "test", "package": "game-data", "licence": "GPL-2+",
         "file": "usr/share/games/tank/tank.acc", "sha256": digest(TANK)},
    ],
}  # fmt: skip
MORE = {
    "name": "debian-vehicles", "about": "more", "includes": ["debian-cars"],
    "packages": {"ship-data": {"licence": "GPL-2+"}, "rally-data": {"licence": "GPL-2+", "turn": "-y z -x"}},
    "shapes": [
        {"name": "ferry", "group": "ferry", "split": "train", "package": "ship-data", "turn": "-x y -z",
         "leave_out": ["Wake"], "file": "usr/share/games/ferry.ac", "sha256": digest(FERRY)},
        {"name": "rally", "group": "rally", "split": "val", "package": "rally-data", "scale": 0.01,
         "file": "usr/share/games/data.zip", "member": "vehicles/rally.obj", "sha256": digest(RALLY)},
    ],
}  # fmt: skip


def build_package(tmp_path, name, files):
    """A package with files, given by their paths, and a copyright file."""
    tree = tmp_path / "trees" / name
    for place, content in {**files, f"usr/share/doc/{name}/copyright": COPYRIGHT}.items():
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).write_bytes(content if isinstance(content, bytes) else content.encode())
    (tree / "usr/share/games/link").symlink_to("/etc/hostname")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: no <no@example.org>\nDescription: meshes\n"
    )
    path = tmp_path / "debs" / f"{name}_1_all.deb"
    path.parent.mkdir(exist_ok=True)
    command = ["dpkg-deb", "-Zgzip", "--root-owner-group", "-b", str(tree), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def package(tmp_path):
    """A package with two cars and things that must be left in it."""
    cars = "usr/share/games"
    files = {f"{cars}/swift/swift.acc": SWIFT, f"{cars}/tank/tank.acc": TANK, f"{cars}/tank/oval.acc": SWIFT}
    return build_package(tmp_path, "game-data", {**files, f"{cars}/swift/swift.rgb": b"texture"})


@pytest.fixture
def packages(tmp_path, package):
    """The packages of both sets, in a folder."""
    build_package(tmp_path, "ship-data", {"usr/share/games/ferry.ac": FERRY})
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("vehicles/rally.obj", RALLY)
        archive.writestr("vehicles/wheel.obj", "v 0 0 0\n")
    build_package(tmp_path, "rally-data", {"usr/share/games/data.zip": (tmp_path / "data.zip").read_bytes()})
    return tmp_path / "debs"


@pytest.fixture
def known(monkeypatch):
    """Take the small tables for the real ones."""
    tables = {table["name"]: parse_set(table) for table in (GAME, MORE)}
    for module in (debian, debian_sets):
        monkeypatch.setattr(module, "read_set", tables.__getitem__)
    return tables


@pytest.fixture
def apt(tmp_path, package, monkeypatch):
    """Put an apt-get first on the path that hands out the small packages and counts its calls."""
    tools = tmp_path / "tools"
    tools.mkdir()
    size = package.stat().st_size
    script = f"""#!/bin/sh
for name; do :; done
case "$*" in
  *--print-uris*) echo "'somewhere' $name {size} SHA256:0" ;;
  *) echo called >> {tmp_path}/calls; test ! -e {tmp_path}/offline || {{ echo "E: Failed to fetch" >&2; exit 100; }}
     cp {tmp_path}/debs/${{name}}_* . ;;
esac
"""
    (tools / "apt-get").write_text(script)
    (tools / "apt-get").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tmp_path


def calls(folder) -> int:
    return (folder / "calls").read_text().count("called")


@needs_dpkg
def test_the_meshes_and_the_licence_are_unpacked_and_nothing_else(package, tmp_path):
    folder = unpack_set(parse_set(GAME), {"game-data": package}, tmp_path / "out")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == ["LICENCE-game-data", "manifest.json", "meshes/swift.acc", "meshes/tank.acc"]
    assert (folder / "LICENCE-game-data").read_text() == COPYRIGHT
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["packages"] == {
        "game-data": {"file": "game-data_1_all.deb", "sha256": hashlib.sha256(package.read_bytes()).hexdigest()}
    }
    assert [(file["licence"], file["origin"]) for file in manifest["files"]] == [
        ("FAL", "usr/share/games/swift/swift.acc"),
        ("GPL-2+", "usr/share/games/tank/tank.acc"),
    ]
    for file in manifest["files"]:
        content = (folder / file["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])


@needs_dpkg
def test_changed_and_missing_meshes_are_refused(package, tmp_path):
    changed = json.loads(json.dumps(GAME).replace(digest(TANK), "0" * 64))
    with pytest.raises(DataError, match="game-data: the meshes of tank are not the expected ones"):
        unpack_set(parse_set(changed), {"game-data": package}, tmp_path / "out")
    assert unpack_set(parse_set(changed), {"game-data": package}, tmp_path / "other", verify=False).is_dir()
    gone = json.loads(json.dumps(GAME).replace("tank.acc", "gone.acc"))
    with pytest.raises(DataError, match="game-data: without the meshes of tank"):
        unpack_set(parse_set(gone), {"game-data": package}, tmp_path / "third", verify=False)


@needs_dpkg
@pytest.mark.parametrize("content", [b"", b"not a package", b"!<arch>\ndebian-binary   "])
def test_what_is_no_package_is_refused(tmp_path, content):
    (tmp_path / "bad.deb").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.deb: not a readable Debian package"):
        unpack_set(parse_set(GAME), {"game-data": tmp_path / "bad.deb"}, tmp_path / "out")


@needs_dpkg
def test_a_truncated_package_is_refused(package, tmp_path):
    package.write_bytes(package.read_bytes()[:-400])
    with pytest.raises(DataError, match="game-data"):
        unpack_set(parse_set(GAME), {"game-data": package}, tmp_path / "out")


@needs_dpkg
@pytest.mark.parametrize("content", [b"no archive", "cut"])
def test_a_damaged_archive_in_a_package_is_refused(packages, tmp_path, content):
    whole = (tmp_path / "data.zip").read_bytes()
    shutil.rmtree(tmp_path / "trees")
    build_package(tmp_path, "rally-data", {"usr/share/games/data.zip": whole[:-20] if content == "cut" else content})
    files = {name: packages / f"{name}_1_all.deb" for name in ("ship-data", "rally-data")}
    with pytest.raises(DataError, match=r"rally-data_1_all\.deb: not a readable"):
        unpack_set(parse_set(MORE), files, tmp_path / "out")


@needs_dpkg
def test_fetch_downloads_once_and_mends_what_was_damaged(apt, known):
    seen: list[tuple[int, int]] = []
    folder = fetch("debian-cars", root=apt / "data", progress=lambda done, total: seen.append((done, total)))
    assert folder == apt / "data" / "debian-cars"
    assert seen[-1][0] == seen[-1][1] > 0
    assert all(done <= total for done, total in seen)
    assert os.listdir(apt / "data") == ["debian-cars"]  # nothing temporary is left
    fetch("debian-cars", root=apt / "data")
    assert calls(apt) == 1
    (folder / "meshes/tank.acc").write_text("damaged")
    fetch("debian-cars", root=apt / "data")
    assert calls(apt) == 2
    assert DebianMeshes("debian-cars", apt / "data").load(1).faces.shape == (4, 3)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="not a readable manifest"):
        DebianMeshes("debian-cars", apt / "data")
    fetch("debian-cars", root=apt / "data")
    assert len(DebianMeshes("debian-cars", apt / "data")) == 2


@needs_dpkg
def test_a_folder_of_an_earlier_table_is_fetched_again(apt, known):
    folder = fetch("debian-cars", root=apt / "data")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"][1]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="not all of debian-cars is here; run `pyimplicit data fetch debian-cars`"):
        DebianMeshes("debian-cars", apt / "data")
    fetch("debian-cars", root=apt / "data")
    assert len(DebianMeshes("debian-cars", apt / "data")) == 2


@needs_dpkg
def test_a_set_that_includes_another_fetches_it_too(apt, packages, known):
    seen: list[tuple[int, int]] = []
    fetch("debian-cars", root=apt / "data")
    fetch("debian-vehicles", root=apt / "data", progress=lambda done, total: seen.append((done, total)))
    assert calls(apt) == 3  # the first package is not downloaded again
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert sorted(os.listdir(apt / "data")) == ["debian-cars", "debian-vehicles"]
    vehicles = DebianMeshes("debian-vehicles", apt / "data")
    assert vehicles.names() == ["swift", "tank", "ferry", "rally"]
    assert vehicles.splits() == ["train", "test", "train", "val"]
    assert isinstance(vehicles, Source)
    assert isinstance(vehicles, Split)
    for index, length in ((0, 3), (1, 4), (2, 5), (3, 3)):
        report = inspect_mesh(vehicles.load(index))
        low, high = report.bounds
        assert low == pytest.approx((-length, 0, -1), rel=1e-6)  # the nose points to -x
        assert high == pytest.approx((1, 1, 1), rel=1e-6)
        assert report.is_solid  # turned, not mirrored, and without its wake
    prints = [vehicles.fingerprint(index) for index in range(4)]
    assert len(set(prints)) == 4
    assert prints[0] == f"debian-cars/{digest(SWIFT)}"
    assert prints[2] == f'debian-vehicles/{digest(FERRY)}{{"turn": "-x y -z", "leave_out": ["Wake"]}}'


@needs_dpkg
def test_packages_at_hand_are_not_downloaded(apt, packages, known):
    (apt / "offline").touch()
    folder = fetch("debian-vehicles", root=apt / "data", packages=packages)
    assert sorted(path.name for path in folder.glob("LICENCE-*")) == ["LICENCE-rally-data", "LICENCE-ship-data"]
    assert not (apt / "calls").exists()
    shutil.copy(packages / "game-data_1_all.deb", packages / "game-data_2_all.deb")
    with pytest.raises(DataError, match="several versions of game-data: game-data_1_all"):
        fetch("debian-cars", root=apt / "other", packages=packages)


@needs_dpkg
def test_offline_leaves_nothing_behind(apt, known):
    (apt / "offline").touch()
    with pytest.raises(DataError, match=r"apt-get download game-data failed: E: Failed to fetch .*offline"):
        fetch("debian-cars", root=apt / "data")
    assert os.listdir(apt / "data") == []


def test_without_the_tools_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="dpkg-deb not found"):
        fetch("debian-cars", root=tmp_path / "data")
    (tmp_path / "dpkg-deb").write_text("#!/bin/sh\n")
    (tmp_path / "dpkg-deb").chmod(stat.S_IRWXU)
    with pytest.raises(DataError, match="apt-get not found"):
        fetch("debian-cars", root=tmp_path / "data", progress=lambda done, total: None)
    with pytest.raises(ValueError, match=r"name: expected one of debian-cars, .*, got 'cars'"):
        fetch("cars")


def test_meshes_that_were_not_fetched(tmp_path):
    for name in DEBIAN_SETS:
        with pytest.raises(DataError, match=f"pyimplicit data fetch {name}"):
            DebianMeshes(name, tmp_path)


@pytest.mark.parametrize("turn", ["x y", "x y y", "x y w", "-x y z", "y x z", ""])
def test_only_rotations_place_a_mesh(turn):
    mesh = Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="turn: "):
        place_mesh(mesh, turn)


@pytest.mark.parametrize("name", DEBIAN_SETS)
def test_the_tables_are_sound(name):
    found = read_set(name)
    assert found.name == name
    everything = [mesh for part in (*found.includes, name) for mesh in read_set(part).meshes]
    assert len({mesh.name for mesh in everything}) == len({mesh.sha256 for mesh in everything}) == len(everything)
    assert len({mesh.path.lower() for mesh in found.meshes}) == len(found.meshes)  # on any file system
    triangle = Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]))
    for mesh in found.meshes:
        assert re.fullmatch(r"[\w.-]+", mesh.name)
        assert re.fullmatch(r"[0-9a-f]{64}", mesh.sha256)
        assert mesh.licence in ("GPL-2+", "Free-Art-License")
        assert mesh.split in ("train", "val", "test")
        assert mesh.package in found.packages
        place_mesh(triangle, mesh.turn, mesh.scale)
    assert re.match(rf"{len(everything)} ", found.about)


@pytest.mark.parametrize("name", DEBIAN_SETS)
def test_no_group_is_parted_and_the_splits_follow_their_rule(name):
    meshes = read_set(name).meshes
    groups = {mesh.group: mesh.split for mesh in meshes}
    assert all(groups[mesh.group] == mesh.split for mesh in meshes)
    if name == "debian-cars":  # chosen for their variety: coupe, beetle, race car, saloon
        assert [mesh.name for mesh in meshes if mesh.split == "test"] == [
            "acura-nsx-sz",
            "baja-bug",
            "car5-trb1",
            "p406",
        ]
        assert (len(meshes), {mesh.split for mesh in meshes}) == (17, {"train", "test"})
        return
    # The groups in the order of their hashes fill the test set, then the validation set, as far as they fit.
    left = {split: sum(mesh.split == split for mesh in meshes) for split in ("test", "val")}
    for group in sorted(groups, key=lambda group: digest(f"{name}/{group}")):
        size = sum(mesh.group == group for mesh in meshes)
        split = next((split for split, room in left.items() if room >= size), "train")
        assert groups[group] == split
        if split in left:
            left[split] -= size
