"""Which chunks a robot plays: motions of every kind of command, for every arm, from where it is."""

import numpy as np
import pytest

from positronic import keys
from positronic.codecs.limits import JOINT_STEP_RAD
from positronic.commands import ActionStep, ArmAction, CartesianPosition, JointDelta, JointPosition, Reset
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.embodiments.published import FRANKA
from positronic.errors import ConventionError
from positronic.hardware.robot import RobotContract
from positronic.rollout.check import UnsafeChunk
from positronic.rollout.config import DriverConfig
from positronic.rollout.safety import ChunkCheck

FPS = 15
HOME = np.array([0.0, -0.8, 0.0, -2.4, 0.0, 1.6, 0.8])
KINDS = frozenset(kind.kind for kind in (CartesianPosition, JointPosition, JointDelta, Reset))


def contract(embodiment=FRANKA, **values):
    return RobotContract(
        "arm", {keys.JOINT_POSITION: (7,), keys.EE_POSE: (7,)}, KINDS, {}, embodiment=embodiment, **values
    )


def check(robot=None, **driver):
    return ChunkCheck(robot or contract(), DriverConfig("timed", **driver), 1 / FPS)


def chunk(*commands):
    return [ActionStep.of_one(command, 0.0, k / FPS) for k, command in enumerate(commands)]


def joints(*seventh):
    """Home, but for the last joint."""
    return chunk(*(JointPosition(np.append(HOME[:6], angle)) for angle in seventh))


def poses(*angles_deg):
    """One place, turned about x."""
    half = np.radians(angles_deg) / 2
    return chunk(*(CartesianPosition(np.array([0.4, 0, 0.3, np.cos(a), np.sin(a), 0, 0])) for a in half))


HERE = {keys.JOINT_POSITION: HOME, keys.EE_POSE: poses(180)[0].command.pose}
MOST = 1.5 * 2.61 / FPS  # rad of a Franka's last joint in one step: half as fast again as it turns

FAST = {
    "jump of a joint": (joints(0.8 - 0.9), "Step 0 of 1.*joint 'joint7' jumps by 0.9 rad.*driver.max_joint_jump"),
    "speed of a joint": (
        joints(0.8, 0.8 + 1.02 * MOST),
        r"Step 1 of 2.*'joint7' moves at 3.99 rad/s.*at most 3.92 rad/s",
    ),
    "acceleration": (joints(0.8, 1.04, 0.8), r"Step 2 of 3.*'joint7' accelerates by 108 rad/s²"),
    "turned at once": (poses(130), "the tool's rotation jumps by 0.873 rad.*driver.max_turn_jump"),
    "turned too fast": (poses(180, 200), "Step 1 of 2.*the tool's rotation moves at 5.24 rad/s.*driver.max_turn_speed"),
    "delta": (chunk(JointDelta(np.full(7, 0.25))), "Step 0 of 1.*'joint1' moves at 3.75 rad/s, expected at most 3.26"),
}


@pytest.mark.parametrize("what", FAST)
def test_a_motion_beyond_a_limit_is_refused_by_step_part_and_key(what):
    """Whatever kind of command it comes as; what the embodiment states of its joints counts."""
    fast, says = FAST[what]
    with pytest.raises(UnsafeChunk, match=says):
        check().admit(fast, HERE)


def test_what_robots_in_the_field_are_told_is_admitted():
    """DROID's largest joint steps, a chunk that goes back to the start, and an empty one."""
    for steps in (chunk(JointDelta(np.full(7, 0.2))), chunk(JointPosition(HOME), Reset()), chunk(Reset()), []):
        assert check().admit(steps, HERE).chunk is steps


def test_what_is_not_measured_is_no_jump():
    """A robot whose recordings hold no poses."""
    check().admit(poses(0), {})


def test_a_typed_speed_counts_instead_of_the_embodiments():
    """More or less; where nobody states one, 2 pi rad/s."""
    step = joints(0.8, 0.8 + 1.02 * MOST)
    check(max_joint_speed=4.0).admit(step, HERE)
    check(contract(None)).admit(step, HERE)
    with pytest.raises(UnsafeChunk, match="joint 6 moves at 7.5 rad/s, expected at most 6.28 rad/s"):
        check(contract(None)).admit(joints(0.8, 1.3), HERE)


