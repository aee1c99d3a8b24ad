"""Training on several processes that `torchrun` starts: the share of each, and what they tell each other.

    torchrun --nproc-per-node 2 -m pyimplicit train --network deepsdf --out runs/cars

Every process takes an equal share of each batch; gradients are averaged, so all take the same step. Only the first one
writes files. With the same batch the step is that of one process up to rounding, but for two things that see a share
where one process sees the batch: dropout, whose masks are other ones, and batch normalisation, whose statistics are
those of the share. Running statistics are averaged over the processes. torch's SyncBatchNorm, which would take
statistics over the whole batch, is not used: it has no CPU version, costs a message for each layer and pass, and the
authors' batches are large enough (ONet 64, AIR-Nets 55) that a share has as many samples as it needs. Runs to be
compared must therefore have the same number of processes if their network normalises batches.

The gradients travel in one message in the order of the parameters. `DistributedDataParallel` overlaps messages with the
backward pass, but orders its buckets by the first pass after each start: on three and more processes a resumed run
would then differ from an uninterrupted one by rounding. The networks have at most 10 million parameters, whose message
is short beside a step. Unused parameters (AIR-Nets' first block, the layers that Curriculum DeepSDF has not reached)
have no gradient on any process and are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pyimplicit.errors import ConfigError


@dataclass(frozen=True)
class Team:
    """The processes of one training; alone, all that they would tell each other is dropped.

    Args:
        rank: Number of this process, 0 is the first.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and talks to people."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """Return which shapes of a batch are this process's.

        Raises:
            ConfigError: The batch cannot be shared equally.

        Example:
            >>> Team(rank=1, size=2, device=torch.device("cpu")).share(6)
            slice(3, 6, None)
        """
        if batch_size % self.size:
            raise ConfigError(
                f"batch_size: expected a multiple of {self.size}, the number of processes, got {batch_size}"
            )
        each = batch_size // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the first process do what follows before the others begin: what it stores, they find."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Replace floating-point tensors by their means over all processes, in one message."""
        if self.size == 1:
            return
        kept = list(tensors)
        if not kept:
            return
        message = torch.cat([tensor.detach().reshape(-1) for tensor in kept])
        dist.all_reduce(message)
        message /= self.size
        for tensor, part in zip(kept, message.split([tensor.numel() for tensor in kept]), strict=True):
            tensor.detach().copy_(part.view(tensor.shape))

    def average_gradients(self, module: nn.Module) -> None:
        """Replace the gradients of a module by their means."""
        self.average_(parameter.grad for parameter in module.parameters() if parameter.grad is not None)

    def average_statistics(self, module: nn.Module) -> None:
        """Replace the running statistics of a module by their means."""
        self.average_(buffer for buffer in module.buffers() if buffer.is_floating_point())

    def average_rows(self, table: nn.Parameter, rows: Tensor) -> None:
        """Replace the sparse gradient of a table by its mean; afterwards it has all `rows` of the whole batch.

        Args:
            table: [S, C], with a sparse gradient of the rows that this process looked up.
            rows: [B] int64, those of all processes; one may occur twice.
        """
        if self.size == 1:
            return
        assert table.grad is not None
        own, rows = table.grad.coalesce(), rows.unique()
        values = own.values().new_zeros(len(rows), table.shape[1])
        values[torch.searchsorted(rows, own.indices()[0])] = own.values()
        self.average_([values])
        table.grad = torch.sparse_coo_tensor(rows[None], values, table.shape, is_coalesced=True)


@contextmanager
def joined(device: str) -> Iterator[Team]:
    """Join the other processes if `torchrun` started this one, or take the process group that is there already.

    Args:
        device: cpu or cuda; with several processes, each takes the GPU of its local rank.

    Raises:
        ConfigError: A GPU is named by its index, or there are fewer than processes on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    there = dist.is_available() and dist.is_initialized()
    if not there and (size == 1 or "RANK" not in os.environ):
        yield Team(0, 1, torch.device(device))
        return
    own = torch.device(device)
    if own.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if own.index is not None or local >= torch.cuda.device_count():
            raise ConfigError(
                f"device: expected cuda and a GPU for each process of this machine, got {device!r} and "
                f"{torch.cuda.device_count()} GPUs"
            )
        torch.cuda.set_device(local)
        own = torch.device("cuda", local)
    if there:
        yield Team(dist.get_rank(), dist.get_world_size(), own)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo")
    yield Team(dist.get_rank(), dist.get_world_size(), own)
    # Not after an error: the others would wait for this one to take part.
    dist.destroy_process_group()
