"""stage=train: a baked dataset into checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from positronic import keys
from positronic.stages.base import DATASET_FORMAT, Parts
from positronic.training.config import MOMENTS
from positronic.utils import fields as rules
from positronic.utils.fields import ANY, above, between, items, name, one_of, path

if TYPE_CHECKING:
    from pathlib import Path

    from positronic.codecs.build import Recipe
    from positronic.stages.foreign import Declared
    from positronic.training.preflight import Preflight
    from positronic.vendors.backend import Backend, Job


@dataclass
class Train(Parts):
    """A baked dataset into checkpoints.

    input_path: the baked dataset; with dataset=lerobot there is none: dataset.path is trained on as it is
    episodes: train on these alone, by their numbers in the baked dataset: [0,3,7]; null is all
    tasks: train on episodes with one of these tasks alone; null is any
    max_episodes: train on the first so many of those chosen, beside those held out; null is all
    val_fraction: share of episodes to hold out, for a validation loss; null is what the dataset holds out itself
    val_seed: which ones; an episode's side follows from its name and this
    output_dir: folder of experiments; results go to output_dir/exp_name
    exp_name: this experiment's name
    num_train_steps: how many steps
    save_freq: steps from one checkpoint to the next; the last step is saved too
    keep_last: so many of the newest checkpoints stay, and the best one by the held-out loss; null keeps all
    keep_every: checkpoints of a multiple of so many steps stay too
    log_freq: steps from one report to the next
    batch_size: samples in one step
    num_workers: processes that fetch frames which are not in memory; 0 is a thread
    learning_rate: peak; null takes the policy library's
    lr_schedule: cosine or constant, after the warm-up
    warmup_fraction: share of the steps in which the learning rate rises
    final_lr_fraction: share of the peak at which the cosine ends
    betas: decay of AdamW's two moments
    eps: added to AdamW's denominator
    weight_decay: of matrices and kernels, as in AdamW
    grad_clip_norm: longest gradient; a longer one is shortened
    ema_decay: judge and serve the moving average of the weights, with this decay a step; null does not
    precision: fp32, bf16, or auto: bf16 where the device has it natively
    device: of torch; auto takes a GPU when there is one
    cache_gb: decoded frames stay in memory when they fit in this
    frame_cache: others go decoded onto the disk, into the cache of storage: auto if they fit, disk all, none never
    seed: of weights, order of samples and dropout
    num_processes: processes that share each batch, on this machine: each has a GPU of its own, or its part of the CPU
    resume: go on exactly where the last checkpoint was written
    other_num_processes: with resume, go on although the checkpoint was trained by another number of processes
    preflight: measure the memory and the time of a step, print them, and end; nothing is written
    """

    uses: ClassVar[tuple[str, ...]] = ("embodiment", "vendor", "codec", "modality", "tracker", "storage")
    ignores: ClassVar[tuple[str, ...]] = tuple(
        f"vendor.{name}" for name in ("ready_timeout_sec", "infer_timeout_sec", "upstream_url", "config_name")
    )
    compares: ClassVar[tuple[str, ...]] = tuple(
        f"dataset.{name}" for name in ("episodes", "outcome", "tasks", "max_episodes", "layout", "mapping", "agree")
    )
    silent: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "dataset.layout": ("local", "local_all"),
        "dataset.agree": (False,),
    }

    input_path: str = path("${paths.root}/baked/${dataset.name}/${vendor.name}/${codec.name}/" + DATASET_FORMAT)
    output_dir: str = path("${paths.root}/checkpoints/${vendor.name}")
    exp_name: str = name("${vendor.name}_${codec.name}")
    episodes: list[int] | None = field(default=None, metadata=items(0))
    tasks: list[str] | None = field(default=None, metadata=items())
    max_episodes: int | None = between(1, default=None)
    val_fraction: float | None = above(0, 0.9, default=None)
    val_seed: int = between(0, default=0, val_fraction=ANY)
    num_train_steps: int = between(1, default=50000)
    save_freq: int = between(1, default=10000)
    keep_last: int | None = between(1, default=None)
    keep_every: int | None = between(1, default=None, keep_last=ANY)
    log_freq: int = between(1, default=50)
    batch_size: int = between(1, default=32)
    num_workers: int = between(0, default=0)
    learning_rate: float | None = above(0, 1, default=None)
    lr_schedule: str = one_of("cosine", "constant", default="${vendor.optimizer.lr_schedule}")
    warmup_fraction: float = between(0, 1, default="${vendor.optimizer.warmup_fraction}")
    final_lr_fraction: float = between(0, 1, default="${vendor.optimizer.final_lr_fraction}", lr_schedule="cosine")
    betas: list[float] = field(default="${vendor.optimizer.betas}", metadata=MOMENTS)
    eps: float = above(0, default="${vendor.optimizer.eps}")
    weight_decay: float = between(0, default="${vendor.optimizer.weight_decay}")
    grad_clip_norm: float = above(0, default="${vendor.optimizer.grad_clip_norm}")
    ema_decay: float | None = above(0, 0.99999, default=None)
    precision: str = one_of("auto", "fp32", "bf16", default="auto")
    device: str = rules.device("auto")
    cache_gb: float = between(0, default=8.0, frame_cache=("auto", "none"))
    frame_cache: str = one_of("auto", "disk", "none", default="auto")
    seed: int = between(0, default=0)
    num_processes: int = between(1, default=1)
    resume: bool = False
    other_num_processes: bool = one_of(True, False, default=False, resume=True)
    preflight: bool = False


@dataclass(frozen=True)
class Trained:
    """The result of stage=train. ``path``: of the experiment, a folder or a URI: the ``checkpoints_dir`` of a server.

    ``checkpoint``: id of the last one, written after ``step``. ``metrics``: the last row of metrics.jsonl: step, loss,
    lr, grad_norm, samples_per_sec, data_wait (share of the time); val_loss if episodes are held out. ``best``: id of
    the checkpoint with the lowest val_loss; None without one. ``preflight``: what a step takes, if only that was asked
    for; then there is no checkpoint.
    """

    path: str
    checkpoint: str | None
    step: int
    metrics: Mapping[str, float]
    best: str | None = None
    preflight: Preflight | None = None


def run(config: Train) -> Trained:
    """Train, or say why not; with ``preflight`` only measure a step.

    Raises PositronicError for everything that a user can mend.
    """
    from rich.console import Console

    from positronic.stages.foreign import declared, is_foreign
    from positronic.storage import join
    from positronic.utils.threads import wait_quietly

    wait_quietly()
    place = join(config.output_dir, config.exp_name)
    if not is_foreign(config):
        return _run(config, place, recipe_of(config))
    with declared(config, str(place), Console(stderr=True)) as foreign:
        return _run(config, place, foreign.recipe, foreign)


def bake_values(config: Train) -> dict[str, str]:
    """What stage=convert must be told to make the dataset of ``config`` where it is looked for."""
    from positronic.vendors.registry import UPSTREAM

    read_by_vendor = {"dataset_format": keys.FORMAT_V21} if config.vendor.backend == UPSTREAM else {}
    return {"output_dir": config.input_path} | read_by_vendor


def _run(config: Train, place: str | Path, recipe: Recipe, foreign: Declared | None = None) -> Trained:
    from positronic.stages.preparation import prepare, source_of
    from positronic.storage.outgoing import synced_output
    from positronic.training.experiment import METRICS_FILE, require_free
    from positronic.training.plot import write_plot
    from positronic.training.retention import Retention
    from positronic.training.upload import growing
    from positronic.utils.command_line import RESUME, again
    from positronic.vendors import registry

    to_continue = again(RESUME)
    hint = f"To continue it, type:\n  {to_continue}"
    backend = registry.backend_of(config.vendor.name, config.vendor.backend)
    backend.check_policy(recipe, config.vendor.policy)
    if config.preflight:
        with source_of(config, foreign) as source:
            return _preflight(prepare(config, recipe, source), backend)
    parts = growing(Retention(config.keep_last, config.keep_every))
    with synced_output(place, parts, config.storage, config.resume, hint) as folder:
        if not config.resume:
            require_free(folder, to_continue)
        with source_of(config, foreign) as source:
            backend.train(prepare(config, recipe, source, folder))
        write_plot(folder / METRICS_FILE)
        trained = _result(str(place), folder)
        print(_closing_words(trained))
        return trained


def _result(place: str, folder: Path) -> Trained:
    """What is in the experiment's folder."""
    from positronic.training.checkpoints import ID_DIGITS, VAL_LOSS, list_checkpoints
    from positronic.training.experiment import METRICS_FILE

    last, metrics = list_checkpoints(folder)[-1], folder / METRICS_FILE
    rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    judged = {row["step"]: row[VAL_LOSS] for row in rows if math.isfinite(row.get(VAL_LOSS, math.nan))}
    best = f"{min(judged, key=judged.__getitem__):0{ID_DIGITS}d}" if judged else None
    return Trained(place, last.id, last.step, rows[-1] if rows else {}, best)


