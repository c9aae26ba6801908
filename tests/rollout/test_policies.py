"""Who decides, and whether that fits the robot."""

import weakref
from typing import ClassVar

import numpy as np
import pytest

from positronic import conventions, keys
from positronic.client.session import ConnectionLost
from positronic.commands import ActionStep, CartesianPosition, JointDelta, JointPosition, Reset
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
    """Another robot cannot tell where the cubes are."""
    with pytest.raises(PositronicError, match="'point'.*hardware=sim"):
        open_policy(ScriptedPolicyConfig("scripted"), point_robot)


def test_a_config_without_a_policy_is_named(point_robot):
    """The base config stands for nobody."""
    with pytest.raises(PositronicError, match="PolicyConfig"):
        open_policy(PolicyConfig("?"), point_robot)
