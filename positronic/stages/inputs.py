"""What a stage needs to be there before it runs, and where its results go: asked before jobs are submitted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError
from positronic.stages.base import Parts
from positronic.stages.first import missing_dataset
from positronic.stages.train import Train, recipe_of
from positronic.utils.command_line import Composed

MISSING_TEXT = "???"


def require_inputs(config: Parts, composed: Composed) -> list[str] | None:
    """The overrides of the stage=convert that has to run before ``config``; None when all is there.

    Raises PositronicError for what is missing and cannot be made.
    """
    for key, place in _places(config):
        _require(key, place, f"what stage={config.stage} reads")
    if not isinstance(config, Train):
        return None
    bake = missing_dataset(config, composed)
    if bake is not None:
        _require("dataset.path", config.dataset.path, "a folder of raw episodes, or a dataset baked of it")
    elif not _is_foreign(config):
        recipe_of(config)
    return bake


def _require(key: str, place: str, what: str) -> None:
    if place != MISSING_TEXT and "://" not in place and not Path(place).exists():
        raise PositronicError(f"{key}={place}: there is nothing. Expected {what}.")


def place_of_results(config: Parts) -> str | None:
    """The folder that ``config`` writes, which no other job may share; None for a stage without one."""
    if isinstance(config, Train):
        return str(Path(config.output_dir, config.exp_name)) if "://" not in config.output_dir else _joined(config)
    return getattr(config, "output_dir", None)


def require_free_place(config: Parts) -> None:
    """Raise PositronicError if earlier results are where ``config`` writes, and it is not to go on with them."""
    from positronic.training.experiment import require_free

    place = place_of_results(config)
    if place is None or "://" in place or getattr(config, "resume", False):
        return
    if isinstance(config, Train):
        require_free(Path(place), "... resume=true")
    elif config.stage == "infer" and any(Path(place).glob("*")):
        raise PositronicError(f"output_dir={place} holds something already. Type another output_dir=, or resume=true.")


def _joined(config: Train) -> str:
    from positronic.storage import join

    return str(join(config.output_dir, config.exp_name))


def _is_foreign(config: Train) -> bool:
    from positronic.stages.foreign import is_foreign

    return is_foreign(config)


def _places(config: Any) -> Iterator[tuple[str, str]]:
    """Keys of the folders and files that the stage of ``config`` reads, with what they say."""
    stage = config.stage
    if stage == "convert" or (isinstance(config, Train) and _is_foreign(config)):
        yield "dataset.path", config.dataset.path
    elif stage == "stats":
        yield "input_path", config.input_path
    elif stage == "import":
        yield "path", config.path
    elif stage == "serve":
        yield "checkpoints_dir", config.checkpoints_dir
    elif stage == "compare":
        yield from (("rollouts", place) for place in config.rollouts)
    elif stage == "infer":
        yield from ((key, place) for key, place in _read_by_infer(config) if place is not None)


def _read_by_infer(config: Any) -> Iterator[tuple[str, str | None]]:
    yield "policy.checkpoints_dir", getattr(config.policy, "checkpoints_dir", None)
    yield "hardware.path", getattr(config.hardware, "path", None)
