"""Who decides, and whether that fits the robot."""

import re
import weakref
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from positronic import conventions, keys
from positronic.client.session import ConnectionLost
from positronic.commands import ActionStep, ArmAction, CartesianPosition, JointDelta, JointPosition, Reset
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.embodiments.published import FRANKA
from positronic.errors import ConventionError, PositronicError
from positronic.hardware.robot import RobotContract
from positronic.rollout.check import check_chunk, check_policy
from positronic.rollout.config import LocalPolicyConfig, PolicyConfig, RemotePolicyConfig, ScriptedPolicyConfig
from positronic.rollout.policies import open_policy

ARM = RobotContract(
    "arm",
    {keys.EE_POSE: (7,), keys.GRIP: (), keys.IMAGE_WRIST: (64, 64, 3)},
    frozenset({CartesianPosition.kind}),
    {keys.EE_POSE: str(conventions.pose("quat_wxyz")), keys.GRIP: str(conventions.gripper())},
)


def needing(*features):
    return {keys.META_EXPERIMENT: "stacker", keys.META_CONVENTIONS: dict.fromkeys(features, "as it may be")}


def remote(server):
    return RemotePolicyConfig("remote", port=server.port, connect_timeout_sec=0.1)


def test_a_policy_that_fits_passes():
    """Measured parts, a camera and a command that the arm has; a policy that says nothing is not refused yet."""
    check_policy(needing("state.ee_pose", "state.grip", "image.wrist", "action.ee_pose", "action.grip"), ARM)
    check_policy({}, ARM)


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ("image.left", "it needs 'image.left'.*image.wrist"),
        ("state.joint_position", "it needs 'robot_state.q'"),
        ("action.joint_position", "it commands 'joint_pos', the robot takes cartesian_pos"),
    ],
)
def test_what_the_robot_lacks_is_named(feature, words):
    """The policy, the robot, and the signal or command at fault stand in the message."""
    with pytest.raises(ConventionError, match=f"'stacker' does not fit the robot 'arm'(.|\n)*{words}"):
        check_policy(needing("state.grip", feature), ARM)


def test_a_robot_with_another_convention_is_refused():
    """A gripper that says 1 when it is open would be moved the wrong way."""
    arm = RobotContract("arm", {keys.GRIP: ()}, frozenset(), {keys.GRIP: "gripper 0=closed 1=open"})
    with pytest.raises(ConventionError, match="0=open 1=closed.*the robot means.*1=open"):
        check_policy(needing("state.grip"), arm)


DOWN = np.array([0.4, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0])
SEVEN = RobotContract(
    "seven",
    {keys.JOINT_POSITION: (7,)},
    frozenset({CartesianPosition.kind, JointPosition.kind, JointDelta.kind, Reset.kind}),
    {},
)


@pytest.mark.parametrize(
    ("command", "grip", "says"),
    [
        (CartesianPosition(DOWN + np.eye(7)[0] * 5), 0, r"Step 1 of 2 .*cartesian_pos.*5.* m from the base"),
        (CartesianPosition(DOWN + np.eye(7)[0] * 1e30), 0, r"1e\+30 m from the base"),
        (CartesianPosition(np.append(DOWN[:3], np.zeros(4))), 0, "quaternion of norm 0"),
        (CartesianPosition(DOWN * np.nan), 0, "finite numbers were expected"),
        (CartesianPosition(DOWN[:3]), 0, "7 numbers were expected"),
        (JointPosition(np.full(7, 100.0)), 0, "joint at 100"),
        (JointPosition(np.zeros(6)), 0, r"7 numbers were expected, found shape \(6,\)"),
        (JointDelta(np.full(7, 3.0)), 0, "joint moves by 3"),
        (CartesianPosition(DOWN), 100, "gripper at 100"),
    ],
)
def test_a_chunk_with_an_impossible_step_is_refused_as_a_whole(command, grip, says):
    """Finite or not: which step, which number and what was expected, before the first step is played."""
    good = ActionStep.of_one(CartesianPosition(DOWN), 0.0)
    check_chunk([good, ActionStep.of_one(Reset(), 1.0)], SEVEN)
    with pytest.raises(PositronicError, match=says):
        check_chunk([good, ActionStep.of_one(command, grip, 0.1)], SEVEN)