def _closing_words(trained: Trained) -> str:
    """Where the checkpoints are, and how to serve them."""
    from positronic.utils.command_line import next_line

    lines = [f"Trained to step {trained.step}.", f"  checkpoint: {trained.checkpoint} of {trained.path}"]
    if trained.best is not None:
        lines.append(f"  best:       {trained.best}, by the loss of the held-out episodes")
    return "\n".join([*lines, next_line("serve", {"checkpoints_dir": trained.path})])


def _preflight(job: Job, backend: Backend) -> Trained:
    """Measure a step, and print what it takes."""
    from positronic.utils.command_line import again

    found = backend.preflight(job)
    job.console.print(found.table(job.title))
    said = [
        *found.advice(),
        f"Nothing was trained or written. To train into {job.place}, type:\n  {again('preflight=false')}",
    ]
    job.say("\n".join(said))
    return Trained(job.place, None, 0, {}, preflight=found)


def recipe_of(config: Train) -> Recipe:
    """The recipe of the dataset, if there is a dataset and it is what this run asks for."""
    from positronic.embodiments.embodiment import typed_embodiment
    from positronic.raw.choice import Choice
    from positronic.storage.folder import local_input
    from positronic.training.agreement import agreed_recipe, find_manifest
    from positronic.training.choice import require_same_choice
    from positronic.utils.command_line import instead

    path = "<raw dataset>" if config.dataset.path == MISSING else config.dataset.path
    values = {"vendor": config.vendor.name, "codec": config.codec.name, "dataset.path": path}
    convert = instead("convert", values, bake_values(config))
    needs, hint = keys.MANIFEST_FILE, f"Make it with:\n  {convert}"
    with local_input(config.input_path, config.storage, needs, lambda name: name == needs, hint) as root:
        manifest = find_manifest(root, convert)
    require_same_choice(Choice.of(config.dataset), manifest, config.input_path, convert)
    typed = typed_embodiment(config.embodiment)
    return agreed_recipe(config.codec, config.modality, manifest, config.input_path, convert, embodiment=typed)
