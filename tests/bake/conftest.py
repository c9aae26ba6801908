"""The smallest recording that every lerobot codec can use, and recipes with small images."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.robot import recorded_embodiment
from positronic.codecs.build import Recipe, build
from positronic.raw.dataset import Dataset, open_dataset
from positronic.raw.writer import DatasetWriter

NS = 10**9
PUBLISHED = Path(__file__).parents[1] / "data" / "raw_v1"
SIDE = 32
VERSIONS = {"commit": None, "dirty": None, "versions": {}}


@lru_cache
def make_recipe(codec: str = "ee", fps: int = 15, side: int = SIDE, chunk: int | None = None) -> Recipe:
    overrides = [f"codec={codec}", f"modality.image_size=[{side},{side}]", f"modality.action_fps={fps}"]
    config = positronic.compose(["stage=convert", "vendor=lerobot", "dataset.path=unused", *overrides])
    config.modality.action_chunk = chunk  # by hand: only openpi's may be typed
    config.modality.config_name = None if chunk is None else "pi05_positronic"
    return build(config.codec, config.modality)


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    """Recipe of a codec for vendor lerobot, images of 32 x 32."""
    return make_recipe


@pytest.fixture
def recipe_of() -> Callable[..., Recipe]:
    """``recipe_of(dataset, codec)``: the same for the robot that the dataset says it is of."""

    def make(dataset: Dataset, codec: str) -> Recipe:
        base = make_recipe(codec)
        return build(base.codec_config, base.modality_config, embodiment=recorded_embodiment(dataset))

    return make


@pytest.fixture
def published() -> Dataset:
    """Three episodes written by the published package."""
    return open_dataset(PUBLISHED)


def turn(random: np.random.Generator) -> np.ndarray:
    """A rotation of at most a right angle, as arms over a table do them: all on one side, whatever the episode."""
    axis = random.normal(size=3)
    half = random.uniform(0, np.pi / 4)
    return np.append(np.cos(half), np.sin(half) * axis / np.linalg.norm(axis))


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Dataset]:
    """``record(seconds=..., task=...)`` adds an episode to ``tmp_path / "raw"`` and opens the dataset.

    ``start_ns`` shifts everything; ``leave_out`` names signals; ``camera_until_sec`` stops the wrist camera early.
    """

    def make(
        seconds: float = 1.0,
        task: str | None = "stack",
        seed: int = 0,
        start_ns: int = 0,
        vector_hz: float = 40.0,
        camera_hz: float = 12.0,
        leave_out: tuple[str, ...] = (),
        camera_until_sec: float | None = None,
        height: int = 24,
        width: int = 40,
    ) -> Dataset:
        random = np.random.default_rng(seed)
        with DatasetWriter(tmp_path / "raw").new_episode() as episode:
            for tick in range(int(seconds * vector_hz)):
                time_ns = start_ns + int(tick * NS / vector_hz)
                values = {
                    keys.JOINT_POSITION: random.normal(size=7),
                    keys.EE_POSE: np.concatenate([random.normal(size=3), turn(random)]),
                    keys.COMMAND_POSE: np.concatenate([random.normal(size=3), turn(random)]),
                    keys.COMMAND_JOINTS: random.normal(size=7),
                    keys.GRIP: float(random.uniform()),
                    keys.TARGET_GRIP: float(random.uniform()),
                }
                for name, value in values.items():
                    if name not in leave_out:
                        episode.append(name, value, time_ns)
            for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                until = seconds if camera_until_sec is None or camera != keys.IMAGE_WRIST else camera_until_sec
                for tick in range(int(until * camera_hz)) if camera not in leave_out else ():
                    image = np.full((height, width, 3), random.integers(30, 220, 3), np.uint8)
                    image[: height // 2, : width // 3] = random.integers(0, 255, 3)
                    episode.append(camera, image, start_ns + int(tick * NS / camera_hz))
            if task is not None:
                episode.set_static(keys.TASK, task)
        return open_dataset(tmp_path / "raw")

    return make


@pytest.fixture
def baked(tmp_path: Path) -> Callable[..., Path]:
    """Bakes a dataset in this process and returns the folder."""

    def make(dataset: Dataset, recipe: Recipe, name: str = "baked", **options) -> Path:
        options = {"vendor": "lerobot", "num_workers": 1} | options
        return bake(dataset, recipe, tmp_path / name, BakeOptions(**options), VERSIONS).output

    return make
