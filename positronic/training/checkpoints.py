"""Checkpoints of an experiment: list them, find one, write one completely or not at all. Reading works by URI too.

An experiment's folder holds ``checkpoints/<step, six digits>/``. Each checkpoint has the vendor's own layout in
``pretrained_model/``, what resuming needs in ``training_state/``, and ``positronic.json``, which says what it is. There
is no ``last`` link, because object stores lose links: the largest id is the last checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.embodiments.published import with_joints
from positronic.errors import MAX_NAME, PositronicError, clipped, listing
from positronic.storage.place import LocalFolder, Place
from positronic.storage.uri import is_remote, parse
from positronic.utils.locks import Held, hold_folder, lock_if_any, open_folder

CHECKPOINTS = "checkpoints"
PRETRAINED_MODEL = "pretrained_model"
TRAINING_STATE = "training_state"
FORMAT = 1
ID_DIGITS = 6
MAX_ID_DIGITS = 18  # Python refuses to read numbers of thousands of digits
PARTIAL_PREFIX = ".partial-"
VAL_LOSS = "val_loss"  # in positronic.json: of held-out episodes, after the checkpoint's step
FILES = "files"  # in positronic.json: name -> [CRC-32 in hexadecimal digits, bytes]


@dataclass(frozen=True)
class Checkpoint:
    """One complete checkpoint. ``id``: its folder's name. ``step``: the same as a number. ``place``: its folder.

    The folder may be in an object store; its files are fetched when ``path`` is asked for.
    """

    id: str
    step: int
    place: Place

    @cached_property
    def path(self) -> Path:
        """The folder on this machine. A remote one is fetched without the files that only resuming needs."""
        return self.place.fetch(lambda name: not name.startswith(f"{TRAINING_STATE}/"))

    @property
    def experiment_dir(self) -> Place:
        """The experiment's folder."""
        return self.place.parent.parent

    @property
    def pretrained_model(self) -> Path:
        """The folder with the vendor's own files."""
        return self.path / PRETRAINED_MODEL

    @property
    def training_state(self) -> Path:
        """The folder with what resuming needs."""
        return self.place.fetch() / TRAINING_STATE

    def hold(self) -> Held | None:
        """Until the result is closed, or forgotten, the checkpoint is not removed by a run that trains on. None if it
        is in an object store, whose copy on this machine stays anyway."""
        return None if self.place.local is None else hold_folder(self.place.local)

    def info(self) -> dict[str, Any]:
        """``positronic.json``. Raises PositronicError when it is unreadable or of a newer format."""
        return read_info(self.place)

    def serving_bytes(self) -> int:
        """How large the files are that serving needs; 0 where that is not known. Old ones do not say it themselves."""
        local = self.place.local
        try:
            files = {name: int(size) for name, (_, size) in self.info().get(FILES, {}).items()}
            if not files and local is not None:
                files = {str(path.relative_to(local)): path.stat().st_size for path in local.rglob("*")}
        except (PositronicError, AttributeError, OSError, TypeError, ValueError):  # who loads it says what is wrong
            return 0
        return sum(size for name, size in files.items() if not name.startswith(f"{TRAINING_STATE}/"))

    def require_intact(self, with_state: bool = True) -> None:
        """Read every file; ``with_state``: also what only resuming needs. Those of older versions are not known.

        Raises PositronicError, naming the file and the checkpoint before, when one is missing or not as it was written.
        """
        from positronic.bake.file_list import measure

        known = {name: tuple(each) for name, each in self.info().get(FILES, {}).items()}
        names = [name for name in known if with_state or not name.startswith(f"{TRAINING_STATE}/")]
        root = self.place.fetch() if with_state else self.path
        missing = [name for name in names if not (root / name).is_file()]
        if missing:
            raise _damaged(self.place, missing[0], "it is missing")
        found = measure(root, names)
        for name in names:
            if found[name] != known[name]:
                said = f"expected the {known[name][1]} bytes that training wrote, found {found[name].size}"
                same_size = found[name].size == known[name][1]
                raise _damaged(self.place, name, "some of its bytes have changed" if same_size else said)


