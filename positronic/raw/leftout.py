"""What lies in a dataset's folder and is not among its episodes. Reports mention it, so that nothing is left out
silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from positronic.errors import listing
from positronic.raw.edits import Edits
from positronic.raw.folder import EpisodeFolder


class LeftOut(NamedTuple):
    """``unfinished``: names of episodes that are being recorded, or whose recording crashed. ``dropped``: how many
    ``edits.jsonl`` drops. ``unknown``: the uids that it drops and that no episode has."""

    unfinished: tuple[str, ...] = ()
    dropped: int = 0
    unknown: tuple[str, ...] = ()

    def and_those(self, other: LeftOut) -> LeftOut:
        """Of two roots together."""
        return LeftOut(self.unfinished + other.unfinished, self.dropped + other.dropped, self.unknown + other.unknown)

    def rows(self) -> dict[str, str]:
        """Label -> text, for a table; empty when nothing is left out."""
        rows = {}
        if self.unfinished:
            rows["unfinished, left out"] = f"{len(self.unfinished)} episodes: {listing(self.unfinished)}"
        if self.dropped:
            rows["dropped by edits.jsonl"] = f"{self.dropped} episodes"
        if self.unknown:
            rows["edits.jsonl drops unknown uids"] = listing(self.unknown)
        return rows


NOTHING = LeftOut()


def without_dropped[Place: EpisodeFolder](
    finished: Sequence[Place], unfinished: Sequence[EpisodeFolder], edits: Edits, uids: Mapping[Place, str]
) -> tuple[list[Place], LeftOut]:
    """The episodes of one root that its ``edits`` do not drop, and what is left out of it.

    ``uids``: of the finished episodes; they are only needed where the edits drop something.
    """
    kept = [place for place in finished if uids.get(place) not in edits.dropped]
    names, unknown = sorted(place.name for place in unfinished), sorted(edits.dropped - set(uids.values()))
    return kept, LeftOut(tuple(names), len(finished) - len(kept), tuple(unknown))
