"""A folder of demonstrations: its settings, and which seeds are done, so that a later run continues it.

``collect.json`` lies beside the episodes. It holds the settings on which the demonstrations depend, and the seeds that
failed; those that succeeded are there as episodes. Both are the same for an interrupted run and for one without
interruption.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from positronic.errors import PositronicError
from positronic.raw.layout import episode_paths, is_finished, remove_unfinished
from positronic.rollout.asked import require_same
from positronic.utils.files import replace_text

COLLECTION_FILE = "collect.json"
ASKED, FAILED, NUM_EPISODES = "asked", "failed", "num_episodes"


class Collection:
    """The demonstrations in ``root``. ``asked``, JSON-ready: the settings on which they depend. ``first_seed``: the
    seed of episode 0."""

    def __init__(self, root: Path, asked: Mapping[str, Any], num_episodes: int, first_seed: int) -> None:
        self.root, self.num_episodes, self.first_seed = root, num_episodes, first_seed
        self._asked = dict(asked)
        self._failed: set[int] = set()

    @property
    def succeeded(self) -> set[int]:
        """Seeds whose demonstration is there."""
        return {self.first_seed + int(path.name) for path in episode_paths(self.root) if is_finished(path)}

    @property
    def done(self) -> dict[int, bool]:
        """Seed -> whether its demonstration succeeded, for all seeds that were tried."""
        return dict.fromkeys(self._failed, False) | dict.fromkeys(self.succeeded, True)

    def begin(self) -> None:
        """Start in a folder without episodes."""
        self._write()

    def go_on(self) -> None:
        """Continue what is there, and remove unfinished episodes; begin if nothing is there.

        Raises PositronicError if the episodes were not collected, or were collected with other parameters.
        """
        remove_unfinished(self.root)
        if (self.root / COLLECTION_FILE).exists():
            self._take_up(_read(self.root / COLLECTION_FILE))
        elif self.succeeded:
            raise PositronicError(
                f"{self.root} holds episodes, but no {COLLECTION_FILE}: they were not recorded by stage=collect, or by"
                f" an older one, and cannot be continued. Record elsewhere, e.g. output_dir={self.root}_2."
            )
        self._write()

    def note_failure(self, seed: int) -> None:
        """The expert failed on ``seed``, so it need not be tried again."""
        self._failed.add(seed)
        self._write()

    def close(self) -> int:
        """Remove what workers that were killed left half, and everything when there is no episode.

        Returns how many there are, with unfinished ones that cannot be removed.
        """
        with contextlib.suppress(OSError):
            remove_unfinished(self.root)
        left = len(list(episode_paths(self.root)))
        if not left:
            (self.root / COLLECTION_FILE).unlink(missing_ok=True)
        return left

    def _take_up(self, record: Mapping[str, Any]) -> None:
        require_same(self.root, record[ASKED], self._asked, "collected")
        if self.num_episodes < record[NUM_EPISODES]:
            raise PositronicError(
                f"{self.root} was begun with num_episodes={record[NUM_EPISODES]}, and seeds beyond the first"
                f" {self.num_episodes} may be there already. Type num_episodes={record[NUM_EPISODES]} or more."
            )
        self._failed = set(record[FAILED])

    def _write(self) -> None:
        record = {NUM_EPISODES: self.num_episodes, ASKED: self._asked, FAILED: sorted(self._failed)}
        replace_text(self.root / COLLECTION_FILE, json.dumps(record, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
        return {NUM_EPISODES: int(record[NUM_EPISODES]), ASKED: dict(record[ASKED]), FAILED: list(record[FAILED])}
    except (ValueError, KeyError, TypeError) as error:
        raise PositronicError(
            f"{path} is damaged: expected what stage=collect was asked for, found: {error!r}. The episodes beside it"
            f" are whole, but cannot be continued. Record elsewhere, e.g. output_dir={path.parent}_2."
        ) from None
