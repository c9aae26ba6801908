"""How fast the bake is: timesteps a second, against LeRobot's own writer and against the bare encoder.

    python scripts/bench_convert.py                # synthetic recordings, made first
    python scripts/bench_convert.py --raw <path>   # your own

Every contender gets the same raw episodes, reads and letterboxes the same frames, and has ``--rounds`` turns, so that a
busy machine hurts all alike; medians count. On one that is busy with other things, look at the CPU seconds too. The
bound is decode + letterbox + encode of the same frames with the same settings in as many processes, started beforehand,
and nothing else: no statistics, no parquet, no start-up. The last line is JSON: ``vs_lerobot_default`` and
``vs_lerobot_fastest`` say how many times faster we are, ``of_bound`` how much of the bound's speed we have.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    import numpy as np

    from positronic.bake.config import VideoConfig
    from positronic.codecs.build import Recipe
    from positronic.raw.dataset import Dataset
    from positronic.raw.episode import Episode

CAMERA_FPS = 30
SIZE = (240, 320)  # height, width of the synthetic recordings
VECTOR_HZ = 60
PSNR_EPISODES = 2
LONGEST_EPISODE = 100_000  # frames; LeRobot's streaming writer drops frames from a queue that is too short


@dataclass(frozen=True)
class Contender:
    """``run(output)`` makes a dataset (the bound: nothing); seconds are measured outside, or returned by it."""

    name: str
    run: Callable[[Path], float | None]


def main() -> None:
    options = parse()
    quiet()
    with tempfile.TemporaryDirectory(prefix="bench_convert_") as scratch:
        dataset = open_or_make(options, Path(scratch))
        recipe = make_recipe()
        timesteps = count_timesteps(dataset, recipe)
        print(
            f"{len(dataset)} episodes, {timesteps} timesteps of 2 cameras, {options.workers} processes, load {load()}"
        )
        contenders = make_contenders(dataset, recipe, options.workers)
        seconds = measure(contenders, options.rounds, Path(scratch), timesteps)
        for name in list(contenders_with_output(contenders)):
            print(f"{name:16s} PSNR {psnr(Path(scratch) / name, dataset, recipe):6.2f} dB")
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ours = median["positronic"]
    ratios = {f"vs_{name}": median[name] / ours for name in ("lerobot_default", "lerobot_fastest")}
    ratios["of_bound"] = median["bound"] / ours
    print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="a raw dataset with both cameras; made when left out")
    parser.add_argument("--episodes", type=int, default=12, help="of the synthetic dataset")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each synthetic episode")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def quiet() -> None:
    """Encoders report to stderr each time they close; LeRobot gives them back their voice after each file."""
    logging.disable(logging.WARNING)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def measure(contenders: Sequence[Contender], rounds: int, scratch: Path, timesteps: int) -> dict[str, list[float]]:
    """Seconds of each run, contenders in turns."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for round_number in range(rounds):
        for contender in contenders:
            output = scratch / contender.name
            shutil.rmtree(output, ignore_errors=True)
            started, cpu = time.perf_counter(), cpu_seconds()
            with without_stderr():
                own = contender.run(output)
            taken = time.perf_counter() - started if own is None else own
            seconds[contender.name].append(taken)
            speed = f"{timesteps / taken:7.1f} timesteps/s  {taken:6.1f} s  CPU {cpu_seconds() - cpu:6.1f} s"
            print(f"round {round_number + 1}  {contender.name:16s} {speed}  load {load()}", flush=True)
    return seconds


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def contenders_with_output(contenders: Sequence[Contender]) -> Iterator[str]:
    return (contender.name for contender in contenders if contender.name != "bound")


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


# What is baked


def make_recipe() -> Recipe:
    import positronic
    from positronic.codecs.build import build

    config = positronic.compose(["stage=convert", "vendor=lerobot", "codec=ee", "dataset.path=unused"])
    return build(config.codec, config.modality)


def open_or_make(options: argparse.Namespace, scratch: Path) -> Dataset:
    from positronic.raw.dataset import open_dataset

    if options.raw is None:
        make_raw(scratch / "raw", options.episodes, options.seconds)
    return open_dataset(options.raw or scratch / "raw")


def count_timesteps(dataset: Dataset, recipe: Recipe) -> int:
    from positronic.bake.sampling import episode_grid

    codec = recipe.codec
    return sum(len(episode_grid(episode, codec.signals, codec.timing.fps)) for episode in dataset)


