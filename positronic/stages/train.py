"""stage=train: a baked dataset into checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from positronic.stages.base import Parts
from positronic.utils.fields import above, between, one_of


@dataclass
class Train(Parts):
    """``input_path``: the baked dataset. Results go to ``output_dir/exp_name``. ``learning_rate``: null takes the
    policy library's. ``lr_schedule``: ``cosine`` (linear warm-up over ``warmup_fraction`` of the steps, then cosine
    to 0) or ``constant``. ``precision``: ``fp32`` or ``bf16`` autocast. ``cache_gb``: decoded frames are kept in memory
    when they fit in this, else decoded on demand. ``device``: ``auto`` takes a GPU when there is one.
    """

    uses: ClassVar[tuple[str, ...]] = ("vendor", "codec", "modality", "tracker")

    input_path: str = "${paths.root}/baked/${dataset.name}/${vendor.name}/${codec.name}/v3.0"
    output_dir: str = "${paths.root}/checkpoints/${vendor.name}"
    exp_name: str = "${vendor.name}_${codec.name}"
    num_train_steps: int = between(1, default=50000)
    save_freq: int = between(1, default=10000)
    log_freq: int = between(1, default=50)
    batch_size: int = between(1, default=32)
    num_workers: int = between(0, default=0)
    learning_rate: float | None = above(0, default=None)
    lr_schedule: str = one_of("cosine", "constant", default="cosine")
    warmup_fraction: float = between(0, 1, default=0.03)
    weight_decay: float = between(0, default=1e-4)
    grad_clip_norm: float = above(0, default=10.0)
    precision: str = one_of("fp32", "bf16", default="fp32")
    device: str = "auto"
    cache_gb: float = between(0, default=8.0)
    seed: int = between(0, default=0)
    resume: bool = False


def run(config: Train) -> None:
    raise NotImplementedError
