"""Baking one shard of a bake that is split over several processes or machines."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from positronic.bake.convert import plan, require_bakeable
from positronic.bake.episode import BakedEpisode, Rejected
from positronic.bake.orientation import Movement, movements_of, two_numbered
from positronic.bake.parallel import Job, bake_in_order
from positronic.bake.pieces import Pieces, asked_of
from positronic.bake.report import bad_episodes_error
from positronic.bake.run import STOP, BakeOptions, Progress
from positronic.bake.shard_records import RECORDS_FILE, RecordWriter
from positronic.bake.shards import Shard, Shards, stamp_of
from positronic.bake.video import check_encoder
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.raw.dataset import Dataset
from positronic.utils.disk import alone_in
from positronic.utils.html import as_html


@dataclass(frozen=True)
class ShardReport:
    """How a shard was baked. ``was_complete``: it had been baked before, and nothing was done. ``resumed``: how many
    episodes an interrupted bake of it left. ``first``: position of its first episode."""

    shard: Shard
    first: int
    episodes: int
    was_complete: bool
    frames: int = 0
    rejected: tuple[Rejected, ...] = ()
    resumed: int = 0
    seconds: float = 0.0

    def __rich__(self) -> Table:
        title = f"Baked {self.shard} in {self.shard.folder}"
        table = Table(title=Text(title), show_header=False, min_width=len(title))
        rows = {"episodes": f"{self.episodes}, {self.first} to {self.first + self.episodes - 1} in their order"}
        if self.was_complete:
            rows |= {"took": "nothing: it was complete"}
        else:
            rows |= {"frames": str(self.frames), "took": f"{self.seconds:.1f} s", "bad episodes": len(self.rejected)}
        rows |= {"from an interrupted bake": f"{self.resumed} episodes"} if self.resumed else {}
        for name, value in rows.items():
            table.add_row(Text(name), Text(str(value)))
        return table

    def _repr_html_(self) -> str:
        return as_html(self)


def bake_shard(
    dataset: Dataset,
    recipe: Recipe,
    output: str | Path | None,
    options: BakeOptions,
    provenance: Mapping[str, Any],
    shards: Shards,
    number: int,
    progress: Progress | None = None,
) -> ShardReport:
    """Bake one shard of what ``convert.join`` will publish at ``output``, which None does not look at. If the shard is
    complete, nothing is done; if it was interrupted, its finished episodes are used.

    Raises PositronicError for what ``convert.bake`` refuses, unless that is about all episodes together; for bad
    episodes in this shard unless they are to be skipped; and for a complete shard that is damaged or of another bake.
    """
    started, shard = time.monotonic(), shards[number]
    planned = plan(dataset, recipe, options, provenance)
    require_bakeable(dataset, recipe, output)
    shards.require_several(len(dataset))
    span, stamp = shard.span(len(dataset)), shard.stamp(stamp_of(dataset, planned, options.robot_is_told), dataset)
    with alone_in(shard.folder):
        if shard.is_complete:
            shard.require(stamp)
            shard.require_bytes()
            return ShardReport(shard, span.start, len(span), was_complete=True)
        work = _Work(dataset[span.start : span.stop], recipe, options, shard, progress or Progress())
        with (
            Pieces(shard.pieces, asked_of(planned), keep=True) as pieces,
            # Of this process alone: where a file system has no locks, two may bake the same shard.
            tempfile.TemporaryDirectory(prefix=".records-", dir=shard.folder, ignore_cleanup_errors=True) as folder,
        ):
            report = work.bake(pieces, Path(folder), span.start)
            os.replace(Path(folder) / RECORDS_FILE, shard.records)
            shard.seal(stamp, pieces.folder, work.fingerprints)
    return replace(report, seconds=time.monotonic() - started)


class _Work:
    """One shard in progress. ``fingerprints``: of the good episodes so far."""

    def __init__(
        self, dataset: Dataset, recipe: Recipe, options: BakeOptions, shard: Shard, progress: Progress
    ) -> None:
        self._dataset, self._recipe, self._options, self._shard = dataset, recipe, options, shard
        self._progress = progress
        self._rejected: list[Rejected] = []
        self.fingerprints: list[str] = []
        self._frames = self._resumed = self._unseen = 0

    def bake(self, pieces: Pieces, folder: Path, first: int) -> ShardReport:
        """Bake every episode, and write what became of it into ``folder``. ``first``: position of the first."""
        recipe, workers, total = self._recipe, self._options.num_workers, len(self._dataset)
        for image in recipe.codec.images[:1]:
            check_encoder(folder / "probe.mp4", image.height, image.width, recipe.codec.timing.fps, self._options.video)
        movements = list(movements_of(recipe, self._dataset, workers))
        baker = replace(self._options.baker(recipe), keeps_samples=True)
        cameras = [column.name for column in recipe.modality.image_columns]
        records = RecordWriter(folder / RECORDS_FILE, recipe.codec.vector_signals, cameras, list(two_numbered(recipe)))
        self._progress.begin(total)
        results = bake_in_order(baker, pieces.folder, self._job, total, workers, self._progress.counter)
        with closing(records), closing(results):
            for done, (result, moved) in enumerate(zip(results, movements, strict=True), start=1):
                self._take(result, moved, records, pieces)
                self._progress.episode_done(done)
        if self._has_failed:
            error = bad_episodes_error(self._rejected, total, self._unseen, are_all=False)
            raise PositronicError(f"{str(self._shard).capitalize()}: {error}")
        found = tuple(self._rejected)
        return ShardReport(self._shard, first, total, False, self._frames, found, self._resumed)

    @property
    def _has_failed(self) -> bool:
        return self._options.on_bad_episode == STOP and bool(self._rejected)

    def _job(self, number: int) -> Job:
        self._dataset.prefetch(number + 1)
        return Job(number, self._dataset[number], self._has_failed)

    def _take(self, result: object, movements: Mapping[str, Movement], records: RecordWriter, pieces: Pieces) -> None:
        self._unseen += result is None
        if isinstance(result, Rejected):
            self._rejected.append(result)
        if isinstance(result, BakedEpisode):
            self.fingerprints.append(result.source.fingerprint)
            self._frames += result.length
            self._resumed += result.was_there and result.source.fingerprint in pieces.found
        if isinstance(result, Rejected | BakedEpisode):
            records.write(result, movements)
