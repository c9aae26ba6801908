"""modality.json and the modality's name follow from the recipe."""

import json
from pathlib import Path

import pytest

import positronic
from positronic.codecs.build import build
from positronic.errors import PositronicError
from positronic.vendors import registry
from positronic.vendors.gr00t.modality import MODALITY_FILE, modality_json, modality_name

CODECS = {path.stem for path in (Path(__file__).parents[2] / "conf/modality/gr00t").glob("[!_]*.yaml")}
# Upstream's table: which modality config trains which codec.
NAMES = {
    "ee_quat": "ee",
    "ee_quat_traj": "ee",
    "ee_quat_joints": "ee_q",
    "ee_quat_joints_traj": "ee_q",
    "ee_rot6d": "ee_rot6d",
    "ee_rot6d_traj": "ee_rot6d",
    "ee_rot6d_rel": "ee_rot6d_rel",
    "ee_rot6d_joints": "ee_rot6d_q",
    "ee_rot6d_joints_traj": "ee_rot6d_q",
    "ee_rot6d_joints_rel": "ee_rot6d_q_rel",
    "joints_traj": "joints",
    "joints_cmd": "joints",
    "ee_joints_cmd": "joints",
}


def make_recipe(codec, *overrides):
    config = positronic.compose(["stage=convert", "vendor=gr00t", f"codec={codec}", *overrides])
    return build(config.codec, config.modality)


def test_the_table_has_every_gr00t_codec():
    """A codec that is added gets its modality here."""
    assert set(NAMES) == CODECS - {"from_checkpoint"}


@pytest.mark.parametrize("codec", NAMES)
def test_a_codec_s_modality_is_upstream_s(codec):
    """Nobody types it."""
    assert modality_name(make_recipe(codec)) == NAMES[codec]


@pytest.mark.parametrize(
    ("codec", "override"),
    [
        ("ee_quat", "modality.relative_actions=true"),
        ("joints_traj", "modality.relative_actions=true"),
        ("ee_quat", "codec.rotation=rotvec"),
    ],
)
def test_a_modality_that_upstream_never_had_is_refused(codec, override):
    """Relative actions are rot6d there, and rotation vectors unknown. A bake for upstream does not begin."""
    recipe = make_recipe(codec, override)
    for ask in (modality_name, lambda recipe: registry.companions("gr00t", recipe, "v2.1")):
        with pytest.raises(
            PositronicError, match=r"GR00T has no modality config for states .*; it has ee, ee_q, ee_rot"
        ):
            ask(recipe)


def test_the_file_is_what_the_published_package_writes():
    """For ee_rot6d_joints, word for word."""
    assert modality_json(make_recipe("ee_rot6d_joints")) == {
        "state": {
            "grip": {"start": 0, "end": 1, "original_key": "grip"},
            "ee_pose": {"start": 0, "end": 9, "original_key": "ee_pose"},
            "joint_position": {"start": 0, "end": 7, "original_key": "joint_position"},
        },
        "action": {"ee_pose": {"start": 0, "end": 9}, "grip": {"start": 9, "end": 10}},
        "video": {
            "exterior_image_1": {"original_key": "exterior_image_1"},
            "wrist_image": {"original_key": "wrist_image"},
        },
        "annotation": {"language.language_instruction": {"original_key": "task_index"}},
    }


def test_a_joint_codec_has_no_pose():
    """Neither in the state nor in the action."""
    content = modality_json(make_recipe("joints_traj"))
    assert set(content["state"]) == {"grip", "joint_position"}
    assert content["action"] == {"joint_position": {"start": 0, "end": 7}, "grip": {"start": 7, "end": 8}}


@pytest.mark.parametrize("codec", NAMES)
def test_the_slices_cover_every_column(codec):
    """Each state column whole, the action without a gap."""
    recipe = make_recipe(codec)
    content = modality_json(recipe)
    sizes = {c.name: c.shape[0] for c in recipe.modality.vector_columns if not c.is_action}
    assert {name: slice_["end"] for name, slice_ in content["state"].items()} == sizes
    ends = [slice_["end"] for slice_ in content["action"].values()]
    assert [slice_["start"] for slice_ in content["action"].values()] == [0, *ends[:-1]]
    assert ends[-1] == recipe.codec.action_size


def test_the_file_belongs_to_the_format_that_upstream_reads():
    """It is written into v2.1 datasets, and v3.0 ones do without."""
    recipe = make_recipe("ee_quat")
    ((name, content),) = registry.companions("gr00t", recipe, "v2.1").items()
    assert (name, json.loads(content)) == (MODALITY_FILE, modality_json(recipe))
    assert registry.companions("gr00t", recipe, "v3.0") == {}


def test_an_instruction_that_upstream_would_not_find_is_refused():
    """Its keys begin with annotation."""
    with pytest.raises(PositronicError, match=r"the instruction from 'annotation.<name>', found 'action' and 'prompt'"):
        registry.companions("gr00t", make_recipe("ee_quat", "modality.task_key=prompt"), "v2.1")
