"""Which shapes a study takes of a source that has splits of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyimplicit.data import prepare_shapes, split_shapes
from pyimplicit.errors import DataError, MeshError
from pyimplicit.geometry import Mesh
from pyimplicit.study import shapes
from pyimplicit.study.run_spec import DataConfig
from tests.geometry.shapes import cube


class Boxes:
    """Twelve boxes: seven to train on in six groups, one to validate with, four to test on in three groups."""

    name = "boxes"

    def __init__(self, broken: tuple[str, ...] = ()) -> None:
        self.broken = broken
        self.loaded: list[str] = []

    def __len__(self) -> int:
        return 12

    def names(self) -> list[str]:
        return list("abcdefghijkl")

    def groups(self) -> list[str]:
        return list("abbdefghijjl")

    def splits(self) -> list[str]:
        return ["train"] * 7 + ["val"] + ["test"] * 4

    def load(self, index: int) -> Mesh:
        name = self.names()[index]
        self.loaded.append(name)
        if name in self.broken:
            raise MeshError("broken")
        return cube(high=1.0 + index)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    def replace(source: Boxes) -> Boxes:
        monkeypatch.setattr(shapes, "create_source", lambda *_, **__: source)
        return source

    return replace


def drawn(data: DataConfig, root: Path) -> tuple[list[str], list[str]]:
    train, test = shapes.study_shapes(data, root)
    return [shape.name for shape in train], [shape.name for shape in test]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("train", "test"), [(7, 4), (3, 2), (1, 1)])
def test_shapes_are_drawn_as_if_all_had_been_prepared(tmp_path, use, seed, train, test):
    source = use(Boxes())
    found = drawn(DataConfig(train=train, test=test, seed=seed), tmp_path / "study")
    assert set(source.loaded) == {*found[0], *found[1]}  # no more than it takes
    everything = prepare_shapes(Boxes(), tmp_path / "all", indices=[*range(7), *range(8, 12)])
    expected = split_shapes(everything, train, test, seed, test_groups=("i", "j", "l"))
    assert found == ([shape.name for shape in expected[0]], [shape.name for shape in expected[1]])
    assert not {*found[0], *found[1]} & {"h"}


def test_shapes_that_cannot_be_prepared_are_replaced(tmp_path, use):
    whole = DataConfig(train=3, test=2)
    use(Boxes())
    first = drawn(whole, tmp_path / "first")
    use(Boxes(broken=(first[0][0], first[1][0])))
    again = drawn(whole, tmp_path / "again")
    assert (len(again[0]), len(again[1])) == (3, 2)
    assert not {first[0][0], first[1][0]} & {*again[0], *again[1]}
    use(Boxes(broken=tuple("ijl")))
    with pytest.raises(DataError, match="too few shapes"):
        drawn(whole, tmp_path / "third")


def test_more_shapes_than_a_split_has_are_refused(tmp_path, use):
    use(Boxes())
    with pytest.raises(DataError, match="too few shapes"):
        drawn(DataConfig(train=8, test=4), tmp_path)