def test_null_allows_any():
    """Each limit can be taken away."""
    wild = joints(2.8, -2.8, 2.8)
    check(max_joint_jump=None, max_joint_speed=1e3, max_joint_acceleration=None).admit(wild, HERE)


def test_a_recording_is_compared_with_any_motion():
    """Nothing moves there, and a policy that is far off is what one looks for."""
    check(contract(moves=False)).admit(joints(-2.8, 2.8), HERE)
    with pytest.raises(UnsafeChunk, match="joint 'joint7' at 3.2 rad"):
        check(contract(moves=False)).admit(joints(3.2), HERE)


def test_clamping_keeps_joints_and_motions_within_limits_and_counts_steps():
    """Joints stay within 0.1 rad of what the robot states, as without clamping."""
    found = check(on_unsafe_chunk="clamp").admit(joints(0.8, 0.8 + 2 * MOST, 0.8 + MOST), HERE)
    np.testing.assert_allclose([step.command.positions[6] for step in found.chunk], 0.8 + np.array([0, MOST, MOST]))
    assert len(found.clamped) == 1
    beyond = check(on_unsafe_chunk="clamp", max_joint_jump=None).admit(joints(3.2), HERE)
    assert beyond.chunk[0].command.positions[6] == pytest.approx(2.9973)
    turned = check(on_unsafe_chunk="clamp").admit(poses(180, 200), HERE)
    assert len(turned.clamped) == 1
    np.testing.assert_allclose(turned.chunk[1].command.pose, poses(180, 180 + np.degrees(4 / FPS))[1].command.pose)


def test_clamping_leaves_a_good_chunk_as_it_is():
    """The very same steps."""
    good = joints(0.8, 0.9)
    found = check(on_unsafe_chunk="clamp").admit(good, HERE)
    assert len(found.clamped) == 0
    assert all(new is old for new, old in zip(found.chunk, good, strict=True))


def test_clamping_makes_nothing_of_another_unit():
    """Degrees and millimetres are refused, and so is another number of joints."""
    far = CartesianPosition(np.array([400.0, 0, 300, 0, 1, 0, 0]))
    for command in (JointPosition(np.degrees(HOME)), far, JointDelta(np.full(7, 2 * JOINT_STEP_RAD))):
        with pytest.raises(UnsafeChunk):
            check(on_unsafe_chunk="clamp").admit(chunk(command), HERE)
    with pytest.raises(ConventionError):
        check(on_unsafe_chunk="clamp").admit([ActionStep({"left": ArmAction(JointPosition(HOME), 0.0)})], HERE)


def test_each_of_two_arms_is_checked_from_where_it_is():
    """By its own name, and only the one that is too fast is changed."""
    arms = tuple(Arm(name, ("a", "b"), max_speed=(1.0, 1.0)) for name in ("left", "right"))
    robot = contract(Embodiment("pair", arms))
    told = {name: ArmAction(JointPosition(np.full(2, 1.0)), 0.0) for name in ("left", "right")}
    seen = {
        keys.of_arm(keys.JOINT_POSITION, "left"): np.ones(2),
        keys.of_arm(keys.JOINT_POSITION, "right"): np.zeros(2),
    }
    with pytest.raises(UnsafeChunk, match="arm right: joint 'a' jumps by 1 rad"):
        check(robot).admit([ActionStep(told)], seen)
    (step,) = check(robot, on_unsafe_chunk="clamp").admit([ActionStep(told)], seen).chunk
    assert step.arms["left"] is told["left"]
    np.testing.assert_allclose(step.arms["right"].command.positions, [0.8, 0.8])


def test_a_gripper_of_no_number_is_found_before_anything_is_played():
    """Whatever the driver makes of unsafe chunks, and where nothing moves, too."""
    told = [*joints(0.8), ActionStep.of_one(JointPosition(HOME), float("nan"), 1 / FPS)]
    for way in ("refuse", "stop", "clamp"):
        for robot in (contract(), contract(moves=False)):
            with pytest.raises(UnsafeChunk, match="Step 1 of 2.*gripper at nan, a finite number was expected"):
                check(robot, on_unsafe_chunk=way).admit(told, HERE)


