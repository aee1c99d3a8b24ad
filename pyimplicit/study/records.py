"""Records: one measured result with everything needed to repeat it, and the file that gathers them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyimplicit.errors import StudyError
from pyimplicit.evaluation import mean_scores
from pyimplicit.study.axes import network_label
from pyimplicit.study.files import read_json, write_text
from pyimplicit.study.run_spec import RunSpec
from pyimplicit.study.settings import canonical_json

DONE = "done"
COLLAPSED = "collapsed"  # trained to a constant: dead, no surface in any test shape, or hardly any overlap
DIVERGED = "diverged"  # the loss became NaN or infinite
ERROR = "error"  # an exception
CRASHED = "crashed"  # the worker process died, or memory or disk ran out, at every attempt
STATUSES = (DONE, COLLAPSED, DIVERGED, ERROR, CRASHED)

# The metrics of the tables, and whether more is better.
METRICS = {"iou": True, "chamfer_l2": False, "f_score": True, "normal_consistency": True}

# What differs from one repetition to the next, and is left out when records are compared.
_INCIDENTAL = ("timings", "memory", "machine", "versions")


@dataclass(frozen=True)
class Record:
    """The result of one run.

    Args:
        run: Hash of the run's identity.
        network: Name of the network.
        variant: Its variant, or None.
        field: The implicit function it learned.
        strategy: Sampling strategy of its query points.
        density: Query points per shape and step.
        seed: Seed of the run.
        status: "done", "collapsed", "diverged", "error" or "crashed"; all but the first are failures.
        reason: One line on why it failed, else None.
        scores: Per test shape: its name, and its scores (lengths in mesh units, squared where the name says so).
        means: Mean over the test shapes of each metric; empty for a failed run. A shape without a surface counts with
            the worst score.
        training: Steps, first and last loss and the like.
        config: The identity of the run.
        versions: Of this package, Python and the libraries that compute.
        machine: Processor, system and device.
        timings: Seconds per phase.
        memory: Bytes at the peak.
    """

    run: str
    network: str
    variant: str | None
    field: str
    strategy: str
    density: int
    seed: int
    status: str
    reason: str | None
    scores: tuple[dict[str, Any], ...]
    means: dict[str, float]
    training: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    timings: dict[str, float]
    memory: dict[str, float]

    @property
    def failed(self) -> bool:
        """Whether the run has no result; shown as "/" in tables."""
        return self.status != DONE

    @property
    def mask(self) -> float | None:
        """Distance from the input cloud beyond which query points were dropped; None without a mask."""
        value: float | None = self.config["training"].get("mask_distance")
        return value

    @property
    def row(self) -> tuple[str, str, int]:
        """What is compared across strategies: network with variant and mask, field, density."""
        mask = "" if self.mask is None else f" mask {self.mask:g}"
        return (network_label(self.network, self.variant) + mask, self.field, self.density)

    def comparable(self) -> dict[str, Any]:
        """Return what is equal, bit for bit, when a run is repeated: no timings, memory, machine or versions."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in _INCIDENTAL}

    def to_json(self) -> str:
        """One line of JSON."""
        return canonical_json(dataclasses.asdict(self))


def failure(
    spec: RunSpec,
    status: str,
    reason: str,
    *,
    versions: Mapping[str, str],
    machine: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    scores: Iterable[dict[str, Any]] = (),
    timings: Mapping[str, float] | None = None,
    memory: Mapping[str, float] | None = None,
) -> Record:
    """Return the record of a run without a result."""
    return _record(spec, status, reason, scores, {}, training or {}, versions, machine, timings or {}, memory or {})


def success(
    spec: RunSpec,
    scores: Iterable[dict[str, Any]],
    *,
    versions: Mapping[str, str],
    machine: Mapping[str, Any],
    training: Mapping[str, Any],
    timings: Mapping[str, float],
    memory: Mapping[str, float],
) -> Record:
    """Return the record of a run with scores for every test shape; their means are taken here."""
    rows = tuple(scores)
    return _record(spec, DONE, None, rows, mean_scores(rows), training, versions, machine, timings, memory)


def _record(
    spec: RunSpec,
    status: str,
    reason: str | None,
    scores: Iterable[dict[str, Any]],
    means: Mapping[str, float],
    training: Mapping[str, Any],
    versions: Mapping[str, str],
    machine: Mapping[str, Any],
    timings: Mapping[str, float],
    memory: Mapping[str, float],
) -> Record:
    return Record(
        run=spec.hash,
        network=spec.network,
        variant=spec.variant,
        field=spec.field,
        strategy=spec.strategy,
        density=spec.density,
        seed=spec.seed,
        status=status,
        reason=reason,
        scores=tuple(scores),
        means=dict(means),
        training=dict(training),
        config=spec.identity(),
        versions=dict(versions),
        machine=dict(machine),
        timings=dict(timings),
        memory=dict(memory),
    )


def record_from_dict(values: Any, where: str) -> Record:
    """Build a record from JSON values.

    Raises:
        StudyError: Keys are missing or unknown.
    """
    names = {f.name for f in dataclasses.fields(Record)}
    if not isinstance(values, dict) or set(values) != names or values["status"] not in STATUSES:
        raise StudyError(f"{where}: not a record of a run")
    return Record(**{**values, "scores": tuple(values["scores"])})


def read_record(path: Path) -> Record:
    """Read one run's `record.json`."""
    return record_from_dict(read_json(path), str(path))


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines, in the order given, in one go."""
    write_text(path, "".join(record.to_json() + "\n" for record in records))


def read_records(path: str | Path) -> list[Record]:
    """Read a `records.jsonl`, or the one in a study's folder.

    Raises:
        StudyError: The file is missing or damaged.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "records.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [record_from_dict(json.loads(line), f"{path}:{n}") for n, line in enumerate(lines, 1)]
    except OSError as error:
        raise StudyError(f"{path}: no records here ({error.strerror}); is it the folder of a study?") from error
    except ValueError as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"{path}: damaged: {error}") from error
