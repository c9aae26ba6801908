"""An experiment that is trained into an object store: which parts are finished, and what resuming needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from positronic import keys
from positronic.storage.folder import RemoteFolder
from positronic.storage.outgoing import Growing
from positronic.storage.publishing import Unit
from positronic.training.checkpoints import CHECKPOINTS, list_checkpoints
from positronic.training.retention import Retention


def finished(folder: Path) -> Iterable[Unit]:
    """The whole checkpoints."""
    return [Unit(checkpoint.path, keys.CHECKPOINT_FILE) for checkpoint in list_checkpoints(folder)]


def is_inside(name: str) -> bool:
    """Whether a file is of a checkpoint, or of one that is being written."""
    return name.startswith(f"{CHECKPOINTS}/")


def newest(names: Sequence[str]) -> list[str]:
    """The last whole checkpoint, and what is outside of checkpoints."""
    whole = [PurePosixPath(name).parent for name in names if name.endswith(f"/{keys.CHECKPOINT_FILE}")]
    whole = [path for path in whole if path.parent.name == CHECKPOINTS and path.name.isdecimal()]
    last = max(whole, key=lambda path: int(path.name), default=None)
    return [name for name in names if not is_inside(name) or (last and name.startswith(f"{last}/"))]


def growing(retention: Retention) -> Growing:
    """An experiment of which these checkpoints stay, here and there."""

    def superfluous(place: RemoteFolder) -> Iterable[tuple[str, str]]:
        return [(f"{CHECKPOINTS}/{each.id}", keys.CHECKPOINT_FILE) for each in retention.superfluous(place)]

    return Growing(finished, is_inside, newest, superfluous)
