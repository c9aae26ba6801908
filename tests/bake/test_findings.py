"""What looks wrong in a recording is said when it is converted."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from positronic import keys
from positronic.bake.convert import BakeOptions, bake
from positronic.bake.findings import Breach, Breaches, breaches, opposed_signs
from positronic.codecs.build import build
from positronic.embodiments.published import FRANKA
from positronic.raw.dataset import open_dataset
from positronic.raw.writer import DatasetWriter

T = 40


def samples(**changes):
    """An arm that moves by half a radian and a decimetre; its command runs a little ahead."""
    angle = np.linspace(0, 0.5, T)
    quats = np.stack([np.cos(angle / 2), 0 * angle, np.sin(angle / 2), 0 * angle], axis=1)
    pose = np.column_stack([0.4 + 0.2 * angle, 0 * angle, 0.3 + 0 * angle, quats])
    found = {keys.EE_POSE: pose, keys.COMMAND_POSE: pose + np.eye(7)[0] * 0.01}
    return found | {keys.GRIP: angle, keys.TARGET_GRIP: angle} | changes


def scalar_last(pose):
    return pose[:, [0, 1, 2, 4, 5, 6, 3]]


def seen(recipe, **changes):
    found = Breaches()
    found.add(0, breaches(recipe("ee").codec, samples(**changes)))
    return found.lines(T)


def test_a_sound_recording_has_nothing_to_say(recipe):
    """Nor has one whose sign changes."""
    assert seen(recipe) == []
    assert seen(recipe, **{keys.EE_POSE: samples()[keys.EE_POSE] * [1, 1, 1, -1, -1, -1, -1]}) == []


@pytest.mark.parametrize(
    ("signal", "change", "says"),
    [
        (keys.GRIP, lambda v: 100 * v, "grip: gripper at 50, expected 0 (open) to 1 (closed) (in 39 of 40 frames"),
        (keys.TARGET_GRIP, lambda v: 255 * v, "target_grip: gripper at 127.5, expected 0"),
        (keys.EE_POSE, lambda v: v * [1000, 1000, 1000, 1, 1, 1, 1], "583.1 m from the base, expected at most 3"),
        (keys.COMMAND_POSE, lambda v: v * 1e30, "e+29 m from the base"),
        (keys.EE_POSE, lambda v: v * [1, 1, 1, 2, 2, 2, 2], "robot_state.ee_pose: quaternion of norm 2, expected 1"),
        (keys.COMMAND_POSE, scalar_last, "degrees apart, expected one frame and one order of the quaternion (in 40 of"),
        (keys.EE_POSE, lambda v: v + np.eye(7)[0] * 0.9, "0.89 m apart, expected one frame and one unit"),
    ],
)
def test_other_units_and_layouts_are_named_with_the_worst_number(recipe, signal, change, says):
    """With how often, and where first."""
    found = seen(recipe, **{signal: change(samples()[signal])})
    assert any(says in line for line in found), found
    assert all("first in episode 0, frame" in line for line in found)


def test_joints_in_degrees_are_named(recipe):
    """A codec with joints."""
    joints = np.tile(np.linspace(0, 90, T)[:, None], (1, 7))
    (found,) = breaches(recipe("joints").codec, samples(**{keys.JOINT_POSITION: joints}))
    assert found.says.format(found.worst).startswith("joint at 90, expected at most 2 pi")


def test_a_command_that_runs_ahead_now_and_then_is_none(recipe):
    """Only one that is far away throughout is in another frame."""
    pose = samples()[keys.COMMAND_POSE]
    pose[5:20, 0] += 0.6
    assert seen(recipe, **{keys.COMMAND_POSE: pose}) == []


def test_commands_of_the_other_sign_are_named(recipe):
    """Openpi's relative actions would be large where nothing moves."""
    signs = {keys.EE_POSE: [0.0, 1.0, 0.0, 0.0], keys.COMMAND_POSE: [0.0, -1.0, 0.0, 0.1]}
    (found,) = opposed_signs(recipe().with_reference_rotations(signs))
    assert found.startswith("robot_commands.pose: its rotations have the other sign than those of robot_state.ee_pose")
    assert (
        opposed_signs(recipe()) == opposed_signs(recipe().with_reference_rotations({keys.EE_POSE: [1, 0, 0, 0]})) == []
    )
    assert opposed_signs(recipe().with_reference_rotations(signs | {keys.COMMAND_POSE: signs[keys.EE_POSE]})) == []


def test_several_episodes_are_told_of_together():
    """The worst of all, the first of all, and how many."""
    found = Breaches()
    found.add(2, [Breach("grip", "gripper at {:.4g}", 3, 7, 2.0, 1.0)])
    found.add(5, [Breach("grip", "gripper at {:.4g}", 4, 0, 9.0, 8.0)])
    assert found.lines(100) == ["grip: gripper at 9 (in 7 of 100 frames, first in episode 2, frame 7)"]


def test_the_table_of_a_bake_says_it(tmp_path, recipe):
    """Beside what hardly moves; the dataset is there all the same."""
    frame, values = np.zeros((32, 32, 3), np.uint8), samples()
    with DatasetWriter(tmp_path / "raw").new_episode() as episode:
        for k in range(T):
            for name, rows in values.items():
                value = 100 * rows[k] if name == keys.GRIP else rows[k]
                episode.append(name, value if np.ndim(value) else float(value), k * 10**9 // 15)
            for camera in (keys.IMAGE_WRIST, keys.IMAGE_EXTERIOR):
                episode.append(camera, frame + 5 * k, k * 10**9 // 15)
    options = BakeOptions("lerobot", num_workers=1)
    report = bake(open_dataset(tmp_path / "raw"), recipe("ee"), tmp_path / "baked", options, {"versions": {}})
    assert any(line.startswith("grip: gripper at") for line in report.findings)
    assert any(
        line.startswith("observation.state: ee_pose.y, ") and "near constant" in line for line in report.findings
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(report)
    assert "findings on the numbers" in console.file.getvalue()
    assert "gripper at" in console.file.getvalue()


def test_each_of_two_arms_is_compared_with_its_own_command(recipe):
    """The right arm's commands are in another frame; the left one's are not."""
    arms = tuple(replace(FRANKA.arms[0], name=name) for name in ("left", "right"))
    base = recipe("ee")
    codec = build(base.codec_config, base.modality_config, embodiment=replace(FRANKA, arms=arms)).codec
    recorded = {keys.of_arm(name, arm.name): value for arm in arms for name, value in samples().items()}
    recorded["robot_commands.right.pose"] = scalar_last(recorded["robot_commands.right.pose"])
    found = Breaches()
    found.add(0, breaches(codec, recorded))
    (line,) = found.lines(T)
    assert line.startswith("robot_commands.right.pose beside robot_state.right.ee_pose: 1")
