from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pyimplicit.data import Shape
from pyimplicit.errors import ConfigError, DataError, StudyError
from pyimplicit.lock import FileLock
from pyimplicit.study import matrix, paper_figures
from pyimplicit.study.matrix import run_study, study_status, write_report
from pyimplicit.study.progress import StudyProgress
from pyimplicit.study.records import Record, read_records
from pyimplicit.study.shapes import study_shapes
from tests.engines.jobs import environment
from tests.study.helpers import FEW_FIGURES, box, broken_run, fake_run, no_shapes, small_config


@pytest.fixture(autouse=True)
def _stand_in_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "study_shapes", no_shapes)


@pytest.fixture
def _no_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "write_outputs", lambda folder, *_: folder / "report.md")


def comparable(records: list[Record]) -> list[dict[str, Any]]:
    return [record.comparable() for record in records]


def run_here(out: Path, **changes: Any) -> matrix.StudyResult:
    return run_study(small_config(processes=0, **changes), out, progress=False, execute=fake_run)


def test_a_study_leaves_records_tables_figures_and_a_report(tmp_path: Path) -> None:
    result = run_here(tmp_path / "study")
    assert [record.strategy for record in result.records] == ["balanced_surface", "near_surface"] * 2
    assert [record.status for record in result.records] == ["done", "collapsed"] * 2
    assert comparable(read_records(tmp_path / "study")) == comparable(result.records)
    assert not result.broken
    assert result.report == tmp_path / "study" / "report.html"
    report = (tmp_path / "study" / "report.md").read_text()
    for expected in (
        "ONet OCC",
        "DeepSDF SDF",
        "| / |",
        "D-Score",
        "collapsed: no surface",
        "scale: tiny",
        "- cores: 1",
    ):
        assert expected in report
    for line in report.splitlines():
        if line.startswith("!["):
            assert (result.out / line.partition("](")[2].rstrip(")")).stat().st_size > 10_000
    for name in ("table.md", "table.csv", "d_score.csv", "shapes.csv", "timings.md"):
        assert (result.out / name).read_text().count("\n") > 1
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.usefixtures("_no_outputs")
def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    here = run_here(tmp_path / "here")
    apart = run_study(small_config(processes=2), tmp_path / "apart", progress=False, execute=fake_run)
    assert comparable(apart.records) == comparable(here.records)
    # The folder remembers no number of processes: it may be continued with another one.
    again = run_here(tmp_path / "apart")
    assert comparable(again.records) == comparable(here.records)


@pytest.mark.usefixtures("_no_outputs")
def test_finished_runs_are_not_carried_out_again(tmp_path: Path) -> None:
    first = run_here(tmp_path)
    (tmp_path / "runs" / small_config().runs()[2].name / "record.json").unlink()
    seen: list[str] = []

    class Watcher(StudyProgress):
        def begin(self, total: int, done: int) -> None:
            seen.append(f"{done} of {total}")

        def started(self, slot: int, job: Any) -> None:
            seen.append(job.payload.spec.label)

    second = run_study(small_config(processes=0), tmp_path, progress=Watcher(), execute=fake_run)
    assert seen == ["3 of 4", "DeepSDF SDF balanced_surface n256 seed 0"]
    assert comparable(second.records) == comparable(first.records)


@pytest.mark.usefixtures("_no_outputs")
def test_errors_and_crashes_cost_their_own_run_and_can_be_retried(tmp_path: Path) -> None:
    matrix_of_three = {"networks": ["onet"], "strategies": ["uniform", "linear", "balanced_surface"]}
    first = run_study(small_config(**matrix_of_three, processes=1), tmp_path, progress=False, execute=broken_run)
    assert [record.status for record in first.records] == ["error", "crashed", "done"]
    assert first.records[0].reason == "ValueError: the weights are on strike"
    assert first.records[1].reason == "worker process killed by SIGKILL (2 attempts)"
    assert len(first.broken) == 2
    config = small_config(**matrix_of_three, processes=0)
    same = run_study(config, tmp_path, progress=False, execute=fake_run)
    assert [record.status for record in same.records] == ["error", "crashed", "done"]
    mended = run_study(config, tmp_path, progress=False, retry=True, execute=fake_run)
    assert [record.status for record in mended.records] == ["done", "done", "done"]


