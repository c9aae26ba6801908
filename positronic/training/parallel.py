"""One step of several processes: each computes its rows of the batch, and the gradient is that of the whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from positronic.errors import PositronicError
from positronic.training.noise import Noise, OwnRows, Part
from positronic.training.ranks import Alone
from positronic.training.settings import TrainSettings
from positronic.training.state import random_state, seed_everything, set_random_state
from positronic.training.trainable import Trainable

PROCESSES_FILE = "processes.pt"  # random states, of each process and common ones


class Parallel:
    """The policy in one of several processes, with the random numbers that it draws.

    Unused parameters are looked for in each step although most policies have none: without that, torch lays out the
    gradients anew after the first step, and a run that is resumed would add them up in another order.
    """

    def __init__(self, trainable: Trainable, settings: TrainSettings, ranks: Alone) -> None:
        _require_no_batch_norm(trainable.module)
        self._ranks, self._settings = ranks, settings
        self._noise = Noise(settings.device)  # goes on as one process would
        self._collected: list[Any] = []
        self._module = DistributedDataParallel(_Loss(trainable), broadcast_buffers=False, find_unused_parameters=True)
        self._reseed(0)

    def loss(self, columns: Mapping[str, Any], part: Part) -> Tensor:
        """Its part of the loss of the whole batch; the sum over the processes is that loss."""
        return self._module(columns, part, self._noise)

    def backward(self, loss: Tensor) -> None:
        """The gradient of the sum. torch's is the mean."""
        (loss * self._ranks.count).backward()

    def collect(self) -> None:
        """Gather the random states of all processes. To be called in all of them before ``save``."""
        own = random_state(cuda=_states_of(self._settings.device))
        self._collected = self._ranks.gather(own)

    def random_state(self) -> dict[str, Any]:
        """With which one process would go on."""
        states = self._noise.states()
        cuda = [states["cuda"]] if "cuda" in states else []
        return {**self._collected[0], "torch": states["cpu"], "cuda": cuda}

    def save(self, folder: Path) -> None:
        """Write the random states into the existing ``folder``."""
        with (folder / PROCESSES_FILE).open("wb") as file:
            torch.save({"noise": self._noise.states(), "own": self._collected}, file)

    def restore(self, folder: Path, step: int) -> None:
        """Go on with the states in ``folder``, of a run that was saved after ``step``. torch's own generators have
        those of one process there already. Of another number of processes the common ones are taken."""
        path = folder / PROCESSES_FILE
        if not path.exists():
            self._noise = Noise(self._settings.device)
            self._reseed(step)
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self._noise.restore(state["noise"])
        if len(state["own"]) != self._ranks.count:
            self._reseed(step)
            return
        own = state["own"][self._ranks.rank]
        set_random_state({**own, "cuda": []})
        if own["cuda"]:
            torch.cuda.set_rng_state(own["cuda"][0], self._settings.device)

    def _reseed(self, step: int) -> None:
        """Dropout differs by process."""
        words = np.random.SeedSequence([self._settings.seed, self._ranks.rank, step, self._ranks.count])
        seed_everything(int(words.generate_state(1)[0]))


class _Loss(nn.Module):
    """What torch wraps: the policy's parameters, and its loss as the forward pass."""

    def __init__(self, trainable: Trainable) -> None:
        super().__init__()
        self.policy = trainable.module
        device = next(trainable.module.parameters()).device
        self.unused = nn.Parameter(torch.zeros(1, device=device))  # torch warns where none is, of each process
        self._part_loss = trainable.part_loss

    def forward(self, columns: Mapping[str, Any], part: Part, noise: Noise) -> Tensor:
        with OwnRows(noise, part):
            return self._part_loss(columns, part)


def _states_of(device: str) -> list[Tensor]:
    return [torch.cuda.get_rng_state(device)] if device.startswith("cuda") else []


def _require_no_batch_norm(module: nn.Module) -> None:
    """Raise PositronicError for a network whose result depends on which samples are computed together."""
    found = next((name for name, each in module.named_modules() if isinstance(each, _BatchNorm)), None)
    if found is not None:
        raise PositronicError(
            f"num_processes: this policy has batch normalisation ({found}), which would see the samples of one process "
            "alone. Type num_processes=1, or choose another normalisation (vendor.policy.use_group_norm=true)."
        )
