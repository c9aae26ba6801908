"""What the processes of one run agree on. A run of one process asks itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from positronic.training.settings import TrainSettings

GRADIENTS_SEC = 600  # a process that is waited for longer with gradients has failed
AGREEING_SEC = 3600  # a process may fetch a batch or write a checkpoint for so long
BACKEND = "cpu:gloo,cuda:nccl"


class Alone:
    """A run of one process."""

    rank, count = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process."""
        return flag

    def sums(self, values: Tensor) -> Tensor:
        """Sums over the processes of numbers on the CPU, in all of them."""
        return values

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        return [value]

    def ask_to_stop(self) -> None:
        """Let the other processes know of a signal."""


class Group(Alone):
    """One of ``count`` processes of this machine, joined by torch.distributed. To be closed."""

    def __init__(self, rank: int, count: int, meeting: str, device: str) -> None:
        """``meeting``: a file by which they find each other. Returns when all are there."""
        import torch.distributed as dist

        self.rank, self.count, self._dist = rank, count, dist
        on_gpu = device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(device)
        dist.init_process_group(
            BACKEND if on_gpu else "gloo",
            store=dist.FileStore(meeting, count),
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=GRADIENTS_SEC),
        )
        self._control = dist.new_group(backend="gloo", timeout=timedelta(seconds=AGREEING_SEC))

    def any(self, flag: bool) -> bool:
        value = torch.tensor([int(flag)], dtype=torch.int32)
        self._dist.all_reduce(value, self._dist.ReduceOp.MAX, group=self._control)
        return bool(value.item())

    def sums(self, values: Tensor) -> Tensor:
        total = values.double().cpu()
        self._dist.all_reduce(total, group=self._control)
        return total

    def gather(self, value: Any) -> list[Any]:
        values = [None] * self.count
        self._dist.all_gather_object(values, value, group=self._control)
        return values

    def close(self) -> None:
        """Leave the others."""
        self._dist.destroy_process_group()


ALONE = Alone()


def of_rank(settings: TrainSettings, rank: int) -> TrainSettings:
    """The settings of one process: GPU ``rank`` is its own."""
    on_gpus = settings.num_processes > 1 and settings.device.startswith("cuda")
    return replace(settings, device=f"cuda:{rank}") if on_gpus else settings
