from __future__ import annotations

from pathlib import Path

import pytest

from pyimplicit.errors import StudyError
from pyimplicit.study.records import read_records, write_records
from pyimplicit.study.tables import shape_rows
from tests.study.helpers import done_record, small_config


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    records = [done_record(spec, iou=0.1 + 0.2) for spec in small_config().runs()]
    write_records(tmp_path / "records.jsonl", records)
    assert read_records(tmp_path) == records
    assert read_records(tmp_path / "records.jsonl") == records
    assert [list(row) for row in shape_rows(read_records(tmp_path))] == [list(row) for row in shape_rows(records)]


def test_means_are_over_shapes() -> None:
    record = done_record(small_config().runs()[0])
    values = [row["iou"] for row in record.scores]
    assert record.means["iou"] == pytest.approx(sum(values) / len(values))


def test_comparable_leaves_out_what_differs_between_repetitions() -> None:
    spec = small_config().runs()[0]
    one, other = done_record(spec), done_record(spec)
    assert one != other  # timings
    assert one.comparable() == other.comparable()


def test_a_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_records(tmp_path / "records.jsonl", [done_record(small_config().runs()[0], iou=float("nan"))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "{}\n", "[]\n", '{"run": 1}\n', "\x00\n"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "records.jsonl").write_text(text)
    with pytest.raises(StudyError, match=r"records\.jsonl"):
        read_records(tmp_path)
