"""GR00T N1.7 trained by Isaac-GR00T itself, through ``gr00t/experiment/launch_finetune.py``.

Written for Isaac-GR00T at 626af89 and its tag n1.7-release. Its checkpoints have the layout of those that are
trained in this process, so that they are served here too.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from positronic.codecs.build import Recipe
from positronic.errors import PositronicError, listing
from positronic.policies.config import described
from positronic.training.checkpoints import Checkpoint
from positronic.upstream.checkout import Checkout, Repository
from positronic.upstream.child import Command
from positronic.upstream.environment import one_visible_device
from positronic.upstream.failures import Symptom
from positronic.upstream.progress import Reading
from positronic.upstream.takeover import Found, link_or_copy
from positronic.vendors.backend import Job
from positronic.vendors.gr00t import native, network
from positronic.vendors.gr00t.backbone import copy_backbone
from positronic.vendors.gr00t.modality import RELATIVE_FILE, companions
from positronic.vendors.gr00t.modality_file import STEM, TAG, modality_file
from positronic.vendors.gr00t.network import BACKBONE
from positronic.vendors.gr00t.served import SERVER, serve_model
from positronic.vendors.gr00t.sidecars import EMBODIMENT_FILE, PROCESSOR_FILE, STATISTICS_FILE
from positronic.vendors.upstream import Fixed, UpstreamBackend, given_base

LAUNCH = Path("gr00t/experiment/launch_finetune.py")
SETUP = "git clone --recurse-submodules https://github.com/NVIDIA/Isaac-GR00T {folder} && cd {folder} && uv sync"
FOLDER = re.compile(r"checkpoint-(\d+)")
LAST_WRITTEN = "wandb_config.json"  # of a checkpoint
MODEL = ("config.json", PROCESSOR_FILE, STATISTICS_FILE, EMBODIMENT_FILE)
WEIGHTS = "model*.safetensors*"  # at real size in several files, with an index
STATE = ("optimizer.pt", "scheduler.pt", "trainer_state.json", LAST_WRITTEN)
RANDOM_STATES = "rng_state*.pth"
OUT, DATASET = "out", "dataset"  # in the scratch folder
WRITABLE = 0o755
KEPT_THERE = 2  # checkpoints that Isaac-GR00T keeps: the one that is read while the next is written
FLAGS = ("tune_llm", "tune_visual", "tune_projector", "tune_diffusion_model")
# What its command line does not take of a policy, and the values that it trains with.
OF_ITSELF = {"tune_vlln": True, "tune_top_llm_layers": 0, "num_inference_timesteps": None, "use_flash_attention": None}
LOGGED_EVERY = 10
BAR = re.compile(r"\b(\d+)/(\d+) \[")  # of tqdm: steps done, and how many there are
NUMBERS = re.compile(r"'(loss|grad_norm|learning_rate)': '?([-+.\w]+)")
NAMES = {"learning_rate": "lr"}


@dataclass(frozen=True)
class Isaac:
    """Isaac-GR00T's ``launch_finetune.py``. A run that is started again in its folder always goes on there."""

    repository: ClassVar[Repository] = Repository(
        name="Isaac-GR00T",
        folder="../Isaac-GR00T",
        markers=(str(LAUNCH), str(SERVER), "gr00t/configs/model/gr00t_n1d7.py"),  # N1.6 has no such model
        modules=("gr00t", "tyro", "wandb"),
        packages=("gr00t", "torch", "transformers"),
        setup=SETUP,
    )
    fixed: ClassVar[Mapping[str, Fixed]] = {
        "seed": Fixed(42, 0, "it always begins with seed 42"),
        "lr_schedule": Fixed("cosine", "cosine", "it always takes a cosine"),
        "final_lr_fraction": Fixed(0.0, 0.0, "its cosine ends at 0"),
        "betas": Fixed((0.9, 0.999), (0.9, 0.999), "its AdamW has betas 0.9 and 0.999"),
        "eps": Fixed(1e-8, 1e-8, "its AdamW has eps 1e-8"),
        "grad_clip_norm": Fixed(1.0, 1.0, "it shortens gradients to 1"),
        "ema_decay": Fixed(None, None, "it keeps no moving average"),
        "num_processes": Fixed(1, 1, "it is started here as one process, on one GPU"),
        "other_num_processes": Fixed(False, False, "it is started here as one process"),
        "log_freq": Fixed(LOGGED_EVERY, 50, f"it reports every {LOGGED_EVERY} steps"),
        "cache_gb": Fixed(None, 8.0, "it decodes frames in its own way"),
        "frame_cache": Fixed(None, "auto", "it decodes frames in its own way"),
    }
    symptoms: ClassVar[tuple[Symptom, ...]] = (
        Symptom(
            r"--tf32 requires Ampere|Your setup doesn't support bf16",
            "Isaac-GR00T trains in tf32 and bf16, which this device does not have.",
            "Take a GPU of NVIDIA's Ampere generation or later, or vendor.backend=native.",
        ),
        Symptom(
            r"No valid samples",
            "Every episode is shorter than an action chunk.",
            "Take a shorter one: modality.action_chunk=<steps>, and convert again.",
        ),
    )

    def policy(self, recipe: Recipe, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Every field, as in a checkpoint that is trained in this process."""
        native.check_policy(recipe, policy)
        for name, value in policy.items():
            if name in OF_ITSELF and value not in (None, OF_ITSELF[name]):
                raise PositronicError(
                    f"vendor.policy.{name}={value} does not reach Isaac-GR00T, whose command line takes "
                    f"{listing(FLAGS)}. Leave it out, or take vendor.backend=native."
                )
        return described(native.config_of(recipe, policy, "cpu"))

    def require_possible(self, job: Job, checkout: Checkout, start: Checkpoint | None) -> None:
        """It looks at everything else itself when it starts."""
        dataset, steps = job.sides.training, job.recipe.modality_config.action_chunk
        longest = int(np.max(dataset.ends - dataset.starts))
        if longest < steps:
            raise PositronicError(
                f"{job.input_path}: its longest episode has {longest} frames, and Isaac-GR00T learns from whole chunks "
                f"of {steps} steps alone. Bake it for shorter ones, modality.action_chunk=<{longest} or fewer>."
            )

    def base(self, job: Job) -> AbstractContextManager[Path]:
        """In the layout that is trained in this process too."""
        return given_base(job)

    def prepare(self, job: Job, base: Path, scratch: Path) -> None:
        """The modality config, tokenizer and processors for serving, and a dataset into which it may write."""
        (scratch / f"{STEM}.py").write_text(modality_file(job.recipe))
        copy_backbone(base, network.read_config(base), scratch)
        dataset = job.sides.training
        own = companions(dataset.manifest.load_recipe(), dataset.manifest.dataset_format)
        _writable(dataset.root, scratch / DATASET, RELATIVE_FILE in own)

    def command(self, job: Job, checkout: Checkout, base: Path, scratch: Path) -> Command:
        """With absolute paths: it runs in its checkout."""
        settings, policy = job.settings, self.policy(job.recipe, job.vendor.policy)
        said = {
            "base-model-path": base.absolute(),
            "dataset-path": (scratch / DATASET).absolute(),
            "embodiment-tag": TAG,
            "modality-config-path": (scratch / f"{STEM}.py").absolute(),
            "output-dir": (scratch / OUT).absolute(),
            "num-gpus": 1,
            "max-steps": settings.num_train_steps,
            "save-steps": settings.save_freq,
            "save-total-limit": KEPT_THERE,
            "global-batch-size": settings.batch_size,
            "dataloader-num-workers": settings.num_workers,
            "learning-rate": settings.learning_rate or policy["optimizer_lr"],
            "weight-decay": settings.weight_decay,
            "warmup-ratio": settings.warmup_fraction,
        }
        flags = [f"--{'' if policy[name] else 'no-'}{name.replace('_', '-')}" for name in FLAGS]
        values = [text for name, value in said.items() for text in (f"--{name}", str(value))]
        script = (str(checkout.python), str(LAUNCH))
        return Command((*script, *values, *flags), checkout.repo, one_visible_device(settings.device))

    def parser(self, total: int) -> Callable[[str], Reading | None]:
        """Its bar tells steps; a dictionary the loss, every ten steps, without saying of which."""
        return _Lines(total)

    def checkpoints(self, scratch: Path) -> Found:
        """Those that are whole: files are written in place, and one is the last."""
        for folder in (scratch / OUT).glob("checkpoint-*"):
            found = FOLDER.fullmatch(folder.name)
            if found and _is_json(folder / LAST_WRITTEN):
                yield int(found[1]), folder

    def write_model(self, checkpoint: Path, folder: Path, scratch: Path) -> None:
        """Weights and sidecar files, and the backbone's small files beside them."""
        for path in (*(checkpoint / name for name in MODEL), *sorted(checkpoint.glob(WEIGHTS))):
            link_or_copy(path, folder / path.name)
        shutil.copytree(scratch / BACKBONE, folder / BACKBONE)

    def write_state(self, checkpoint: Path, folder: Path) -> None:
        """Of optimiser, schedule and random numbers."""
        for path in (*(checkpoint / name for name in STATE), *checkpoint.glob(RANDOM_STATES)):
            link_or_copy(path, folder / path.name)

    def restore(self, checkpoint: Checkpoint, scratch: Path) -> None:
        """As ``checkpoint-<step>`` of the output folder, from where it goes on by itself."""
        folder = scratch / OUT / f"checkpoint-{checkpoint.step}"
        folder.mkdir(parents=True)
        for source in (checkpoint.training_state, checkpoint.pretrained_model):
            for path in filter(Path.is_file, source.iterdir()):
                link_or_copy(path, folder / path.name)

    def release(self, checkpoint: Path) -> None:
        """It removes old ones itself."""


class _Lines:
    """Reads the output of a run of ``total`` steps, line by line."""

    def __init__(self, total: int) -> None:
        self._total, self._step = total, 0

    def __call__(self, line: str) -> Reading | None:
        bar = BAR.search(line)
        if bar is not None and int(bar[2]) == self._total:
            self._step = int(bar[1])
        numbers = {NAMES.get(name, name): float(value) for name, value in NUMBERS.findall(line)}
        if "loss" not in numbers:
            return Reading(self._step) if bar is not None and self._step else None
        told = -(-max(self._step, 1) // LOGGED_EVERY) * LOGGED_EVERY  # the bar may be a few steps behind
        return Reading(min(told, self._total), numbers)


def _writable(dataset: Path, folder: Path, has_relative: bool) -> None:
    """The dataset at another place: Isaac-GR00T writes ``meta/relative_stats.json`` into it. It never computes again
    what is in that file, so one that the bake has not written is left behind: it may be of another chunk."""
    folder.mkdir(parents=True)
    for path in dataset.iterdir():
        if path.name == "meta":
            meta = shutil.copytree(path, folder / path.name, copy_function=shutil.copyfile)
            meta.chmod(WRITABLE)  # a shared dataset's may not be
        else:
            (folder / path.name).symlink_to(path.absolute())
    relative = folder / RELATIVE_FILE
    if not has_relative:
        relative.write_text("{}\n")


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


BACKEND = UpstreamBackend(Isaac(), native.load_model, partial(serve_model, repository=Isaac.repository))
