"""A whole study: prepare the shapes once, carry out the runs that are missing, write table, figures and report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
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
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.files import write_json
from pyimplicit.study.folder import (
    LOCK_FILE,
    RECORDS_FILE,
    check_claim,
    check_folder,
    claim,
    data_root,
    finished_record,
    pin_shapes,
    read_config,
    run_folder,
    study_records,
)
from pyimplicit.study.progress import StudyProgress, create_progress
from pyimplicit.study.reconstructions import Reconstructions
from pyimplicit.study.records import CRASHED, ERROR, Record, failure, write_records
from pyimplicit.study.report import REPORT_FILE, write_outputs
from pyimplicit.study.runs import RECORD_FILE, RunTask, execute_run, run_machine
from pyimplicit.study.shapes import study_shapes
from pyimplicit.study.tables import StudyTable, build_table

if TYPE_CHECKING:
    from pyimplicit.study.paper_figures import PaperFigure


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
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{folder}: another study is running here (process {{pid}})"
    with FileLock(folder / LOCK_FILE, busy=busy):
        check_claim(folder, config)
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
    root = data_root(folder, config)
    train_shapes, test_shapes = study_shapes(config.data, root, watcher.preparing)
    # Only now is the folder this study's: a source that is not there leaves nothing to clear away.
    claim(folder, config)
    pin_shapes(folder, train_shapes, test_shapes)
    specs = config.runs()
    records = {spec.hash: finished_record(folder, spec, retry) for spec in specs}
    missing = [spec for spec in specs if records[spec.hash] is None]
    watcher.begin(len(specs), len(specs) - len(missing))
    # Whole paths: a worker of a cluster has a working directory of its own.
    jobs = [Job(spec.name, RunTask(spec, str(run_folder(folder, spec).resolve()), root)) for spec in missing]
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
    found = [finished_record(folder, spec, retry=False) for spec in specs]
    try:
        with FileLock(folder / LOCK_FILE):
            running = False
    except StudyError:
        running = True
    return StudyStatus(config, len(specs), [record for record in found if record is not None], running)


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
    root = data_root(folder, config)
    if not Path(root).is_dir():
        return Reconstructions.of_study(folder, (), "the study's shapes are not here, only its records")
    try:
        return Reconstructions.of_study(folder, study_shapes(config.data, root)[1])
    except PyImplicitError as error:
        return Reconstructions.of_study(folder, (), f"the study's shapes cannot be had: {error}")


def _check_device(config: StudyConfig) -> None:
    if config.device == "cuda":
        usable, reason = _native.cuda_status()
        if not usable:
            raise ConfigError(f"device: cuda cannot be used here: {reason}")


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
