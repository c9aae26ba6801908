"""Every stage x vendor x codec: each valid one composes and prints its contract, each other one is refused."""

import io
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

import positronic
from positronic.codecs.build import build
from positronic.codecs.table import contract_table
from positronic.errors import PositronicError

CONF = Path(__file__).parents[1] / "conf"
STAGES = ("collect", "convert", "stats", "train", "serve", "infer")
VENDORS = ("lerobot", "gr00t", "openpi")
CODECS = sorted(
    path.stem for path in (CONF / "codec").glob("*.yaml") if path.stem[0] != "_" and path.stem != "from_checkpoint"
)
COMMANDED_JOINTS = ("joints_cmd", "ee_joints_cmd")
VALID = {
    "lerobot": {"ee", "joints", "ee_traj", "joints_traj", *COMMANDED_JOINTS, "eepose_absolute", "joints_absolute"},
    "gr00t": {
        *("ee_quat", "ee_rot6d", "ee_quat_joints", "ee_rot6d_joints"),
        *("ee_quat_traj", "ee_rot6d_traj", "ee_quat_joints_traj", "ee_rot6d_joints_traj", "joints_traj"),
        *("ee_rot6d_rel", "ee_rot6d_joints_rel", *COMMANDED_JOINTS),
    },
    "openpi": {"ee", "ee_joints", "ee_traj", "ee_joints_traj", "joints_traj", *COMMANDED_JOINTS, "droid"},
}
ONE_OF_EACH_KIND = ("train", "infer")  # the default codec is the vendor's; or the checkpoint's


@cache
def compose(stage, vendor, codec):
    needed = ["checkpoints_dir=x"] if stage == "serve" else []
    return positronic.compose([f"stage={stage}", f"vendor={vendor}", f"codec={codec}", *needed])


def refusal(stage, vendor, codec):
    """The beginning of the sentence that refuses this combination; None when it is a valid one."""
    if codec not in VALID[vendor]:
        return f"codec={codec} has no {vendor} modality. Valid codecs for vendor={vendor}: "
    if stage == "collect":
        return "'vendor' does nothing in stage=collect. "
    if codec == "droid" and stage in ("convert", "stats", "train"):
        return f"codec=droid cannot be used with stage={stage}: "
    return None


def contract(config):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(contract_table(build(config.codec, config.modality)))
    return console.export_text()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_every_stage_composes_or_refuses(vendor, codec):
    """Valid: the contract names every column. Invalid: one sentence, before anything runs."""
    stages = STAGES if codec in VALID[vendor] else ONE_OF_EACH_KIND
    for stage in stages:
        expected = refusal(stage, vendor, codec)
        if expected is None:
            config = compose(stage, vendor, codec)
            printed = contract(config)
            assert all(column in printed for column in config.modality.columns)
        else:
            with pytest.raises(PositronicError) as refused:
                compose(stage, vendor, codec)
            assert str(refused.value).startswith(expected)


def test_droid_is_refused_with_the_vendor_that_has_it():
    """The sentence lists what gr00t can do, and where droid works."""
    with pytest.raises(PositronicError) as refused:
        compose("convert", "gr00t", "droid")
    assert all(codec in str(refused.value) for codec in VALID["gr00t"])
    assert "works with vendor=openpi" in str(refused.value)


def test_relative_codecs_share_their_data():
    """A dataset baked with ee_rot6d is one of ee_rot6d_rel, by features and conventions."""
    for name in ("ee_rot6d", "ee_rot6d_joints"):
        absolute, relative = (compose("convert", "gr00t", codec) for codec in (name, f"{name}_rel"))
        assert build(absolute.codec, absolute.modality).contract == build(relative.codec, relative.modality).contract
        assert relative.modality.relative_actions
        assert not absolute.modality.relative_actions


SIZES = {  # state and action numbers, as the vendors' tables have them
    ("lerobot", "ee"): ({"observation.state": 8}, 8),
    ("lerobot", "joints"): ({"observation.state": 8}, 8),
    ("gr00t", "ee_quat"): ({"ee_pose": 7, "grip": 1}, 8),
    ("gr00t", "ee_rot6d_joints"): ({"ee_pose": 9, "grip": 1, "joint_position": 7}, 10),
    ("gr00t", "joints_traj"): ({"grip": 1, "joint_position": 7}, 8),
    ("openpi", "ee"): ({"observation.state": 8}, 8),
    ("openpi", "ee_joints_traj"): ({"observation.state": 15}, 8),
    ("openpi", "droid"): ({"observation/joint_position": 7, "observation/gripper_position": 1}, 8),
}


@pytest.mark.parametrize(("pair", "sizes"), SIZES.items(), ids=str)
def test_columns_have_the_sizes_that_the_vendor_expects(pair, sizes):
    """State and action columns, in numbers."""
    config = compose("infer", *pair)
    modality = build(config.codec, config.modality).modality
    state = {c.name: c.shape[0] for c in modality.observation_columns if not c.is_image}
    assert (state, modality.action_column.shape[0]) == sizes
