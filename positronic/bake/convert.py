"""Raw episodes through a codec into a LeRobot dataset: the whole bake."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from positronic.bake.config import VideoConfig
from positronic.bake.episode import BakedEpisode, EpisodeBaker, Rejected
from positronic.bake.features import lerobot_features
from positronic.bake.manifest import Manifest, write_manifest
from positronic.bake.parallel import FrameCounter, Job, bake_in_order
from positronic.bake.report import BakeReport, bad_episodes_error, write_report
from positronic.bake.sampling import require_signals
from positronic.bake.sidecar import Sidecar
from positronic.bake.video import check_encoder
from positronic.bake.writer_v30 import WriterV30
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.raw.dataset import Dataset
from positronic.storage import exists, local_path, publish_folder

SKIP, STOP = "skip", "stop"
Companion = Callable[[Path], None]
"""Writes a vendor's own files into the folder of a dataset that is whole but for its manifest."""

SCRATCH_PREFIX = ".scratch-"  # pieces of episodes, inside the folder that is being built; a name for each run


@dataclass(frozen=True)
class BakeOptions:
    """``task`` replaces every episode's own. ``num_workers`` 0 means one per core. ``vendor``: for the manifest."""

    vendor: str
    dataset_format: str = "v3.0"
    task: str | None = None
    max_staleness_sec: float | None = 1.0
    on_bad_episode: str = STOP
    num_workers: int = 0
    video: VideoConfig = field(default_factory=VideoConfig)


class Progress:
    """What a bake tells of its progress; this one tells nobody."""

    def __init__(self) -> None:
        self.counter = FrameCounter()

    def begin(self, total: int) -> None:
        """Everything has been checked; ``total`` episodes are to be done."""

    def episode_done(self, done: int) -> None:
        """``done`` episodes are through."""


def bake(
    dataset: Dataset,
    recipe: Recipe,
    output: str | Path,
    options: BakeOptions,
    provenance: Mapping[str, Any],
    progress: Progress | None = None,
    companions: Sequence[Companion] = (),
) -> BakeReport:
    """Bake every episode of ``dataset`` at the codec's fps and publish the result at ``output``, or nothing.

    ``companions`` add a vendor's own files.
    Raises PositronicError for a codec that cannot be baked, an output that exists, a signal that is missing, an encoder
    that refuses its settings, and for bad episodes unless they are to be skipped.
    """
    started = time.monotonic()
    _refuse(dataset, recipe, output)
    with (
        publish_folder(output) as folder,
        closing(_Run(dataset, recipe, options, folder, progress or Progress())) as run,
    ):
        rejected = run.episodes()
        manifest = run.finish(provenance, companions)
        report = BakeReport(
            local_path(output), manifest.episodes, manifest.frames, manifest.fps, run.frames_by_task, rejected
        )
        write_report(folder, report)
    return replace(report, seconds=time.monotonic() - started)


def _refuse(dataset: Dataset, recipe: Recipe, output: str | Path) -> None:
    codec = recipe.codec
    if codec.inference_only:
        raise PositronicError(f"Codec '{codec.name}' cannot be converted with: {codec.inference_only}")
    if exists(output):
        raise PositronicError(f"{output} exists already. Remove it, or bake elsewhere with output_dir=<folder>.")
    require_signals(dataset, codec.signals, codec.name, str(dataset.root))


class _Run:
    """One bake in progress."""

    def __init__(
        self, dataset: Dataset, recipe: Recipe, options: BakeOptions, folder: Path, progress: Progress
    ) -> None:
        codec, modality, video, fps = recipe.codec, recipe.modality, options.video, recipe.codec.timing.fps
        self.dataset, self.recipe, self.options, self.folder, self.progress = dataset, recipe, options, folder, progress
        self.scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=folder))
        for image in codec.images[:1]:
            check_encoder(self.scratch / "probe.mp4", image.height, image.width, fps, video)
        self.baker = EpisodeBaker(codec, modality, video, options.task, options.max_staleness_sec)
        self.writer = WriterV30(folder, fps, lerobot_features(modality, fps, video))
        self.sidecar = Sidecar(folder, [column.name for column in modality.image_columns])
        self.rejected: list[Rejected] = []

    def episodes(self) -> tuple[Rejected, ...]:
        """Bake all. Returns the bad ones; raises PositronicError when they are not to be skipped, or are all.

        Once a bad one has been found that stops the bake, the others are only checked, so that all can be named.
        """
        total, counter = len(self.dataset), self.progress.counter
        self.progress.begin(total)
        results = bake_in_order(self.baker, self.scratch, self._job, total, self.options.num_workers, counter)
        for number, result in enumerate(results):
            if isinstance(result, Rejected):
                self.rejected.append(result)
            elif isinstance(result, BakedEpisode) and not self._failed:
                self._add(result, number)
            self.progress.episode_done(number + 1)
        if self._failed or len(self.rejected) == total:
            raise bad_episodes_error(self.rejected, total)
        return tuple(self.rejected)

    @property
    def _failed(self) -> bool:
        return bool(self.rejected) and self.options.on_bad_episode == STOP

    def _job(self, number: int) -> Job:
        self.dataset.prefetch(number + 1)
        return Job(number, self.dataset[number], self._failed)

    def _add(self, episode: BakedEpisode, number: int) -> None:
        self.writer.add(episode)
        self.sidecar.add(episode)
        shutil.rmtree(self.scratch / str(number))

    @property
    def frames_by_task(self) -> dict[str, int]:
        return dict(zip(self.writer.tasks, self.writer.task_frames, strict=True))

    def close(self) -> None:
        """Close all files."""
        self.writer.close()
        self.sidecar.close()

    def finish(self, provenance: Mapping[str, Any], companions: Sequence[Companion]) -> Manifest:
        """Write everything that says something of the whole."""
        self.writer.finish()
        for write in companions:
            write(self.folder)
        manifest = _manifest(self, self.sidecar.finish(), provenance)
        write_manifest(self.folder, manifest)
        shutil.rmtree(self.scratch)
        return manifest


def _manifest(run: _Run, digest: str, provenance: Mapping[str, Any]) -> Manifest:
    options, writer = run.options, run.writer
    return Manifest(
        recipe=run.recipe.to_dict(),
        fps=writer.fps,
        dataset_format=options.dataset_format,
        vendor=options.vendor,
        episodes=len(writer.lengths),
        frames=writer.frames,
        digest=digest,
        signals=list(run.recipe.codec.signals),
        reader=asdict(run.dataset.naming),
        task=options.task,
        max_staleness_sec=options.max_staleness_sec,
        video=asdict(options.video),
        provenance=dict(provenance),
    )
