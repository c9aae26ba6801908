"""Reading a baked dataset, of either format: vectors as tables in memory, and where each frame is.

This is our own reader and not lerobot's: there, gathering an action chunk takes one row access per step in Python,
which costs as much as decoding the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from positronic.bake import features
from positronic.bake.columns import rows_of
from positronic.bake.manifest import Manifest, read_manifest
from positronic.bake.places import VideoSpan
from positronic.bake.reading import AGAIN, episode_error
from positronic.bake.report import SHOWN, TASK_CHARS
from positronic.bake.whole import (
    Whole,
    listed_files,
    reads_videos,
    require_coming,
    require_unchanged,
    require_whole,
)
from positronic.codecs.build import Recipe
from positronic.codecs.table import contract_table
from positronic.errors import PositronicError, clipped
from positronic.raw.choice import in_words
from positronic.storage.streaming import Arriving
from positronic.utils.html import as_html

OpenFile = Callable[[str, Path], Any]
"""An image column and a file -> a ``frame_source.FrameFile``. It pickles."""
Stats = dict[str, dict[str, NDArray[np.float64]]]
"""column -> min, max, mean, std, q01, ... as the bake wrote them; images (3, 1, 1) in 0..1."""


@dataclass(frozen=True, eq=False)
class BakedDataset:
    """N frames of E episodes, one after another.

    ``vectors``: column -> float32 (N, D). ``starts``, ``ends``: int64 (E,), an episode is the rows ``start:end``.
    ``videos``: image column -> one span per episode. ``task_of``: int64 (N,) into ``tasks``. ``numbers``: int64 (E,),
    which episodes of the dataset on disk these are. ``uids``: of their source episodes. ``files``: opens
    the pictures of a dataset that was not baked, and gives them as the bake would; None: they are baked videos.
    ``arriving``: gives the videos that are still on their way here.
    """

    root: Path
    recipe: Recipe
    manifest: Manifest
    vectors: dict[str, NDArray[np.float32]]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    videos: dict[str, tuple[VideoSpan, ...]]
    tasks: tuple[str, ...]
    task_of: NDArray[np.int64]
    stats: Stats
    numbers: NDArray[np.int64]
    uids: tuple[str, ...]
    files: OpenFile | None = None
    arriving: Arriving | None = None

    def __repr__(self) -> str:
        manifest = self.manifest
        codec, episodes = self.recipe.codec.name, len(self.starts)
        return f"BakedDataset({str(self.root)!r}, {manifest.vendor}, {codec}, {episodes} episodes, {len(self)} frames)"

    def __rich__(self) -> Group:
        """How much it holds, and what its columns mean."""
        return Group(_counts(self), contract_table(self.recipe))

    def _repr_html_(self) -> str:
        return as_html(self)

    def __len__(self) -> int:
        return len(self.task_of)

    @property
    def fps(self) -> int:
        """Frames a second."""
        return self.manifest.fps

    @property
    def image_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Image column -> (height, width, 3)."""
        return {column.name: column.shape for column in self.recipe.modality.image_columns}

    @property
    def decoded_bytes(self) -> int:
        """Size of all frames as uint8."""
        return len(self) * sum(int(np.prod(shape)) for shape in self.image_shapes.values())

    @cached_property
    def episode_of(self) -> NDArray[np.int64]:
        """int64 (N,): the episode that each row belongs to."""
        return np.repeat(np.arange(len(self.starts)), self.ends - self.starts)

    def only(self, episodes: Sequence[int], stats: Stats) -> BakedDataset:
        """These of its episodes, by their places here; ``stats`` become its statistics. Nothing on disk changes."""
        if list(episodes) == list(range(len(self.starts))):
            return replace(self, stats=stats)
        wanted = np.asarray(episodes, np.int64)
        rows = np.flatnonzero(np.isin(self.episode_of, wanted))
        ends = (self.ends - self.starts)[wanted].cumsum()
        return replace(
            self,
            vectors={name: values[rows] for name, values in self.vectors.items()},
            starts=np.append(0, ends[:-1]),
            ends=ends,
            videos={name: tuple(spans[k] for k in episodes) for name, spans in self.videos.items()},
            task_of=self.task_of[rows],
            stats=stats,
            numbers=self.numbers[wanted],
            uids=tuple(self.uids[k] for k in episodes),
        )


