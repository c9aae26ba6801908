"""The folder of an experiment, and whether a run may start, continue, or has nothing left to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from positronic.bake.reader import BakedDataset
from positronic.codecs.build import Recipe
from positronic.conventions import differences
from positronic.errors import PositronicError
from positronic.training.checkpoints import (
    PRETRAINED_MODEL,
    TRAINING_STATE,
    Checkpoint,
    list_checkpoints,
    remove_partial,
    trained_recipe,
    write_info,
    writing_checkpoint,
)
from positronic.training.choice import identity
from positronic.training.config import RANDOM
from positronic.training.settings import BEFORE, KEPT, PROCESSES, SAID_ABOVE, TrainSettings
from positronic.utils.files import replace_text

METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Experiment:
    """``folder``: where everything goes. ``info``: what each checkpoint says of itself, except its step."""

    folder: Path
    info: Mapping[str, Any]

    @property
    def metrics(self) -> Path:
        return self.folder / METRICS_FILE

    def continues_from(self, may_change: Collection[str] = ()) -> Checkpoint | None:
        """The last checkpoint; None for a run that starts at the beginning. ``may_change``: names of settings.

        Raises PositronicError, naming both values, if it was trained with other data or settings.
        """
        checkpoints = list_checkpoints(self.folder)
        if not checkpoints:
            return None
        require_same_run(checkpoints[-1], checkpoints[-1].info(), self.info, may_change)
        checkpoints[-1].require_intact()
        return checkpoints[-1]

    def prepare(self, start: Checkpoint | None) -> None:
        """Prepare the folder for a run from ``start``: write ``config.json``, and remove what an
        interrupted run left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partial(self.folder)
        self._keep_metrics_until(start.step if start else 0)
        replace_text(self.folder / CONFIG_FILE, json.dumps(self.info, indent=2) + "\n")

    def _keep_metrics_until(self, step: int) -> None:
        """Remove what a killed run reported after its last checkpoint: those steps are trained again."""
        if not self.metrics.exists():
            return
        lines = [line for line in self.metrics.read_text().splitlines() if _step_of(line) in range(1, step + 1)]
        replace_text(self.metrics, "".join(line + "\n" for line in lines))


def require_free(folder: Path, again: str) -> None:
    """Raise PositronicError when an experiment is in ``folder`` already. ``again``: what to type to continue it."""
    checkpoints = list_checkpoints(folder) if folder.exists() else []
    if not checkpoints:  # files of a failed start do not block its name: the run begins at the first step
        return
    raise PositronicError(
        f"Experiment {folder} exists already; its last checkpoint is {checkpoints[-1].id}. To continue it, type:\n"
        f"  {again}\nTo start another, add exp_name=<another name>."
    )


def make_info(
    dataset: BakedDataset,
    settings: TrainSettings,
    vendor: str,
    backend: str,
    fields: Mapping[str, Any],
    recipe: Recipe,
    provenance: Mapping[str, Any],
    choice: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``positronic.json`` holds, except step and format. ``dataset``: what is trained on. ``fields``: those of the
    policy, all resolved. ``choice``: as of ``Split.record``."""
    training = {
        **asdict(settings),
        "backend": backend,
        "policy": dict(fields),
        "input_path": str(dataset.root),
        "frames": len(dataset),
        "episodes": len(dataset.starts),
    }
    training |= {} if choice is None else {"choice": dict(choice)}
    return {
        "vendor": vendor,
        "recipe": recipe.to_dict(),
        "manifest": dataset.manifest.to_dict(),
        "dataset_digest": dataset.manifest.digest,
        "training": training,
        "provenance": dict(provenance),
    }


def require_same_run(
    checkpoint: Checkpoint, theirs: Mapping[str, Any], ours: Mapping[str, Any], may_change: Collection[str] = ()
) -> None:
    """Raise PositronicError naming both values of everything that a resumed run may not change."""
    rows = [row for row in differences(_identity(theirs), _identity(ours)) if row[0] not in may_change]
    if rows:
        by_processes = [name for name, *_ in rows] == [PROCESSES]
        lines = [f"  {name}: the checkpoint has {a}; this run has {b}" for name, a, b in rows]
        raise PositronicError(
            "\n".join(
                [
                    f"resume=true, but {checkpoint.path} was trained differently:",
                    *lines,
                    "Resume with the checkpoint's values, or start another experiment with exp_name=<another name>."
                    + (f" other_{PROCESSES}=true goes on all the same, but not bit for bit." if by_processes else ""),
                ]
            )
        )


def save_checkpoint(
    experiment: Experiment,
    step: int,
    write_model: Callable[[Path], None],
    write_state: Callable[[Path], None],
    told: Mapping[str, float] | None = None,
) -> None:
    """Write checkpoint ``step``, whole or not at all; ``write_model`` and ``write_state`` each fill a folder. ``told``:
    what it says of itself beside ``experiment.info``."""
    with writing_checkpoint(experiment.folder, step) as folder:
        for name, write in ((PRETRAINED_MODEL, write_model), (TRAINING_STATE, write_state)):
            (folder / name).mkdir()
            write(folder / name)
        write_info(folder, {"step": step, **(told or {}), **experiment.info})


def _identity(info: Mapping[str, Any]) -> dict[str, Any]:
    training = info["training"]
    policy = {f"vendor.policy.{name}": value for name, value in training["policy"].items() if name not in SAID_ABOVE}
    contract = {f"recipe {name}": value for name, value in trained_recipe(info).contract.items()}
    references = info["recipe"].get("reference_rotations", {})
    contract |= {f"reference rotation of {name}": value for name, value in references.items()}
    same = {"vendor": info["vendor"], "vendor.backend": training["backend"]}
    same |= {"vendor.base": training.get("base", RANDOM)}  # which older ones do not say
    same |= {"vendor.mask_padding": training.get("mask_padding", False)}
    same |= {"vendor.toy": training.get("toy", False)}
    same |= {"modality.config_name": info["recipe"]["modality"].get("config_name")}
    same |= {"dataset digest": info["dataset_digest"][:16], "dataset fps": info["manifest"]["fps"]}
    same |= identity(training.get("choice"))
    return same | contract | {name: _plain(training.get(name, BEFORE.get(name))) for name in KEPT} | policy


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 0  # the last line of a killed run may be cut
