"""A small policy that several processes train, each of which can be told to do something at a step."""

import os
import signal
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import safetensors.torch
import torch
from rich.console import Console

from positronic.errors import PositronicError
from positronic.training.config import TrackerConfig
from positronic.training.experiment import Experiment, make_info
from positronic.training.loop import train, train_along
from positronic.training.settings import TrainSettings
from positronic.training.state import seed_everything
from positronic.training.trainable import ParameterGroup

HORIZON = 4
STATE, ACTION = "observation.state", "action"


@dataclass
class Noisy:
    """Predicts a chunk from state and noise, by the mean error over the steps inside episodes. ``acts``: what happens
    in it, by step; ``dropout`` makes random state matter."""

    dropout: float = 0.0
    acts: dict = field(default_factory=dict)
    with_task = False
    fields = {"size": 1}  # noqa: RUF012

    def __post_init__(self):
        torch.manual_seed(3)
        self.module = torch.nn.Sequential(torch.nn.Linear(16, 8 * HORIZON), torch.nn.Dropout(self.dropout))
        self.module.append(torch.nn.Linear(8 * HORIZON, 8 * HORIZON))
        self.module.unused = torch.nn.Linear(2, 2)
        self.module.forward = lambda x: self.module[2](self.module[1](self.module[0](x)))
        self.action_offsets = np.arange(HORIZON)
        self.steps = 0

    def groups(self):
        return [ParameterGroup(tuple(self.module.parameters()), 1e-2)]

    def loss(self, batch):
        if self.module.training:
            self.steps += 1
        act = self.acts.get(self.steps)
        state = batch[STATE]
        seen = torch.cat([state, torch.randn_like(state)], 1)
        errors = (self.module(seen).unflatten(1, (HORIZON, 8)) - batch[ACTION]).abs()
        real = ~batch[ACTION + "_is_pad"].unsqueeze(-1)
        loss = (errors * real).sum() / (real.sum() * 8)
        return ACTS[act](loss) if act and self.module.training else loss

    def part_loss(self, batch, part):
        return self.loss(batch) * part.steps

    def save(self, folder):
        safetensors.torch.save_model(self.module, str(folder / "model"))

    def load(self, folder):
        safetensors.torch.load_model(self.module, str(folder / "model"))


def refuse(loss):
    raise PositronicError("A video cannot be read.")


def signalled(number, loss):
    os.kill(os.getpid(), number)
    return loss


ACTS = {
    "nan": lambda loss: loss * torch.nan,
    "refuse": refuse,
    "break": lambda loss: loss.nothing,
    "term": partial(signalled, signal.SIGTERM),
    "usr": partial(signalled, signal.SIGUSR2),
    "kill": partial(signalled, signal.SIGKILL),
}


def along(policy, dataset, held_out, joining, experiment, start, frames):
    torch.set_num_threads(1)
    seed_everything(joining.settings.seed)
    train_along(policy(), dataset, held_out, joining, experiment, start, frames)


def start(folder, dataset, settings, resume=False, first=Noisy, other=Noisy, held_out=None, allowed=False):
    """Train into ``folder``; ``first`` and ``other`` make the policy of the first process, and of the others."""
    seed_everything(settings.seed)
    policy = first()
    info = make_info(dataset, settings, "toy", "native", policy.fields, dataset.recipe, {"commit": None})
    experiment = Experiment(folder, info)
    begin = experiment.continues_from(("num_processes",) if allowed else ()) if resume else None
    experiment.prepare(begin)
    follow = partial(along, other, dataset, held_out)
    where = (TrackerConfig("none"), Console(quiet=True), held_out, None, follow)
    train(policy, dataset, settings, experiment, begin, *where)


def settings(**changes):
    fixed = {"num_train_steps": 12, "save_freq": 5, "log_freq": 1, "batch_size": 4, "seed": 5, "num_processes": 2}
    return TrainSettings(**fixed | {"learning_rate": 1e-2, "grad_clip_norm": 0.5} | changes)
