"""stage=train: a baked dataset into checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from positronic.stages.base import Parts
from positronic.utils.fields import above, between, one_of

if TYPE_CHECKING:
    from positronic.training.settings import TrainSettings


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
    """Train, or say why not. Raises PositronicError for everything that a user can mend."""
    from positronic.storage import local_path
    from positronic.training.agreement import agreed_recipe, find_manifest
    from positronic.utils.command_line import again, instead

    root = local_path(config.input_path)
    convert = instead(
        "convert",
        {"vendor": config.vendor.name, "codec": config.codec.name, "dataset.path": config.dataset.path},
        {"output_dir": config.input_path},
    )
    recipe = agreed_recipe(config.codec, config.modality, find_manifest(root, convert), str(root), convert)

    from rich.console import Console

    from positronic.training.baked import open_baked
    from positronic.training.device import limit_threads, resolve_device
    from positronic.training.experiment import Experiment, make_info
    from positronic.training.loop import train
    from positronic.training.state import seed_everything
    from positronic.utils.provenance import provenance
    from positronic.vendors import registry

    make_trainable = registry.trainable(config.vendor.name, config.vendor.backend)
    dataset = open_baked(root)
    settings = _settings(config, resolve_device(config.device))
    limit_threads()
    seed_everything(settings.seed)
    trainable = make_trainable(recipe, dataset.stats, config.vendor.policy, settings.device)
    vendor = config.vendor
    info = make_info(dataset, settings, vendor.name, vendor.backend, trainable.fields, recipe, provenance())
    experiment = Experiment(local_path(config.output_dir) / config.exp_name, info)
    start = experiment.open(config.resume, again("resume=true"))
    train(trainable, dataset, settings, experiment, start, config.tracker, Console())


def _settings(config: Train, device: str) -> TrainSettings:
    from positronic.training.settings import TrainSettings

    values = {field.name: getattr(config, field.name) for field in fields(TrainSettings)}
    return TrainSettings(**values | {"device": device})
