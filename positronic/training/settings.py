"""How long and how a policy is trained: the frozen form of stage=train's own parameters."""

from __future__ import annotations

from dataclasses import dataclass

# Where frames that do not fit in memory go.
AUTO, DISK, NONE = "auto", "disk", "none"
PROCESSES = "num_processes"


@dataclass(frozen=True)
class TrainSettings:
    """``learning_rate`` None takes the policy library's; the other fields as in ``positronic.stages.train.Train``."""

    num_train_steps: int
    save_freq: int
    log_freq: int
    batch_size: int
    num_workers: int = 0
    learning_rate: float | None = None
    lr_schedule: str = "cosine"
    warmup_fraction: float = 0.03
    final_lr_fraction: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 1e-4
    grad_clip_norm: float = 10.0
    ema_decay: float | None = None
    precision: str = "fp32"
    device: str = "cpu"
    cache_gb: float = 8.0
    frame_cache: str = AUTO
    seed: int = 0
    num_processes: int = 1
    other_num_processes: bool = False
    keep_last: int | None = None
    keep_every: int | None = None


# What a run must keep when it is resumed; the others may change on the way.
KEPT = (
    "batch_size",
    "learning_rate",
    "lr_schedule",
    "warmup_fraction",
    "final_lr_fraction",
    "betas",
    "eps",
    "weight_decay",
    "grad_clip_norm",
    "ema_decay",
    "precision",
    "seed",
    PROCESSES,
)
# What checkpoints do not say that were written before one could choose it.
BEFORE = {PROCESSES: 1, "ema_decay": None, "final_lr_fraction": 0.0, "betas": (0.9, 0.99), "eps": 1e-8}
# Fields of LeRobot's configs for what stage=train has parameters of its own: older checkpoints list them, for nothing.
SAID_ABOVE = {
    **{f"optimizer_{name}": f"{name}=..." for name in ("betas", "eps", "weight_decay", "grad_clip_norm")},
    **dict.fromkeys(("scheduler_warmup_steps", "warmup_ratio"), "warmup_fraction=..."),
    "scheduler_name": "lr_schedule=...",
    "scheduler_decay_steps": "num_train_steps=...: the learning rate falls until the last step",
    "scheduler_decay_lr": "final_lr_fraction=...",
}
