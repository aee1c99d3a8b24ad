"""The answers of a study as files: the paper's tables in three forms, and its claims with their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyimplicit.study.claims import claims_json, claims_markdown, judge_claims
from pyimplicit.study.files import write_text
from pyimplicit.study.numbered_tables import paper_tables
from pyimplicit.study.records import Record

CLAIMS_FILE = "claims.md"


def write_answers(folder: Path, records: Sequence[Record]) -> list[Path]:
    """Write `tables/table_1.md`, `.csv` and `.tex` and so on, `claims.md` and `claims.json`; returns their paths.

    A table that the records have nothing for is not written, and one of an earlier call is removed.
    """
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    texts: dict[Path, str] = {}
    for table in paper_tables(records):
        forms = {".md": table.markdown(), ".csv": table.csv(), ".tex": table.latex()}
        texts |= {folder / "tables" / f"{table.name}{suffix}": text for suffix, text in forms.items()}
    for stale in set((folder / "tables").glob("table_*")) - set(texts):
        stale.unlink()
    claims = judge_claims(records)
    texts |= {folder / CLAIMS_FILE: claims_markdown(claims), folder / "claims.json": claims_json(claims)}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)
