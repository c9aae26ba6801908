"""What lies in a dataset's folder and is not among its episodes, so that nothing is left out without a word."""

from __future__ import annotations

from typing import NamedTuple

from positronic.errors import listing


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
