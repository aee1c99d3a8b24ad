"""The AC3D reader: what the format says, and files that break it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit.errors import MeshFileError
from pyimplicit.geometry.ac3d import parse_ac3d

SQUARE = """AC3Db
MATERIAL "white paint" rgb 1 1 1 amb 1 1 1 emis 0 0 0 spec 0 0 0 shi 0 trans 0
OBJECT world
kids 1
OBJECT poly
name "a square OBJECT"
texture "missing.rgb" base
texrep 1 1
crease 45.0
numvert 4
0 0 0 0 0 1
1 0 0 0 0 1
1 1 0 0 0 1
0 1 0 0 0 1
numsurf 1
SURF 0x10
mat 0
refs 4
0 0 0 0 0 0 0 0 0
1 1 0
2 1 1
3 0 1
kids 0
"""


def test_a_polygon_becomes_a_fan():
    vertices, faces, _ = parse_ac3d(SQUARE)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_a_strip_keeps_one_orientation_and_drops_its_joints():
    strip = SQUARE.replace("SURF 0x10", "SURF 0x34").replace("refs 4", "refs 6").replace("3 0 1", "3 0 1\n3 0 0\n0 0 0")
    vertices, faces, _ = parse_ac3d(strip)
    # 0 1 2 | 1 2 3 turned | joints 2 3 3 and 3 3 0
    assert faces.tolist() == [[0, 1, 2], [2, 1, 3]]
    zigzag = strip.replace("2 1 1\n3 0 1\n3 0 0\n0 0 0", "3 0 0\n2 0 0").replace("refs 6", "refs 4")
    vertices, faces, _ = parse_ac3d(zigzag)
    normals = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    assert (normals[:, 2] > 0).all()
    assert np.abs(normals).sum() / 2 == pytest.approx(1)


@pytest.mark.parametrize("kind", ["0x1", "0x22"])
def test_lines_are_ignored(kind):
    vertices, faces, _ = parse_ac3d(SQUARE.replace("0x10", kind))
    assert len(vertices) == 4
    assert faces.shape == (0, 3)


def test_places_and_rotations_nest():
    child = SQUARE[SQUARE.index("OBJECT poly") :]
    # A quarter turn about z, stored column by column: x goes to y.
    turn = "rot 0 1 0 -1 0 0 0 0 1\n"
    text = "AC3Db\nOBJECT group\nrot 0 1 0 -1 0 0 0 0 1\nloc 10 0 0\nkids 2\n"
    text += child.replace("numvert", "loc 1 2 3\nnumvert")
    text += child.replace("numvert", f"loc 0 0 5\n{turn}numvert")
    vertices, faces, _ = parse_ac3d(text)
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert vertices[:4] == pytest.approx((square + np.array([1, 2, 3])) @ quarter.T + np.array([10, 0, 0]))
    assert vertices[4:] == pytest.approx((square @ quarter.T + np.array([0, 0, 5])) @ quarter.T + np.array([10, 0, 0]))
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]


def test_the_text_of_data_is_skipped_whatever_it_says():
    text = "kids 7\nOBJECT poly\nnumvert 3"
    assert parse_ac3d(SQUARE.replace('name "a', f'data {len(text)}\n{text}\nname "a'))[1].tolist() == [
        [0, 1, 2],
        [0, 2, 3],
    ]


def test_line_ends_of_any_kind_and_empty_lines():
    expected = parse_ac3d(SQUARE)[0].tolist()
    assert parse_ac3d(SQUARE.replace("\n", "\r\n"))[0].tolist() == expected
    assert parse_ac3d(SQUARE.replace("\n", "\n\n"))[0].tolist() == expected


def test_objects_without_geometry_give_no_faces():
    vertices, faces, _ = parse_ac3d("AC3Db\nOBJECT world\nkids 0\n")
    assert vertices.shape == (0, 3)
    assert faces.shape == (0, 3)


def test_objects_can_be_left_out_by_name():
    child = SQUARE[SQUARE.index("OBJECT poly") :]
    text = SQUARE.replace("kids 1", "kids 2") + child.replace("a square OBJECT", "Wake").replace("0 1 0 0", "0 7 0 0")
    assert parse_ac3d(text).faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]
    found = parse_ac3d(text, leave_out=("Wake",))
    assert (found.vertices.tolist(), found.faces.tolist()) == (parse_ac3d(SQUARE)[0].tolist(), [[0, 1, 2], [0, 2, 3]])
    found = parse_ac3d(text, leave_out=("a square OBJECT",))
    assert found.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 7, 0]]
    assert found.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    around = 'AC3Db\nOBJECT group\nname "Wake"\nloc 0 0 9\nkids 1\n' + child  # what is inside stays
    assert parse_ac3d(around, leave_out=["Wake"]).vertices[:, 2].tolist() == [9, 9, 9, 9]
    with pytest.raises(MeshFileError, match="no object is named Chute, Flame"):
        parse_ac3d(text, leave_out=("Flame", "Wake", "Chute"))


def test_objects_that_are_announced_but_missing_are_counted():
    whole = parse_ac3d(SQUARE)
    assert whole.missing == 0
    short = parse_ac3d(SQUARE.replace("kids 1", "kids 3"))
    assert short.missing == 2
    assert short.vertices.tolist() == whole.vertices.tolist()
    assert short.faces.tolist() == whole.faces.tolist()
    nested = "AC3Db\nOBJECT world\nkids 2\nOBJECT group\nkids 4\n" + SQUARE[SQUARE.index("OBJECT poly") :]
    assert parse_ac3d(nested).missing == 4  # one of the world's, three of the group's
    # Objects after the last one that was announced are read as well.
    more = parse_ac3d(SQUARE + SQUARE[SQUARE.index("OBJECT poly") :])
    assert (len(more.vertices), len(more.faces), more.missing) == (8, 4, 0)


@pytest.mark.parametrize("end", range(1, 3 * len(SQUARE.splitlines()) - 8))
def test_of_a_file_cut_anywhere_nothing_is_lost_in_silence(end):
    child = SQUARE[SQUARE.index("OBJECT poly") :]
    lines = (SQUARE.replace("kids 1", "kids 3") + child + child).splitlines()
    ends = {2 + 2 + 19 * count: count for count in range(1, 4)}  # where an object ends
    try:
        found = parse_ac3d("\n".join(lines[:end]))
    except MeshFileError:
        assert end not in ends
        return
    whole = ends.get(end, 0)
    assert (len(found.faces), found.missing) == (2 * whole, 3 - whole if end > 3 else 0)
    assert end in ends or end <= 2  # the header, and materials, are a whole file without objects


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("AC3Db", "solid box", "line 1: expected the header 'AC3D', got 'solid box'"),
        ("MATERIAL", "MATTER", "line 2: expected MATERIAL or OBJECT, got 'MATTER'"),
        ("kids 1", "kids one", "line 4: expected 1 number, got 'one'"),
        ("kids 1", "kids -1", "line 4: kids -1"),
        ("kids 1", "kids 9999999", "line 4: kids 9999999, but only"),
        ("numvert 4", "numvert 5", "expected 3 numbers, got 'numsurf 1'"),
        ("numvert 4", "numvert 400000000000", "line 10: numvert 400000000000, but only"),
        ("numvert 4", "numvert", "line 10: expected 1 number"),
        ("1 1 0 0 0 1", "1 one 0 0 0 1", "line 13: expected 3 numbers, got '1 one 0"),
        ("1 1 0 0 0 1", "1 1", "line 13: expected 3 numbers, got '1 1'"),
        ("numsurf 1", "numsurf 2", "expected SURF and its flags, got 'kids 0'"),
        ("SURF 0x10", "SURF", "line 16: expected SURF"),
        ("SURF 0x10", "SURF ten", "line 16: expected SURF"),
        ("SURF 0x10", "SURF 0x17", "unknown kind 7"),
        ("mat 0", "matter 0", "line 17: expected mat or refs, got 'matter'"),
        ("refs 4", "refs 5", "expected 1 number, got 'kids 0'"),
        ("3 0 1\n", "4 0 1\n", "line 22: vertex number 4 of a surface, but the object has 4 vertices"),
        ("3 0 1\n", "-1 0 1\n", "line 22: vertex number -1"),
        ("3 0 1\n", "0.5 0 1\n", "line 22: expected 1 number, got '0.5"),
        ("kids 0\n", "", "the file ends inside an object"),
        ("kids 0\n", "OBJECT poly\nkids 0\n", "line 23: OBJECT inside an object"),
        ("crease 45.0", "data 100000", "line 9: data 100000"),
        ("crease 45.0", "data 150", "the file ends inside the text of 'data'"),
        ("crease 45.0", "loc 1 2", "line 9: expected 3 numbers"),
        ("crease 45.0", "rot 1 0 0 0 1 0 0 0", "line 9: expected 9 numbers"),
    ],
)
def test_broken_files_are_refused_with_the_line(old, new, words):
    with pytest.raises(MeshFileError, match=words):
        parse_ac3d(SQUARE.replace(old, new, 1))


def test_deep_nesting_is_refused_without_recursion():
    with pytest.raises(MeshFileError, match="nested more than 1000 deep"):
        parse_ac3d("AC3Db\n" + "OBJECT group\nkids 1\n" * 5000)


@pytest.mark.parametrize("end", range(1, len(SQUARE.splitlines())))
def test_truncated_files_are_refused(end):
    with pytest.raises(MeshFileError):
        parse_ac3d("\n".join(SQUARE.splitlines()[:end]) + "\nnumvert")


@pytest.mark.parametrize(
    "line", ["loc 1e999 0 0", "loc nan 0 0", "rot 1e999 0 0 0 1 0 0 0 1", "rot 1e308 0 0 1e308 1 0 0 0 1"]
)
def test_coordinates_that_are_not_finite_are_refused(line):
    """The last line's numbers are, but not what it makes of a corner at (1, 1, 0)."""
    with pytest.raises(MeshFileError, match=r"line \d+: expected finite coordinates, got NaN or infinity"):
        parse_ac3d(SQUARE.replace("numvert", f"{line}\nnumvert", 1))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_files_are_read_or_refused_never_crash(data):
    text = SQUARE
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        text = (
            text[:place]
            + data.draw(st.text("0123456789-.ex \nOBJECTkidsSURFrefs\0é", max_size=8))
            + text[place + length :]
        )
    try:
        vertices, faces, _ = parse_ac3d(text)
    except MeshFileError:
        return
    assert faces.size == 0 or 0 <= faces.min() <= faces.max() < len(vertices)
