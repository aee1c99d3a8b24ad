from __future__ import annotations

import dataclasses

from pyimplicit.engines import Job, Outcome
from pyimplicit.study.progress import result_line
from pyimplicit.study.records import Record, failure
from pyimplicit.study.runs import RunTask
from tests.study.helpers import FACTS, done_record, small_config


def line(record: Record) -> str:
    spec = small_config().runs()[0]
    return result_line(Outcome(Job("run", RunTask(spec, "here", "data")), record))


def test_a_mesh_and_a_cloud_and_a_failure() -> None:
    spec = small_config().runs()[0]
    record = done_record(spec, iou=0.75, f_score=0.5)
    assert line(record).endswith(": IoU 0.750, F-Score 0.500")
    cloud = dataclasses.replace(record, means={"f_score": 0.25, "chamfer_l2": 0.1})
    assert line(cloud).endswith(": F-Score 0.250")
    assert line(failure(spec, "collapsed", "no surface", **FACTS)).endswith(": collapsed, no surface")
