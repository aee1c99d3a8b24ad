from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pyimplicit.errors import CheckpointError, CollapseError, ConfigError, DataError, TrainingError
from pyimplicit.training import TrainResult, load_checkpoint, load_trained, train
from pyimplicit.training.run import DEAD_STEPS
from tests.training.shapes import SIZES, sphere, tiny_config

SHAPES = [sphere(0.2), sphere(0.3), sphere(0.4)]
NETWORKS = list(SIZES)


class Stop(Exception):
    """Raised by a progress callable to end a run in the middle."""


def stop_after(step: int) -> object:
    def progress(done: int, total: int, loss: float) -> None:
        if done == step:
            raise Stop

    return progress


def same(one: TrainResult, other: TrainResult) -> bool:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    if one.codes is not None:
        equal = equal and other.codes is not None and torch.equal(one.codes, other.codes)
    return equal and one.losses == other.losses


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stop", [3, 10, 13])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, network: str, stop: int) -> None:
    config = tiny_config(network, schedule="cosine")
    whole = train(config, SHAPES, tmp_path / "whole")
    with pytest.raises(Stop):
        train(config, SHAPES, tmp_path / "parts", progress=stop_after(stop))  # type: ignore[arg-type]
    torch.rand(7)  # the caller's random numbers must not matter
    resumed_from = []
    parts = train(config, SHAPES, tmp_path / "parts", progress=lambda step, *_: resumed_from.append(step))
    assert resumed_from[0] == stop // 5 * 5 + 1
    assert same(whole, parts)
    assert (tmp_path / "whole/losses.jsonl").read_bytes() == (tmp_path / "parts/losses.jsonl").read_bytes()


