"""Where the frames of a run come from: memory, the cache on the disk, or their videos each time they are needed.

Training does not wait until all are in memory or in the cache: they are decoded in the background while it goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from positronic.bake.filling import (
    Filled,
    FillingFrames,
    MemoryTarget,
    SharedMemoryTarget,
    Target,
    start_arriving,
)
from positronic.bake.frame_cache import DiskTarget, begin_on_disk
from positronic.bake.frame_source import GIGABYTE, DecodedFrames, Frames, MappedFrames, fits_in_memory
from positronic.bake.reader import BakedDataset
from positronic.storage import StorageConfig
from positronic.storage.entries import CacheError, cache_root
from positronic.training.settings import AUTO, DISK, TrainSettings


@dataclass(frozen=True)
class Sides:
    """The frames that are trained on, and those held out. To be closed."""

    training: Frames
    held_out: Frames | None

    @property
    def by_processes(self) -> bool:
        """Whether other processes can fetch the frames that are trained on."""
        return isinstance(self.training, DecodedFrames | MappedFrames)

    @property
    def filled(self) -> Filled | None:
        """How far decoding is; None when it has ended."""
        filling = (each.filled for each in self._filling)
        return next((each for each in filling if each is not None), None)

    def for_other_processes(self) -> Sides:
        """The same frames for the other processes of the run, while this one decodes them."""
        return Sides(_elsewhere(self.training), None if self.held_out is None else _elsewhere(self.held_out))

    def close(self) -> None:
        """Decode no more."""
        for each in self._filling:
            each.close()

    @property
    def _filling(self) -> list[FillingFrames]:
        return [each for each in (self.training, self.held_out) if isinstance(each, FillingFrames)]


def open_sides(
    training: BakedDataset,
    held_out: BakedDataset | None,
    settings: TrainSettings,
    storage: StorageConfig | None,
    console: Console,
    due: NDArray[np.int64] | None = None,
) -> Sides:
    """The frames of a run. Those held out stay in memory beside the others if both fit. ``due`` (N,): rows that are
    trained on with the lowest come first.

    ``storage`` None: there is no cache on the disk. Raises PositronicError when settings.frame_cache=disk cannot be
    had, and when frames that are to be decoded on demand cannot be fetched.
    """
    due = np.arange(len(training)) if due is None else due
    start_arriving(training, due)
    opener = _Opener(settings, storage, console)
    frames = opener.open(training, due)
    try:
        seldom = None if held_out is None else opener.open(held_out, np.arange(len(held_out)))
    except BaseException:
        Sides(frames, None).close()
        raise
    return Sides(frames, seldom)


class _Opener:
    def __init__(self, settings: TrainSettings, storage: StorageConfig | None, console: Console) -> None:
        self._settings, self._storage, self._console = settings, storage, console
        self._memory_gb, self._taken = settings.cache_gb, 0
        self._shared = settings.num_processes > 1

    def open(self, dataset: BakedDataset, due: NDArray[np.int64]) -> Frames:
        """In memory if they fit, else on the disk if they fit, as far as settings.frame_cache wants it."""
        wanted = self._settings.frame_cache
        if wanted != DISK and fits_in_memory(dataset, self._memory_gb, self._taken):
            self._taken += dataset.decoded_bytes
            target = SharedMemoryTarget(dataset) if self._shared else MemoryTarget(dataset)
            return self._fill(dataset, target, due, "in memory")
        self._memory_gb = 0.0  # of what comes after, nothing is of more use there
        why_not = ""
        if self._storage is not None and wanted in (AUTO, DISK):
            try:
                return self._on_disk(dataset, self._storage, due)
            except CacheError as error:
                if wanted == DISK:
                    raise
                why_not = f" {error}"
        return self._on_demand(dataset, why_not)

    def _on_disk(self, dataset: BakedDataset, storage: StorageConfig, due: NDArray[np.int64]) -> Frames:
        where = f"in {cache_root(storage)}"
        there = begin_on_disk(dataset, storage)
        if isinstance(there, DiskTarget):
            return self._fill(dataset, there, due, where)
        self._say(f"{len(dataset)} frames are decoded {where} ({_gb(dataset)}), from before.")
        return there

    def _fill(self, dataset: BakedDataset, target: Target, due: NDArray[np.int64], where: str) -> Frames:
        what = "fetched and decoded" if dataset.arriving else "decoded"
        self._say(f"{len(dataset)} frames are being {what} {where} ({_gb(dataset)}); training begins meanwhile.")
        done = f"{len(dataset)} frames are {what} {where}, after"
        say = lambda seconds: self._say(f"{done} {seconds:.1f} s.")  # noqa: E731
        return FillingFrames(dataset, target, due, say, self._shared)

    def _on_demand(self, dataset: BakedDataset, why_not: str) -> Frames:
        self._say(
            f"{len(dataset)} frames ({_gb(dataset)} decoded) do not fit in cache_gb={self._settings.cache_gb:g} or in "
            f"what is free; they are decoded on demand by num_workers={self._settings.num_workers} processes.{why_not}"
        )
        if dataset.arriving is not None:
            dataset.arriving.wait(show=True)
        return DecodedFrames(replace(dataset, arriving=None))

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _elsewhere(frames: Frames) -> Frames:
    return frames.reader() if isinstance(frames, FillingFrames) else frames


def _gb(dataset: BakedDataset) -> str:
    return f"{dataset.decoded_bytes / GIGABYTE:.2f} GB"
