"""The loss over held-out episodes, at each checkpoint: it shows when a policy begins to learn its episodes by heart."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from positronic.bake.frame_source import Frames
from positronic.bake.reader import BakedDataset
from positronic.training.batches import BatchMaker, SampleOrder
from positronic.training.device import autocast, to_device
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
    ) -> None:
        order = SampleOrder(len(dataset), settings.batch_size, settings.seed)
        self._maker = BatchMaker(dataset, frames, order, trainable.action_offsets, trainable.with_task)
        self._trainable, self._settings = trainable, settings
        count = min(len(dataset), MAX_BATCHES * settings.batch_size)
        rows = np.arange(count) * len(dataset) // count
        self._batches = [rows[k : k + settings.batch_size] for k in range(0, count, settings.batch_size)]

    def loss(self, stopped: Callable[[], bool] = lambda: False) -> float | None:
        """The mean over the frames; None when it was ``stopped`` on the way."""
        module, settings = self._trainable.module, self._settings
        devices = range(torch.cuda.device_count()) if settings.device.startswith("cuda") else []
        sums = []
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(SEED)
            module.eval()
            for rows in self._batches:
                if stopped():
                    return None
                columns = to_device(self._maker.of(rows), settings.device)
                with autocast(settings.device, settings.precision):
                    sums.append(float(self._trainable.loss(columns)) * len(rows))
        return math.fsum(sums) / sum(map(len, self._batches))
