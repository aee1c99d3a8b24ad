"""A whole study: prepare the shapes once, carry out the runs that are missing, write table, figures and report.

The folder of a study:

    study.json        the configuration; a folder serves one study only
    data/             prepared shapes, unless the configuration keeps them elsewhere
    shapes.json       which shapes are trained and tested on, with a hash of their meshes
    runs/NAME/        one run: configuration, checkpoint, losses, reconstructed meshes and, last of all, record.json
    records.jsonl     all records, in the order of the table
    table.*, *.csv, figures/, report.md, report.html
    tables/, claims.*
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyimplicit import _native
from pyimplicit.atomic import remove_leftovers
from pyimplicit.data import Shape
from pyimplicit.engines import Engine, Job, LocalEngine, Outcome, RayEngine, Report, run_jobs
from pyimplicit.errors import ConfigError, ExtraError, PyImplicitError, StudyError
from pyimplicit.info import versions
from pyimplicit.lock import FileLock
from pyimplicit.study.answers import write_answers
from pyimplicit.study.config import RunSpec, StudyConfig
from pyimplicit.study.files import read_json, write_json
from pyimplicit.study.progress import StudyProgress, create_progress
from pyimplicit.study.reconstructions import Reconstructions
from pyimplicit.study.records import CRASHED, ERROR, Record, failure, read_record, read_records, write_records
from pyimplicit.study.report import REPORT_FILE, write_outputs
from pyimplicit.study.runs import RECORD_FILE, RunTask, execute_run, run_machine
from pyimplicit.study.settings import differing_keys
from pyimplicit.study.shapes import study_shapes
from pyimplicit.study.tables import StudyTable, build_table
from pyimplicit.training.examples import digest_shapes

if TYPE_CHECKING:
    from pyimplicit.study.paper_figures import PaperFigure

CONFIG_FILE = "study.json"
LOCK_FILE = "study.lock"
SHAPES_FILE = "shapes.json"
RECORDS_FILE = "records.jsonl"
# Raised when the layout of a study's folder changes.
FOLDER_FORMAT = 1


@dataclass(frozen=True)
class StudyResult:
    """A finished study.

    Args:
        config: Its configuration.
        out: Its folder.
        records: One record for each run, in the order of the table.
        table: The main table.
        report: Path of the report: the page, or `report.md` where the extra `report` is not installed.
    """

    config: StudyConfig
    out: Path
    records: list[Record]
    table: StudyTable
    report: Path

    @property
    def broken(self) -> list[Record]:
        """The runs that ended by an error or a crash, rather than by what their strategy did to the network."""
        return [record for record in self.records if record.status in (ERROR, CRASHED)]


@dataclass(frozen=True)
class StudyStatus:
    """How far a study has got."""

    config: StudyConfig
    total: int
    records: list[Record]
    running: bool


def run_study(
    config: StudyConfig,
    out: str | os.PathLike[str],
    progress: bool | StudyProgress = True,
    *,
    retry: bool = False,
    execute: Callable[[Any, Report], Record] = execute_run,
) -> StudyResult:
    """Run a study, or what is left of one, and write its table, figures and report.

    It may be killed at any moment. Started again with the same configuration it goes on, and ends with the records of
    a study that was never interrupted, whatever the number of processes; only timings and memory differ.

    Args:
        config: The study.
        out: Its folder; created if missing.
        progress: True shows bars (lines, where there is no terminal), False nothing; or an object of one's own.
        retry: Carry out again the runs that ended by an error or a crash.
        execute: What carries out one run; a module-level function.

    Returns:
        Records, table and the path of the report.

    Raises:
        StudyError: The folder belongs to another configuration, is no study's, or another process works in it.
        ConfigError: The configured device is not there.
        DataError: The shapes cannot be had.
    """
    folder = Path(out)
    _check_device(config)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{folder}: another study is running here (process {{pid}})"
    with FileLock(folder / LOCK_FILE, busy=busy):
        _compare(folder, config)
        remove_leftovers(folder)
        with create_progress(progress) as watcher:
            records, test_shapes = _carry_out(folder, config, watcher, retry, execute)
        write_records(folder / RECORDS_FILE, records)
        write_answers(folder, records)
        try:
            report = write_outputs(folder, config, records, Reconstructions.of_study(folder, test_shapes))
        except ExtraError:  # a study of hours must not end in an error for want of a library that only shows it
            report = folder / REPORT_FILE
    return StudyResult(config, folder, records, build_table(records), report)


def _carry_out(
    folder: Path, config: StudyConfig, watcher: StudyProgress, retry: bool, execute: Callable[[Any, Report], Record]
) -> tuple[list[Record], list[Shape]]:
    """Do what is left to do; returns all records in the order of the table, and the test shapes."""
    data_root = _data_root(folder, config)
    train_shapes, test_shapes = study_shapes(config.data, data_root, watcher.preparing)
    # Only now is the folder this study's: a source that is not there leaves nothing to clear away.
    _claim(folder, config)
    _pin_shapes(folder, train_shapes, test_shapes)
    specs = config.runs()
    records = {spec.hash: _finished(folder, spec, retry) for spec in specs}
    missing = [spec for spec in specs if records[spec.hash] is None]
    watcher.begin(len(specs), len(specs) - len(missing))
    # Whole paths: a worker of a cluster has a working directory of its own.
    jobs = [Job(spec.name, RunTask(spec, str(_run_folder(folder, spec).resolve()), data_root)) for spec in missing]
    outcomes = run_jobs(jobs, execute, watcher, engine=_engine(config), settle=_with_record)
    records |= {spec.hash: outcome.result for spec, outcome in zip(missing, outcomes, strict=True)}
    return [record for record in records.values() if record is not None], test_shapes


def _engine(config: StudyConfig) -> Engine:
    if config.engine == "local":
        return LocalEngine(config.processes)
    _, _, address = config.engine.partition(":")
    return RayEngine(address or "auto", cpus=config.threads, gpus=1 if config.device == "cuda" else 0)


def study_status(out: str | os.PathLike[str]) -> StudyStatus:
    """How far the study in a folder has got, whether it is running or not.

    Raises:
        StudyError: The folder holds no study.
    """
    folder = Path(out)
    config = read_config(folder)
    specs = config.runs()
    found = [_finished(folder, spec, retry=False) for spec in specs]
    try:
        with FileLock(folder / LOCK_FILE):
            running = False
    except StudyError:
        running = True
    return StudyStatus(config, len(specs), [record for record in found if record is not None], running)


def study_records(out: str | os.PathLike[str]) -> list[Record]:
    """Return the records in a study's folder, in the order of the table, also those of another version's runs.

    They come from the folders of the runs, or from `records.jsonl` where only that is left.

    Raises:
        StudyError: The folder holds no study, or a damaged record.
    """
    folder = Path(out)
    if not (folder / "runs").exists() and (folder / RECORDS_FILE).exists():
        return read_records(folder)
    paths = sorted((folder / "runs").glob(f"*/{RECORD_FILE}"))
    order = {_place(spec): index for index, spec in enumerate(read_config(folder).runs())}
    records = [read_record(path) for path in paths]
    return sorted(records, key=lambda record: order.get(_place(record), len(order)))


def _place(run: RunSpec | Record) -> tuple[Any, ...]:
    """Return where in the matrix a run stands."""
    return (run.network, run.variant, run.field, run.strategy, run.density, run.mask, run.seed)


def write_report(out: str | os.PathLike[str]) -> Path:
    """Write tables, figures and report of the runs finished so far; returns the path of the page, `report.html`.

    A folder that holds records alone is enough; what cannot be shown for want of shapes or reconstructions is named.

    Raises:
        StudyError: The folder holds no study, or no run is finished.
        ExtraError: plotly or fast-simplification is not installed; everything but the page has been written.
    """
    folder, config, records = _finished_study(out)
    write_records(folder / RECORDS_FILE, records)
    write_answers(folder, records)
    return write_outputs(folder, config, records, _reconstructions(folder, config))


def write_figures(out: str | os.PathLike[str]) -> list[PaperFigure]:
    """Draw the paper's figures from the runs finished so far; one that cannot be drawn comes with the reason.

    Raises:
        StudyError: The folder holds no study, or no run is finished.
    """
    from pyimplicit.study.paper_figures import draw_figures

    folder, config, records = _finished_study(out)
    return draw_figures(folder, config, records, _reconstructions(folder, config))


def _finished_study(out: str | os.PathLike[str]) -> tuple[Path, StudyConfig, list[Record]]:
    folder = Path(out)
    config, records = read_config(folder), study_records(folder)
    if not records:
        raise StudyError(f"{folder}: no run is finished yet")
    return folder, config, records


def _reconstructions(folder: Path, config: StudyConfig) -> Reconstructions:
    """Find the test shapes, where they have been prepared, and what the runs made of them."""
    root = _data_root(folder, config)
    if not Path(root).is_dir():
        return Reconstructions.of_study(folder, (), "the study's shapes are not here, only its records")
    try:
        return Reconstructions.of_study(folder, study_shapes(config.data, root)[1])
    except PyImplicitError as error:
        return Reconstructions.of_study(folder, (), f"the study's shapes cannot be had: {error}")


def read_config(folder: Path) -> StudyConfig:
    """Return the configuration of the study in a folder.

    Raises:
        StudyError: The folder holds no study, or one of another version.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise StudyError(f"{folder}: not the folder of a study (no {CONFIG_FILE})")
    values = read_json(path)
    try:
        return StudyConfig.from_dict(values["config"])
    except (ConfigError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: not a configuration of this version: {error}") from error


def _check_device(config: StudyConfig) -> None:
    if config.device == "cuda":
        usable, reason = _native.cuda_status()
        if not usable:
            raise ConfigError(f"device: cuda cannot be used here: {reason}")


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is neither empty nor a study's, before anything is written into it."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StudyError(f"{folder}: expected a folder, got a file")
    # A study that ended before it wrote its configuration leaves its lock, shapes and perhaps a temporary file.
    ours = {LOCK_FILE, CONFIG_FILE, *(["data"] if (folder / LOCK_FILE).exists() else [])}
    others = [entry.name for entry in folder.iterdir() if entry.name not in ours and not entry.name.endswith(".tmp")]
    if others and not (folder / CONFIG_FILE).exists():
        raise StudyError(f"{folder}: not the folder of a study and not empty (it holds {sorted(others)[0]})")


def _claim(folder: Path, config: StudyConfig) -> None:
    """Write the configuration into a new folder."""
    if not (folder / CONFIG_FILE).exists():
        write_json(folder / CONFIG_FILE, _content(config))


def _content(config: StudyConfig) -> dict[str, Any]:
    return {"format": FOLDER_FORMAT, "pyimplicit": versions()["pyimplicit"], "config": config.as_dict()}


def _compare(folder: Path, config: StudyConfig) -> None:
    """Refuse a folder that another configuration has claimed."""
    path = folder / CONFIG_FILE
    if not path.exists():
        return
    theirs = read_json(path)
    if not isinstance(theirs, dict) or not isinstance(theirs.get("config"), dict):
        raise StudyError(f"{path}: damaged")
    keys = differing_keys(_identity(_content(config)), _identity(theirs))
    if keys:
        raise StudyError(
            f"{folder}: holds a study of another configuration, differing in {', '.join(keys)}; choose another folder"
        )


def _pin_shapes(folder: Path, train: Sequence[Shape], test: Sequence[Shape]) -> None:
    """Write down which meshes the study is made with, or see that they are still the same ones."""
    path = folder / SHAPES_FILE
    ours = {side: _fingerprint(shapes) for side, shapes in (("train", train), ("test", test))}
    if not path.exists():
        write_json(path, ours)
    elif read_json(path) != ours:
        raise StudyError(
            f"{folder}: its shapes are not those it was begun with; choose another folder, or bring them back"
        )


def _fingerprint(shapes: Sequence[Shape]) -> dict[str, Any]:
    return {"names": [shape.name for shape in shapes], "meshes": digest_shapes(shapes)}


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration without what changes no result, as `StudyConfig.identity`; versions included."""
    config = {key: value for key, value in content["config"].items() if key not in ("processes", "engine")}
    config["data"] = {key: value for key, value in dict(config.get("data", {})).items() if key != "root"}
    return {**{key: value for key, value in content.items() if key != "config"}, **config}


def _data_root(folder: Path, config: StudyConfig) -> str:
    return os.path.abspath(config.data.root or folder / "data")


def _run_folder(folder: Path, spec: RunSpec) -> Path:
    return folder / "runs" / spec.name


def _finished(folder: Path, spec: RunSpec, retry: bool) -> Record | None:
    """Return the record of a run that is finished, or None."""
    path = _run_folder(folder, spec) / RECORD_FILE
    if not path.exists():
        return None
    record = read_record(path)
    if record.run != spec.hash:
        raise StudyError(f"{path}: the record of another run")
    if retry and record.status in (ERROR, CRASHED):
        path.unlink()
        return None
    return record


def _with_record(outcome: Outcome) -> Outcome:
    """See that the run has its record here: also one that raised or crashed, so that it is not carried out again."""
    task: RunTask = outcome.job.payload
    folder = Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if outcome.reason is None:
        if not (folder / RECORD_FILE).exists():  # it was written on a node of a cluster that does not share the folder
            write_json(folder / RECORD_FILE, dataclasses.asdict(outcome.result))
        return outcome
    status = CRASHED if outcome.crashed else ERROR
    facts: dict[str, Any] = {"versions": versions(), "machine": run_machine(task.spec.training["device"])}
    record = failure(task.spec, status, outcome.reason, **facts)
    write_json(folder / RECORD_FILE, dataclasses.asdict(record))
    return dataclasses.replace(outcome, result=record)
