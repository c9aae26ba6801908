"""Episodes that are held out: they are baked, but are neither trained on nor counted in statistics.

An episode's side follows from its own uid and the seed alone (a hash of both). A shuffle of all episodes would hold out
exactly the wanted share, but each added recording would deal them anew: an episode that a policy was trained on would
become one that it is judged by. So the share is kept only roughly, and always the same episodes are held out, also
when some of the dataset are chosen, or in another codec's bake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from positronic.errors import PositronicError

SEEDS = 1000  # that are tried for one that suits


@dataclass(frozen=True)
class Holdout:
    """Which episodes are held out. ``fraction``: their share, 0..1, as far as a hash keeps it."""

    fraction: float
    seed: int = 0

    def has(self, uid: str) -> bool:
        """Whether the episode is held out."""
        digest = hashlib.sha256(f"{self.seed}\0{uid}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.fraction * 2**64

    def among(self, uids: Sequence[str]) -> list[int]:
        """Positions of those that are held out."""
        return [number for number, uid in enumerate(uids) if self.has(uid)]

    def to_dict(self, uids: Sequence[str]) -> dict[str, Any]:
        """JSON-ready: itself, and what it holds out of the dataset of these episodes."""
        held_out = self.among(uids)
        record = {"val_fraction": self.fraction, "val_seed": self.seed, "episodes": held_out}
        return record | {"uids": [uids[number] for number in held_out]}


def holdout(fraction: float | None, seed: int) -> Holdout | None:
    """None where nothing is to be held out."""
    return None if fraction is None else Holdout(fraction, seed)


def require_two_sides(holdout: Holdout, uids: Sequence[str]) -> None:
    """Raise PositronicError, with a seed that does, when of these episodes all or none are held out."""
    count = len(holdout.among(uids))
    if 0 < count < len(uids):
        return
    said = f"val_fraction={holdout.fraction:g} val_seed={holdout.seed}"
    if len(uids) < 2:
        raise PositronicError(f"{said}: to hold one out, at least two episodes are needed; found {len(uids)}.")
    seed = _nearest_seed(holdout.fraction, uids)
    suits = len(Holdout(holdout.fraction, seed).among(uids))
    raise PositronicError(
        f"{said} holds out {'all' if count else 'none'} of these {len(uids)} episodes: an episode's side follows from "
        f"its name and the seed, so few episodes may fall on one. Type val_seed={seed}, which holds out {suits}, or "
        "another val_fraction."
    )


def _nearest_seed(fraction: float, uids: Sequence[str]) -> int:
    """The first seed that holds out as many as the fraction says, or as nearly as any does."""
    wanted = min(max(1, round(fraction * len(uids))), len(uids) - 1)

    def distance(seed: int) -> int:
        return abs(len(Holdout(fraction, seed).among(uids)) - wanted)

    return min(range(SEEDS if len(uids) < SEEDS else 1), key=distance)
