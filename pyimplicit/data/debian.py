"""Fetching the sets of real meshes: Debian packages, downloaded by apt-get or at hand, and what is wanted of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from pyimplicit.data.debian_sets import MANIFEST, DebianMesh, DebianSet, read_manifest, read_set
from pyimplicit.data.sources import data_root, hash_file
from pyimplicit.errors import DataError

Progress = Callable[[int, int], None]

MAX_MESH_BYTES = 256 * 2**20
"""Largest mesh that is taken out of an archive; the largest of the sets has 17 MB."""


def fetch(
    name: str,
    root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    packages: str | os.PathLike[str] | None = None,
) -> Path:
    """Download a set of real meshes, once.

    The packages (torcs-data: 333 MB, flightgear-data-ai: 287 MB, flightgear-data-models: 144 MB, trigger-rally-data:
    119 MB) come by apt-get, from the archive and with the signatures that the system is set up for. What is kept is the
    set's meshes, each package's copyright file as LICENCE-PACKAGE, and a manifest with the origin, licence and SHA-256
    of every mesh. The folder appears when it is complete; one whose files match its manifest is left as it is. Sets
    that another one includes are fetched too, each into its own folder.

    The meshes are under the GPL or the Free Art License, as the manifest says: pass them on only under these terms.

    Args:
        name: One of `DEBIAN_SETS`.
        root: The data folder; default as `data_root`.
        progress: Called as `progress(done, total)`, in bytes of the download.
        verify: Refuse a package whose meshes are not those that the figures of this project were made with.
        packages: A folder of packages that were downloaded before; what is there is not downloaded.

    Returns:
        The set's folder.

    Raises:
        ValueError: An unknown name.
        DataError: apt-get or dpkg-deb is missing, a download fails, or a package does not hold what is expected.

    Example:
        >>> fetch("fast-cars")
        Traceback (most recent call last):
        ValueError: name: expected one of debian-cars, debian-vehicles, debian-aircraft, debian-ships, got 'fast-cars'
    """
    whole = read_set(name)
    parts = [read_set(part) for part in (*whole.includes, name)]
    missing = [part for part in parts if not _is_complete(data_root(root) / part.name, part)]
    store = Path(packages) if packages is not None else None
    if missing:
        _check_tool("dpkg-deb")
    # From the second package on, a bar that starts again would tell nothing: all downloads count together.
    wanted = [package for part in missing for package in part.packages]
    sizes = {package: _archive_size(package) if progress is not None else 0 for package in wanted}
    total = sum(sizes.values())
    done = 0

    def report(more: int) -> None:
        if progress is not None and total:
            progress(done + more, total)

    for part in missing:
        folder = data_root(root) / part.name
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{part.name}-", dir=folder.parent) as scratch:
                found: dict[str, Path] = {}
                for package in part.packages:
                    found[package] = _find_package(package, store) or _download(
                        package, Path(scratch), sizes[package], report
                    )
                    done += sizes[package]
                    report(0)
                ready = unpack_set(part, found, Path(scratch) / part.name, verify)
                if folder.exists():  # damaged, or of an earlier table
                    folder.rename(Path(scratch) / "damaged")
                ready.rename(folder)
        except OSError as error:
            raise DataError(f"fetch {name}: {error}") from error
    return data_root(root) / name


def unpack_set(described: DebianSet, packages: Mapping[str, Path], folder: Path, verify: bool = True) -> Path:
    """Take the meshes of a set out of Debian packages that are on disk already.

    Args:
        described: Which meshes.
        packages: The .deb file of each package of the set.
        folder: Where the meshes, licences and the manifest go; must not exist.
        verify: As `fetch`.

    Returns:
        `folder`.

    Raises:
        DataError: Not a Debian package, or one that does not hold what is expected.
    """
    (folder / "meshes").mkdir(parents=True)
    found: dict[str, str] = {}
    for package in described.packages:
        own = [mesh for mesh in described.meshes if mesh.package == package]
        found |= _unpack(packages[package], package, own, folder)
    missing = [mesh.name for mesh in described.meshes if mesh.name not in found]
    if missing:
        raise DataError(f"{', '.join(described.packages)}: without the meshes of {', '.join(missing)}")
    wrong = [mesh.name for mesh in described.meshes if found[mesh.name] != mesh.sha256]
    if wrong and verify:
        raise DataError(
            f"{', '.join(described.packages)}: the meshes of {', '.join(wrong)} are not the expected ones "
            "(verify=False takes them)"
        )
    manifest = {
        "set": described.name,
        "packages": {
            package: {"file": packages[package].name, "sha256": hash_file(packages[package])}
            for package in described.packages
        },
        "files": [
            {
                "name": mesh.name, "path": mesh.path, "bytes": (folder / mesh.path).stat().st_size,
                "sha256": found[mesh.name], "licence": mesh.licence, "package": mesh.package,
                "origin": f"{mesh.file}/{mesh.member}".rstrip("/"),
            }
            for mesh in described.meshes
        ],
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return folder


def _unpack(path: Path, package: str, meshes: list[DebianMesh], folder: Path) -> dict[str, str]:
    """Write the wanted meshes of one package and its licence; return the SHA-256 of each mesh that is there."""
    wanted: dict[str, list[DebianMesh]] = {}
    for mesh in meshes:
        wanted.setdefault(mesh.file, []).append(mesh)
    found: dict[str, str] = {}
    licensed = False
    unpacker = ["dpkg-deb", "--fsys-tarfile", str(path)]
    with subprocess.Popen(unpacker, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None  # asked for above
        assert process.stderr is not None
        try:
            # Members are read one by one; none is extracted by the name that the archive gives it.
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    place = member.name.removeprefix("./")
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is None:
                        continue
                    if place == f"usr/share/doc/{package}/copyright":
                        (folder / f"LICENCE-{package}").write_bytes(content.read(MAX_MESH_BYTES))
                        licensed = True
                    elif place in wanted:
                        found |= _keep(content, wanted[place], folder)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
            reason = process.stderr.read().decode(errors="replace").strip() or str(error)
            raise DataError(f"{path.name}: not a readable Debian package: {reason}") from error
        finally:
            process.stdout.close()
    if not licensed:
        raise DataError(f"{path.name}: expected the copyright file of {package}")
    return found


def _keep(content: IO[bytes], meshes: list[DebianMesh], folder: Path) -> dict[str, str]:
    """Write the meshes that one file of a package is, or holds, and return their SHA-256."""
    found = {}
    with tempfile.TemporaryFile() as copy:
        if meshes[0].member:  # a zip archive is read from its end
            shutil.copyfileobj(content, copy)
        for mesh in meshes:
            if not mesh.member:
                data = content.read(MAX_MESH_BYTES + 1)
            else:
                with zipfile.ZipFile(copy) as archive:
                    if mesh.member not in archive.namelist():
                        continue
                    with archive.open(mesh.member) as stream:
                        data = stream.read(MAX_MESH_BYTES + 1)
            if len(data) > MAX_MESH_BYTES:
                raise DataError(f"{mesh.file}: {mesh.name} is too large: at most {MAX_MESH_BYTES:,} bytes")
            (folder / mesh.path).write_bytes(data)
            found[mesh.name] = hashlib.sha256(data).hexdigest()
    return found


def _is_complete(folder: Path, described: DebianSet) -> bool:
    """Whether every mesh of a set is there, as the manifest has it."""
    try:
        files = read_manifest(folder)
        return files is not None and all(
            mesh.name in files and hash_file(folder / files[mesh.name]["path"]) == files[mesh.name]["sha256"]
            for mesh in described.meshes
        )
    except (DataError, OSError):
        return False


def _check_tool(tool: str) -> None:
    if shutil.which(tool) is None:
        raise DataError(f"{tool} not found: this needs a Debian or Ubuntu system")


def _find_package(package: str, store: Path | None) -> Path | None:
    """Return the only file of a package in a folder, or None if there is none.

    Raises:
        DataError: There are several versions.
    """
    found = sorted(store.glob(f"{package}_*.deb")) if store is not None else []
    if len(found) > 1:
        raise DataError(f"{store}: several versions of {package}: {found[0].name}, {found[1].name}")
    return found[0] if found else None


def _archive_size(package: str) -> int:
    """Return the size of a package in bytes, or 0 if apt does not say."""
    command = ["apt-get", "download", "--print-uris", package]
    if shutil.which(command[0]) is None:
        return 0
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
    words = said.split()  # address, file name, size, checksum
    return int(words[2]) if len(words) > 2 and words[2].isdecimal() else 0


def _download(package: str, folder: Path, size: int, report: Callable[[int], None]) -> Path:
    """Run apt-get download in `folder` and return the package."""
    _check_tool("apt-get")
    with open(folder / "log", "w+b") as log:
        # The folder is the user's: apt's own sandbox user could not write there.
        command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package]
        with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            while process.poll() is None:
                time.sleep(0.1)
                # The file changes its name at the end; one that has just gone counts as nothing.
                found = [entry.stat().st_size for entry in os.scandir(folder) if entry.name.startswith(f"{package}_")]
                report(min(sum(found), size))
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    packages = list(folder.glob(f"{package}_*.deb"))
    if process.returncode or len(packages) != 1:
        reason = " ".join(line for line in said if line.startswith("E:")) or " ".join(said[-1:]) or "no reason given"
        raise DataError(f"apt-get download {package} failed: {reason} (offline, or `apt-get update` is needed?)")
    return packages[0]
