"""A baked dataset of two short episodes whose frames can be told apart."""

from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic import keys
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.reader import BakedDataset, open_baked
from positronic.codecs.build import Recipe, build
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter

FPS = 15
LENGTHS = (12, 7)
SIDE = 16
GREY_STEP = 12


def tiny_recipe(*overrides: str) -> Recipe:
    typed = ["stage=train", "vendor=lerobot", "codec=ee", f"modality.image_size=[{SIDE},{SIDE}]", *overrides]
    config = positronic.compose(list({each.partition("=")[0]: each for each in typed}.values()))  # the last one counts
    return build(config.codec, config.modality)


def record(folder: Path) -> None:
    """Frame k of an episode is grey of level 12 k, in the second episode 30 brighter; vectors differ in every row."""
    random = np.random.default_rng(0)
    writer = DatasetWriter(folder)
    for number, length in enumerate(LENGTHS):
        with writer.new_episode() as episode:
            for k in range(length + 1):  # an episode ends at its last stamp
                now_ns = k * 10**9 // FPS
                pose = np.concatenate([random.normal(size=3), [1.0, 0.0, 0.0, 0.0]])
                values = {keys.EE_POSE: pose, keys.COMMAND_POSE: pose + np.eye(7)[0] * 0.1}
                values |= {keys.GRIP: k / length, keys.TARGET_GRIP: 1.0 - k / length}
                for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                    values[camera] = np.full((SIDE, SIDE, 3), GREY_STEP * k + 30 * number, np.uint8)
                for name, value in values.items():
                    episode.append(name, value, now_ns)
            episode.set_static(keys.TASK, f"task {number}")


@pytest.fixture(scope="session")
def baked_path(tmp_path_factory) -> Path:
    """Read it, do not write into it."""
    folder = tmp_path_factory.mktemp("baked")
    record(folder / "raw")
    options = BakeOptions(vendor="lerobot", num_workers=1)
    versions = {"commit": None, "dirty": None, "versions": {}}
    bake(open_dataset(folder / "raw"), tiny_recipe(), folder / "baked", options, versions)
    return folder / "baked"


@pytest.fixture
def dataset(baked_path) -> BakedDataset:
    return open_baked(baked_path)
