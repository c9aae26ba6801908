"""Checkpoints of an experiment on disk: list them, find one, write one whole or not at all.

An experiment's folder holds ``checkpoints/<step, six digits>/``; each checkpoint the vendor's own layout in
``pretrained_model/``, what resuming needs in ``training_state/``, and ``positronic.json``, which says what it is.
There is no ``last`` link: object stores lose links, and the largest id is the last.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from positronic import keys
from positronic.errors import PositronicError, listing

CHECKPOINTS = "checkpoints"
PRETRAINED_MODEL = "pretrained_model"
TRAINING_STATE = "training_state"
FORMAT = 1
ID_DIGITS = 6
PARTIAL_PREFIX = ".partial-"


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint. ``id``: its folder's name, ``step``: the same as a number, ``path``: the folder."""

    id: str
    step: int
    path: Path

    @property
    def pretrained_model(self) -> Path:
        """The folder with the vendor's own files."""
        return self.path / PRETRAINED_MODEL

    @property
    def training_state(self) -> Path:
        """The folder with what resuming needs."""
        return self.path / TRAINING_STATE

    def info(self) -> dict[str, Any]:
        """``positronic.json``. Raises PositronicError when it is unreadable or of a newer format."""
        return read_info(self.path)


def read_info(checkpoint: Path) -> dict[str, Any]:
    """What the checkpoint in folder ``checkpoint`` says of itself.

    Raises PositronicError when ``positronic.json`` is missing, unreadable or of a newer format.
    """
    path = Path(checkpoint) / keys.CHECKPOINT_FILE
    try:
        info = json.loads(path.read_text())
    except FileNotFoundError:
        raise PositronicError(
            f"{checkpoint} is not a checkpoint of Positronic: it has no {keys.CHECKPOINT_FILE}. "
            "Train one with `python run.py stage=train`."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PositronicError(f"{path} is damaged: expected JSON, found: {error}. Use another checkpoint.") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        found = info.get("format") if isinstance(info, dict) else type(info).__name__
        raise PositronicError(f"{path}: expected checkpoint format {FORMAT}, found {found!r}. Update Positronic.")
    return info


def list_checkpoints(experiment_dir: str | Path) -> list[Checkpoint]:
    """The whole checkpoints of an experiment, smallest step first; empty when there are none."""
    folder = Path(experiment_dir) / CHECKPOINTS
    if not folder.is_dir():
        return []
    found = [Checkpoint(path.name, int(path.name), path) for path in folder.iterdir() if _is_whole(path)]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def find_checkpoint(experiment_dir: str | Path, checkpoint_id: str | int | None = None) -> Checkpoint:
    """The checkpoint with this id, compared as a number (``10000`` finds ``010000``); None finds the last.

    Raises PositronicError, listing those that exist, when there is none.
    """
    checkpoints = list_checkpoints(experiment_dir)
    if not checkpoints:
        raise PositronicError(_none_there(Path(experiment_dir)))
    if checkpoint_id is None:
        return checkpoints[-1]
    wanted = str(checkpoint_id).strip()
    for checkpoint in checkpoints:
        if wanted.isdecimal() and checkpoint.step == int(wanted):
            return checkpoint
    there = listing(checkpoint.id for checkpoint in checkpoints)
    raise PositronicError(f"No checkpoint '{wanted}' in {Path(experiment_dir) / CHECKPOINTS}. There are: {there}.")


@contextmanager
def writing_checkpoint(experiment_dir: str | Path, step: int) -> Iterator[Path]:
    """A folder to fill; it becomes checkpoint ``step`` when the block ends well, and vanishes when it does not.

    A checkpoint of the same step is replaced.
    """
    folder = Path(experiment_dir) / CHECKPOINTS
    partial = folder / f"{PARTIAL_PREFIX}{step:0{ID_DIGITS}d}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _flush(partial)
        _put_in_place(partial, folder / f"{step:0{ID_DIGITS}d}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial(experiment_dir: str | Path) -> None:
    """Remove what an interrupted write left behind."""
    for path in (Path(experiment_dir) / CHECKPOINTS).glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write ``positronic.json`` with its format number; ``info`` must be JSON-ready."""
    text = json.dumps({"format": FORMAT, **info}, indent=2)
    (folder / keys.CHECKPOINT_FILE).write_text(text + "\n")


def _is_whole(path: Path) -> bool:
    return path.name.isdecimal() and (path / keys.CHECKPOINT_FILE).is_file()


def _none_there(experiment_dir: Path) -> str:
    if not experiment_dir.exists():
        near = listing(path.name for path in experiment_dir.parent.iterdir()) if experiment_dir.parent.is_dir() else ""
        beside = f" Beside it there are: {near}." if near else ""
        return f"No experiment folder {experiment_dir}.{beside} Train one with `python run.py stage=train`."
    if experiment_dir.name == CHECKPOINTS or experiment_dir.parent.name == CHECKPOINTS:
        above = experiment_dir.parent if experiment_dir.name == CHECKPOINTS else experiment_dir.parent.parent
        return f"{experiment_dir} lies inside an experiment's folder; give the experiment's folder itself: {above}."
    inside = listing(path.name for path in experiment_dir.iterdir()) if experiment_dir.is_dir() else "a file"
    return (
        f"No checkpoints in {experiment_dir}: expected {CHECKPOINTS}/<step>/{keys.CHECKPOINT_FILE}, found: {inside}. "
        "Train with `python run.py stage=train`."
    )


def _flush(folder: Path) -> None:
    """Onto the disk before the rename, so that a power cut cannot leave a whole name around an empty file."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _put_in_place(partial: Path, final: Path) -> None:
    if final.exists():
        old = partial.with_name(f"{partial.name}-old")
        final.rename(old)
        partial.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        partial.rename(final)
