"""Trainings killed at random moments: no checkpoint is ever broken, and what comes of them is what would have come.

    python -m benchmarks.verify_resume [--kills 12] [--networks onet deepsdf] [--seed 0]

Each network is trained once without interruption, and once by processes that are killed (SIGKILL) after a random number
of steps and a random time, checkpoints being written after every second step. After each kill the checkpoint must load;
at the end the loss log and the last checkpoint must be those of the first training, bit by bit. "writing": kills that
left a file half written beside the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import print_rows, save
from pyimplicit.data import ProceduralCars, Shape
from pyimplicit.errors import CheckpointError
from pyimplicit.training import TrainConfig, load_checkpoint, preset, train
from pyimplicit.training.checkpoint import CHECKPOINT_FILE
from pyimplicit.training.loop import LOSS_FILE

# A process is killed after up to so many of its steps, and up to so many seconds, about two steps, after the last.
MOST_STEPS = 20
WITHIN = 0.1


def config(network: str, steps: int) -> TrainConfig:
    """Reduced width, one thread; checkpoints as often as will be."""
    values = preset(network, "tiny").to_dict() | {"steps": steps, "save_every": 2, "threads": 1, "batch_size": 2}
    return TrainConfig.from_dict(values | {"points_per_step": 64, "pool_size": 1_024, "cloud_pool": 1_024})


def shapes() -> list[Shape]:
    cars = ProceduralCars(3, resolution=24)
    return [Shape(name, name, cars.load(index), {}) for index, name in enumerate(cars.names())]


def child(network: str, steps: int, out: str) -> None:
    """Train in this process, and say when each step is done."""
    train(config(network, steps), shapes(), out, progress=lambda *_: print(end=".", flush=True))


def start(network: str, steps: int, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.verify_resume", "--child", network, "--steps", str(steps)]
    return subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, env=os.environ)


def verify(network: str, kills: int, steps: int, draw: random.Random) -> dict[str, Any]:
    """A row: one training in peace, one under fire."""
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = Path(scratch) / "whole", Path(scratch) / "killed"
        with start(network, steps, whole) as process:
            process.communicate()
        broken = writing = done = 0
        reached: list[int] = []
        while done < kills:
            with start(network, steps, killed) as process:
                assert process.stdout is not None
                process.stdout.read(draw.randint(1, MOST_STEPS))
                time.sleep(draw.uniform(0, WITHIN))
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
                if process.returncode != -signal.SIGKILL:
                    raise SystemExit(f"{network}: the training ended after {done} kills; give it more --steps")
            done += 1
            writing += any(path.name not in ("config.json", CHECKPOINT_FILE, LOSS_FILE) for path in killed.iterdir())
            try:
                reached.append(load_checkpoint(killed).step if (killed / CHECKPOINT_FILE).exists() else 0)
            except CheckpointError as error:
                broken += 1
                print(f"{network}: {error}", file=sys.stderr)
        with start(network, steps, killed) as process:
            process.communicate()
        logs = [(folder / LOSS_FILE).read_bytes() for folder in (whole, killed)]
        ends = [load_checkpoint(folder) for folder in (whole, killed)]
    same = all(
        getattr(ends[0], part).keys() == getattr(ends[1], part).keys()
        and all(torch.equal(value, getattr(ends[1], part)[key]) for key, value in getattr(ends[0], part).items())
        for part in ("network", "codes", "optimizer")
    )
    return {
        "network": network, "steps": steps, "kills": kills, "writing": writing, "broken checkpoints": broken,
        "steps at kills": json.dumps(reached), "lines of the log": logs[0].count(b"\n"),
        "same log": logs[0] == logs[1], "same weights and moments": same,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--networks", nargs="+", default=["onet", "deepsdf"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the moments; the machine's load moves them too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/local"))
    parser.add_argument("--child", metavar="NETWORK", help="train this one in --out, here")
    options = parser.parse_args()
    if options.child:
        child(options.child, options.steps, str(options.out))
        return 0
    draw = random.Random(options.seed)
    rows = [verify(network, options.kills, options.steps, draw) for network in options.networks]
    print_rows("trainings that were killed", rows)
    print(save("verify_resume", rows, torch.device("cpu"), options.out))
    exact = all(row["same log"] and row["same weights and moments"] for row in rows)
    return 0 if exact and not any(row["broken checkpoints"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
