"""Does the dataset fit what a run asks for?"""

import pytest

import positronic
from positronic.bake.manifest import read_manifest
from positronic.errors import ConventionError, PositronicError
from positronic.training.agreement import agreed_recipe, find_manifest

CONVERT = "python run.py stage=convert ..."


def agree(baked_path, *overrides):
    typed = ["stage=train", "vendor=lerobot", "modality.image_size=[16,16]", *overrides]
    config = positronic.compose(typed)
    return agreed_recipe(config.codec, config.modality, read_manifest(baked_path), str(baked_path), CONVERT)


def test_a_missing_dataset_names_the_command_that_makes_it(tmp_path):
    """Word for word."""
    with pytest.raises(
        PositronicError, match=r"no baked dataset at .*nowhere.*\n  python run\.py stage=convert \.\.\."
    ):
        find_manifest(tmp_path / "nowhere", CONVERT)


def test_another_codec_is_refused_with_both_sides(baked_path):
    """Baked with end-effector states, asked for joints: the message shows both, and what to type."""
    with pytest.raises(
        ConventionError, match=r"(?s)state\.joint_position: the dataset .* has absent; this run has .*codec=ee"
    ):
        agree(baked_path, "codec=joints")


def test_another_image_size_is_refused(baked_path):
    """The shape is part of the contract."""
    with pytest.raises(ConventionError, match=r"image\.wrist: .*uint8\[16, 16, 3\].*this run has uint8\[32, 32, 3\]"):
        agree(baked_path, "codec=ee", "modality.image_size=[32,32]")


def test_rate_is_the_datasets_and_horizon_the_runs(baked_path):
    """The rate was settled in the bake; how much of a chunk is played may still be chosen."""
    recipe = agree(baked_path, "codec=ee", "modality.action_fps=30", "modality.action_horizon_sec=0.4")
    assert (recipe.codec.timing.fps, recipe.codec.timing.horizon_sec) == (15, 0.4)
