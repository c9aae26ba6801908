"""Does the dataset fit what a run asks for?"""

import dataclasses
from dataclasses import replace
from itertools import chain

import pytest
from omegaconf import OmegaConf

import positronic
from positronic.bake.manifest import read_manifest
from positronic.codecs.build import Recipe, build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.errors import ConventionError, PositronicError
from positronic.training import agreement
from positronic.training.agreement import CHUNK, RATE, SWITCH, agreed_recipe, find_manifest
from positronic.training.checkpoints import find_checkpoint, trained_recipe

CONVERT = "python run.py stage=convert ..."


def agree(baked_path, *overrides):
    typed = dict(each.split("=", 1) for each in ("modality.image_size=[16,16]", *overrides))
    config = positronic.compose(["stage=train", "vendor=lerobot", *(f"{key}={value}" for key, value in typed.items())])
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


# What the dataset of these tests holds, and another value for each field that a person may type.
OTHERS = {
    "codec.state": "[ee_pose]",
    "codec.images": "[wrist]",
    "codec.rotation": "rotvec",
    "codec.action": "joint_position",
    "codec.label": "measured",
    "codec.switch_grip": "true",
    "modality.image_size": "[32,32]",
    "modality.columns": "{observation.state:[state.grip,state.ee_pose]}",
    "modality.cameras": "{wrist: observation.images.hand}",
    "modality.other_cameras": "null",
    "modality.column_per_arm": "true",
    "modality.max_state_size": "32",
    "modality.max_action_size": "32",
    "modality.task_key": "prompt",
    "modality.action_fps": "30",
    "modality.action_horizon_sec": "0.4",
    "modality.relative_actions": "true",
    "modality.config_name": "pi0_mine",
    "modality.action_chunk": "10",
}
FOLLOWING = {"codec.name", "codec.description", "codec.inference_only"}  # from the choice of a file


def test_every_field_has_another_value_here():
    """A field that is added gets its row."""
    fields = [f"codec.{f.name}" for f in dataclasses.fields(CodecConfig)]
    fields += [f"modality.{f.name}" for f in dataclasses.fields(ModalityConfig)]
    assert set(fields) == {*OTHERS, *FOLLOWING}
    kinds = (agreement.CONTRACT, agreement.OF_SOME_ROBOTS, agreement.COMPARED, agreement.OF_THE_RUN)
    assert set(fields) == {*chain(*kinds), RATE, SWITCH, CHUNK}


@pytest.mark.parametrize("name", OTHERS)
def test_a_field_that_the_run_changes_is_refused_or_takes_effect(baked_path, name):
    """Refused with both sides, or in the recipe that checkpoints carry: nothing is lost."""
    group, _, field = name.partition(".")
    config = positronic.compose(["stage=train", "vendor=lerobot", "codec=ee", "modality.image_size=[16,16]"])
    part = getattr(config, group)
    value = OmegaConf.to_object(OmegaConf.create(f"x: {OTHERS[name]}"))["x"]
    part = replace(part, **{field: part.columns | value if field == "columns" else value})
    asked = {"codec": config.codec, "modality": config.modality} | {group: part}
    refused = name in (*agreement.CONTRACT, *agreement.COMPARED, RATE)
    arguments = (asked["codec"], asked["modality"], read_manifest(baked_path), str(baked_path), CONVERT)
    if refused:
        with pytest.raises(PositronicError):
            agreed_recipe(*arguments)
    else:
        recipe = Recipe.from_dict(agreed_recipe(*arguments).to_dict())
        assert getattr(getattr(recipe, f"{group}_config"), field) == value


