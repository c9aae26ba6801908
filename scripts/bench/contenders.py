"""Who bakes: this software, LeRobot's own writer, the published release, and the bound that nobody can beat.

A contender's time begins when its modules are imported, for all alike; starting its worker processes counts.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.recordings import PROVENANCE, Source

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    import numpy as np

    from positronic.bake.config import VideoConfig
    from positronic.codecs.build import Recipe
    from positronic.raw.dataset import Dataset
    from positronic.raw.episode import Episode

OURS, BOUND = "positronic", "bound"
LEROBOT_DEFAULT, LEROBOT_FASTEST = "lerobot_default", "lerobot_fastest"
PUBLISHED = "published"
LONGEST_EPISODE = 100_000  # frames; LeRobot's streaming writer drops frames from a queue that is too short
MALLOPT = {-1: 1 << 29, -3: 1 << 25}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD: bytes
PUBLISHED_SCRIPT = Path(__file__).with_name("published.py")


class CannotRunError(Exception):
    """A contender that cannot run here; the others continue."""


@dataclass(frozen=True)
class Contender:
    """``run(output)`` makes a dataset (the bound: nothing); seconds are measured outside, or returned by it.

    ``workers``, ``dataset_format``: None where it is not ours to choose. ``only_once``: one turn is enough.
    """

    name: str
    run: Callable[[Path], float | None]
    workers: int | None = None
    dataset_format: str | None = None
    only_once: bool = False

    @property
    def title(self) -> str:
        """Also a folder's name."""
        processes = f"{self.workers}p" if self.workers else None
        return " ".join(part for part in (self.name, self.dataset_format, processes) if part)

    @property
    def has_output(self) -> bool:
        """Whether there is a dataset to look at afterwards."""
        return self.name != BOUND


def make_contenders(source: Source, workers: list[int], formats: list[str]) -> list[Contender]:
    """Ours in every format on every number of processes, and the bound on each number."""
    ours = [ours_with(source, count, each) for each in formats for count in workers]
    return ours + [bound_with(source, count) for count in workers]


def ours_with(source: Source, workers: int, dataset_format: str) -> Contender:
    """The bake."""
    from positronic.bake.convert import BakeOptions, bake

    options = BakeOptions(vendor="lerobot", dataset_format=dataset_format, num_workers=workers)

    def run(output: Path) -> None:
        bake(source.dataset, source.recipe, output, options, provenance=PROVENANCE)

    return Contender(OURS, run, workers, dataset_format)


def lerobot_contenders(source: Source, only_once: bool) -> list[Contender]:
    """LeRobot's recording interface as it comes, and with the fastest settings that it has."""
    import lerobot.datasets.lerobot_dataset  # noqa: F401  imported before anything is timed
    from lerobot.configs import RGBEncoderConfig

    fastest = {
        "streaming_encoding": True,
        "encoder_queue_maxsize": LONGEST_EPISODE,
        "encoder_threads": 1,
        "rgb_encoder": RGBEncoderConfig(vcodec="h264", preset="ultrafast"),
    }
    return [
        Contender(name, lambda output, given=given: lerobot_writer(source, output, given), only_once=only_once)
        for name, given in ((LEROBOT_DEFAULT, {}), (LEROBOT_FASTEST, fastest))
    ]


