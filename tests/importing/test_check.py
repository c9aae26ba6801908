"""What is wrong with a mapping is one sentence each, with what to type."""

from dataclasses import replace

import pytest

from positronic.errors import PositronicError
from positronic.importing.check import problems, require_sound
from positronic.importing.hdf5 import Hdf5Source
from positronic.importing.mapping import OPEN, SignalMapping
from positronic.importing.propose import propose

Q, GRIP, HIGH = "robot_state.left.q", "grip.left", "image.cam_high"


@pytest.fixture
def world(teleoperated, robot):
    """``(mapping, fields, embodiment)`` of ALOHA that can be used."""
    fields = Hdf5Source(teleoperated()).fields()
    return propose("hdf5", fields, robot("aloha"), has_task=False).agreed(), fields, robot("aloha")


def changed(mapping, key, **values):
    return replace(mapping, signals={**mapping.signals, key: replace(mapping.signals[key], **values)})


def without(mapping, *keys):
    return replace(mapping, signals={key: value for key, value in mapping.signals.items() if key not in keys})


def test_a_mapping_that_somebody_agreed_to_has_no_fault(world):
    """Nothing to say."""
    assert problems(*world) == []


JOINTS = ("left_waist", "left_shoulder", "left_elbow", "left_forearm_roll", "left_wrist_angle")
FAULTS = {
    "a field that is not there": (
        lambda m: changed(m, Q, fields=("observations/qpo",)),
        "robot_state.left.q: the recording has no field 'observations/qpo'. Did you mean 'observations/qpos'?",
    ),
    "a number that is not there": (
        lambda m: changed(m, Q, dims=(*JOINTS, "left_wrist_rotat")),
        "there is no number 'left_wrist_rotat'. Did you mean 'left_wrist_rotate'? There are 14, named",
    ),
    "a place that is not there": (lambda m: changed(m, GRIP, dims=(14,)), "grip.left: there is no number '14'."),
    "too few joints": (
        lambda m: changed(m, Q, dims=JOINTS),
        "robot_state.left.q: 5 numbers, expected 6, the joints waist, shoulder, elbow, forearm_roll, wrist_angle, "
        "wrist_rotate. Type which: 'dims:",
    ),
    "a joint twice": (
        lambda m: changed(m, Q, dims=(*JOINTS, "left_waist")),
        "number 0 of 'observations/qpos' is there twice.",
    ),
    "a unit that is open": (
        lambda m: changed(m, Q, unit=OPEN),
        "unit is ???: nobody has decided it. Type 'unit: rad|degrees|m100_100'.",
    ),
    "a unit that is not said": (lambda m: changed(m, Q, unit=None), "it does not say its unit. Type 'unit: rad|"),
    "a unit of lengths": (lambda m: changed(m, Q, unit="mm"), "unit: mm; expected one of rad, degrees, m100_100."),
    "an order that is open": (lambda m: changed(m, Q, dims=(OPEN,)), "dims is ???: nobody has decided it."),
    "a gripper that says one thing": (
        lambda m: changed(m, GRIP, open=1.0, closed=1.0),
        "grip.left: open and closed are both 1.",
    ),
    "a gripper in another unit": (
        lambda m: changed(m, GRIP, open=0.1, closed=0.0),
        "grip.left: the recording goes from 0 to 1, far outside of open: 0.1 and closed: 0.",
    ),
    "a convention of something else": (
        lambda m: changed(m, GRIP, rotation="rotvec"),
        "grip.left: 'rotation' says nothing about a gripper signal. Take it out.",
    ),
    "one number for two signals": (
        lambda m: changed(m, GRIP, dims=("right_gripper",)),
        "grip.left and grip.right: both are mapped to the same of 'observations/qpos'.",
    ),
    "one picture for two cameras": (
        lambda m: changed(m, HIGH, fields=("observations/images/cam_left_wrist",)),
        "both are mapped to the same of 'observations/images/cam_left_wrist'",
    ),
    "a camera that the robot has not": (
        lambda m: replace(m, signals={**without(m, HIGH).signals, "image.cam_hi": m.signals[HIGH]}),
        "embodiment=aloha has no camera 'cam_hi', only cam_high, cam_left_wrist, cam_right_wrist. Did you mean "
        "'cam_high'? Another one is added with 'embodiment.cameras={cam_hi: <role>}'.",
    ),
    "a key without its arm": (
        lambda m: replace(m, signals={**without(m, Q).signals, "robot_state.q": m.signals[Q]}),
        "robot_state.q: embodiment=aloha has left, right. Type robot_state.left.q.",
    ),
    "a key that nobody knows": (
        lambda m: replace(m, signals={**without(m, Q).signals, "robot_stat.left.q": m.signals[Q]}),
        "robot_stat.left.q: embodiment=aloha has no such raw signal. Did you mean 'robot_state.left.q'?",
    ),
    "pictures for numbers": (
        lambda m: changed(m, GRIP, fields=("observations/images/cam_high",), dims=None),
        "grip.left: expected numbers, 'observations/images/cam_high' holds image.",
    ),
    "a field that nothing is said of": (
        lambda m: without(m, HIGH),
        "left_out: nothing is said of observations/images/cam_high. Add it there, or to a signal.",
    ),
    "a field that is left out and imported": (
        lambda m: replace(m, left_out=("action",)),
        "left_out: 'action' is imported above.",
    ),
    "another robot": (
        lambda m: replace(m, embodiment="so101"),
        "embodiment: so101, but embodiment=aloha is chosen. Type embodiment=so101, or change the mapping.",
    ),
    "a rate that is open": (lambda m: replace(m, fps=OPEN), "fps: ???: nobody has decided it."),
    "a task from numbers": (lambda m: replace(m, task_from="action"), "task_from: 'action' holds vectors, no text."),
    "no signals": (lambda m: replace(m, signals={}), "signals: none. Type for each e.g. 'robot_state.left.q: {from:"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_a_sentence_with_what_to_type(world, change, message):
    """Each kind of slip."""
    mapping, fields, embodiment = world
    assert any(message in sentence for sentence in problems(change(mapping), fields, embodiment))


def test_a_pose_needs_its_frame_to_be_seven_numbers(world):
    """[x, y, z, qw, qx, qy, qz]."""
    mapping, fields, embodiment = world
    pose = SignalMapping(("action",), (0, 1, 2, 3, 4, 5, 7), "m", "quat_wxyz", base=(1.0, 0.0))
    found = problems(replace(mapping, signals={"robot_commands.left.pose": pose}), fields, embodiment)
    assert "robot_commands.left.pose: base has 2 numbers; expected 7: [x, y, z, qw, qx, qy, qz]." in found


def test_all_faults_come_at_once(world):
    """So that a file is edited once."""
    mapping, fields, embodiment = world
    wrong = changed(changed(mapping, Q, unit=None), GRIP, open=None)
    with pytest.raises(PositronicError, match=r"(?s)mapping file.yaml cannot be used:\n.*its unit.*\n.*its open"):
        require_sound(wrong, fields, embodiment, "file.yaml")
