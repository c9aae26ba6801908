"""The loss over held-out episodes, at each checkpoint: it shows when a policy begins to learn its episodes by heart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from positronic.bake.frame_source import Frames
from positronic.bake.reader import BakedDataset
from positronic.training.batches import BatchMaker, SampleOrder
from positronic.training.device import autocast, to_device
from positronic.training.noise import Noise, OwnRows
from positronic.training.ranks import ALONE, Alone
from positronic.training.settings import TrainSettings
from positronic.training.trainable import Trainable

MAX_BATCHES = 100  # evenly over the frames; with the usual 10000 steps a checkpoint, less than a percent of the time
SEED = 0


class Validation:
    """Every time the same frames, and the same random numbers, which flow matching and diffusion draw for their loss.
    The random state of the training is untouched, and nothing is learnt."""

    def __init__(
        self,
        trainable: Trainable,
        dataset: BakedDataset,
        frames: Frames,
        settings: TrainSettings,
        ranks: Alone = ALONE,
    ) -> None:
        order = SampleOrder(len(dataset), settings.batch_size, settings.seed)
        what = trainable.action_offsets, trainable.with_task
        self._maker = BatchMaker(dataset, frames, order, *what, (ranks.rank, ranks.count))
        self._ranks = ranks
        self._trainable, self._settings = trainable, settings
        count = min(len(dataset), MAX_BATCHES * settings.batch_size)
        rows = np.arange(count) * len(dataset) // count
        self._batches = [rows[k : k + settings.batch_size] for k in range(0, count, settings.batch_size)]

    def loss(self, stopped: Callable[[], bool] = lambda: False) -> float | None:
        """The mean over the frames; None when it was ``stopped`` on the way."""
        module, settings = self._trainable.module, self._settings
        sums = []
        with torch.random.fork_rng(self._devices()), torch.no_grad():
            torch.manual_seed(SEED)
            noise = Noise(settings.device)
            module.eval()
            for rows in self._batches:
                if stopped():
                    return None
                sums.append(self._loss(rows, noise) * len(rows))
        total = self._ranks.sums(torch.tensor([math.fsum(sums)], dtype=torch.float64))
        return float(total) / sum(map(len, self._batches))

    def _loss(self, rows: NDArray[np.int64], noise: Noise) -> float:
        """Of a batch, or what this process's part of it adds to that."""
        trainable, settings, part = self._trainable, self._settings, self._maker.share(rows)
        if part is not None and part.first == part.end:
            return 0.0
        columns = to_device(self._maker.of(rows if part is None else rows[part.first : part.end]), settings.device)
        with autocast(settings.device, settings.precision):
            if part is None:
                return float(trainable.loss(columns))
            with OwnRows(noise, part):
                return float(trainable.part_loss(columns, part))

    def _devices(self) -> Sequence[Any]:
        """The GPUs whose random states are kept: of several processes each has its own."""
        if not self._settings.device.startswith("cuda"):
            return []
        return range(torch.cuda.device_count()) if self._ranks.count == 1 else [self._settings.device]