def make_raw(root: Path, episodes: int, seconds: float) -> None:
    """Two cameras and an arm. Smooth light, fine texture, moving things and noise: as hard to encode as real scenes."""
    import numpy as np

    from positronic import keys
    from positronic.raw.writer import DatasetWriter

    writer = DatasetWriter(root)
    for number in range(episodes):
        scenes = {keys.IMAGE_WRIST: scene(2 * number), keys.IMAGE_EXTERIOR: scene(2 * number + 1)}
        with writer.new_episode() as episode:
            episode.set_static(keys.TASK, "Stack the red cube on the blue cube.")
            for tick in range(int(seconds * VECTOR_HZ)):
                record_arm(episode, np.sin(np.arange(7) + tick / VECTOR_HZ), tick * 10**9 // VECTOR_HZ)
            for tick in range(int(seconds * CAMERA_FPS)):
                for camera, draw in scenes.items():
                    episode.append(camera, draw(tick), tick * 10**9 // CAMERA_FPS)


def record_arm(episode: Any, joints: np.ndarray, time_ns: int) -> None:
    import numpy as np

    from positronic import keys

    half = joints[0] / 2
    pose = np.array([0.4 + 0.1 * joints[1], 0.1 * joints[2], 0.3, np.cos(half), 0.0, 0.0, np.sin(half)])
    vectors = {keys.JOINT_POSITION: joints, keys.EE_POSE: pose, keys.COMMAND_POSE: pose, keys.COMMAND_JOINTS: joints}
    for name, value in vectors.items():
        episode.append(name, value, time_ns)
    for name in (keys.GRIP, keys.TARGET_GRIP):
        episode.append(name, float(joints[3] > 0), time_ns)


def scene(seed: int) -> Callable[[int], np.ndarray]:
    """A function from frame number to uint8 (H, W, 3)."""
    import numpy as np

    random = np.random.default_rng(seed)
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width]
    light = np.stack([90 + 0.3 * x, 70 + 0.35 * y, 60 + 0.15 * (x + y)], axis=-1)
    texture = random.normal(0, 10, (height // 4, width // 4, 3)).repeat(4, 0).repeat(4, 1)
    noise = random.normal(0, 3, (8, height, width, 3))

    def draw(tick: int) -> np.ndarray:
        image = light + texture + noise[tick % len(noise)]
        for speed, colour in ((0.05, (200, 50, 40)), (0.035, (40, 80, 210)), (0.02, (220, 220, 210))):
            top = int((height - 60) * (0.5 + 0.5 * np.sin(speed * tick + seed)))
            left = int((width - 50) * (0.5 + 0.5 * np.cos(1.3 * speed * tick + seed)))
            image[top : top + 60, left : left + 50] = colour
        return image.clip(0, 255).astype(np.uint8)

    return draw


# Who bakes it


def make_contenders(dataset: Dataset, recipe: Recipe, workers: int) -> list[Contender]:
    import lerobot.datasets.lerobot_dataset  # noqa: F401  imported before anything is timed
    from lerobot.configs import RGBEncoderConfig

    from positronic.bake.config import VideoConfig
    from positronic.bake.convert import BakeOptions, bake

    fastest = {
        "streaming_encoding": True,
        "encoder_queue_maxsize": LONGEST_EPISODE,
        "encoder_threads": 1,
        "rgb_encoder": RGBEncoderConfig(vcodec="h264", preset="ultrafast"),
    }

    def ours(output: Path) -> None:
        bake(dataset, recipe, output, BakeOptions(vendor="lerobot", num_workers=workers), provenance={})

    return [
        Contender("positronic", ours),
        Contender("bound", lambda output: bound(dataset, recipe, VideoConfig(), workers)),
        Contender("lerobot_default", lambda output: lerobot_writer(dataset, recipe, output, {})),
        Contender("lerobot_fastest", lambda output: lerobot_writer(dataset, recipe, output, fastest)),
    ]


def lerobot_writer(dataset: Dataset, recipe: Recipe, output: Path, options: dict[str, Any]) -> None:
    """LeRobot's recording interface, fed with the same columns and frames."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    fps = recipe.codec.timing.fps
    features = {
        column.name: {"dtype": "video" if column.is_image else "float32", "shape": column.shape, "names": None}
        for column in recipe.modality.columns
    }
    for column in recipe.modality.image_columns:
        features[column.name]["names"] = ["height", "width", "channels"]
    target = LeRobotDataset.create("local/bench", fps=fps, features=features, root=output, **options)
    for episode in dataset:
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
    signal = episode[image.signal]
    return (image.encode(frame) for frame in signal.frames(signal.index_at(times_ns)))


# The bound


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
    import av
    from av.video.reformatter import VideoReformatter

    from positronic.bake.frames import FramePreparer
    from positronic.bake.sampling import episode_grid
    from positronic.bake.video import piece_writer

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
                preparer, to_encoder = FramePreparer(image, video.pix_fmt), VideoReformatter()
                with piece_writer(path, image.height, image.width, fps, video) as writer:
                    for picture in episode[image.signal].frames_as(indices, preparer.picture):
                        writer.write(to_encoder.reformat(av.VideoFrame.from_image(picture), format=video.pix_fmt))
        finished.wait()


# Quality


def psnr(output: Path, dataset: Dataset, recipe: Recipe) -> float:
    """dB over RGB, of the baked frames of the first episodes against what was given to the encoder."""
    import av
    import numpy as np

    from positronic.bake.sampling import episode_grid

    codec, error, count = recipe.codec, 0.0, 0
    for column in recipe.modality.image_columns:
        baked = (
            frame.to_ndarray(format="rgb24")
            for path in sorted((output / "videos" / column.name).glob("*/*.mp4"))
            for frame in av.open(str(path)).decode(video=0)
        )
        for episode in dataset[:PSNR_EPISODES]:
            times = episode_grid(episode, codec.signals, codec.timing.fps)
            for given in letterboxed(episode, column.sources[0], times):
                error += float(np.mean((next(baked).astype(np.float64) - given) ** 2))
                count += 1
    return 10 * float(np.log10(255**2 / (error / count)))


if __name__ == "__main__":
    main()
