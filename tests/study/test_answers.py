from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pyimplicit.cli import main
from pyimplicit.study import matrix, study_records
from pyimplicit.study.answers import write_answers
from tests.study.helpers import fake_run, no_shapes, small_config


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished study of six runs, of which S_NS has collapsed."""
    monkeypatch.setattr(matrix, "study_shapes", no_shapes)
    monkeypatch.setattr(matrix, "write_outputs", lambda folder, *_: folder / "report.md")
    monkeypatch.setenv("FAKE_RUN_SECONDS", "0")
    config = small_config(parts=[{}, {"networks": ["onet"], "fields": ["sdf"]}], processes=0)
    matrix.run_study(config, tmp_path / "study", progress=False, execute=fake_run)
    return tmp_path / "study"


def test_a_study_leaves_its_tables_and_claims(study: Path) -> None:
    assert sorted(path.name for path in (study / "tables").iterdir()) == [
        *(f"table_{number}.{suffix}" for number in (1, 3) for suffix in ("csv", "md", "tex")),
    ]
    assert len(json.loads((study / "claims.json").read_text())) == 9
    assert "## 9." not in (study / "claims.md").read_text().splitlines()[0]
    write_answers(study, [])
    assert list((study / "tables").iterdir()) == []  # no table of runs that are gone


def test_the_records_are_read_from_what_there_is(study: Path) -> None:
    records = study_records(study)
    assert len(records) == 6
    shutil.rmtree(study / "runs")
    assert study_records(study) == records


def test_commands(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "table", str(study), "--which", "I", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Network & field,S_BS,S_NS"
    assert main(["study", "table", str(study), "--which", "all"]) == 0
    assert "Table III. D-Score" in capsys.readouterr().out
    assert main(["study", "table", str(study), "--which", "II"]) == 1
    assert "no run for Table II" in capsys.readouterr().err
    assert main(["study", "table", str(study), "--format", "latex"]) == 2
    assert main(["study", "claims", str(study)]) == 0
    assert "undecided" in capsys.readouterr().out
    assert main(["study", "claims", str(study), "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 9
    assert main(["study", "recommend", str(study), "--network", "onet"]) == 0
    assert "balanced_surface (S_BS), 256 points" in capsys.readouterr().out
    assert main(["study", "recommend", "--network", "deepsdf"]) == 0
    assert "Table III" in capsys.readouterr().out
    assert main(["study", "recommend", "--network", "onett"]) == 2