@pytest.mark.parametrize("config_name", ["pi05_positronic", None])
def test_a_chunk_counts_where_statistics_were_taken_over_it(baked_path, config_name):
    """openpi's were; a GR00T trains another number of steps, also on a dataset that says none."""
    manifest = read_manifest(baked_path)
    recipe = manifest.load_recipe().to_dict()
    said = recipe["modality"] | {"config_name": config_name, "action_chunk": 50 if config_name else None}
    manifest = replace(manifest, recipe=recipe | {"modality": said})
    config = positronic.compose(["stage=train", "vendor=lerobot", "codec=ee", "modality.image_size=[16,16]"])
    asked = (
        config.codec,
        replace(config.modality, config_name=config_name, action_chunk=16),
        manifest,
        "cups",
        CONVERT,
    )
    if config_name is None:
        assert agreed_recipe(*asked).modality_config.action_chunk == 16
        return
    with pytest.raises(ConventionError, match=r"modality\.action_chunk: the dataset cups has 50; this run has 16"):
        agreed_recipe(*asked)


def test_the_rate_is_the_dataset_s_unless_the_run_says_one(baked_path):
    """It was settled in the bake by fps=; another one is refused, also where it is the default."""
    manifest = replace(read_manifest(baked_path), recipe=read_manifest(baked_path).load_recipe().at_fps(10).to_dict())
    config = positronic.compose(["stage=train", "vendor=lerobot", "codec=ee", "modality.image_size=[16,16]"])
    asked = (config.codec, config.modality, manifest, "cups", CONVERT)
    assert agreed_recipe(*asked).codec.timing.fps == 10
    with pytest.raises(ConventionError, match=r"modality\.action_fps: the dataset cups has 10; this run has 15"):
        agreed_recipe(*asked, typed=lambda key: key == RATE)


def test_a_switch_of_the_dataset_stays_unless_the_run_says_otherwise(baked_path):
    """codec.switch_grip=false is the default too, and counts when it is typed."""
    manifest = read_manifest(baked_path)
    recipe = manifest.load_recipe().to_dict()
    manifest = replace(manifest, recipe=recipe | {"codec": recipe["codec"] | {"switch_grip": True}})
    config = positronic.compose(["stage=train", "vendor=lerobot", "codec=ee", "modality.image_size=[16,16]"])
    asked = (config.codec, config.modality, manifest, "cups", CONVERT)
    assert agreed_recipe(*asked).codec.switch_grip
    assert not agreed_recipe(*asked, typed=lambda key: key == SWITCH).codec.switch_grip


@pytest.mark.parametrize(("baked", "trained"), [("ee_rot6d", "ee_rot6d_rel"), ("ee_rot6d_rel", "ee_rot6d")])
def test_one_bake_trains_absolute_and_relative_actions(baked_path, baked, trained):
    """The rows are the same; whether a policy learns differences is this run's, and in its checkpoints."""
    of = {name: positronic.compose(["stage=convert", "vendor=gr00t", f"codec={name}"]) for name in (baked, trained)}
    recipe = build(of[baked].codec, of[baked].modality)
    manifest = replace(read_manifest(baked_path), recipe=recipe.to_dict())
    agreed = agreed_recipe(of[trained].codec, of[trained].modality, manifest, "cups", CONVERT)
    stored = Recipe.from_dict(agreed.to_dict())
    assert stored.modality_config.relative_actions is (trained == "ee_rot6d_rel")
    assert stored.codec.name == trained


def test_a_switch_that_is_typed_is_in_the_checkpoint(tiny_act, tmp_path):
    """As one types it, to the recipe that decodes the policy's actions when it is served."""
    positronic.run(positronic.compose(tiny_act("run", "codec.switch_grip=true", "num_train_steps=1")))
    assert trained_recipe(find_checkpoint(tmp_path / "run").info()).codec.switch_grip


def test_a_rate_that_is_typed_is_that_of_the_dataset_or_refused(tiny_act, tmp_path):
    """Also 15, which is the default: it was typed. Nothing is left of the run that was refused."""
    with pytest.raises(ConventionError, match=r"modality\.action_fps: the dataset .* has 15; this run has 10"):
        positronic.run(positronic.compose(tiny_act("run", "modality.action_fps=10", "num_train_steps=1")))
    assert not (tmp_path / "run").exists()
    positronic.run(positronic.compose(tiny_act("run", "modality.action_fps=15", "num_train_steps=1")))
    assert trained_recipe(find_checkpoint(tmp_path / "run").info()).codec.timing.fps == 15
