from __future__ import annotations

import base64
import json
import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimplicit.data import Shape
from pyimplicit.errors import ExtraError
from pyimplicit.study import matrix, paper_figures
from pyimplicit.study.matrix import run_study, write_report
from pyimplicit.study.page_views import build_views
from pyimplicit.study.reconstructions import Reconstructions
from tests.study.helpers import FEW_FIGURES, SHAPES, fake_run, no_shapes, small_config, study_folder

pytest.importorskip("plotly", reason="the HTML report needs plotly: pyimplicit[report]")
pytest.importorskip("fast_simplification", reason="the HTML report simplifies meshes: pyimplicit[report]")
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Collects text, addresses and the content of scripts, and sees that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.sections: dict[str, str] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._attributes: dict[str, str | None] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.sections[attributes["id"] or ""] = ""
        self._attributes = attributes

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self._attributes, data))
        elif "section" in self.open:
            self.sections[list(self.sections)[-1]] += data

    def script(self, name: str) -> str:
        return next(text for attributes, text in self.scripts if attributes.get("id") == name)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "study_shapes", lambda *_: ([], SHAPES))


@pytest.mark.usefixtures("shapes")
def test_a_page_of_a_whole_study(tmp_path: Path) -> None:
    study_folder(tmp_path)
    (tmp_path / "data").mkdir()
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    assert path.stat().st_size < 10_000_000
    page = Page(path.read_text())
    assert list(page.sections) == [
        *("summary", "tables", "claims", "recommendations", "figures", "queries", "reconstructions", "failures"),
        "setup",
    ]
    # Nothing is asked of a network, nor may be.
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "default-src 'none'" in path.read_text()
    assert sum(address.startswith("data:image/png") for address in page.addresses) == 11
    assert "does best over all networks together" in page.sections["summary"]
    assert "ONet OCC" in page.sections["summary"]
    for table in ("Table I.", "Table III.", "Table IV."):
        assert table in page.sections["tables"]
    assert page.sections["claims"].count("In the paper") == 9
    assert "ConvONet UDF" in page.sections["recommendations"]
    assert "scale: tiny" in page.sections["setup"]
    for name in ("torch", "numpy", "plotly", "system"):
        assert name in page.sections["setup"]
    # The name of a shape is text, not HTML.
    assert "tall <b>" in page.sections["queries"]
    views = json.loads(page.script("data"))["views"]
    assert [shape["name"] for shape in views["shapes"]] == ["small", "tall <b>"]
    assert [row["label"] for row in views["rows"]] == [
        "ONet OCC",
        "DeepSDF SDF",
        "ConvONet UDF",
        "ConvONet mask 0.1 UDF",
    ]
    assert [one["symbol"] for one in views["strategies"]] == [
        *("S_UNI", "S_HFS", "S_HNS", "S_BS", "S_FUNS", "S_FSNS", "S_NS", "S_Linear"),
    ]
    assert [one["label"] for one in views["failures"]] == ["ONet OCC S_NS"]
    collapsed = next(one for one in views["rows"][1]["strategies"] if one["name"] == "near_surface")
    assert collapsed["shapes"][0] == {"text": "no surface: no surface in any of 2 test shapes"}
    decoded = decode(views["rows"][0]["strategies"][0]["shapes"][1], page.script("arrays"), views["steps"])
    mesh = SHAPES[1].mesh
    np.testing.assert_allclose(decoded["points"][decoded["faces"]], mesh.vertices[mesh.faces.long()].numpy(), atol=1e-4)
    assert np.abs(decoded["distance"]).max() < 1e-6


def decode(entry: dict[str, Any], arrays: str, steps: dict[str, float]) -> dict[str, np.ndarray]:
    """What the page's script does with an entry, written once more."""
    content = zlib.decompress(base64.b64decode(arrays))

    def read(kind: str, start: int, count: int) -> np.ndarray:
        return np.frombuffer(content, np.dtype(kind).newbyteorder("<"), count, start)

    faces = np.cumsum(read(*entry["faces"]), dtype=entry["faces"][0])
    return {
        "points": read(*entry["points"]).reshape(-1, 3) * steps["coordinate"],
        "faces": faces.reshape(-1, 3),
        "distance": read(*entry["distance"]) * steps["distance"],
    }


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_figures, "_FIGURES", {name: paper_figures._FIGURES[name] for name in FEW_FIGURES})


@pytest.mark.usefixtures("few_figures")
def test_records_alone_say_what_cannot_be_shown(tmp_path: Path) -> None:
    _, records = study_folder(tmp_path)
    matrix.write_records(tmp_path / "records.jsonl", records)
    for path in sorted((tmp_path / "runs").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "runs").rmdir()
    page = Page(write_report(tmp_path).read_text())
    for section in ("reconstructions", "failures"):
        assert "Not shown: the study's shapes are not here, only its records." in page.sections[section]
    assert page.sections["figures"].count("is not shown") == 3
    assert "built in" in page.sections["queries"]
    assert "Table I." in page.sections["tables"]


def test_query_points_of_the_views_carry_their_distances() -> None:
    views = build_views([], ["linear(tau=0.05)"], Reconstructions(SHAPES, "", {}))
    assert views["strategies"][-1]["symbol"] == "S_Linear(tau=0.05)"
    content = zlib.decompress(base64.b64decode(views["arrays"]))
    for shape, half in enumerate((0.2, 0.3)):
        cloud = views["strategies"][0]["clouds"][shape]
        kind, start, count = cloud["points"]
        points = np.frombuffer(content, kind, count, start).reshape(-1, 3) * views["steps"]["coordinate"]
        kind, start, count = cloud["distance"]
        distance = np.frombuffer(content, kind, count, start) * views["steps"]["distance"]
        assert points.shape == (2_000, 3)
        # Signed distance to a box, from its formula; stored in steps and cut at the ends.
        over = np.abs(points) - half
        exact = np.linalg.norm(np.maximum(over, 0), axis=1) + np.minimum(over.max(axis=1), 0)
        np.testing.assert_allclose(distance, np.clip(exact, -0.3175, 0.3175), atol=2e-3)


@pytest.mark.usefixtures("few_figures")
@pytest.mark.parametrize(
    ("module", "name"), [("plotly.offline", "plotly"), ("fast_simplification", "fast-simplification")]
)
def test_without_a_library_everything_else_is_written(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "study_shapes", no_shapes)
    monkeypatch.setitem(sys.modules, module, None)
    result = run_study(small_config(processes=0), tmp_path, progress=False, execute=fake_run)
    assert result.report == tmp_path / "report.md"
    assert not (tmp_path / "report.html").exists()
    (tmp_path / "report.md").unlink()
    with pytest.raises(ExtraError, match=re.escape(f"needs {name}; install pyimplicit[report]")):
        write_report(tmp_path)
    assert (tmp_path / "report.md").exists()


@pytest.mark.usefixtures("few_figures")
def test_shapes_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> tuple[list[Shape], list[Shape]]:
        raise matrix.StudyError("the disk is on strike")

    study_folder(tmp_path)
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(matrix, "study_shapes", broken)
    page = Page(write_report(tmp_path).read_text())
    assert "the disk is on strike" in page.sections["reconstructions"]
