"""Optimizers and learning rates: fields and defaults of 15a9616."""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class LRScheduleConfig(Protocol):
    def create(self) -> Callable[[int], float]: ...


@dataclasses.dataclass(frozen=True)
class CosineDecaySchedule(LRScheduleConfig):
    warmup_steps: int = 1_000
    peak_lr: float = 2.5e-5
    decay_steps: int = 30_000
    decay_lr: float = 2.5e-6

    def create(self) -> Callable[[int], float]:
        """Raises ValueError, in optax's words, when the warm-up is not over before the decay is."""
        decay = self.decay_steps - self.warmup_steps
        if decay <= 0:
            raise ValueError(f"The cosine_decay_schedule requires positive decay_steps, got decay_steps={decay}.")
        return lambda step: self.decay_lr + (self.peak_lr - self.decay_lr) * math.cos(min(step / decay, 1)) / 2


@dataclasses.dataclass(frozen=True)
class RsqrtDecaySchedule(LRScheduleConfig):
    warmup_steps: int = 1_000
    peak_lr: float = 5e-5
    timescale: float = 10_000

    def create(self) -> Callable[[int], float]:
        return lambda step: self.peak_lr / math.sqrt((self.timescale + step) / self.timescale)


@runtime_checkable
class OptimizerConfig(Protocol):
    def create(self, lr: Callable[[int], float]) -> object: ...


@dataclasses.dataclass(frozen=True)
class AdamW(OptimizerConfig):
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-10
    clip_gradient_norm: float = 1.0

    def create(self, lr: Callable[[int], float]) -> object:
        return self


@dataclasses.dataclass(frozen=True)
class SGD(OptimizerConfig):
    lr: float = 5e-5
    momentum: float = 0.9
    nesterov: bool = False

    def create(self, lr: Callable[[int], float]) -> object:
        return self
