"""The smallest ACT, on a dataset of random numbers that needs no files, and a recording that is baked for openpi."""

from pathlib import Path

import numpy as np
import pytest

import positronic
from positronic.bake.reader import open_baked
from positronic.codecs.build import build
from positronic.stages.convert import run as run_convert
from positronic.stages.train import run as run_train
from positronic.training.checkpoints import write_info

RAW = Path(__file__).parents[1] / "data" / "raw_v1"

SIDE = 32
TINY_ACT = {
    "type": "act",
    "chunk_size": 4,
    "n_action_steps": 4,
    "vision_backbone": "resnet18",
    "pretrained_backbone_weights": None,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 64,
    "n_encoder_layers": 1,
    "n_decoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 8,
}


@pytest.fixture(scope="session")
def recipe():
    """vendor=lerobot codec=ee, images of 32 x 32."""
    typed = ["stage=train", "vendor=lerobot", "codec=ee", f"modality.image_size=[{SIDE},{SIDE}]"]
    config = positronic.compose(typed)
    return build(config.codec, config.modality)


@pytest.fixture
def stats(recipe):
    """Statistics as a bake writes them; the sixth number of each vector hardly moves."""
    numbers = np.random.default_rng(0)
    found = {}
    for column in recipe.modality.columns:
        shape = (3, 1, 1) if column.is_image else column.shape
        found[column.name] = {key: numbers.uniform(0.2, 0.8, shape) for key in ("mean", "std", "min", "max")}
        if not column.is_image:
            found[column.name]["std"][5] = 1e-7
    return found


@pytest.fixture
def tiny_act():
    """vendor.policy of the smallest ACT."""
    return dict(TINY_ACT)


@pytest.fixture
def observation(recipe):
    """``observation(seed)``: one observation as the server hands it over."""

    def make(seed=0):
        numbers = np.random.default_rng(seed)
        columns = {
            column.name: numbers.integers(0, 256, column.shape).astype(np.uint8)
            if column.is_image
            else numbers.normal(size=column.shape).astype(np.float32)
            for column in recipe.modality.observation_columns
        }
        return columns | {"task": "stack"}

    return make


@pytest.fixture(scope="session")
def openpi_path(tmp_path_factory):
    """Three episodes of 60 frames of 56 x 56, baked with vendor=openpi codec=ee. Read it, do not write into it."""
    path = tmp_path_factory.mktemp("openpi") / "baked"
    typed = ["dataset=local", f"dataset.path={RAW}", "vendor=openpi", f"output_dir={path}", "num_workers=1"]
    run_convert(positronic.compose(["stage=convert", *typed, "modality.image_size=[56,56]"]))
    return path


@pytest.fixture(scope="session")
def openpi_typed(openpi_path):
    """``openpi_typed(folder, ...)``: what one types to train a toy into ``folder``; further values replace these."""
    fixed = ["stage=train", "vendor=openpi", "modality.image_size=[56,56]", f"input_path={openpi_path}"]
    fixed += ["vendor.toy=true", "vendor.base=random", "device=cpu", "precision=fp32", "batch_size=4"]
    fixed += ["num_train_steps=4", "save_freq=2", "log_freq=1", "learning_rate=1e-3"]

    def line(folder, *more):
        every = [*fixed, f"output_dir={folder}", *more]
        return list({each.partition("=")[0]: each for each in every}.values())

    return line


@pytest.fixture(scope="session")
def openpi_experiments(openpi_typed, tmp_path_factory):
    """Trained with adapters and whole: name of the config -> folder."""
    folder = tmp_path_factory.mktemp("experiments")
    for name in ("pi05_positronic_lowmem", "pi05_positronic"):
        more = (f"exp_name={name}", f"modality.config_name={name}")
        run_train(positronic.compose(openpi_typed(folder, *more)))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def openpi_observations(openpi_path):
    """Four observations with prompts of four lengths."""
    states = open_baked(openpi_path).vectors["observation.state"]
    rows, numbers = [3, 70, 130, 175], np.random.default_rng(0)
    prompts = ["", "Stack.", "Pick up the green cube and put it on the red one.", "Stack, slowly."]
    images = ("observation.images.left", "observation.images.side")
    return [
        {name: numbers.integers(0, 256, (56, 56, 3)).astype(np.uint8) for name in images}
        | {"observation.state": states[row], "prompt": prompt}
        for row, prompt in zip(rows, prompts, strict=True)
    ]


@pytest.fixture
def openpi_noise():
    """``openpi_noise(seed)``: what a chunk starts from."""
    return lambda seed: np.random.default_rng(seed).normal(size=(50, 32)).astype(np.float32)


@pytest.fixture
def checkpoint(trainable, recipe, tmp_path):
    """A checkpoint's folder as the loop leaves it, of the module's own ``trainable``."""
    (tmp_path / "pretrained_model").mkdir()
    trainable.save(tmp_path / "pretrained_model")
    write_info(tmp_path, {"step": 1, "vendor": "lerobot", "recipe": recipe.to_dict()})
    return tmp_path