VIPERX = Arm("left", ("waist", "elbow"), lower=(-3.1, None), upper=(3.1, 1.6), ee_frame=None)
PAIR = Embodiment("pair", (VIPERX, replace(VIPERX, name="right")), {"top": "exterior", "hand": "left_wrist"})
PAIR_ROBOT = RobotContract(
    "pair",
    {
        VIPERX.key(keys.JOINT_POSITION): (2,),
        "robot_state.right.q": (2,),
        "grip.left": (),
        "grip.right": (),
        "image.top": (8, 8, 3),
    },
    frozenset({JointPosition.kind, Reset.kind}),
    {},
    embodiment=PAIR,
    hint="Or rename.",
)


def trained_for(embodiment, *cameras):
    return {keys.META_EXPERIMENT: "stacker", keys.META_ROBOT: embodiment.contract(cameras, with_poses=False)}


def with_left(**changes):
    return replace(PAIR, arms=(replace(VIPERX, **changes), PAIR.arms[1]))


def test_a_policy_for_the_same_robot_passes():
    """Whatever else the robot has: a camera that the policy does not use does not count."""
    check_policy(trained_for(PAIR, "top"), PAIR_ROBOT)
    check_policy(trained_for(PAIR), PAIR_ROBOT)


@pytest.mark.parametrize(
    ("theirs", "rows"),
    [
        (
            with_left(joints=("elbow", "waist")),
            ["arm left: joints: the policy has 2: elbow, waist; the robot has 2: waist, elbow"],
        ),
        (with_left(joints=("a", "b", "c")), ["arm left: joints: the policy has 3: a, b, c; the robot has 2: waist"]),
        (with_left(unit="deg"), ["arm left: unit of the joints: the policy has deg; the robot has rad"]),
        (with_left(gripper=None), ["arm left: gripper: the policy has none; the robot has 0=open 1=closed"]),
        (
            replace(PAIR, cameras={"top": "exterior_2"}),
            ["camera top: the policy has exterior_2; the robot has exterior"],
        ),
        (
            FRANKA,
            ["arm: joints: the policy has 7: .*; the robot has none", "arm left: joints: the policy has none; the"],
        ),
    ],
)
def test_a_policy_for_another_robot_is_refused_by_name(theirs, rows):
    """Order, number, unit, gripper, a camera's role, and arms that the other does not have: both sides are printed."""
    with pytest.raises(ConventionError, match="'stacker' does not fit the robot 'pair'") as refused:
        check_policy(trained_for(theirs, "top"), PAIR_ROBOT)
    assert all(re.search(row, str(refused.value)) for row in rows), str(refused.value)
    assert str(refused.value).endswith("Or rename.")


def test_an_arm_that_is_not_there_is_named_once():
    """By its joints and gripper; the signals that it would have are not listed as well, a camera's is."""
    contract = replace(PAIR_ROBOT, signals={keys.JOINT_POSITION: (7,)}, embodiment=FRANKA)
    meta = trained_for(PAIR) | needing("state.left.joint_position", "image.top")
    with pytest.raises(ConventionError, match="arm left: joints: the policy has 2") as refused:
        check_policy(meta, contract)
    assert "robot_state.left.q" not in str(refused.value)
    assert "it needs 'image.top'" in str(refused.value)


def of_arms(timestamp=0.0, **actions):
    return ActionStep(
        {arm: ArmAction(JointPosition(np.array(joints)), grip) for arm, (joints, grip) in actions.items()}, timestamp
    )


REST = ([0.0, 0.0], 0.5)


