"""Studies: a matrix of runs over networks and sampling strategies, its records, tables, figures and report.

Names are looked up when first used, so a worker process that needs only the engine does not wait for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyimplicit.study.claims import judge_claims
    from pyimplicit.study.config import StudyConfig, load_config
    from pyimplicit.study.folder import study_records
    from pyimplicit.study.matrix import (
        StudyResult,
        StudyStatus,
        run_study,
        study_status,
        write_figures,
        write_report,
    )
    from pyimplicit.study.numbered_tables import paper_tables
    from pyimplicit.study.recommendation import Recommendation, recommend
    from pyimplicit.study.records import Record, read_records
    from pyimplicit.study.run_spec import DataConfig, EvaluationConfig, RunSpec
    from pyimplicit.study.shapes import create_source
    from pyimplicit.study.tables import StudyTable, build_table, csv_table, markdown_table, rich_tables

_HOMES = {
    "claims": ("judge_claims",),
    "config": ("StudyConfig", "load_config"),
    "folder": ("study_records",),
    "matrix": ("StudyResult", "StudyStatus", "run_study", "study_status", "write_figures", "write_report"),
    "numbered_tables": ("paper_tables",),
    "recommendation": ("Recommendation", "recommend"),
    "records": ("Record", "read_records"),
    "run_spec": ("DataConfig", "EvaluationConfig", "RunSpec"),
    "shapes": ("create_source",),
    "tables": ("StudyTable", "build_table", "csv_table", "markdown_table", "rich_tables"),
}

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "Recommendation",
    "Record",
    "RunSpec",
    "StudyConfig",
    "StudyResult",
    "StudyStatus",
    "StudyTable",
    "build_table",
    "create_source",
    "csv_table",
    "judge_claims",
    "load_config",
    "markdown_table",
    "paper_tables",
    "read_records",
    "recommend",
    "rich_tables",
    "run_study",
    "study_records",
    "study_status",
    "write_figures",
    "write_report",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
