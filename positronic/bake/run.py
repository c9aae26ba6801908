"""One bake in progress: every result is taken in order, and what is said of the whole is written at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from positronic import keys
from positronic.bake.append import require_same_names, take_over
from positronic.bake.companions import Companion, companion_text
from positronic.bake.config import VideoConfig
from positronic.bake.episode import BakedEpisode, Duplicate, EpisodeBaker, Rejected
from positronic.bake.features import dimension_names, lerobot_features
from positronic.bake.file_list import FileList, measure, recorded, write_file_list
from positronic.bake.findings import Breaches, near_constant, opposed_signs
from positronic.bake.holdout import Holdout, holdout, require_two_sides
from positronic.bake.ledger import Ledger
from positronic.bake.manifest import Manifest, manifest_bytes, read_manifest, write_manifest
from positronic.bake.parallel import FrameCounter, Job, Result, bake_in_order
from positronic.bake.report import BakeReport, bad_episodes_error, duplicates_error, read_bad, read_turned
from positronic.bake.sidecar import Sidecar, read_sources
from positronic.bake.video import check_encoder
from positronic.bake.whole import listed_files, reads_videos, require_unchanged, require_whole
from positronic.bake.writer_v21 import WriterV21
from positronic.bake.writer_v30 import WriterV30
from positronic.codecs.build import Recipe
from positronic.errors import PositronicError
from positronic.raw.dataset import Dataset
from positronic.storage import local_path
from positronic.utils.files import replace_text

WRITERS: dict[str, type[WriterV30 | WriterV21]] = {keys.FORMAT_V30: WriterV30, keys.FORMAT_V21: WriterV21}
SKIP, STOP = "skip", "stop"
OF_THIS_BAKE = ("task", "reader", "max_staleness_sec", "max_state_staleness_sec", "provenance")


@dataclass(frozen=True)
class BakeOptions:
    """``task`` replaces every episode's own. ``num_workers`` 0 means one per core. ``vendor`` goes into the manifest.
    ``val_fraction``, ``val_seed``: which episodes are held out. ``append``: add to the existing dataset.
    ``on_duplicate``: what to do with an episode that is already in it. ``robot_is_told``: somebody said which robot the
    recordings are of, rather than the first of them."""

    vendor: str
    dataset_format: str = keys.FORMAT_V30
    task: str | None = None
    max_staleness_sec: float | None = 1.0
    max_state_staleness_sec: float | None = 1.0
    val_fraction: float | None = None
    val_seed: int = 0
    on_bad_episode: str = STOP
    append: bool = False
    on_duplicate: str = STOP
    num_workers: int = 0
    video: VideoConfig = field(default_factory=VideoConfig)
    robot_is_told: bool = True

    def baker(self, recipe: Recipe) -> EpisodeBaker:
        """What bakes each episode."""
        return EpisodeBaker(
            recipe.codec,
            recipe.modality,
            self.video,
            self.task,
            self.max_staleness_sec,
            self.max_state_staleness_sec,
            robot_is_told=self.robot_is_told,
        )

    @property
    def holdout(self) -> Holdout | None:
        """Which episodes are held out."""
        return holdout(self.val_fraction, self.val_seed)


class Progress:
    """Receives the progress of a bake. This one ignores it."""

    def __init__(self) -> None:
        self.counter = FrameCounter()

    def begin(self, total: int) -> None:
        """Everything has been checked; ``total`` episodes are to be done."""

    def episode_done(self, done: int) -> None:
        """``done`` episodes are through."""


class Run:
    """One bake in progress."""

    def __init__(
        self, dataset: Dataset, recipe: Recipe, options: BakeOptions, folder: Path, progress: Progress
    ) -> None:
        codec, modality, video, fps = recipe.codec, recipe.modality, options.video, recipe.codec.timing.fps
        self.dataset, self.options, self.folder, self.progress = dataset, options, folder, progress
        for image in codec.images[:1]:  # all cameras have one size and one encoder
            check_encoder(folder / "probe.mp4", image.height, image.width, fps, video)
        self.ledger = Ledger(lerobot_features(modality, fps, video), fps, self._leaves_out)
        self.sidecar = Sidecar(folder, self.ledger.cameras)
        self.baker = options.baker(recipe)
        self.writer: WriterV30 | WriterV21 | None = None
        self.bad_before: list[dict[str, Any]] = []
        self.kept_files: FileList = {}
        self.seen: set[str] = set()
        self.rejected: list[Rejected] = []
        self.duplicates: list[Duplicate] = []
        self.turned: Counter[str] = Counter()
        self.breaches = Breaches()
        self.joint_names: tuple[str, ...] | None = None
        self.notes: list[tuple[int, str]] = []
        self.added = self.resumed = self.unseen = 0

    def go_on(self, old: Path, manifest: Manifest) -> None:
        """Begin with what is in the dataset ``old``. Raises PositronicError when it is damaged, or is no longer the
        same dataset."""
        if read_manifest(old) != manifest:  # which was read before the lock was taken
            raise PositronicError(f"Another process has changed {old} in the meantime. Type the same command again.")
        whole = require_whole(old, manifest)
        kept = WRITERS[self.options.dataset_format].kept
        require_unchanged(old, manifest, whole, videos=reads_videos(old, manifest))
        files = listed_files(old, manifest)
        require_same_names(old / keys.INFO_FILE, self.ledger.features)
        self.joint_names = tuple(manifest.joint_names) if manifest.joint_names else None
        kept_folders = tuple(f"{name}/" for name in kept)
        self.kept_files = {name: each for name, each in files.items() if name.startswith(kept_folders)}
        self.bad_before = read_bad(old)
        self.turned.update(read_turned(old))
        take_over(old, self.folder, kept)
        self.sidecar.go_on(old, read_sources(old, manifest), self.ledger)
        self.baker = replace(self.baker, known=dict(self.sidecar.fingerprints))

    def baked(self, pieces: Path) -> Generator[Result]:
        """Bake all episodes, in order; what is encoded goes to the folder ``pieces``."""
        total, workers = len(self.dataset), self.options.num_workers
        return bake_in_order(self.baker, pieces, self._job, total, workers, self.progress.counter)

    def episodes(self, results: Generator[Result], found: Collection[str] = ()) -> None:
        """Take what becomes of each episode, in order. ``found``: fingerprints of those that were baked before.

        Raises PositronicError for bad ones or duplicates if they are not to be skipped, and if there is no good one.
        After the first one that stops the bake, the others are only checked, so that the message can name all.
        """
        self.writer = WRITERS[self.options.dataset_format](self.folder, self.ledger)
        total = len(self.dataset)
        self.progress.begin(total)
        with closing(results):
            for number, result in enumerate(results):
                self._take(number, result, found)
                self.progress.episode_done(number + 1)
        problems = [duplicates_error(self.duplicates, total)] if self._stopped_by_duplicates else []
        if self._stopped_by_bad or len(self.rejected) == total:
            problems.append(bad_episodes_error(self.rejected, total, self.unseen))
        if problems:
            raise PositronicError("\n".join(map(str, problems)))
        if self.options.holdout is not None:  # again, as bad episodes may have been left out
            require_two_sides(self.options.holdout, self.ledger.uids)

    def _leaves_out(self, index: int, uid: str) -> bool:
        holdout = self.options.holdout
        return holdout is not None and holdout.has(uid)

    @property
    def _stopped_by_bad(self) -> bool:
        return self.options.on_bad_episode == STOP and bool(self.rejected)

    @property
    def _stopped_by_duplicates(self) -> bool:
        return self.options.on_duplicate == STOP and bool(self.duplicates)

    @property
    def _has_failed(self) -> bool:
        return self._stopped_by_bad or self._stopped_by_duplicates

    def _job(self, number: int) -> Job:
        self.dataset.prefetch(number + 1)  # so that the next one travels while this one is encoded
        return Job(number, self.dataset[number], self._has_failed)

    def _take(self, number: int, result: Result, found: Collection[str]) -> None:
        if isinstance(result, BakedEpisode) and self.options.append:
            result = self._unless_added(number, result)
        self.unseen += result is None  # only checked, as the bake stops anyway
        if isinstance(result, Rejected):
            self.rejected.append(result)
        elif isinstance(result, Duplicate):
            self.duplicates.append(result)
        elif isinstance(result, BakedEpisode) and not self._has_failed:
            self._add(result)
            # A piece may also be there because another episode has the same content and was encoded a moment ago.
            self.resumed += result.was_there and result.source.fingerprint in found
            self.joint_names = self.joint_names or result.joint_names
            self.notes += [(self.dataset[number].id, note) for note in result.notes]
        if isinstance(result, Rejected | Duplicate):  # an earlier bake's word on them is replaced by this one's
            self.seen.add(result.uid)

    def _unless_added(self, number: int, episode: BakedEpisode) -> BakedEpisode | Duplicate:
        """One append may contain an episode twice, which no worker can know."""
        index = self.sidecar.fingerprints.get(episode.source.fingerprint)
        if index is None:
            return episode
        there = self.dataset[number]
        return Duplicate(there.id, episode.source.uid, str(there.place), index)

    def _add(self, episode: BakedEpisode) -> None:
        source = episode.source
        self.seen.add(source.uid)
        self.breaches.add(len(self.ledger.lengths), episode.breaches)
        self.writer.write(self.ledger.enter(episode))
        self.sidecar.add(source.uid, source.fingerprint, episode.length, episode.task, episode.histograms)
        self.turned.update(episode.turned)
        self.added += 1

    def close(self) -> None:
        """Close all files."""
        if self.writer is not None:
            self.writer.close()
        self.sidecar.close()

    def finish(self, first: Manifest, this: Manifest, companions: Mapping[str, Companion]) -> Manifest:
        """Write everything that describes the whole dataset. ``first``: what the dataset's first bake said. Returns the
        manifest, which must be written last."""
        self.writer.finish(self.ledger)
        for name, companion in companions.items():
            replace_text(self.folder / name, companion_text(companion, self.folder, self.ledger.held_out))
        added = {"episodes": self.added} | {name: getattr(this, name) for name in OF_THIS_BAKE}
        added |= {} if this.choice is None else {"choice": this.choice}
        return replace(
            first,
            episodes=len(self.ledger.lengths),
            frames=self.ledger.frames,
            digest=self.sidecar.finish(),
            file_list=True,
            joint_names=list(self.joint_names) if self.joint_names else None,
            held_out=self.options.holdout and self.options.holdout.to_dict(self.ledger.uids),
            appended=first.appended + ([added] if first is not this and self.added else []),
        )

    def seal(self, manifest: Manifest) -> None:
        """Record every file, and write the manifest, which makes it a dataset."""
        files = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        # Those taken over were read whole a moment ago (``go_on``), and may be most of the dataset.
        measured = measure(self.folder, [name for name in files if name not in self.kept_files])
        of_manifest = {keys.MANIFEST_FILE: recorded(manifest_bytes(manifest))}
        write_file_list(self.folder, self.kept_files | measured | of_manifest)
        write_manifest(self.folder, manifest)

    def report(self, output: str | Path, manifest: Manifest) -> BakeReport:
        """What the user is told at the end."""
        added_frames = sum(self.ledger.lengths[-self.added :]) if self.added else 0
        stats = json.loads((self.folder / keys.STATS_FILE).read_text(encoding="utf-8"))
        recipe = manifest.load_recipe()
        columns = recipe.modality.columns
        deviations = {
            c.name: dict(zip(dimension_names(c), np.ravel(stats[c.name]["std"]).tolist(), strict=True)) for c in columns
        }
        of_all = [*opposed_signs(recipe), *map(str, near_constant(columns, deviations))]
        return BakeReport(
            output=local_path(output),
            episodes=manifest.episodes,
            frames=manifest.frames,
            fps=manifest.fps,
            tasks=self.ledger.frames_by_task,
            rejected=tuple(self.rejected),
            duplicates=tuple(self.duplicates),
            bad_before=[bad for bad in self.bad_before if bad["uid"] not in self.seen],
            repeated=len(self.ledger.lengths) - len(self.sidecar.fingerprints),
            turned=dict(self.turned),
            findings=(*self.breaches.lines(added_frames), *of_all),
            added_frames=added_frames,
            resumed=self.resumed,
            left_out=self.dataset.left_out,
            notes=tuple(self.notes),
            chosen=self.dataset.chosen,
            held_out=len(self.ledger.held_out),
        )