def require_intact(folder: Path) -> None:
    """Read every file of the checkpoint in ``folder`` that serving needs. Raises PositronicError for a damaged one."""
    Checkpoint(folder.name, 0, LocalFolder(folder)).require_intact(with_state=False)


def read_info(checkpoint: Path | Place) -> dict[str, Any]:
    """What the checkpoint in folder ``checkpoint`` says of itself.

    Raises PositronicError when ``positronic.json`` is missing, unreadable or of a newer format.
    """
    path, content = f"{checkpoint}/{keys.CHECKPOINT_FILE}", place_of(checkpoint).read_bytes(keys.CHECKPOINT_FILE)
    if content is None:
        raise PositronicError(
            f"{checkpoint} is not a checkpoint of Positronic: it has no {keys.CHECKPOINT_FILE}. "
            "Train one with `python run.py stage=train`."
        )
    try:
        info = json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _damaged(place_of(checkpoint), keys.CHECKPOINT_FILE, f"expected JSON, found: {error}") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        found = info.get("format") if isinstance(info, dict) else type(info).__name__
        raise PositronicError(f"{path}: expected checkpoint format {FORMAT}, found {found!r}. Update Positronic.")
    return info


def trained_recipe(info: Mapping[str, Any]) -> Recipe:
    """The recipe in a checkpoint's ``positronic.json``. Older ones do not say their robot; the manifest of their
    dataset may list its joints.

    Raises PositronicError for a recipe that this version cannot build, LookupError or TypeError where something else
    stands.
    """
    return Recipe.from_dict(info["recipe"], with_joints((info.get("manifest") or {}).get(keys.JOINT_NAMES)))


def list_checkpoints(experiment_dir: str | Path | Place) -> list[Checkpoint]:
    """The whole checkpoints of an experiment, smallest step first; empty when there are none."""
    folder = place_of(experiment_dir) / CHECKPOINTS
    names = folder.folders_with(keys.CHECKPOINT_FILE)  # which is written last
    found = [Checkpoint(name, int(name), folder / name) for name in names if name.isdecimal()]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def find_checkpoint(experiment_dir: str | Path | Place, checkpoint_id: str | int | None = None) -> Checkpoint:
    """The checkpoint with this id, compared as a number (``10000`` finds ``010000``); None finds the last.

    Raises PositronicError, listing those that exist, when there is none.
    """
    folder = place_of(experiment_dir)
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise PositronicError(_none_in(folder) if folder.local is None else _none_there(folder.local))
    if checkpoint_id is None:
        return checkpoints[-1]
    wanted = str(checkpoint_id).strip()
    for checkpoint in checkpoints:
        if wanted.isascii() and wanted.isdecimal() and len(wanted) <= MAX_ID_DIGITS and checkpoint.step == int(wanted):
            return checkpoint
    there = listing(checkpoint.id for checkpoint in checkpoints)
    said = clipped(wanted, MAX_NAME)
    raise PositronicError(f"No checkpoint '{said}' in {folder / CHECKPOINTS}. There are: {there}.")


def place_of(folder: str | Path | Place) -> Place:
    """A folder by its path or URI."""
    if isinstance(folder, str) and is_remote(folder):
        from positronic.storage.folder import RemoteFolder

        return RemoteFolder(parse(folder))
    return LocalFolder(Path(folder)) if isinstance(folder, str | Path) else folder


