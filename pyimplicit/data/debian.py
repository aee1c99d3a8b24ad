"""Real car meshes of the racing game TORCS, from the Debian package that carries them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyimplicit.data.sources import check_index, data_root, hash_file
from pyimplicit.errors import DataError
from pyimplicit.geometry.files import load_mesh
from pyimplicit.geometry.mesh import Mesh

Progress = Callable[[int, int], None]

PACKAGE = "torcs-data"
FOLDER = "debian-cars"
MANIFEST = "manifest.json"

CAR_FILES = {
    "155-DTM": "9001cbb4cf721112c8f8e709ef5c5677eaeacde7b8d60beb081f6dad80a001ef",
    "acura-nsx-sz": "c87d28bdeb683eee361e2047c96f6e4c098040084b155463d4cc3c6adf9234b2",
    "baja-bug": "13cbdfe858bd96c9982167fc8a362beebce2e182a8f9508c36f486a6906c57a0",
    "buggy": "6db501773e7935687bfed064f97ba4277802a6dba5da6a6536aedeb9ce27bc84",
    "car1-ow1": "4344b1c2ab7505868c1f1c96feb61c647cfcd715235c01c51e7ad23d0b0f6087",
    "car1-stock1": "396a75fdc1fbd943839ab06dcf97e7dd7df68722b4ab6e1b03500acacc65f259",
    "car1-stock2": "627df197e43795dafd3dd80e32cb84734157e5bbc0dbf5eb0de788ef15b5ef1d",
    "car1-trb1": "c88df382eaf78a95f23b31ee5fc6f5a144c59a16591eeaafba0b39f25212b262",
    "car1-trb3": "c490a910aa8eebe2ecd0674d90b51ec696e48d6394dcb46e237cfe2a8ddf5bb2",
    "car2-trb1": "ae92ff856456f13efa3d55831e188fc0434e0cb556402e91e05fba495388e614",
    "car3-trb1": "942fb06f7125890b374ce8aae314407c9276d44d1babc82f062b8d727396dbfb",
    "car4-trb1": "f5f285b874d7132bbf48cef90b9b4fd5ab08f7dce4470075a703e13811200479",
    "car5-trb1": "c40745f56e50dbaf4c45153351515bbf47c699b628fcd12287c6a31eaafc8411",
    "car6-trb1": "6b82c6d9d4af11dd3cf23f460ed9714a9465accc3248ae4604196f1cdd483e57",
    "car7-trb1": "d968227bd31c663ce61e7ad7198ff775880c341e7b0984a951ce2b47fefbe32c",
    "car8-trb1": "646d0f78519ee6d0f9202565c209170c8ca4745ef917f1d02b64735230c4ceaa",
    "p406": "c6e39cf0cd2e404406cbe3027d236e67ea951dd96e8ed5b5f785d880fa45f99b",
}
"""SHA-256 of each car's main mesh in the package's upstream version 1.3.7."""

TEST_CARS = ("acura-nsx-sz", "baja-bug", "car5-trb1", "p406")
"""Cars kept for testing; the others are for training. Chosen for their variety: coupe, beetle, race car, saloon."""

_CAR_FILE = re.compile(r"(?:\./)?usr/share/games/torcs/cars/([\w-]+)/([\w-]+\.acc)")
_LICENCE_FILE = re.compile(rf"(?:\./)?usr/share/doc/{PACKAGE}/copyright")


class DebianCars:
    """Seventeen car bodies made by players of TORCS, as `fetch("debian-cars")` stored them.

    The meshes are raw: open, without wheels, of many parts. They are turned so that the front is towards -x; y is up,
    lengths are metres.

    Args:
        root: The data folder; default as `data_root`.
        lods: Also list the coarser versions that some cars have. They share their car's group.

    Raises:
        DataError: The meshes were not fetched, or the manifest is damaged.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, lods: bool = False) -> None:
        self.path = data_root(root) / FOLDER
        manifest = _read_manifest(self.path)
        if manifest is None:
            raise DataError(f"{self.path}: no {FOLDER} here; run `pyimplicit data fetch {FOLDER}` first")
        self._files = [file for file in manifest["files"] if lods or file["name"] == file["car"]]

    @property
    def name(self) -> str:
        """The source's name."""
        return FOLDER

    def __len__(self) -> int:
        return len(self._files)

    def names(self) -> list[str]:
        """Return the file name of each mesh, without its suffix."""
        return [file["name"] for file in self._files]

    def groups(self) -> list[str]:
        """Return the car that each mesh shows."""
        return [file["car"] for file in self._files]

    def load(self, index: int) -> Mesh:
        """Read one mesh, turned by half a turn about y; errors as `load_mesh`."""
        file = self._files[check_index(index, len(self))]
        mesh = load_mesh(self.path / file["path"])
        return Mesh(mesh.vertices * mesh.vertices.new_tensor([-1.0, 1.0, -1.0]), mesh.faces)

    def fingerprint(self, index: int) -> str:
        """Return the SHA-256 that the manifest holds for one mesh."""
        return f"{FOLDER}/{self._files[check_index(index, len(self))]['sha256']}"