def lerobot_writer(source: Source, output: Path, options: dict[str, Any]) -> None:
    """LeRobot's recording interface, fed with the same columns and frames."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    recipe = source.recipe
    features = {
        column.name: {"dtype": "video" if column.is_image else "float32", "shape": column.shape, "names": None}
        for column in recipe.modality.columns
    }
    for column in recipe.modality.image_columns:
        features[column.name]["names"] = ["height", "width", "channels"]
    fps = recipe.codec.timing.fps
    target = LeRobotDataset.create("local/bench", fps=fps, features=features, root=output, **options)
    for episode in source.dataset:
        for frame in frames_of(episode, recipe):
            target.add_frame(frame)
        target.save_episode()
    target.finalize()


def frames_of(episode: Episode, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """The timesteps of an episode as LeRobot takes them."""
    from positronic import keys
    from positronic.bake.sampling import episode_grid

    codec = recipe.codec
    times = episode_grid(episode, codec.signals, codec.timing.fps)
    canonical = codec.encode_episode({name: episode[name].at(times) for name in codec.vector_signals})
    vectors = {column.name: column.join(canonical) for column in recipe.modality.vector_columns}
    cameras = {column.name: letterboxed(episode, column.sources[0], times) for column in recipe.modality.image_columns}
    task = episode.statics[keys.TASK]
    for step in range(len(times)):
        images = {name: next(frames) for name, frames in cameras.items()}
        yield {name: values[step] for name, values in vectors.items()} | images | {"task": task}


def letterboxed(episode: Episode, image: Any, times_ns: np.ndarray) -> Iterator[np.ndarray]:
    """The frames that an encoder is given, uint8 (H, W, 3)."""
    signal = episode[image.signal]
    return (image.encode(frame) for frame in signal.frames(signal.index_at(times_ns)))


# The published release


def published_contender(source: Source, python: Path) -> Contender:
    """The converter of the release that is installed for the interpreter ``python``, on as many processes as it likes.

    It bakes the same codec at the same rate and size into format v2.1.
    """

    def run(output: Path) -> float:
        command = [python, PUBLISHED_SCRIPT, source.dataset.root, output]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=variables)
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise CannotRunError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{last}")
        return float(json.loads(done.stdout.splitlines()[-1])["seconds"])

    return Contender(PUBLISHED, run, dataset_format="v2.1", only_once=True)


# The bound


def bound_with(source: Source, workers: int) -> Contender:
    """Decode, letterbox and encode, and nothing else."""
    from positronic.bake.config import VideoConfig

    return Contender(BOUND, lambda output: bound(source.dataset, source.recipe, VideoConfig(), workers), workers)


def bound(dataset: Dataset, recipe: Recipe, video: VideoConfig, workers: int) -> float:
    """Seconds from the moment when all processes are ready until the last is done."""
    context = multiprocessing.get_context("spawn")
    ready, finished = context.Barrier(workers + 1), context.Barrier(workers + 1)
    episodes = [dataset[number] for number in range(len(dataset))]
    codec = recipe.codec
    processes = [
        context.Process(target=bare, args=(episodes[share::workers], codec, video, ready, finished), daemon=True)
        for share in range(workers)
    ]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    finished.wait()
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    return seconds


def bare(episodes: list[Episode], codec: Any, video: VideoConfig, ready: Barrier, finished: Barrier) -> None:
    """Decode, letterbox, encode."""
    from positronic.bake.frames import FramePreparer
    from positronic.bake.sampling import episode_grid
    from positronic.bake.video import piece_writer
    from positronic.utils.colour import FromRgb

    keep_memory()
    fps = codec.timing.fps
    frames = {}
    for episode in episodes:
        times = episode_grid(episode, codec.signals, fps)
        frames[episode] = {image: episode[image.signal].index_at(times) for image in codec.images}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "piece.mp4"
        ready.wait()
        for episode, cameras in frames.items():
            for image, indices in cameras.items():
                preparer, to_encoder = FramePreparer(image, video.pix_fmt), FromRgb(video.pix_fmt)
                with piece_writer(path, image.height, image.width, fps, video) as writer:
                    for picture in episode[image.signal].frames_as(indices, preparer.picture):
                        writer.write(to_encoder.from_image(picture))
        finished.wait()


def keep_memory() -> None:
    """Let glibc hold on to what is freed: giving large frames back to the system each time costs up to a tenth."""
    if hasattr(ctypes.CDLL(None), "mallopt"):
        for option, value in MALLOPT.items():
            ctypes.CDLL(None).mallopt(option, value)
