"""Several processes that share a training: the same step as one process, one set of files, and resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pyimplicit.errors import CheckpointError, ConfigError
from pyimplicit.training import load_checkpoint, load_trained, train
from pyimplicit.training.team import Team
from tests.training.shapes import SIZES, sphere, tiny_config

ROOT = Path(__file__).parents[2]
SHAPES = [sphere(0.2), sphere(0.3), sphere(0.4)]
SCRIPT = """
import json, os, sys
from pathlib import Path
from pyimplicit.training import TrainConfig, train
Path(sys.argv[2] + "-process-" + os.environ["RANK"]).write_text(str(os.getpid()))
from tests.training.shapes import sphere
config = TrainConfig.from_dict(json.loads(sys.argv[1]))
train(config, [sphere(0.2), sphere(0.3), sphere(0.4)], sys.argv[2])
"""


def start_together(config, out: Path, processes: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    script = out.parent / "train.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(script), json.dumps(config.to_dict()), str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip


def train_together(config, out: Path, processes: int = 2) -> None:
    with start_together(config, out, processes) as team:
        _, said = team.communicate(timeout=240)
    assert team.returncode == 0, said[-3000:]


@pytest.mark.parametrize("network", ["convonet", "curriculum_deepsdf"])
def test_two_processes_take_the_steps_of_one(tmp_path: Path, network: str) -> None:
    """No batch normalisation, no dropout: equal but for rounding; and a run of two goes on where it stopped."""
    sizes = SIZES[network] | ({} if network == "convonet" else {"dropout": 0.0})
    config = tiny_config(network, network_config=sizes, batch_size=4, steps=10, save_every=5)
    alone = train(config, SHAPES, tmp_path / "alone")
    together = tmp_path / "together"
    train_together(config, together)
    found = load_trained(together)
    assert found.losses == pytest.approx(alone.losses, rel=2e-3)
    for name, value in alone.network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], value, rtol=0, atol=2e-3)
    assert len((together / "losses.jsonl").read_text().splitlines()) == 10
    assert sorted(path.name for path in together.iterdir()) == sorted(
        path.name for path in (tmp_path / "alone").iterdir()
    )
    with pytest.raises(CheckpointError, match="processes"):
        train(config, SHAPES, together)


def test_a_team_that_is_killed_goes_on_exactly(tmp_path: Path) -> None:
    """If one is killed none goes on alone; the same call then ends as if nothing had been."""
    config = tiny_config("convonet", batch_size=4, steps=120, save_every=5)
    out = tmp_path / "killed"
    reached = 0
    for victims in ((1,), (0, 1)):
        with start_together(config, out) as team:
            until = time.monotonic() + 200
            while not (out / "checkpoint.safetensors").exists() or load_checkpoint(out).step == reached:
                assert team.poll() is None
                assert time.monotonic() < until
            for rank in victims:
                os.kill(int((tmp_path / f"killed-process-{rank}").read_text()), signal.SIGKILL)
            team.communicate(timeout=240)
        assert team.returncode != 0
        assert reached < load_checkpoint(out).step < config.steps
        reached = load_checkpoint(out).step
    train_together(config, out)
    whole = tmp_path / "whole"
    train_together(config, whole)
    assert (out / "losses.jsonl").read_bytes() == (whole / "losses.jsonl").read_bytes()
    assert (out / "losses.jsonl").read_bytes().count(b"\n") == config.steps


def test_a_share_of_the_batch_is_checked() -> None:
    team = Team(rank=1, size=2, device=torch.device("cpu"))
    assert team.share(6) == slice(3, 6)
    with pytest.raises(ConfigError, match="batch_size: expected a multiple of 2"):
        team.share(5)
