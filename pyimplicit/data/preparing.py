"""From a source to a stored set, on any number of workers."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyimplicit.atomic import write_atomically
from pyimplicit.checks import check_positive
from pyimplicit.data.prepare_shape import PrepareConfig, Preparer
from pyimplicit.data.samples import SampleSource, Split
from pyimplicit.data.sources import Source
from pyimplicit.data.store import (
    FORMAT,
    MANIFEST,
    PENDING,
    SETTINGS,
    SHARDS,
    Entry,
    Shard,
    content_hash,
    encode_entry,
    pending_path,
    read_json,
    read_pending,
    read_shard_list,
    remove_unfinished,
    reopen_shard,
    write_json,
    write_shard,
)
from pyimplicit.data.stored_set import StoredSet
from pyimplicit.engines import Engine, Job, LocalEngine, Outcome
from pyimplicit.errors import DataError
from pyimplicit.geometry.mesh import LONGEST_SIDE
from pyimplicit.info import versions
from pyimplicit.lock import FileLock

SECONDS = 600.0
"""Time limit of one shape: a mesh of a million faces takes minutes at a high resolution, a hang for ever."""

log = logging.getLogger(__name__)


def prepare_set(
    source: Source | SampleSource,
    out: str | os.PathLike[str],
    config: PrepareConfig | None = None,
    *,
    engine: Engine | None = None,
    seconds: float = SECONDS,
    threads: int | None = None,
    retry: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> StoredSet:
    """Prepare all shapes of a source into a stored set, or what is left of them.

    It may be killed at any moment and goes on where it was; a finished set is left as it is. What is stored does not
    depend on the engine, the number of workers or threads, or on interruptions. A shape that cannot be prepared, whose
    worker dies twice or that takes longer than `seconds` is left out, with the reason in the manifest and report.csv.

    Args:
        source: Meshes or samples.
        out: Folder of the set, made if missing. It serves this source and configuration only.
        config: What to make.
        engine: Where to do the work; one process of this machine by default.
        seconds: Time limit of one shape.
        threads: Threads of each worker; torch's default if None.
        retry: Try those again that were left out.
        progress: Called as `progress(done, total)`, in shapes.

    Returns:
        The set.

    Raises:
        DataError: Not one shape could be prepared, two names are alike, the folder holds another set, another process
            works in it, or it cannot be written.

    Example:
        >>> import tempfile
        >>> from pyimplicit.data import ProceduralCars
        >>> config = PrepareConfig(cloud=100, evaluation=100)
        >>> cars = ProceduralCars(2, resolution=24)
        >>> stored = prepare_set(cars, tempfile.mkdtemp(), config, engine=LocalEngine(0))
        >>> len(stored), stored[0].cloud.shape
        (2, torch.Size([100, 3]))
    """
    config = PrepareConfig() if config is None else config
    check_positive("seconds", seconds)
    entries = _list_entries(source)
    folder = Path(out)
    try:
        for part in (folder, folder / PENDING, folder / SHARDS):
            part.mkdir(parents=True, exist_ok=True)
        busy = f"{folder}: another process ({{pid}}) prepares this set"
        with FileLock(folder / "set.lock", busy=busy, error=DataError):
            _claim(folder, source, config, entries)
            work = _Work(folder, entries, config.shard_size)
            if retry:
                work.reopen()
            if not work.finished():
                remove_unfinished(folder)
                preparer = Preparer(source, config, threads)
                work.carry_out(engine or LocalEngine(1), preparer, seconds, progress)
                work.write_manifest(source.name, config)
            elif progress is not None:
                progress(len(entries), len(entries))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return StoredSet(folder)


class _Work:
    """The state of a folder that is being filled."""

    def __init__(self, folder: Path, entries: list[Entry], shard_size: int) -> None:
        self.folder = folder
        self.entries = entries
        self.size = shard_size
        self.shards = -(-len(entries) // shard_size)

    def indices(self, number: int) -> range:
        """Return the shapes of a shard."""
        return range(number * self.size, min((number + 1) * self.size, len(self.entries)))

    def finished(self) -> bool:
        """Whether the manifest is written and every shard is there."""
        if not (self.folder / MANIFEST).exists():
            return False
        return all(read_shard_list(self.folder, number) is not None for number in range(self.shards))

    def reopen(self) -> None:
        """Make those that were left out pending again, with the rest of their shards."""
        for number in range(self.shards):
            shard = read_shard_list(self.folder, number)
            if shard is not None and any(entry.skipped for entry in shard.entries):
                reopen_shard(self.folder, shard)
        for path in (self.folder / PENDING).glob("*.safetensors"):
            found = read_pending(path)
            if found is None or found[0].skipped:
                path.unlink()

    def carry_out(
        self, engine: Engine, preparer: Preparer, seconds: float, progress: Callable[[int, int], None] | None
    ) -> None:
        """Prepare what is missing, and make shards of what is complete."""
        missing = self._missing()
        done = len(self.entries) - sum(map(len, missing.values()))
        for number in [number for number, indices in missing.items() if not indices]:
            missing[number] = self._pack(number)
        while missing := {number: indices for number, indices in missing.items() if indices}:
            left = {number: len(indices) for number, indices in missing.items()}
            # Shard by shard, so that few are open at a time.
            jobs = (Job(f"{k:08d}", self.entries[k]) for k in itertools.chain.from_iterable(missing.values()))
            damaged: dict[int, list[int]] = {}
            outcomes = engine.outcomes(jobs, preparer, seconds=seconds)
            try:
                for outcome in outcomes:
                    self._keep(outcome)
                    done = min(done + 1, len(self.entries))
                    if progress is not None:
                        progress(done, len(self.entries))
                    number = outcome.job.payload.index // self.size
                    left[number] -= 1
                    if not left[number]:
                        damaged[number] = self._pack(number)
            finally:
                outcomes.close()
            missing = damaged

    def _pack(self, number: int) -> list[int]:
        """Make a shard whose shapes are all pending; returns those that are damaged and must be made again."""
        found = write_shard(self.folder, number, self.indices(number))
        return found if isinstance(found, list) else []

    def _missing(self) -> dict[int, list[int]]:
        """Return, for each shard that does not count yet, the shapes that are not pending."""
        pending = {int(path.stem) for path in (self.folder / PENDING).glob("*.safetensors") if path.stem.isdigit()}
        missing = {}
        for number in range(self.shards):
            indices = self.indices(number)
            if read_shard_list(self.folder, number) is None:
                missing[number] = [index for index in indices if index not in pending]
            else:  # killed between counting the shard and deleting these
                for index in pending.intersection(indices):
                    pending_path(self.folder, index).unlink()
        return missing

    def _keep(self, outcome: Outcome) -> None:
        """Put a worker's result, or the reason why there is none, on the disk."""
        entry: Entry = outcome.job.payload
        content = outcome.result
        if outcome.reason is not None:
            log.warning("%s left out: %s", entry.name, outcome.reason)
            content = encode_entry(replace(entry, skipped=outcome.reason), {})
        # Not flushed to the disk, which would cost more than a small shape: its hash is checked when it is read.
        write_atomically(pending_path(self.folder, entry.index), content, flush=False)

    def _all_shards(self) -> Iterator[Shard]:
        for number in range(self.shards):
            shard = read_shard_list(self.folder, number)
            if shard is None:
                raise DataError(f"{self.folder}: shard {number} vanished while the set was being prepared")
            yield shard

    def write_manifest(self, source: str, config: PrepareConfig) -> None:
        """Write report.csv and, last of all, the manifest."""
        shards: list[dict[str, Any]] = []
        skipped: list[list[Any]] = []
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["index", "name", "group", "split", "status", "seconds", "closed by", "faces before", "reason"])
        digest_entries: list[Entry] = []
        for shard in self._all_shards():
            stored = [entry for entry in shard.entries if entry.stored]
            skipped += [[entry.index, entry.name, entry.skipped] for entry in shard.entries if entry.skipped]
            columns = {f"{key}s" if key != "index" else "indices": [getattr(e, key) for e in stored] for key in
                       ("index", "name", "group", "split", "content")}  # fmt: skip
            shards.append({"file": shard.file, "bytes": shard.bytes, "sha256": shard.sha256, **columns})
            for entry in shard.entries:
                before = entry.report.get("before", {})
                writer.writerow([
                    entry.index, entry.name, entry.group, entry.split, "stored" if entry.stored else "left out",
                    entry.seconds, entry.report.get("method", ""), before.get("faces", ""), entry.skipped,
                ])  # fmt: skip
            digest_entries += [replace(entry, report={}) for entry in shard.entries]
        if len(skipped) == len(self.entries):
            raise DataError(f"{source}: no shape could be prepared; the first, {skipped[0][1]}: {skipped[0][2]}")
        write_atomically(self.folder / "report.csv", table.getvalue().encode())
        write_json(
            self.folder / MANIFEST,
            {
                "format": FORMAT,
                "source": source,
                "config": config.identity(),
                "versions": versions(),
                "units": f"mesh units: the longest side of the bounding box is {LONGEST_SIDE:g}, its centre the origin",
                "count": len(self.entries),
                "stored": len(self.entries) - len(skipped),
                "left_out": skipped,
                "content": content_hash(iter(digest_entries)),
                "shards": shards,
            },
        )


