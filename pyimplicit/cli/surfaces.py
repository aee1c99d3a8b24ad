"""The command `reconstruct`: files, or folders of them, to surfaces with a trained network."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pyimplicit.atomic import write_atomically
from pyimplicit.cli.parser import UsageError
from pyimplicit.cli.terminal import bar, note
from pyimplicit.errors import ExtractionError, PyImplicitError
from pyimplicit.geometry.clouds import CLOUD_SUFFIXES, save_cloud
from pyimplicit.geometry.files import READABLE, WRITABLE, save_mesh
from pyimplicit.geometry.mesh import Mesh
from pyimplicit.training import CodeSearch, TrainResult, load_trained, reconstruct_file

#: File in a folder of reconstructions that says what they were made with.
SETTINGS_FILE = "reconstruct.json"

# Settings that reconstructions depend on.
_SETTINGS = ("form", "resolution", "method", "refine", "count", "mask", "normalize", "code_steps", "noise", "seed")


def reconstruct(arguments: Namespace) -> int:
    """Reconstruct every input that is not done; a broken one is reported and left out.

    Returns:
        0, or 1 where an input could not be reconstructed.
    """
    out = Path(arguments.out)
    sources = _sources(arguments.inputs)
    single = bool(out.suffix)
    if single and (len(sources) > 1 or Path(arguments.inputs[0]).is_dir()):
        raise UsageError(f"argument --out: expected a folder for {len(sources)} inputs, got {out}")
    suffix = out.suffix if single else arguments.suffix or ".ply"
    form = _form(arguments.form, suffix)
    trained = load_trained(arguments.run, device=arguments.device)
    if form == "auto" and trained.kind.name == "udf" and suffix.lower() not in CLOUD_SUFFIXES:
        raise UsageError(f"argument --out: a cloud goes into {', '.join(CLOUD_SUFFIXES)}, got {suffix}")
    targets = {name: out if single else out / f"{name}{suffix}" for name in sources}
    if not single:
        _settle(out, {**{name: getattr(arguments, name) for name in _SETTINGS}, "network": _fingerprint(trained)})
    failed = done = 0
    with bar("reconstructing") as progress:
        for index, (name, target) in enumerate(targets.items()):
            if not single and target.exists():
                done += 1
            else:
                failed += not _one(
                    arguments, trained, form, sources[name], target, _share(progress, index, len(targets))
                )
            progress(index + 1, len(targets))
    if done:
        note(f"{done} of {len(targets)} were there already")
    if failed:
        note(f"{failed} of {len(targets)} inputs without a reconstruction")
    return 1 if failed else 0


def _one(
    arguments: Namespace,
    trained: TrainResult,
    form: str,
    source: Path,
    target: Path,
    progress: Callable[[int, int], None],
) -> bool:
    """Reconstruct one input; say whether that went well."""
    try:
        found = reconstruct_file(
            trained,
            source,
            form=form,
            resolution=arguments.resolution,
            method=arguments.method,
            refine=arguments.refine,
            count=arguments.count,
            mask_distance=arguments.mask,
            normalize=arguments.normalize,
            search=CodeSearch(steps=arguments.code_steps),
            cloud_noise=arguments.noise,
            seed=arguments.seed,
            progress=progress,
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(found.surface, Mesh):
            save_mesh(found.surface, target)
            size = f"{len(found.surface.faces)} faces"
        else:
            save_cloud(found.surface, target)
            size = f"{len(found.surface)} points"
    except PyImplicitError as error:
        if (
            len(arguments.inputs) == 1
            and source == Path(arguments.inputs[0])
            and not isinstance(error, ExtractionError)
        ):
            raise  # nothing else to do: the input is bad
        note(f"{source}: no reconstruction: {str(error).removeprefix(f'{source}: ')}")
        return False
    asked = f", network asked at {100 * found.evaluated:.1f}% of the nodes" if found.evaluated else ""
    print(f"{target}: {size}{asked}")
    if found.note:
        note(f"{source}: {found.note}")
    return True


def _sources(inputs: Sequence[str]) -> dict[str, Path]:
    """Each input by the name of its reconstruction; the files of a folder by their paths below it."""
    found: dict[str, Path] = {}
    for path in map(Path, inputs):
        files = [(Path(path.stem), path)]
        if path.is_dir():
            known = {*READABLE, *CLOUD_SUFFIXES}
            files = [
                (file.relative_to(path).with_suffix(""), file)
                for file in sorted(path.rglob("*"))
                if file.suffix.lower() in known and file.is_file()
            ]
            if not files:
                raise UsageError(f"INPUT: expected meshes or clouds in {path}, got none")
        for name, file in files:
            if name.as_posix() in found:
                raise UsageError(
                    f"INPUT: expected files of different names, for their reconstructions share a folder; got "
                    f"{found[name.as_posix()]} and {file}"
                )
            found[name.as_posix()] = file
    return found


def _form(form: str, suffix: str) -> str:
    """Check a file's suffix against what is to go into it."""
    kinds = {"mesh": WRITABLE, "cloud": CLOUD_SUFFIXES, "auto": (*WRITABLE, *CLOUD_SUFFIXES)}
    if suffix.lower() not in kinds[form]:
        raise UsageError(f"argument --out: expected a file ending in {', '.join(kinds[form])}, got {suffix!r}")
    # .xyz and the arrays hold clouds only.
    return "cloud" if form == "auto" and suffix.lower() not in WRITABLE else form


def _settle(out: Path, settings: dict[str, object]) -> None:
    """Write what a folder's reconstructions are made with, or refuse a folder of others."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"argument --out: expected a folder, got the file {out}")
    out.mkdir(parents=True, exist_ok=True)
    content = json.dumps(settings, indent=1).encode()
    path = out / SETTINGS_FILE
    if path.exists() and path.read_bytes() != content:
        raise UsageError(f"argument --out: {out} holds reconstructions made with other settings, see {path}")
    write_atomically(path, content)


def _fingerprint(trained: TrainResult) -> str:
    """Of the network's weights: another training, or a longer one, is another network."""
    digest = hashlib.sha256()
    for name, value in sorted(trained.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _share(progress: Callable[[int, int], None], index: int, total: int) -> Callable[[int, int], None]:
    """Turn progress within one input into progress of all, in thousandths."""
    return lambda done, of: progress(1000 * index + 1000 * done // max(of, 1), 1000 * total)
