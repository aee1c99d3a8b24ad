"""The curriculum of the loss at the authors' epochs, alone and in the loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from pyimplicit.errors import ConfigError
from pyimplicit.fields import SDF, TSDF, Occ
from pyimplicit.networks import CurriculumDeepSDF
from pyimplicit.training import Curriculum, TrainConfig, TrainResult, field_kind, train
from tests.training.shapes import sphere, tiny_config

STAGES = [(0.025, 0.0), (0.01, 0.1), (0.0025, 0.2), (0.0, 0.5)]


@pytest.mark.parametrize(
    ("epoch", "stage"), [(1, 0), (199, 0), (200, 1), (599, 1), (600, 2), (999, 2), (1000, 3), (2001, 3), (None, 3)]
)
def test_the_loss_changes_at_the_authors_epochs(epoch: int | None, stage: int) -> None:
    for kind in (SDF(), TSDF(0.1)):
        changed = Curriculum().kind(kind, epoch)
        assert (changed.tolerance, changed.hard_weight) == STAGES[stage]
    assert Curriculum().kind(Occ(0.2), epoch) == Occ(0.2)


def test_a_training_of_the_authors_length_is_in_its_own_epochs_and_others_are_scaled() -> None:
    curriculum = Curriculum()
    each = 7  # steps an epoch
    assert [curriculum.epoch(step, 2001 * each) for step in (0, 6, 7, 1394, 2001 * each - 1)] == [1, 1, 2, 200, 2001]
    scaled = [curriculum.epoch(step, 100) for step in range(100)]
    assert scaled[0] == 1
    assert scaled == sorted(scaled)
    assert sum(epoch < 200 for epoch in scaled) == 10  # the first tenth


def test_stages_must_fit_together() -> None:
    with pytest.raises(ValueError, match="tolerances: expected one more than the 2 loss_epochs"):
        Curriculum(loss_epochs=(5, 9))
    with pytest.raises(ValueError, match="loss_epochs: expected ascending epochs"):
        Curriculum(loss_epochs=(5, 5, 9))
    with pytest.raises(ValueError, match="hard_weight: expected at most 1"):
        Curriculum(hard_weights=(0, 0, 0, 1.5))


class Stop(Exception):
    """Raised by a progress callable to end a run in the middle."""


def test_the_loop_follows_it_and_a_resumed_run_too(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    whole_depth = CurriculumDeepSDF.depth

    def depth(network: CurriculumDeepSDF) -> tuple[int, float]:
        seen.append(whole_depth(network))
        return seen[-1]

    config = tiny_config("curriculum_deepsdf", steps=20)
    assert (config.curriculum, config.code_penalty, config.code_std) == (True, "square", 0.1)

    def go(folder: str, stop: int | None = None) -> TrainResult:
        def progress(done: int, total: int, loss: float) -> None:
            if done == stop:
                raise Stop

        return train(config, [sphere(0.3), sphere(0.4)], tmp_path / folder, progress=progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CurriculumDeepSDF, "depth", depth)
        result = go("whole")
    # Steps 0 and 1 are epochs 1 and 101, step 2 is epoch 201: the third layer fades in until epoch 400.
    assert [depth for depth, _ in seen[:5]] == [2, 2, 3, 3, 3]
    assert [bypass for _, bypass in seen[:5]] == pytest.approx([0, 0, 0.995, 0.495, 0])
    assert [depth for depth, _ in seen] == sorted(depth for depth, _ in seen)
    assert seen[-1] == (5, 0)
    assert result.network.epoch is None
    assert result.kind == SDF(tolerance=0.0, hard_weight=0.5)
    with pytest.raises(Stop):
        go("parts", stop=8)
    assert go("parts").losses == result.losses


def test_the_loss_of_a_step() -> None:
    config = TrainConfig("deepsdf", field="tsdf", tau=0.1, curriculum=True, steps=2001)
    prediction, truth = torch.tensor([0.2, -0.01, 0.03, 0.05]), torch.tensor([0.08, 0.02, 0.05, 0.02])
    # clamped, less the tolerance of epoch 700, weighted: too large, wrong sign, too small, too large
    expected = ((0.02 - 0.0025) * 0.8 + (0.03 - 0.0025) * 1.2 + (0.02 - 0.0025) * 1.2 + (0.03 - 0.0025) * 0.8) / 4
    assert field_kind(config, step=699).loss(prediction, truth).item() == pytest.approx(expected)
    assert field_kind(dataclasses.replace(config, curriculum=False)).loss(prediction, truth).item() == pytest.approx(
        0.025
    )
    with pytest.raises(ConfigError, match="curriculum: onet has none of its own"):
        TrainConfig("onet", curriculum=True)
