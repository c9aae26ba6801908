"""Where the frames of a run come from: memory, the cache on the disk, or their videos each time they are needed."""

from __future__ import annotations

import time

from rich.console import Console

from positronic.bake.frame_cache import on_disk
from positronic.bake.frame_source import GIGABYTE, CachedFrames, DecodedFrames, Frames, fits_in_memory, in_memory
from positronic.bake.reader import BakedDataset
from positronic.storage import StorageConfig
from positronic.storage.entries import CacheError, cache_root
from positronic.training.reporting import counting
from positronic.training.settings import AUTO, DISK, TrainSettings


def open_sides(
    training: BakedDataset,
    held_out: BakedDataset | None,
    settings: TrainSettings,
    storage: StorageConfig | None,
    console: Console,
) -> tuple[Frames, Frames | None]:
    """The frames that are trained on, and those held out. The latter stay in memory beside the former if both fit.

    ``storage`` None: there is no cache on the disk. Raises PositronicError when a video cannot be decoded, and when
    settings.frame_cache=disk cannot be had.
    """
    opener = _Opener(settings, storage, console)
    frames = opener.open(training, settings.cache_gb)
    if held_out is None:
        return frames, None
    left = settings.cache_gb - training.decoded_bytes / GIGABYTE if isinstance(frames, CachedFrames) else 0
    return frames, opener.open(held_out, left)


class _Opener:
    def __init__(self, settings: TrainSettings, storage: StorageConfig | None, console: Console) -> None:
        self._settings, self._storage, self._console = settings, storage, console

    def open(self, dataset: BakedDataset, memory_gb: float) -> Frames:
        """In memory if they fit, else on the disk if they fit, as far as settings.frame_cache wants it."""
        wanted = self._settings.frame_cache
        if wanted != DISK and fits_in_memory(dataset, memory_gb):
            return self._in_memory(dataset)
        why_not = ""
        if self._storage is not None and wanted in (AUTO, DISK):
            try:
                return self._on_disk(dataset, self._storage)
            except CacheError as error:
                if wanted == DISK:
                    raise
                why_not = f" {error}"
        return self._on_demand(dataset, why_not)

    def _in_memory(self, dataset: BakedDataset) -> Frames:
        began = time.perf_counter()
        with counting(self._console, "decode") as progress:
            frames = in_memory(dataset, progress)
        seconds = time.perf_counter() - began
        self._say(f"{len(dataset)} frames decoded in {seconds:.1f} s ({_gb(dataset)} in memory).")
        return frames

    def _on_disk(self, dataset: BakedDataset, storage: StorageConfig) -> Frames:
        began = time.perf_counter()
        with counting(self._console, "decode") as progress:
            frames = on_disk(dataset, storage, progress)
        seconds = time.perf_counter() - began
        self._say(
            f"{len(dataset)} frames are decoded in {cache_root(storage)} ({_gb(dataset)}, after {seconds:.1f} s)."
        )
        return frames

    def _on_demand(self, dataset: BakedDataset, why_not: str) -> Frames:
        self._say(
            f"{len(dataset)} frames ({_gb(dataset)} decoded) do not fit in cache_gb={self._settings.cache_gb:g} or in "
            f"what is free; they are decoded on demand by num_workers={self._settings.num_workers} processes.{why_not}"
        )
        return DecodedFrames(dataset)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _gb(dataset: BakedDataset) -> str:
    return f"{dataset.decoded_bytes / GIGABYTE:.2f} GB"