@pytest.mark.usefixtures("_no_outputs")
def test_killed_at_any_moment_and_continued_it_ends_with_the_same_records(tmp_path: Path) -> None:
    reference = run_here(tmp_path / "reference", seeds=[0, 1])
    out = tmp_path / "study"
    command = [sys.executable, "-m", "tests.study.helpers", str(out)]
    surroundings = {**environment(), "FAKE_RUN_SECONDS": "0.5"}
    with subprocess.Popen(command, env=surroundings) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob("runs/*/record.json")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done = list(out.glob("runs/*/record.json"))
    assert 1 <= len(done) < len(reference.records)
    assert not (out / "records.jsonl").exists()
    status = study_status(out)
    assert (status.total, len(status.records), status.running) == (8, len(done), False)
    continued = run_here(out, seeds=[0, 1])
    assert comparable(continued.records) == comparable(reference.records)


@pytest.mark.usefixtures("_no_outputs")
def test_killed_before_the_configuration_was_written(tmp_path: Path) -> None:
    (tmp_path / "study.lock").write_text("12345")
    (tmp_path / ".study.json.12345.tmp").write_text("{")
    assert len(run_here(tmp_path).records) == 4


@pytest.mark.usefixtures("_no_outputs")
def test_a_source_that_is_not_there_does_not_claim_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as real:
        real.setattr(matrix, "study_shapes", study_shapes)
        with pytest.raises(DataError, match="nowhere"):
            run_here(tmp_path, data={"source": f"folder:{tmp_path / 'nowhere'}", "train": 2, "test": 1})
    assert len(run_here(tmp_path).records) == 4


@pytest.mark.usefixtures("_no_outputs")
def test_another_configuration_is_refused_by_its_differing_keys(tmp_path: Path) -> None:
    run_study(small_config(strategies=["near_surface"], processes=0), tmp_path, progress=False, execute=fake_run)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    changed = small_config(strategies=["uniform"], data={"train": 9, "test": 1, "root": "elsewhere"}, processes=1)
    with pytest.raises(StudyError, match=r"differing in data\.train, strategies; choose another folder"):
        run_study(changed, tmp_path, progress=False, execute=fake_run)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_folder_that_is_no_study_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StudyError, match=r"not empty \(it holds thesis.txt\)"):
        run_here(tmp_path)
    with pytest.raises(StudyError, match="expected a folder, got a file"):
        run_here(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StudyError, match="not the folder of a study"):
        study_status(tmp_path)
    with pytest.raises(StudyError, match="no records here"):
        read_records(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"config": 3}', '{"config": {"scale": "huge"}}'])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(StudyError, match=r"study\.json|differing in"):
        run_here(tmp_path)
    with pytest.raises(StudyError, match=r"study\.json"):
        study_status(tmp_path)


@pytest.mark.usefixtures("_no_outputs")
def test_other_shapes_under_the_same_configuration_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_here(tmp_path)
    monkeypatch.setattr(matrix, "study_shapes", lambda *_: ([], [Shape("box", "box", box(0.5), {})]))
    with pytest.raises(StudyError, match="its shapes are not those it was begun with"):
        run_here(tmp_path)


def test_a_gpu_that_cannot_be_used_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix._native, "cuda_status", lambda: (False, "no driver"))
    with pytest.raises(ConfigError, match="device: cuda cannot be used here: no driver"):
        run_here(tmp_path / "study", device="cuda")
    assert not (tmp_path / "study").exists()


def test_two_studies_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "study.lock"),
        pytest.raises(StudyError, match=r"another study is running here \(process \d+\)"),
    ):
        run_here(tmp_path)


@pytest.mark.usefixtures("_no_outputs")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": "x"}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    run_study(small_config(strategies=["near_surface"], processes=0), tmp_path, progress=False, execute=fake_run)
    path = next(tmp_path.glob("runs/*/record.json"))
    path.write_text(content)
    with pytest.raises(StudyError, match=r"record\.json"):
        study_status(tmp_path)


def test_a_report_of_an_unfinished_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_figures, "_FIGURES", {name: paper_figures._FIGURES[name] for name in FEW_FIGURES})
    run_here(tmp_path)
    before = (tmp_path / "table.md").read_text()
    assert write_report(tmp_path).read_text()
    assert (tmp_path / "table.md").read_text() == before
    for path in tmp_path.glob("runs/*/record.json"):
        path.unlink()
    with pytest.raises(StudyError, match="no run is finished yet"):
        write_report(tmp_path)
