"""What a dataset holds so far, in any layout: its episodes, their tasks, and the numbers that statistics
are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from positronic.bake import features, statistics
from positronic.bake.columns import Spool
from positronic.bake.episode import BakedEpisode
from positronic.bake.frames import Histogram, empty_histogram
from positronic.bake.statistics import Stats


class PlacedEpisode(NamedTuple):
    """An episode and its place. ``first``: the dataset's index of its first frame. ``columns``: (T, D) by name, and
    LeRobot's own as (T,). ``stats``: by feature. ``pieces``: mp4 by camera."""

    index: int
    first: int
    length: int
    task: str
    columns: dict[str, NDArray[Any]]
    stats: dict[str, Stats]
    pieces: dict[str, Path]


class Ledger:
    """Episodes are entered in order; ``stats`` covers all of them that are not held out.

    ``features``: as ``features.lerobot_features`` gives them. ``uids``, ``lengths``: of each episode, the latter in
    frames. ``held_out``: indices of those for whose index and uid ``leaves_out`` is true. ``tasks``: text -> index.
    ``task_of``: each episode's task index. ``histograms``: summed, by camera, without those held out.
    """

    def __init__(
        self,
        feature_info: Mapping[str, dict[str, Any]],
        fps: int,
        leaves_out: Callable[[int, str], bool] = lambda index, uid: False,
    ) -> None:
        self.features, self.fps, self._leaves_out = dict(feature_info), fps, leaves_out
        self.frames = 0
        self.uids: list[str] = []
        self.lengths: list[int] = []
        self.held_out: set[int] = set()
        self.tasks: dict[str, int] = {}
        self.task_of: list[int] = []
        self.cameras = [name for name, feature in self.features.items() if feature["dtype"] == "video"]
        self.histograms: dict[str, Histogram] = {name: empty_histogram() for name in self.cameras}

    def enter(self, episode: BakedEpisode) -> PlacedEpisode:
        """Give the next place to ``episode`` and count it."""
        index, first = len(self.lengths), self.frames
        task_index = self.count(episode.source.uid, episode.task, episode.length, episode.histograms)
        columns = episode.columns | self._own_columns(index, first, episode.length, task_index)
        stats = self._episode_stats(columns, episode)
        return PlacedEpisode(index, first, episode.length, episode.task, columns, stats, episode.pieces)

    def count(self, uid: str, task: str, length: int, histograms: Mapping[str, Histogram]) -> int:
        """Count an episode. Returns the index of its task, a new one for a new task."""
        task_index = self.tasks.setdefault(task, len(self.tasks))
        if self._leaves_out(len(self.lengths), uid):
            self.held_out.add(len(self.lengths))
        else:
            for name, counts in histograms.items():
                self.histograms[name] += counts
        self.uids.append(uid)
        self.task_of.append(task_index)
        self.lengths.append(length)
        self.frames += length
        return task_index

    @property
    def frames_by_task(self) -> dict[str, int]:
        """Task -> its frames, those held out too."""
        counts = np.bincount(self.task_of, self.lengths, minlength=len(self.tasks))
        return dict(zip(self.tasks, counts.astype(int).tolist(), strict=True))

    @property
    def vectors(self) -> list[str]:
        """The codec's columns that are not pictures."""
        return [name for name in self.features if name not in self.cameras and name not in features.BOOKKEEPING]

    def stats(self, spool: Spool) -> dict[str, Stats]:
        """Statistics over all frames but those held out; ``spool`` has the ``vectors`` of them."""
        frames = sum(self.lengths[k] for k in self._kept)
        stats = {name: statistics.of_histograms(self.histograms[name], frames) for name in self.cameras}
        stats |= {name: statistics.of_blocks(lambda name=name: spool.blocks(name)) for name in self.vectors}
        stats |= self._own_stats()
        return {name: stats[name] for name in self.features}

    def _own_columns(self, index: int, first: int, length: int, task_index: int) -> dict[str, NDArray[Any]]:
        steps = np.arange(length, dtype=np.int64)
        return {
            features.TIMESTAMP: (steps / self.fps).astype(np.float32),
            features.FRAME_INDEX: steps,
            features.EPISODE_INDEX: np.full(length, index),
            features.INDEX: first + steps,
            features.TASK_INDEX: np.full(length, task_index),
        }

    def _episode_stats(self, columns: Mapping[str, NDArray[Any]], episode: BakedEpisode) -> dict[str, Stats]:
        images = episode.histograms
        return {
            name: statistics.of_histograms(images[name], episode.length)
            if name in images
            else statistics.of_rows(columns[name])
            for name in self.features
        }

    def _own_stats(self) -> dict[str, Stats]:
        """Statistics of LeRobot's own columns, computed from the lengths alone."""
        kept = np.array(self._kept)
        lengths, tasks = np.array(self.lengths)[kept], np.array(self.task_of)[kept]
        steps = np.arange(lengths.max())
        # How many episodes have a step k: all but those that are not longer than k.
        alive = np.array([len(lengths), *(len(lengths) - np.bincount(lengths).cumsum()[1:-1])])
        return {
            features.TIMESTAMP: statistics.of_counts((steps / self.fps).astype(np.float32), alive),
            features.FRAME_INDEX: statistics.of_counts(steps, alive),
            features.EPISODE_INDEX: statistics.of_counts(kept, lengths),
            features.INDEX: self._index_stats(),
            features.TASK_INDEX: statistics.of_counts(
                np.arange(len(self.tasks)), np.bincount(tasks, lengths, len(self.tasks)).astype(np.int64)
            ),
        }

    def _index_stats(self) -> Stats:
        if not self.held_out:
            return statistics.of_range(self.frames)
        ends = np.cumsum(self.lengths)
        return statistics.of_rows(np.concatenate([np.arange(ends[k] - self.lengths[k], ends[k]) for k in self._kept]))

    @property
    def _kept(self) -> list[int]:
        return [k for k in range(len(self.lengths)) if k not in self.held_out]
