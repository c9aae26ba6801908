"""stage=train: a baked dataset into checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from positronic.stages.base import Parts


@dataclass
class Train(Parts):
    """``input_path``: the baked dataset. Results go to ``output_dir/exp_name``. ``learning_rate``: null takes the policy
    library's. ``lr_schedule``: ``cosine`` (linear warm-up over ``warmup_fraction`` of the steps, then cosine to 0) or
    ``constant``. ``precision``: ``fp32`` or ``bf16`` autocast. ``cache_gb``: decoded frames are kept in memory when
    they fit in this, else decoded on demand. ``device``: ``auto`` takes a GPU when there is one.
    """

    input_path: str = "${paths.root}/baked/${dataset.name}/${vendor.name}/${codec.name}/v3.0"
    output_dir: str = "${paths.root}/checkpoints/${vendor.name}"
    exp_name: str = "${vendor.name}_${codec.name}"
    num_train_steps: int = 50000
    save_freq: int = 10000
    log_freq: int = 50
    batch_size: int = 32
    num_workers: int = 0
    learning_rate: float | None = None
    lr_schedule: str = "cosine"
    warmup_fraction: float = 0.03
    weight_decay: float = 1e-4
    grad_clip_norm: float = 10.0
    precision: str = "fp32"
    device: str = "auto"
    cache_gb: float = 8.0
    seed: int = 0
    resume: bool = False


def run(config: Train) -> None:
    raise NotImplementedError