def test_the_log_has_one_line_per_step(tmp_path: Path) -> None:
    result = train(tiny_config("deepsdf"), SHAPES, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert [line["loss"] for line in lines] == result.losses
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.safetensors", "config.json", "losses.jsonl"]


@pytest.mark.parametrize("network", NETWORKS)
def test_same_seed_same_run_other_seed_other_run(tmp_path: Path, network: str) -> None:
    config = tiny_config(network, steps=6)
    one = train(config, SHAPES, tmp_path / "1")
    assert same(one, train(config, SHAPES, tmp_path / "2"))
    other = train(dataclasses.replace(config, seed=1), SHAPES, tmp_path / "3")
    assert one.losses[0] != other.losses[0]


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    config = tiny_config("onet")
    first = train(config, SHAPES, tmp_path)
    steps: list[int] = []
    again = train(config, SHAPES, tmp_path, progress=lambda step, *_: steps.append(step))
    assert steps == []
    assert same(first, again)
    assert again.seconds == first.seconds > 0
    assert not again.network.training


def test_without_resume_a_run_starts_anew(tmp_path: Path) -> None:
    train(tiny_config("onet", steps=5), SHAPES, tmp_path)
    steps: list[int] = []
    train(tiny_config("onet", steps=5), SHAPES, tmp_path, resume=False, progress=lambda step, *_: steps.append(step))
    assert steps == [1, 2, 3, 4, 5]


def test_saving_more_often_changes_nothing(tmp_path: Path) -> None:
    often = train(tiny_config("deepsdf", save_every=1), SHAPES, tmp_path / "often")
    once = train(tiny_config("deepsdf", save_every=1000), SHAPES, tmp_path / "once")
    assert same(often, once)


@pytest.mark.parametrize("network", ["onet", "deepsdf"])
def test_load_trained_gives_the_result_back(tmp_path: Path, network: str) -> None:
    result = train(tiny_config(network), SHAPES, tmp_path)
    loaded = load_trained(tmp_path)
    assert same(result, loaded)
    assert loaded.names == tuple(shape.name for shape in SHAPES)
    assert (loaded.config, loaded.steps) == (result.config, 20)
    assert loaded.kind == result.kind


def test_a_run_of_another_config_is_refused(tmp_path: Path) -> None:
    train(tiny_config("onet", steps=5), SHAPES, tmp_path)
    with pytest.raises(CheckpointError, match=r"learning_rate is 0\.001 there and 0\.5 here"):
        train(tiny_config("onet", steps=5, learning_rate=0.5), SHAPES, tmp_path)
    train(tiny_config("onet", steps=5, save_every=2), SHAPES, tmp_path)


def test_a_run_on_other_shapes_is_refused(tmp_path: Path) -> None:
    config = tiny_config("onet", steps=5)
    train(config, SHAPES, tmp_path)
    for shapes in (SHAPES[:2], [sphere(0.21, SHAPES[0].name), *SHAPES[1:]]):
        with pytest.raises(CheckpointError, match="other shapes"):
            train(config, shapes, tmp_path)


def test_a_damaged_checkpoint_is_refused_and_left_alone(tmp_path: Path) -> None:
    config = tiny_config("onet", steps=5)
    train(config, SHAPES, tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    damaged = file.read_bytes()[:-100]
    file.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="truncated"):
        train(config, SHAPES, tmp_path)
    assert file.read_bytes() == damaged


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    config = tiny_config("convonet", steps=50, learning_rate=1e30, save_every=1)
    with pytest.raises(TrainingError, match="the loss of step"):
        train(config, SHAPES, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert load_checkpoint(tmp_path).step == len(losses) < 50


@pytest.mark.parametrize("changes", [{}, {"mask_distance": 0.1}, {"batch_size": 4, "accumulation": 2}])
def test_a_dead_final_relu_is_found_and_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = tiny_config("ndf", steps=200, save_every=10, **changes)
    dead = dataclasses.replace(config, network_config={**config.network_config, "output_bias": -50.0})
    with pytest.raises(
        CollapseError, match=f"final ReLU of ndf is dead: .* {DEAD_STEPS} steps up to step {DEAD_STEPS} "
    ):
        train(dead, SHAPES, tmp_path)
    assert load_checkpoint(tmp_path).step == 40


def test_the_authors_start_may_die_and_ours_does_not(tmp_path: Path) -> None:
    """With torch's own last bias all answers may begin at 0; as long as some do not, the network learns."""
    ended = {}
    for seed in (0, 2):
        config = tiny_config("ndf", steps=70, seed=seed, learning_rate=1e-4)
        authors = dataclasses.replace(config, network_config={**config.network_config, "output_bias": None})
        assert len(train(config, SHAPES, tmp_path / f"{seed}").losses) == 70
        try:
            losses = train(authors, SHAPES, tmp_path / f"authors-{seed}").losses
            ended[seed] = losses[-1] < losses[0]
        except CollapseError:
            ended[seed] = False
    assert ended == {0: False, 2: True}


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one shape"):
        train(tiny_config("onet"), [], tmp_path)
    with pytest.raises(ConfigError, match="network_config"):
        train(tiny_config("onet", network_config={"wings": 2}), SHAPES, tmp_path)
    with pytest.raises(ConfigError, match="network_config"):
        train(tiny_config("onet", network_config={"code_size": 0}), SHAPES, tmp_path)


def test_threads_and_random_state_are_given_back(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    seen: list[int] = []
    train(
        tiny_config("onet", steps=2, threads=threads + 1),
        SHAPES,
        tmp_path,
        progress=lambda *_: seen.append(torch.get_num_threads()),
    )
    assert seen == [threads + 1] * 2
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected)


def test_codes_of_absent_shapes_stay(tmp_path: Path) -> None:
    config = tiny_config("deepsdf", batch_size=1, steps=2, save_every=1)
    with pytest.raises(Stop):
        train(config, SHAPES, tmp_path, progress=stop_after(1))  # type: ignore[arg-type]
    before = load_checkpoint(tmp_path).codes["weight"]
    after = train(config, SHAPES, tmp_path).codes
    assert after is not None
    assert (before != after).any(dim=1).sum() == 1


CHILD = """
import sys
from tests.training.shapes import SIZES, sphere, tiny_config
from pyimplicit.training import train
config = tiny_config(sys.argv[1], steps=3_000, save_every=10)
train(config, [sphere(0.2), sphere(0.3)], sys.argv[2], progress=lambda *_: print(end=".", flush=True))
"""


@pytest.mark.parametrize("network", ["onet", "deepsdf"])
def test_a_run_that_is_killed_goes_on_exactly(tmp_path: Path, network: str) -> None:
    root = Path(__file__).parents[2]
    folder = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, "-c", CHILD, network, str(folder)], cwd=root, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read(25)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    reached = load_checkpoint(folder).step
    assert 20 <= reached < 3_000
    stop = reached + 10
    config = tiny_config(network, steps=3_000, save_every=10)
    logs = []
    for out in (folder, tmp_path / "whole"):
        with pytest.raises(Stop):
            train(config, [sphere(0.2), sphere(0.3)], out, progress=stop_after(stop))  # type: ignore[arg-type]
        logs.append((out / "losses.jsonl").read_text())
    assert logs[0] == logs[1]
    assert len(logs[0].splitlines()) == stop