@contextmanager
def writing_checkpoint(experiment_dir: str | Path, step: int) -> Iterator[Path]:
    """A folder to fill. It becomes checkpoint ``step`` if the block ends well, and disappears otherwise.

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


def remove_checkpoint(checkpoint: Checkpoint) -> bool:
    """Remove a checkpoint on this machine: it is whole at one moment, and not there at the next. False: it stays,
    because somebody reads it (``Checkpoint.hold``)."""
    folder = Path(str(checkpoint.place.local))
    gone = folder.with_name(f"{PARTIAL_PREFIX}{folder.name}-{os.getpid()}-old")
    with open_folder(folder) as descriptor:
        if descriptor is None or not lock_if_any(descriptor):
            return False
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    return True


def remove_partial(experiment_dir: str | Path) -> None:
    """Remove what an interrupted write left behind."""
    for path in (Path(experiment_dir) / CHECKPOINTS).glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write ``positronic.json`` with its format number, and size and checksum of each file in ``folder``: to be called
    last. ``info`` must be JSON-ready."""
    from positronic.bake.file_list import measure

    there = measure(folder, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()])
    text = json.dumps({"format": FORMAT, **info, FILES: there}, indent=2)
    (folder / keys.CHECKPOINT_FILE).write_text(text + "\n")


def _damaged(checkpoint: Place, name: str, problem: str) -> PositronicError:
    there = list_checkpoints(checkpoint.parent.parent) if checkpoint.name.isdecimal() else []
    before = [each.id for each in there if each.step < int(checkpoint.name)]
    advice = "There is none before it: train again, under another name or after removing it."
    if before:
        remove = f"`rm -r {checkpoint}`" if checkpoint.local is not None else f"removing {checkpoint}"
        advice = (
            f"The one before it is {before[-1]}: serve that with checkpoint={before[-1]}; after {remove} training goes "
            "on from there with resume=true."
        )
    return PositronicError(f"{checkpoint}/{name} is damaged: {problem}. {advice}")


def _none_there(experiment_dir: Path) -> str:
    if not experiment_dir.exists():
        near = _experiments_in(experiment_dir.parent)
        beside = f" Beside it there are: {listing(near)}." if near else ""
        return f"No experiment folder {experiment_dir}.{beside} Train one with `python run.py stage=train`."
    around = (path.parent for path in (experiment_dir, *experiment_dir.parents) if path.name == CHECKPOINTS)
    above = next(filter(list_checkpoints, around), None)
    if above is not None:
        return f"{experiment_dir} lies inside an experiment's folder; give the experiment's folder itself: {above}."
    below = _experiments_in(experiment_dir)
    if below:
        there = listing(str(experiment_dir / name) for name in below)
        return f"{experiment_dir} is not an experiment's folder, but has some below. Give one of them: {there}."
    if (experiment_dir / keys.MANIFEST_FILE).is_file():
        train = f"`python run.py stage=train input_path={experiment_dir}`"
        return f"{experiment_dir} is a baked dataset, an experiment's folder was expected. Train from it with {train}."
    inside = listing(path.name for path in experiment_dir.iterdir()) if experiment_dir.is_dir() else "a file"
    return (
        f"No checkpoints in {experiment_dir}: expected {CHECKPOINTS}/<step>/{keys.CHECKPOINT_FILE}, found: {inside}. "
        "Train with `python run.py stage=train`."
    )


def _experiments_in(folder: Path) -> list[str]:
    """Paths below ``folder``, at most two levels down, of the experiments that have a checkpoint."""
    found = [*folder.glob(f"*/{CHECKPOINTS}/*/{keys.CHECKPOINT_FILE}")]
    found += folder.glob(f"*/*/{CHECKPOINTS}/*/{keys.CHECKPOINT_FILE}")
    return sorted({str(file.parents[2].relative_to(folder)) for file in found})


def _none_in(folder: Place) -> str:
    found = listing(folder.entries())
    return (
        f"No checkpoints in {folder}: expected {CHECKPOINTS}/<step>/{keys.CHECKPOINT_FILE}, found: {found}. Give an "
        "experiment's folder, or train with `python run.py stage=train`."
    )


def _flush(folder: Path) -> None:
    """Write to the disk before the rename, so that a power cut cannot leave a complete name with an empty file."""
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