MIXED = {
    "far after joints": (chunk(JointPosition(HOME), poses(180)[0].command), "Step 1 of 2.*cartesian_pos after joint_p"),
    "to and fro": (
        chunk(*[JointPosition(HOME), JointDelta(np.zeros(7))] * 3),
        "Step 1 of 6.*joint_delta after joint_p",
    ),
    "on from a reset": (chunk(Reset(), JointPosition(HOME + 1)), "Step 1 of 2.*the arm is told joint_pos after reset"),
    "two resets": (chunk(JointPosition(HOME), Reset(), Reset()), "Step 1 of 3.*the arm is told reset after joint_pos"),
}


@pytest.mark.parametrize("what", MIXED)
def test_an_arm_is_told_one_kind_of_command_within_a_chunk(what):
    """What lies between two kinds cannot be measured; clamping makes nothing of it either."""
    mixed, says = MIXED[what]
    for way in ("refuse", "clamp"):
        with pytest.raises(UnsafeChunk, match=says):
            check(on_unsafe_chunk=way).admit(mixed, HERE)


def test_the_last_step_may_send_the_arm_back():
    """The motion before it is checked as ever."""
    with pytest.raises(UnsafeChunk, match="'joint7' moves at"):
        check().admit(chunk(*(step.command for step in joints(0.8, 0.8 + 1.02 * MOST)), Reset()), HERE)
    found = check(on_unsafe_chunk="clamp").admit(
        chunk(*(step.command for step in joints(0.8, 0.8 + 2 * MOST)), Reset()), HERE
    )
    assert (len(found.clamped), type(found.chunk[2].command)) == (1, Reset)


def test_two_arms_may_be_told_different_kinds():
    """Each has one of its own."""
    robot = contract(Embodiment("pair", tuple(Arm(name, ("a",)) for name in ("left", "right"))))
    told = [
        ActionStep(
            {"left": ArmAction(JointPosition(np.zeros(1)), 0.0), "right": ArmAction(JointDelta(np.zeros(1)), 0.0)},
            k / FPS,
        )
        for k in range(2)
    ]
    assert check(robot).admit(told, {}).chunk is told


def deltas(count, rad=0.2, step_sec=1 / FPS):
    """Steps of the first joint alone."""
    return [ActionStep.of_one(JointDelta(np.eye(7)[0] * rad), 0.0, k * step_sec) for k in range(count)]


def test_joint_steps_are_as_fast_as_their_timestamps_say():
    """0.2 rad at 15 Hz are DROID's; the same within a millisecond are 200 rad/s."""
    check().admit(deltas(14), HERE)
    with pytest.raises(UnsafeChunk, match="Step 0 of 2.*'joint1' moves at 200 rad/s"):
        check().admit(deltas(2, step_sec=0.001), HERE)


def test_joint_steps_lead_no_joint_beyond_its_limits():
    """Summed from where the joints are measured, 0.1 rad beyond 2.897 at most; clamped, they stop there."""
    with pytest.raises(UnsafeChunk, match="Step 14 of 16.*joint 'joint1' at 3 rad, expected -2.897 to 2.897 rad"):
        check().admit(deltas(16), HERE)
    found = check(on_unsafe_chunk="clamp").admit(deltas(16), HERE)
    assert sum(step.command.velocities[0] for step in found.chunk) == pytest.approx(2.9973)
    assert len(found.clamped) == 2
    check().admit(deltas(16), {})


def test_a_joint_that_is_beyond_its_limits_may_come_back():
    """It may not go further."""
    beyond = {keys.JOINT_POSITION: HOME + np.eye(7)[0] * 3.1}
    check().admit(deltas(2, -0.1), beyond)
    with pytest.raises(UnsafeChunk, match="Step 0 of 1.*'joint1' at 3.2 rad"):
        check().admit(deltas(1, 0.1), beyond)


def test_what_clamping_cannot_bring_within_limits_is_refused():
    """At 50 Hz a joint cannot stop at its limit within one step."""
    fast = deltas(60, 0.06, 0.02)
    with pytest.raises(UnsafeChunk, match="'joint1' accelerates by"):
        check(on_unsafe_chunk="clamp", max_joint_acceleration=20.0).admit(fast, HERE)
