from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from pyimplicit.errors import CheckpointError
from pyimplicit.networks import load_network, save_network
from pyimplicit.networks.states import HEADER
from tests.networks.small import CASES, build, inputs


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(case: str, dtype: torch.dtype, tmp_path: Path) -> None:
    network = build(case, dtype=dtype).eval()
    path = tmp_path / "network.safetensors"
    save_network(network, path)
    state = torch.random.get_rng_state()
    loaded = load_network(path)
    assert torch.equal(state, torch.random.get_rng_state())  # loading draws nothing
    assert (loaded.name, loaded.variant, loaded.config) == (network.name, network.variant, network.config)
    assert not loaded.training
    queries, condition = inputs(network, 2, 5)
    assert torch.equal(loaded(queries, condition), network(queries, condition))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    path.write_bytes(b"")  # the network does not depend on its file
    assert torch.equal(loaded(queries, condition), network(queries, condition))
    loaded.train()(queries, condition).sum().backward()


def test_saving_replaces_whole_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_network(build("onet", seed=0), path)
    save_network(build("onet", seed=1), str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["network.safetensors"]
    expected = build("onet", seed=1).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in load_network(path).state_dict().items())
    with pytest.raises(FileNotFoundError):
        save_network(build("onet"), tmp_path / "no" / "network.safetensors")


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.safetensors"
    save_network(build("onet"), path)
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_network(build("onet", seed=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["network.safetensors"]


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_unread(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(build("onet").state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="got a pickle or torch"):
        load_network(path)


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_network(tmp_path / "missing.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        load_network(tmp_path)
    path = tmp_path / "network.safetensors"
    for content in (b"", b"garbage", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a safetensors file, or damaged"):
            load_network(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no network header"):
        load_network(path)


def test_a_cut_file_is_refused_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_network(build("deepsdf"), path)
    content = path.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            load_network(path)


def rewritten(path: Path, change: dict[str, object] | None = None, drop: str = "", add: str = "") -> Path:
    """A saved ONet with its header or its keys changed."""
    network = build("onet")
    save_network(network, path)
    header = {"format": 1, "name": network.name, "variant": network.variant, "config": network.config}
    tensors = load(path.read_bytes())
    if drop:
        del tensors[drop]
    if add:
        tensors[add] = torch.zeros(2)
    save_file(tensors, path, {HEADER: json.dumps({**header, **(change or {})})})
    return path


def test_headers_and_tensors_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    config = build("onet").config
    for change, message in (
        ({"format": 99}, "unknown format"),
        ({"config": 3}, "unknown format"),
        ({"name": "os.system"}, "its config cannot be built: name: expected one of"),
        ({"config": {**config, "code_size": -1}}, "its config cannot be built: code_size"),
        ({"config": {**config, "surprise": 1}}, "surprise"),
        # costs no memory: the network is compared before any is allocated
        ({"config": {**config, "hidden_size": 1_000_000}}, r"unfit encoder.fc_pos.weight \(expected \[2000000, 3\]"),
        ({"name": "deepsdf", "config": {}}, r"missing lin0.bias.* and 18 more; unknown decoder.block0.* and 122 more"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_network(rewritten(path, change))
    with pytest.raises(CheckpointError, match=r"missing encoder.fc_c.bias$"):
        load_network(rewritten(path, drop="encoder.fc_c.bias"))
    with pytest.raises(CheckpointError, match=r"unknown extra$"):
        load_network(rewritten(path, add="extra"))