def open_baked(root: Path, every_byte: bool = False) -> BakedDataset:
    """Read everything but the frames; videos are asked how many they hold.

    ``every_byte``: compare all files with what the bake wrote; of videos, if they are few enough (``reads_videos``).

    Raises PositronicError when the dataset is incomplete, holds no frames, or is not what its manifest says.
    """
    return _open(root, read_manifest(root), every_byte, videos=True)


def open_arriving(arriving: Arriving) -> BakedDataset:
    """Like ``open_baked`` with ``every_byte``, of a dataset whose videos are still on their way; each is compared with
    what the bake wrote when it is there (``filling.start_arriving``).

    Raises PositronicError as ``open_baked`` does, also when a video is not among those that are coming. A dataset of an
    older version, which has no list of its files, is waited for.
    """
    manifest = read_manifest(arriving.root)
    if not manifest.file_list:
        arriving.start([], lambda path: None)
        arriving.wait(show=True)
        return open_baked(arriving.root, every_byte=True)
    require_coming(arriving, listed_files(arriving.root, manifest))
    return replace(_open(arriving.root, manifest, every_byte=True, videos=False), arriving=arriving)


def _open(root: Path, manifest: Manifest, every_byte: bool, videos: bool) -> BakedDataset:
    """``videos``: they are there, and are looked at too."""
    modality = manifest.load_recipe().modality
    columns = [features.TASK_INDEX, *(column.name for column in modality.vector_columns)]
    whole = require_whole(root, manifest, columns, videos)
    if every_byte:
        require_unchanged(root, manifest, whole, videos=videos and reads_videos(root, manifest))
    return BakedDataset(
        root=root,
        recipe=whole.recipe,
        manifest=manifest,
        vectors={c.name: _vectors(whole, c.name, c.shape[0]) for c in modality.vector_columns},
        starts=whole.places.starts,
        ends=whole.places.ends,
        videos=whole.places.videos,
        tasks=whole.tasks,
        task_of=whole.rows[features.TASK_INDEX].to_numpy(),
        stats=_stats(whole.stats, [column.name for column in modality.columns]),
        numbers=np.arange(len(whole.uids)),
        uids=tuple(whole.uids),
    )


def _counts(dataset: BakedDataset) -> Table:
    manifest = dataset.manifest
    table = Table(title=Text(f"Baked dataset {dataset.root}"), show_header=False)
    rows = {"vendor, codec": f"{manifest.vendor}, {dataset.recipe.codec.name}", "format": manifest.dataset_format}
    rows |= {"episodes": len(dataset.starts), "frames": f"{len(dataset)} at {dataset.fps} fps"}
    for said in filter(None, manifest.choices):
        rows["chosen"] = in_words(said)
    if manifest.held_out_episodes:
        rows["held out"] = f"{len(manifest.held_out_episodes)} episodes, in no statistics"
    for number, frames in enumerate(np.bincount(dataset.task_of, minlength=len(dataset.tasks))[:SHOWN]):
        rows[f"task '{clipped(dataset.tasks[number], TASK_CHARS)}'"] = f"{frames} frames"
    for name, value in rows.items():
        table.add_row(Text(name), Text(str(value)))
    return table


def _vectors(whole: Whole, name: str, size: int) -> NDArray[np.float32]:
    """A vector column as (N, D)."""
    flat = rows_of(whole.rows[name].combine_chunks())
    values = np.ascontiguousarray(flat, np.float32)
    places = whole.places
    if values.shape[1] != size:
        raise PositronicError(f"{places.data[0]}: column '{name}' should hold {size} numbers a row. {AGAIN}")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        episode = int(np.searchsorted(places.ends, row, side="right"))
        raise episode_error(places.data[episode], episode, f"column '{name}' is not a finite number in row {row}")
    return values


def _stats(stats: dict[str, Any], columns: list[str]) -> Stats:
    return {name: {key: np.asarray(value) for key, value in stats[name].items()} for name in columns}
