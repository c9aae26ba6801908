"""Raw recordings to measure on, and the recipe that they are baked with."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from positronic.codecs.build import Recipe
    from positronic.raw.dataset import Dataset

CAMERA_FPS = 30
VECTOR_HZ = 60
DRAWN = (240, 320)  # height, width that scenes are made for; others are scaled, so that grain grows with the picture
VECTORS_LATER_NS = 5_000_000  # the grid begins with them, so that no frame's stamp is at the edge of a grid point's
NOISE_FRAMES = 8
BACKGROUNDS = 4
CHEAP_PIXELS = 4 * 320 * 240  # larger pictures get fewer episodes
PROVENANCE = {"commit": None, "dirty": None, "versions": {}}  # of the bakes here


@dataclass(frozen=True)
class Size:
    """Pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """``320x240``. Raises ValueError for anything else."""
        width, height = text.split("x")
        return cls(int(width), int(height))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Source:
    """Raw episodes that contenders are given, and the recipe."""

    name: str
    dataset: Dataset
    recipe: Recipe

    @cached_property
    def timesteps(self) -> int:
        """Of all episodes, once baked."""
        from positronic.bake.sampling import episode_grid

        codec = self.recipe.codec
        return sum(len(episode_grid(episode, codec.signals, codec.timing.fps)) for episode in self.dataset)


def make_recipe(*overrides: str) -> Recipe:
    """Vendor lerobot, codec ee."""
    import positronic
    from positronic.codecs.build import build

    config = positronic.compose(["stage=convert", "vendor=lerobot", "codec=ee", "dataset.path=unused", *overrides])
    return build(config.codec, config.modality)


def open_source(path: Path, name: str | None = None) -> Source:
    """The recording at ``path``."""
    from positronic.raw.dataset import open_dataset

    return Source(name or path.name, open_dataset(path), make_recipe())


def made_source(scratch: Path, size: Size, episodes: int, seconds: float, processes: int) -> Source:
    """A synthetic recording in ``scratch``: ``episodes`` of them, fewer when pictures are large."""
    share = min(1.0, CHEAP_PIXELS / (size.width * size.height))
    root = scratch / f"raw_{size}"
    make_raw(root, size, max(2, round(episodes * share)), seconds, processes)
    return open_source(root, str(size))


def make_raw(root: Path, size: Size, episodes: int, seconds: float, processes: int) -> None:
    """Record ``episodes`` of ``seconds`` each: two cameras of ``size`` and an arm."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        for future in [pool.submit(record, root, number, size, seconds) for number in range(episodes)]:
            future.result()


def record(root: Path, number: int, size: Size, seconds: float) -> None:
    """Episode ``number``. Runs in a process of its own."""
    import numpy as np

    from positronic import keys
    from positronic.raw.writer import DatasetWriter

    scenes = {keys.IMAGE_WRIST: scene(2 * number, size), keys.IMAGE_EXTERIOR: scene(2 * number + 1, size)}
    with DatasetWriter(root).new_episode(number) as episode:
        episode.set_static(keys.TASK, "Stack the red cube on the blue cube.")
        for tick in range(int(seconds * VECTOR_HZ)):
            joints = np.sin(number + np.arange(7) + tick / VECTOR_HZ)
            record_arm(episode, joints, tick * 10**9 // VECTOR_HZ + VECTORS_LATER_NS)
        for tick in range(int(seconds * CAMERA_FPS)):
            for camera, draw in scenes.items():
                episode.append(camera, draw(tick), tick * 10**9 // CAMERA_FPS)


def record_arm(episode: Any, joints: np.ndarray, time_ns: int) -> None:
    """One sample of each vector."""
    import numpy as np

    from positronic import keys

    half = joints[0] / 2
    pose = np.array([0.4 + 0.1 * joints[1], 0.1 * joints[2], 0.3, np.cos(half), 0.0, 0.0, np.sin(half)])
    vectors = {keys.JOINT_POSITION: joints, keys.EE_POSE: pose, keys.COMMAND_POSE: pose, keys.COMMAND_JOINTS: joints}
    for name, value in vectors.items():
        episode.append(name, value, time_ns)
    for name in (keys.GRIP, keys.TARGET_GRIP):
        episode.append(name, float(joints[3] > 0), time_ns)


def scene(seed: int, size: Size) -> Callable[[int], np.ndarray]:
    """A function from frame number to uint8 (H, W, 3): things that move over a noisy, textured background."""
    import numpy as np

    noisy, scale_y, scale_x = backgrounds(seed % BACKGROUNDS, size), size.height / DRAWN[0], size.width / DRAWN[1]
    tall, wide = int(60 * scale_y), int(50 * scale_x)

    def draw(tick: int) -> np.ndarray:
        image = noisy[tick % NOISE_FRAMES].copy()
        for speed, colour in ((0.05, (200, 50, 40)), (0.035, (40, 80, 210)), (0.02, (220, 220, 210))):
            top = int((size.height - tall) * (0.5 + 0.5 * np.sin(speed * tick + seed)))
            left = int((size.width - wide) * (0.5 + 0.5 * np.cos(1.3 * speed * tick + seed)))
            image[top : top + tall, left : left + wide] = colour
        return image

    return draw


@lru_cache
def backgrounds(seed: int, size: Size) -> np.ndarray:
    """uint8 (NOISE_FRAMES, H, W, 3): smooth light, fine texture, noise; as hard to encode as real scenes."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    height, width = DRAWN
    y, x = np.mgrid[0:height, 0:width]
    light = np.stack([90 + 0.3 * x, 70 + 0.35 * y, 60 + 0.15 * (x + y)], axis=-1)
    texture = random.normal(0, 10, (height // 4, width // 4, 3)).repeat(4, 0).repeat(4, 1)
    drawn = light + texture + random.normal(0, 3, (NOISE_FRAMES, height, width, 3))
    images = map(Image.fromarray, drawn.clip(0, 255).astype(np.uint8))
    return np.stack(
        [np.asarray(image.resize((size.width, size.height), Image.Resampling.BILINEAR)) for image in images]
    )
