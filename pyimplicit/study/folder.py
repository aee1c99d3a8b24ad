"""The folder of a study: what lies where, and whose it is.

Its files:

    study.json        the configuration; a folder serves one study only
    data/             prepared shapes, unless the configuration keeps them elsewhere
    shapes.json       which shapes are trained and tested on, with a hash of their meshes
    runs/NAME/        one run: configuration, checkpoint, losses, reconstructed meshes and, last of all, record.json
    records.jsonl     all records, in the order of the table
    table.*, *.csv, figures/, report.md, report.html
    tables/, claims.*
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyimplicit.data import Shape
from pyimplicit.errors import ConfigError, StudyError
from pyimplicit.info import versions
from pyimplicit.study.config import StudyConfig
from pyimplicit.study.files import read_json, write_json
from pyimplicit.study.records import CRASHED, ERROR, Record, read_record, read_records
from pyimplicit.study.run_spec import RunSpec
from pyimplicit.study.runs import RECORD_FILE
from pyimplicit.study.settings import differing_keys
from pyimplicit.training.examples import digest_shapes

CONFIG_FILE = "study.json"
LOCK_FILE = "study.lock"
SHAPES_FILE = "shapes.json"
RECORDS_FILE = "records.jsonl"
# Raised when the layout of a study's folder changes.
FOLDER_FORMAT = 1


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


def check_folder(folder: Path) -> None:
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


def claim(folder: Path, config: StudyConfig) -> None:
    """Write the configuration into a new folder."""
    if not (folder / CONFIG_FILE).exists():
        write_json(folder / CONFIG_FILE, _content(config))


def _content(config: StudyConfig) -> dict[str, Any]:
    return {"format": FOLDER_FORMAT, "pyimplicit": versions()["pyimplicit"], "config": config.as_dict()}


def check_claim(folder: Path, config: StudyConfig) -> None:
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


def pin_shapes(folder: Path, train: Sequence[Shape], test: Sequence[Shape]) -> None:
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


def data_root(folder: Path, config: StudyConfig) -> str:
    """Return where the study's shapes are prepared."""
    return os.path.abspath(config.data.root or folder / "data")


def run_folder(folder: Path, spec: RunSpec) -> Path:
    """Return the folder of one run."""
    return folder / "runs" / spec.name


def finished_record(folder: Path, spec: RunSpec, retry: bool) -> Record | None:
    """Return the record of a run that is finished, or None."""
    path = run_folder(folder, spec) / RECORD_FILE
    if not path.exists():
        return None
    record = read_record(path)
    if record.run != spec.hash:
        raise StudyError(f"{path}: the record of another run")
    if retry and record.status in (ERROR, CRASHED):
        path.unlink()
        return None
    return record