def fetch(
    name: str,
    root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    verify: bool = True,
) -> Path:
    """Download a data set, once.

    "debian-cars" downloads the package torcs-data (333 MB) with apt-get, from the archive and with the signatures that
    the system is set up for, and keeps the car meshes (11 MB), the package's copyright file as LICENCE, and a manifest
    with the origin, licence and SHA-256 of every mesh. The folder appears when it is complete. A folder whose files
    match its manifest is left as it is.

    The meshes are under the Free Art License or the GPL, as LICENCE says: pass them on only under these terms.

    Args:
        name: "debian-cars".
        root: The data folder; default as `data_root`.
        progress: Called as `progress(done, total)`, in bytes of the download.
        verify: Refuse a package whose car meshes are not those that the figures of this project were made with.

    Returns:
        The data set's folder.

    Raises:
        ValueError: An unknown name.
        DataError: apt-get or dpkg-deb is missing, the download fails, or the package does not hold what is expected.

    Example:
        >>> fetch("fast-cars")
        Traceback (most recent call last):
        ValueError: name: expected debian-cars, got 'fast-cars'
    """
    if name != FOLDER:
        raise ValueError(f"name: expected {FOLDER}, got {name!r}")
    folder = data_root(root) / FOLDER
    if _is_complete(folder):
        return folder
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise DataError(f"fetch {name}: {tool} not found; it needs a Debian or Ubuntu system")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{FOLDER}-", dir=folder.parent) as scratch:
            package = _download(Path(scratch), progress)
            ready = unpack_cars(package, Path(scratch) / FOLDER, verify)
            if folder.exists():  # damaged, or it would have been returned above
                folder.rename(Path(scratch) / "damaged")
            ready.rename(folder)
    except OSError as error:
        raise DataError(f"fetch {name}: {error}") from error
    return folder


def unpack_cars(package: Path, folder: Path, verify: bool = True) -> Path:
    """Take the car meshes out of a Debian package that is on disk already.

    Args:
        package: The .deb file.
        folder: Where the meshes, LICENCE and the manifest go; must not exist.
        verify: As `fetch`.

    Returns:
        `folder`.

    Raises:
        DataError: Not a Debian package, or one that does not hold what is expected.
    """
    folder.mkdir(parents=True)
    licence: bytes | None = None
    files: list[dict[str, Any]] = []
    unpacker = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(unpacker, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None  # asked for above
        assert process.stderr is not None
        try:
            # Members are read one by one; none is extracted by the name that the archive gives it.
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is None:
                        continue
                    if _LICENCE_FILE.fullmatch(member.name):
                        licence = content.read()
                    elif found := _CAR_FILE.fullmatch(member.name):
                        files.append(_keep(folder, found[1], found[2], content.read()))
        except tarfile.TarError as error:
            reason = process.stderr.read().decode(errors="replace").strip() or str(error)
            raise DataError(f"{package.name}: not a readable Debian package: {reason}") from error
        finally:
            process.stdout.close()
    if not files or licence is None:
        raise DataError(f"{package.name}: expected car meshes and a copyright file, got {len(files)} meshes")
    text = licence.decode("utf-8", errors="replace")
    for file in files:
        named = f"data/cars/models/{file['car']}/*" in text
        file["licence"] = "Free-Art-License" if named else "GPL-2+"
    if verify:
        _verify(files)
    (folder / "LICENCE").write_bytes(licence)
    manifest = {
        "source": f"Debian package {PACKAGE}",
        "package": package.name,
        "package_sha256": hash_file(package),
        "files": sorted(files, key=lambda file: str(file["name"])),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return folder


def _keep(folder: Path, car: str, file_name: str, content: bytes) -> dict[str, Any]:
    """Write one mesh and return its line of the manifest."""
    path = folder / "meshes" / car / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {
        "name": path.stem,
        "car": car,
        "path": path.relative_to(folder).as_posix(),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _verify(files: list[dict[str, Any]]) -> None:
    """Refuse main meshes that are missing, unknown or changed."""
    found = {file["name"]: file["sha256"] for file in files if file["name"] == file["car"]}
    wrong = sorted(car for car in CAR_FILES.keys() | found.keys() if CAR_FILES.get(car) != found.get(car))
    if wrong:
        raise DataError(
            f"{PACKAGE}: the meshes of {', '.join(wrong)} are not the expected ones (verify=False takes them)"
        )


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a data set, or None where there is none.

    Raises:
        DataError: The manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(file[key], str) for file in manifest["files"] for key in ("name", "car", "path", "sha256")):
            return dict(manifest)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a readable manifest: {error}") from error
    raise DataError(f"{path}: not a readable manifest")


def _is_complete(folder: Path) -> bool:
    """Whether every file of the manifest is there and unchanged."""
    try:
        manifest = _read_manifest(folder)
        files = manifest["files"] if manifest is not None else []
        return bool(files) and all(hash_file(folder / file["path"]) == file["sha256"] for file in files)
    except (DataError, OSError):
        return False


def _archive_size() -> int:
    """Return the size of the package in bytes, or 0 if apt does not say."""
    command = ["apt-get", "download", "--print-uris", PACKAGE]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
    words = said.split()  # address, file name, size, checksum
    return int(words[2]) if len(words) > 2 and words[2].isdecimal() else 0


def _download(folder: Path, progress: Progress | None) -> Path:
    """Run apt-get download in `folder` and return the package."""
    size = _archive_size()
    with open(folder / "log", "w+b") as log:
        # The folder is the user's: apt's own sandbox user could not write there.
        command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", PACKAGE]
        with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            while process.poll() is None:
                time.sleep(0.1)
                if progress is not None and size:
                    # The file changes its name at the end; one that has just gone counts as nothing.
                    found = [entry.stat().st_size for entry in os.scandir(folder) if ".deb" in entry.name]
                    progress(min(sum(found), size), size)
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    packages = list(folder.glob("*.deb"))
    if process.returncode or len(packages) != 1:
        reason = " ".join(line for line in said if line.startswith("E:")) or " ".join(said[-1:]) or "no reason given"
        raise DataError(f"apt-get download {PACKAGE} failed: {reason} (offline, or `apt-get update` is needed?)")
    if progress is not None and size:
        progress(size, size)
    return packages[0]
