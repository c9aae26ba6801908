"""π0.5 trained and served by openpi itself, its own scripts with a config of ours, through ``launch.py``.

Written for openpi at 15a9616. Its checkpoints are orbax's, for JAX. openpi counts steps from 0 and calls a checkpoint
by the last one that it took: its folder N, with N + 1 updates, is our checkpoint N + 1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from positronic.codecs.build import Recipe
from positronic.conventions import require_equal
from positronic.errors import PositronicError
from positronic.policies.base import HUB_NAME, base_folder, own_checkpoint
from positronic.storage.uri import is_remote
from positronic.training.checkpoints import Checkpoint
from positronic.upstream.checkout import Checkout, Repository, Source
from positronic.upstream.child import Command
from positronic.upstream.environment import visible_devices
from positronic.upstream.failures import Symptom
from positronic.upstream.progress import Reading
from positronic.upstream.takeover import Found, link_or_copy, link_or_copy_tree
from positronic.vendors.backend import Job
from positronic.vendors.config import VendorConfig
from positronic.vendors.openpi.cache import (
    ASSETS,
    BUCKET,
    CACHE,
    CHECKOUT,
    PARAMS,
    TOKENIZER,
    params_in,
    require_cached,
)
from positronic.vendors.openpi.configs import LORA
from positronic.vendors.openpi.launcher import ON_CPU, launched
from positronic.vendors.openpi.norm_stats import FILE_NAME, REPO_ID, norm_stats, norm_stats_path
from positronic.vendors.openpi.served import serve_model, serve_pretrained
from positronic.vendors.openpi.spec import CONVENTIONS, SPEC_FILE, fields, spec
from positronic.vendors.upstream import Fixed, UpstreamBackend

VENDOR = "openpi"
SETUP = (
    "git clone --recurse-submodules https://github.com/Physical-Intelligence/openpi {folder} && cd {folder} && "
    "GIT_LFS_SKIP_SMUDGE=1 uv sync"
)
DATA, OUT, ARROW, RUN = "data", "out", "arrow", "run"  # in the scratch folder; RUN: its experiment
STATE, METADATA = "train_state", "_CHECKPOINT_METADATA"  # of a checkpoint
PEAK = 2.5e-5  # openpi's own learning rate
FRACTION = "0.9"  # of a GPU's memory that JAX takes, as openpi advises for training
STEP = re.compile(r"Step (\d+): (\w+=.*)")
NUMBERS = re.compile(r"(\w+)=([-+.\w]+)")
BAR = re.compile(r"Progress on: ([\d.]+)([kM]?)it/[\d.]+[kM]?it rate:([\d.]+)(s/it|it/s)")
SCALE = {"": 1, "k": 1_000, "M": 1_000_000}
NAMES = {"learning_rate": "lr"}  # which Positronic's fork tells too


def _refused(source: Source) -> str | None:
    """What reads another format of datasets."""
    version = re.match(r"(\d+)\.(\d+)", source.versions.get("lerobot") or "")
    if version and (int(version[1]), int(version[2])) >= (0, 4):
        return (
            "Its lerobot reads datasets of format v3.0 alone, openpi works with v2.1. Install lerobot as uv.lock says."
        )
    return None


class OpenPi:
    """openpi's ``scripts/train.py``."""

    repository: ClassVar[Repository] = Repository(
        name="openpi",
        folder=CHECKOUT,
        markers=("scripts/train.py", "scripts/serve_policy.py", "src/openpi/training/config.py"),
        modules=("openpi", "jax", "flax", "lerobot", "tyro"),
        packages=("openpi", "jax", "flax", "orbax-checkpoint", "lerobot"),
        setup=SETUP,
        refuses=_refused,
    )
    fixed: ClassVar[Mapping[str, Fixed]] = {
        "cache_gb": Fixed(None, 8.0, "it decodes frames in its own way"),
        "frame_cache": Fixed(None, "auto", "it decodes frames in its own way"),
        "num_processes": Fixed(1, 1, "it is one process that trains on every GPU it sees (CUDA_VISIBLE_DEVICES)"),
        "other_num_processes": Fixed(False, False, "it is always one process"),
        "keep_every": Fixed(
            None, None, "it saves one step after a multiple of save_freq, so that no checkpoint is of such a step"
        ),
    }
    symptoms: ClassVar[tuple[Symptom, ...]] = (
        Symptom(
            r"must be divisible by the number of devices",
            "JAX trains on every GPU that it sees.",
            "Take a multiple of their number, batch_size=<...>, or one of them, device=cuda:0.",
        ),
        Symptom(
            r"OfflineModeIsEnabled",
            "The dataset is not whole, or not one that openpi's lerobot reads.",
            "Convert it again with vendor.backend=upstream.",
        ),
    )

    def policy(self, recipe: Recipe, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Every field, with the conventions that make checkpoints incompatible: a run that is resumed keeps them."""
        return fields(recipe, policy)

    def require_possible(self, job: Job, checkout: Checkout, start: Checkpoint | None) -> None:
        """What openpi would say after minutes, or never."""
        frames, batch = len(job.sides.training), job.settings.batch_size
        if job.vendor.mask_padding:
            raise PositronicError(
                "vendor.mask_padding=true does not reach openpi: it counts steps past an episode's end in its loss. "
                "Leave it out, or take vendor.backend=native."
            )
        if batch > frames:
            raise PositronicError(
                f"batch_size={batch}: openpi takes whole batches alone, and {job.input_path} has {frames} frames. Type "
                f"batch_size=<{frames} or fewer>."
            )
        python = str(checkout.python)
        require_cached(TOKENIZER, "The tokenizer of π0.5 is missing", python)
        if start is None:
            _require_base(job, python)
        elif start.step == 1:
            raise PositronicError(
                f"openpi does not go on from its step 0, which is checkpoint {start.id} of {job.place}. Start another "
                "experiment: exp_name=<another name>."
            )

    @contextmanager
    def base(self, job: Job) -> Iterator[Path]:
        """A folder with ``params``, or one of openpi's cache."""
        if job.vendor.base.startswith(BUCKET):
            yield require_cached(job.vendor.base, "vendor.base", "python")
            return
        with base_folder(job.vendor.base, job.storage) as folder:
            yield _params(folder, job)

    def prepare(self, job: Job, base: Path, scratch: Path) -> None:
        """The dataset by the name that the config has for it, its statistics, and the spec."""
        root, recipe, settings = job.sides.training.root, job.recipe, job.settings
        (scratch / DATA).mkdir()
        (scratch / DATA / REPO_ID).symlink_to(root.absolute())
        told, name = root / norm_stats_path(recipe), recipe.modality_config.config_name
        statistics = scratch / ASSETS / name / REPO_ID / FILE_NAME
        statistics.parent.mkdir(parents=True)
        # a dataset that was baked for the config of another name has the same numbers in another folder
        statistics.write_text(told.read_text() if told.is_file() else norm_stats(recipe).text(root))
        b1, b2 = settings.betas
        optimizer = {"b1": b1, "b2": b2, "eps": settings.eps, "weight_decay": settings.weight_decay}
        run = {
            "weights": str(params_in(base, f"vendor.base={job.vendor.base}").absolute()),
            "optimizer": optimizer | {"clip_gradient_norm": settings.grad_clip_norm},
            "ema_decay": settings.ema_decay,
        }
        (scratch / SPEC_FILE).write_text(json.dumps(self._spec(job) | {"run": run}, indent=2) + "\n")

    def command(self, job: Job, checkout: Checkout, base: Path, scratch: Path) -> Command:
        """With absolute paths: it runs in the scratch folder, where its own defaults would write."""
        settings, scratch = job.settings, scratch.absolute()
        said = {
            "exp-name": RUN,
            "assets-base-dir": scratch / ASSETS,
            "checkpoint-base-dir": scratch / OUT,
            "num-train-steps": settings.num_train_steps,
            "save-interval": settings.save_freq,
            "keep-period": settings.save_freq,  # each of them stays until it is taken over
            "log-interval": settings.log_freq,
            "batch-size": settings.batch_size,
            "num-workers": settings.num_workers,
            "seed": settings.seed,
            **{f"lr-schedule.{name}": value for name, value in _schedule(job).items()},
        }
        flags = ["--no-wandb-enabled", *(["--resume"] if any(self.checkpoints(scratch)) else [])]
        arguments = launched(checkout, "train", scratch / SPEC_FILE, said)
        return Command((*arguments, *flags), scratch, variables(settings.device, scratch))

    def parser(self, total: int) -> Callable[[str], Reading | None]:
        """It tells the mean loss of the steps since the last line, and every ten seconds how far it is."""
        return _Lines(total)

    def checkpoints(self, scratch: Path) -> Found:
        """Those that are whole: orbax writes under another name, and renames."""
        for folder in (scratch / OUT).glob(f"*/{RUN}/*"):
            if re.fullmatch(r"\d+", folder.name):
                yield int(folder.name) + 1, folder

    def write_model(self, checkpoint: Path, folder: Path, scratch: Path) -> None:
        """Weights and statistics, and the spec, without which nobody could tell what they are for."""
        for name in (PARAMS, ASSETS):
            link_or_copy_tree(checkpoint / name, folder / name)
        told = json.loads((scratch / SPEC_FILE).read_text())
        del told["run"]
        (folder / SPEC_FILE).write_text(json.dumps(told, indent=2) + "\n")

    def write_state(self, checkpoint: Path, folder: Path) -> None:
        """Weights that are trained, optimiser and step."""
        link_or_copy_tree(checkpoint / STATE, folder / STATE)
        link_or_copy(checkpoint / METADATA, folder / METADATA)

    def restore(self, checkpoint: Checkpoint, scratch: Path) -> None:
        """As folder N of the experiment, from where it goes on with ``--resume``."""
        name = checkpoint.info()["recipe"]["modality"]["config_name"]
        folder = scratch / OUT / name / RUN / str(checkpoint.step - 1)
        folder.mkdir(parents=True)
        for each in (PARAMS, ASSETS):
            link_or_copy_tree(checkpoint.pretrained_model / each, folder / each)
        self.write_state(checkpoint.training_state, folder)

    def release(self, checkpoint: Path) -> None:
        """``--keep-period`` keeps it."""
        shutil.rmtree(checkpoint)

    def _spec(self, job: Job) -> dict[str, Any]:
        dtype = "bfloat16" if job.settings.precision == "bf16" else "float32"
        return spec(job.recipe, fields(job.recipe, job.vendor.policy), dtype)


class _Lines:
    """Reads the output of a run of ``total`` steps, line by line. Its bar rounds thousands, so a step that was told
    exactly counts more."""

    def __init__(self, total: int) -> None:
        self._total, self._step = total, 0

    def __call__(self, line: str) -> Reading | None:
        if (told := STEP.search(line)) is not None:
            self._step = max(self._step, int(told[1]) + 1)
            numbers = {NAMES.get(name, name): _number(value) for name, value in NUMBERS.findall(told[2])}
            return Reading(int(told[1]) + 1, {name: value for name, value in numbers.items() if value is not None})
        if (bar := BAR.search(line)) is not None:
            self._step = min(max(self._step, round(float(bar[1]) * SCALE[bar[2]])), self._total)
            rate = float(bar[3])
            return Reading(self._step, steps_per_sec=(1 / rate if bar[4] == "s/it" else rate) if rate else None)
        return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _schedule(job: Job) -> dict[str, Any]:
    """Of openpi's CosineDecaySchedule, whose decay begins after the warm-up and must not be empty. A constant rate is a
    cosine that ends where it begins."""
    settings = job.settings
    peak, steps = settings.learning_rate or PEAK, settings.num_train_steps
    warmup = round(settings.warmup_fraction * steps)
    final = settings.final_lr_fraction if settings.lr_schedule == "cosine" else 1.0
    return {
        "peak-lr": peak,
        "warmup-steps": warmup,
        "decay-steps": max(steps, warmup + 1),
        "decay-lr": peak * final,
    }


def variables(device: str, scratch: Path) -> dict[str, str]:
    """The environment of a child that reads the dataset in ``scratch``."""
    # its working directory is another than ours, of which a relative path is meant
    kept = {CACHE: os.path.abspath(os.path.expanduser(os.environ[CACHE]))} if os.environ.get(CACHE) else {}
    offline = kept | {
        "HF_LEROBOT_HOME": str(scratch / DATA),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(scratch / ARROW),
    }
    if device == "cpu":
        return offline | ON_CPU
    memory = os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", FRACTION)
    return offline | visible_devices(device) | {"XLA_PYTHON_CLIENT_MEM_FRACTION": memory}


def _require_base(job: Job, python: str) -> None:
    """Before anything is written, and without reading all of it. What lies in an object store is looked at later."""
    base, local = job.vendor.base, Path(job.vendor.base).expanduser()
    if base.startswith(BUCKET):
        params_in(require_cached(base, f"vendor.base={base}", python), f"vendor.base={base}")
    elif local.is_dir():
        _params(local, job)
    elif not is_remote(base):
        why = "openpi fetches nothing from the Hugging Face hub" if HUB_NAME.fullmatch(base) else "no such folder"
        raise PositronicError(
            f"vendor.base={base}: {why}. Expected a checkpoint of openpi's, in a folder or at a gs:// or s3:// address."
        )


def _params(folder: Path, job: Job) -> Path:
    """Of a checkpoint of openpi's, or of one of ours that was trained by the same conventions."""
    own = own_checkpoint(folder)
    if own is None:
        return params_in(folder, f"vendor.base={job.vendor.base}")
    path = params_in(own.weights, f"vendor.base={job.vendor.base}")
    mine = fields(job.recipe, job.vendor.policy)
    own.require_same(VENDOR, job.recipe, mine, "chunk_size")
    sides = [{f"vendor.policy.{name}": of[name] for name in CONVENTIONS} for of in (own.fields, mine)]
    if own.recipe.modality_config.config_name == LORA:  # openpi would leave its adapters out, without a word
        names = [each.modality_config.config_name for each in (own.recipe, job.recipe)]
        sides = [side | {"modality.config_name": name} for side, name in zip(sides, names, strict=True)]
    hint = "Type the checkpoint's values, or start from other weights."
    require_equal(f"vendor.base={own.path}", sides[0], "this run", sides[1], hint)
    return path


SERVE = partial(serve_model, repository=OpenPi.repository)
BACKEND = UpstreamBackend(OpenPi(), partial(SERVE, vendor=VendorConfig(name=VENDOR, backend="upstream")), SERVE)
SERVE_PRETRAINED = partial(serve_pretrained, repository=OpenPi.repository)