def _list_entries(source: Source | SampleSource) -> list[Entry]:
    names, groups = source.names(), source.groups()
    if not names:
        raise DataError(f"{source.name}: holds no shape")
    if len(set(names)) < len(names):
        raise DataError(f"{source.name}: two of its {len(names)} shapes have the same name")
    splits = source.splits() if isinstance(source, Split) else [""] * len(names)
    return [Entry(*row) for row in zip(range(len(names)), names, groups, splits, strict=True)]


def _claim(folder: Path, source: Source | SampleSource, config: PrepareConfig, entries: list[Entry]) -> None:
    """Make the folder this set's, or see that it is."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.name}\x1f{entry.group}\x1f{entry.split}\n".encode())
    ours = {"format": FORMAT, "source": source.name, "shapes": digest.hexdigest(), "config": config.identity()}
    path = folder / SETTINGS
    if path.exists():
        theirs = read_json(path)
        differing = [key for key in ours if theirs.get(key) != ours[key]]
        if differing:
            raise DataError(f"{folder}: holds a set that differs in its {', '.join(differing)}; choose another folder")
        return
    known = {PENDING, SHARDS, "set.lock"}
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in known)
    if others:
        raise DataError(f"{folder}: not a stored set, and not empty (it holds {others[0]})")
    write_json(path, ours)
