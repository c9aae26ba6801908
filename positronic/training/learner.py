"""A policy and its optimiser: one step at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from positronic.training.averages import Averages
from positronic.training.checkpoints import Checkpoint
from positronic.training.device import autocast, to_device
from positronic.training.noise import Part
from positronic.training.optimisation import lr_factor, make_optimiser, set_lr
from positronic.training.parallel import Parallel
from positronic.training.ranks import ALONE, Alone
from positronic.training.settings import TrainSettings
from positronic.training.state import load_state, save_state
from positronic.training.trainable import Trainable


class Learner:
    """A policy with its optimiser: one step at a time."""

    def __init__(self, trainable: Trainable, settings: TrainSettings, ranks: Alone = ALONE) -> None:
        """``ranks``: the processes that compute each step together."""
        self.trainable = trainable
        self._settings, self._ranks = settings, ranks
        self._parallel = Parallel(trainable, settings, ranks) if ranks.count > 1 else None
        groups = trainable.groups()
        adam = settings.weight_decay, settings.betas, settings.eps
        self._optimiser = make_optimiser(groups, settings.learning_rate, *adam)
        self._parameters = [parameter for group in groups for parameter in group.parameters]
        decay = settings.ema_decay
        self._averages = None if decay is None else Averages(self._parameters, decay)
        self._losses: list[Tensor | float] = []  # tensors stay on the device until they are asked for
        self._grad_norms: list[Tensor | float] = []
        self._lr = 0.0

    def step(self, batch: Mapping[str, Any], step: int, part: Part | None = None) -> None:
        """One step of the optimiser; ``step`` is 1-based. ``part``: which part of the whole batch ``batch`` is; None:
        all of it."""
        settings = self._settings
        shape = settings.lr_schedule, settings.warmup_fraction, settings.final_lr_fraction
        self._lr = set_lr(self._optimiser, lr_factor(step, settings.num_train_steps, *shape))
        self.trainable.module.train()
        columns = to_device(batch, settings.device)
        with autocast(settings.device, settings.precision):
            loss = self.trainable.loss(columns) if part is None else self._parallel.loss(columns, part)
        self._optimiser.zero_grad(set_to_none=True)
        if part is None:
            loss.backward()
        else:
            self._parallel.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, settings.grad_clip_norm)
        self._optimiser.step()
        if self._averages is not None:
            self._averages.update(step)
        self._losses.append(loss.detach())
        self._grad_norms.append(norm.detach())

    def trouble(self, step: int) -> tuple[int, str] | None:
        """The first step since the last report after which nothing can be learned any more, and why; ``step`` is done.

        A gradient that is no finite number makes every weight one that is none, after a loss that still was.
        """
        self._losses, self._grad_norms = self._told()
        first = step - len(self._losses) + 1
        for k, values in enumerate(zip(self._losses, self._grad_norms, strict=True)):
            for what, value in zip(("loss", "gradient"), values, strict=True):
                if not math.isfinite(value):
                    return first + k, f"The {what} became {value}"
        return None

    def take_metrics(self) -> dict[str, float]:
        """Means over the steps since the last call."""
        losses, norms = self._told()
        self._losses, self._grad_norms = [], []
        return {"loss": _mean(losses), "lr": self._lr, "grad_norm": _mean(norms)}

    @property
    def bytes(self) -> dict[str, int]:
        """What it keeps on the device beside the weights, by name; before the first step there are averages alone."""
        state = [value for each in self._optimiser.state.values() for value in each.values()]
        return {
            "gradients": sum(each.grad.nbytes for each in self._parameters if each.grad is not None),
            "optimiser": sum(value.nbytes for value in state if isinstance(value, Tensor)),
            "averages": 0 if self._averages is None else self._averages.nbytes,
        }

    def judged(self) -> AbstractContextManager[None]:
        """Inside, the policy has the weights that are judged and served."""
        return nullcontext() if self._averages is None else self._averages.in_place()

    def before_save(self) -> None:
        """To be called in all processes before one of them saves."""
        if self._parallel is not None:
            self._parallel.collect()

    def save_model(self, folder: Path) -> None:
        """Write the policy as it is served."""
        with self.judged():
            self.trainable.save(folder)

    def save_state(self, folder: Path) -> None:
        """Write what ``restore`` needs beside that."""
        if self._averages is not None:
            self._averages.save(folder)
        losses, norms = self._told()
        pending = {"losses": losses, "grad_norms": norms}
        if self._parallel is not None:
            self._parallel.save(folder)
        save_state(folder, self._optimiser, pending, self._parallel and self._parallel.random_state())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue where ``checkpoint`` was written."""
        self.trainable.load(checkpoint.pretrained_model)
        if self._averages is not None:
            self._averages.load(checkpoint.training_state)
        pending = load_state(checkpoint.training_state, self._optimiser)
        self._losses, self._grad_norms = list(pending["losses"]), list(pending["grad_norms"])
        if self._parallel is not None:
            self._parallel.restore(checkpoint.training_state, checkpoint.step)

    def _told(self) -> tuple[list[float], list[float]]:
        """Losses, of the whole batches, and lengths of gradients. The latter are the same in all processes."""
        return _numbers(self._losses, self._ranks), _numbers(self._grad_norms, ALONE)


def _numbers(values: list[Tensor | float], ranks: Alone) -> list[float]:
    """Floats, summed over ``ranks``. Those that are still on the device are transferred together."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    fetched = iter(ranks.sums(torch.stack(tensors).float()).tolist() if tensors else [])
    return [next(fetched) if isinstance(value, Tensor) else value for value in values]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