def test_a_step_within_the_limits_passes_and_a_little_beyond_them():
    """A servo is pulled 0.1 rad beyond its stop at most; a joint without limits turns as far as others."""
    check_chunk([of_arms(left=REST, right=REST), of_arms(left=([3.19, -4.0], 1.0), right=REST)], PAIR_ROBOT)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (of_arms(left=REST), "Step 1 of 2 .* is for arm left; the robot 'pair' has arm left, arm right"),
        (of_arms(left=REST, right=REST, third=REST), "is for arm left, arm right, arm third; the robot 'pair' has"),
        (ActionStep.of_one(Reset(), 0.0), "is for one arm without a name; the robot 'pair' has arm left, arm right"),
        (
            of_arms(left=REST, right=([0.0, 0.0], None)),
            "arm right: it has no 'target_grip.right', and there is a gripper",
        ),
        (of_arms(left=([0.0, 1.8], 0.5), right=REST), r"arm left: joint 'elbow' at 1.8 rad, expected -inf to 1.6 rad"),
        (of_arms(left=REST, right=([-3.3, 0.0], 0.5)), r"arm right: joint 'waist' at -3.3 rad, expected -3.1 to 3.1"),
        (of_arms(left=REST, right=([0.0] * 3, 0.5)), r"arm right: 2 numbers were expected, found shape \(3,\)"),
    ],
)
def test_a_chunk_that_these_arms_cannot_follow_is_refused_as_a_whole(step, says):
    """An arm too many or too few, a gripper that is told nothing, and a joint beyond its stop, by name and number."""
    with pytest.raises(PositronicError, match=says):
        check_chunk([of_arms(left=REST, right=REST), step], PAIR_ROBOT)


def test_the_simulator_is_the_franka(sim_config):
    """Its contract says so, and refuses a joint that the real arm could not reach either."""
    from positronic.hardware.sim.robot import sim_contract

    contract = sim_contract(sim_config)
    check_policy(trained_for(FRANKA, "wrist", "exterior"), contract)
    stretched = JointPosition(np.array([0.0, 0.0, 0.0, 0.2, 0.0, 1.5, 0.0]))
    with pytest.raises(PositronicError, match="joint 'joint4' at 0.2 rad, expected -3.072 to -0.0698 rad"):
        check_chunk([ActionStep.of_one(stretched, 0.0)], contract)


def test_a_closed_local_policy_holds_no_model(monkeypatch, point_robot):
    """Its memory is free for the processes that open their own."""

    class Model:
        meta: ClassVar[dict] = {}

    models = [Model()]
    gone = weakref.ref(models[0])
    monkeypatch.setattr("positronic.serving.policy.load_policy", lambda *_: models.pop())
    policy = open_policy(LocalPolicyConfig("local", checkpoints_dir="there"), point_robot)
    policy.close()
    policy.close()
    assert gone() is None
    with pytest.raises(PositronicError, match="closed"):
        policy.infer({})


def test_each_episode_has_a_session_of_its_own(point_robot, approach, serving):
    """The session opened to look at the policy serves the first episode; the next episode opens another."""
    server = serving(approach())
    policy = open_policy(remote(server), point_robot)
    for _ in range(2):
        policy.reset()
        policy.infer(point_robot.observe())
    policy.close()
    assert server.sessions == 2


def test_chunks_come_over_the_wire_as_they_were(point_robot, approach, serving):
    """A remote policy answers what the policy behind the server would."""
    expected = approach().infer(point_robot.observe())
    policy = open_policy(remote(serving(approach())), point_robot)
    policy.reset()
    found = policy.infer(point_robot.observe())
    policy.close()
    assert [step.timestamp for step in found] == [step.timestamp for step in expected]
    np.testing.assert_allclose([step.command.pose for step in found], [step.command.pose for step in expected])


def test_a_server_that_does_not_fit_is_refused_when_it_is_opened(point_robot, approach, serving):
    """Nothing has been asked, nothing has moved, and the session is closed."""
    policy = approach()
    policy.meta = needing("image.wrist")
    server = serving(policy)
    with pytest.raises(ConventionError, match="image.wrist"):
        open_policy(remote(server), point_robot)
    assert policy.seen == []


def test_no_server_says_where_it_was_looked_for(point_robot, approach, serving):
    """Host, port, and what to type."""
    server = serving(approach())
    server.close()
    with pytest.raises(ConnectionLost, match=rf"127\.0\.0\.1:{server.port}(.|\n)*stage=serve"):
        open_policy(remote(server), point_robot)


def test_the_expert_needs_the_simulator(point_robot):
    """Another robot cannot tell where everything is."""
    with pytest.raises(PositronicError, match="'point'.*hardware=sim"):
        open_policy(ScriptedPolicyConfig("scripted"), point_robot)


def test_a_config_without_a_policy_is_named(point_robot):
    """The base config stands for nobody."""
    with pytest.raises(PositronicError, match="PolicyConfig"):
        open_policy(PolicyConfig("?"), point_robot)
