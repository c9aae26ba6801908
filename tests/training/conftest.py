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


TINY_ACT = {
    "vision_backbone": "resnet_small",
    "chunk_size": 4,
    "n_action_steps": 4,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 32,
    "n_encoder_layers": 1,
    "n_decoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "use_vae": "true",  # draws random numbers, as dropout does
    "dropout": 0.1,
}


def last_of_each_key(*overrides: str) -> list[str]:
    return list({each.partition("=")[0]: each for each in overrides}.values())


def tiny_recipe(*overrides: str) -> Recipe:
    fixed = ["stage=train", "vendor=lerobot", "codec=ee", f"modality.image_size=[{SIDE},{SIDE}]"]
    config = positronic.compose(last_of_each_key(*fixed, *overrides))
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


@pytest.fixture
def tiny_act(baked_path, tmp_path):
    """``tiny_act("name", ...)``: what one types to train the smallest ACT; further values take the place of these."""
    fixed = ["stage=train", "vendor=lerobot", "codec=ee", f"modality.image_size=[{SIDE},{SIDE}]"]
    fixed += ["modality.action_horizon_sec=0.2", f"input_path={baked_path}", f"output_dir={tmp_path}"]
    fixed += ["batch_size=3", "device=cpu", "log_freq=1"]
    fixed += [f"vendor.policy.{name}={value}" for name, value in TINY_ACT.items()]
    return lambda name, *more: last_of_each_key(*fixed, f"exp_name={name}", *more)
