from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from pyimplicit.errors import CheckpointError
from pyimplicit.training import Checkpoint, load_checkpoint, save_checkpoint
from pyimplicit.training.checkpoint import _checksum
from tests.training.shapes import tiny_config


def example() -> Checkpoint:
    return Checkpoint(
        config=tiny_config("deepsdf"),
        data="0123456789abcdef",
        names=("one", "two"),
        step=3,
        seconds=1.5,
        network={"linear.weight": torch.randn(4, 3), "count": torch.tensor(7)},
        codes={"weight": torch.randn(2, 4)},
        optimizer={"network.0.step": torch.tensor(3.0), "codes.mean": torch.randn(2, 4)},
        losses=torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64),
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint = example()
    save_checkpoint(checkpoint, tmp_path / "checkpoint.safetensors")
    for path in (tmp_path, tmp_path / "checkpoint.safetensors"):
        loaded = load_checkpoint(path)
        assert (loaded.config, loaded.data, loaded.names) == (checkpoint.config, checkpoint.data, checkpoint.names)
        assert (loaded.step, loaded.seconds) == (3, 1.5)
        for section in ("network", "codes", "optimizer"):
            ours, theirs = getattr(checkpoint, section), getattr(loaded, section)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert torch.equal(loaded.losses, checkpoint.losses)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_saving_replaces_and_is_repeatable(tmp_path: Path) -> None:
    file = tmp_path / "a"
    checkpoint = example()
    save_checkpoint(example(), file)
    save_checkpoint(checkpoint, file)
    first = file.read_bytes()
    save_checkpoint(checkpoint, file)
    assert file.read_bytes() == first


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(example(), tmp_path / "missing" / "file")


def flip_last_byte(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def change_header(**changes: object) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        size = int.from_bytes(content[:8], "little")
        ((key, header),) = json.loads(content[8 : 8 + size])["__metadata__"].items()
        return save(load(content), {key: json.dumps(json.loads(header) | changes)})

    return change


DAMAGES = [
    ("empty", lambda content: b"", "truncated"),
    ("first half", lambda content: content[: len(content) // 2], "truncated"),
    ("last byte missing", lambda content: content[:-1], "truncated"),
    ("header cut", lambda content: content[:20], "truncated"),
    ("last byte flipped", flip_last_byte, "checksum"),
    ("step changed", change_header(run={}), "checksum"),
    ("text", lambda content: b"not a checkpoint at all", "truncated or not"),
    ("a network's file", lambda content: save({"weight": torch.zeros(2)}, {"format": "pt"}), "not a checkpoint"),
    ("no metadata", lambda content: save({"weight": torch.zeros(2)}), "not a checkpoint"),
    ("newer version", change_header(version=999), "expected version 2 or an earlier one, got 999"),
]


@pytest.mark.parametrize(("damage", "message"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES])
def test_damage_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    file = tmp_path / "checkpoint.safetensors"
    save_checkpoint(example(), file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(file)


def test_files_of_version_1_are_read(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    save_checkpoint(example(), file)
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    ((_, header),) = json.loads(content[8 : 8 + size])["__metadata__"].items()
    run, tensors = json.loads(header)["run"], load(content)
    del run["processes"]
    for name in ("accumulation", "precision", "compile"):
        del run["config"][name]
    file.write_bytes(change_header(version=1, run=run, checksum=_checksum(run, tensors))(content))
    loaded = load_checkpoint(file)
    assert loaded.processes == 1
    assert loaded.config == example().config


def test_every_cut_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    save_checkpoint(example(), file)
    content = file.read_bytes()
    for size in range(0, len(content), 37):
        file.write_bytes(content[:size])
        with pytest.raises(CheckpointError):
            load_checkpoint(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_checkpoint(tmp_path)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle0", "pickle2", "pickle5"])
def test_pickles_are_refused_and_never_executed(tmp_path: Path, form: str) -> None:
    file, touched = tmp_path / "checkpoint.safetensors", tmp_path / "touched"
    if form == "zip":
        torch.save({"model": Bomb(touched)}, file)
    elif form == "legacy":
        torch.save({"model": Bomb(touched)}, file, _use_new_zipfile_serialization=False)
    else:
        file.write_bytes(pickle.dumps(Bomb(touched), protocol=int(form[-1])))
    with pytest.raises(CheckpointError, match=r"pickle|not a safetensors"):
        load_checkpoint(file)
    assert not touched.exists()


def test_a_config_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "checkpoint.safetensors"
    checkpoint = example()
    values = checkpoint.config.to_dict() | {"gravity": 9.81}
    monkeypatch.setattr(type(checkpoint.config), "to_dict", lambda self: values)
    save_checkpoint(checkpoint, file)
    with pytest.raises(CheckpointError, match="gravity"):
        load_checkpoint(file)
