"""Runs of one network that take their training steps together: stacked parameters, one program over a run axis.

`torch.func.vmap` carries the networks' own code over that axis, with the functions of `benchmarks.stacked_functions` in
the places of those that it cannot follow.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.stacked_functions import substituted
from pyimplicit import networks
from pyimplicit.training.config import learning_rate_factor
from pyimplicit.training.curriculum import Curriculum
from pyimplicit.training.examples import Batch
from pyimplicit.training.latent import code_penalty
from pyimplicit.training.run import Run, field_kind

_LABELLED = ("points", "signed_distance")


class StackedRuns:
    """The state of several runs that differ in their data and seeds only, and a step of all of them.

    Args:
        runs: Runs of one config but for seed and strategy, without mask, accumulation, compilation and dropout, in
            float32. Their parameters, buffers and codes are copied; they stay as they are.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.config, self.count, self.runs = runs[0].config, runs[0].count, len(runs)
        own = [run.network.train() for run in runs]
        self.parameters, self.buffers = stack_module_state(own)
        self.network = copy.deepcopy(own[0]).to("meta")
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=self.config.learning_rate, fused=True)
        self.codes: networks.LatentCodes | None = None
        if runs[0].codes is not None:  # one table, the rows of the first run first
            tables = [run.codes.weight.detach() for run in runs if run.codes is not None]
            self.codes = networks.LatentCodes(self.runs * self.count, tables[0].shape[1])
            self.codes.weight.data = torch.cat(tables)
            self.code_optimizer = self.codes.optimizer(self.config.code_learning_rate)

    def step(self, batches: Sequence[Batch], step: int) -> list[float]:
        """Take the step of every run on its own batch, as `Run.step` does; return the losses."""
        config = self.config
        if config.curriculum and isinstance(self.network, networks.CurriculumDeepSDF):
            self.network.epoch = Curriculum(epochs=config.curriculum_epochs).epoch(step, config.steps)
        kind = field_kind(config, step)
        points, distances = (torch.stack([getattr(batch, n) for batch in batches]) for n in _LABELLED)  # [K, B, T, ...]
        self.optimizer.zero_grad()
        if self.codes is None:
            condition = torch.stack([batch.clouds for batch in batches])
        else:
            self.codes.zero_grad()
            rows = torch.cat([batch.shapes + run * self.count for run, batch in enumerate(batches)])
            condition = self.codes(rows).unflatten(0, (self.runs, -1))

        def loss_of_run(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], points: Tensor, distance: Tensor, seen: Tensor
        ) -> Tensor:
            prediction = functional_call(self.network, (parameters, buffers), (points, seen))
            loss = kind.loss(prediction, kind.target(distance), reduction=config.loss_reduction)
            if self.codes is None:
                return loss
            epoch = step * config.batch_size / self.count
            weights = (config.code_regularization, epoch, config.code_warmup_epochs, config.code_penalty)
            return loss + code_penalty(seen, *weights)

        with substituted():
            losses: Tensor = vmap(loss_of_run)(self.parameters, self.buffers, points, distances, condition)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        values: list[float] = losses.tolist()
        factor = learning_rate_factor(config, step)
        self.optimizer.param_groups[0]["lr"] = config.learning_rate * factor
        self.optimizer.step()
        if self.codes is not None:
            self.code_optimizer.param_groups[0]["lr"] = config.code_learning_rate * factor
            self.code_optimizer.step()  # type: ignore[no-untyped-call]
            self.codes.project_(rows)
        return values


def first_obstacle(runs: Sequence[Run], batches: Sequence[Batch]) -> str | None:
    """Return the first line of what vmap says to the networks as they are, checks of values apart, or None.

    Asked before `register_folding`.
    """
    own = [run.network.train() for run in runs]
    stacked = stack_module_state(own)
    points = torch.stack([batch.points for batch in batches])
    pairs = zip(runs, batches, strict=True)
    conditions = [batch.clouds if run.codes is None else run.codes(batch.shapes) for run, batch in pairs]
    skeleton = copy.deepcopy(own[0]).to("meta")
    try:
        with substituted(("check_finite", "_check_range")):
            vmap(lambda *a: functional_call(skeleton, a[:2], a[2:]))(*stacked, points, torch.stack(conditions))
    except (RuntimeError, NotImplementedError) as error:
        return str(error).splitlines()[0].partition(". ")[0]
    return None
