"""Whether a comparison that is under way is decided already."""

from __future__ import annotations

from collections.abc import Sequence

from positronic.rollout.results import UNJUDGED, EpisodeResult
from positronic.rollout.sequential import seeds_until_decided


class Verdict:
    """Watches the episodes of several policies on the same seeds. ``done``: of each policy, what was played before.

    A seed is looked at when all have played it and every seed before it.
    """

    def __init__(self, done: Sequence[Sequence[EpisodeResult]]) -> None:
        self._played = [{result.id: result for result in each} for each in done]
        self.seeds: int | None = None
        self._judge()

    def note(self, number: int, result: EpisodeResult) -> None:
        """Policy ``number`` has played an episode. Afterwards ``seeds`` is how many it took, once it is decided."""
        self._played[number][result.id] = result
        self._judge()

    def _judge(self) -> None:
        ids = sorted(set.intersection(*(set(each) for each in self._played)))
        whole = [index for place, index in enumerate(ids) if index == place]  # up to the first that is missing
        outcomes = [
            {index: each[index].success for index in whole if each[index].outcome not in UNJUDGED}
            for each in self._played
        ]
        self.seeds = seeds_until_decided(outcomes, whole)
