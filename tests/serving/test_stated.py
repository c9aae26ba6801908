"""What a client states of its robot, before a session opens."""

import json

import pytest
from toy_server import make_checkpoint, make_recipe, observation, running

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import SessionRefused
from positronic.commands import CartesianPosition, JointPosition
from positronic.conventions import MEASURED
from positronic.embodiments.published import FRANKA
from positronic.errors import PositronicError
from positronic.hardware.robot import RobotContract
from positronic.rollout.remote import stated
from positronic.serving.stated import read_stated, require_fit

ROBOT = RobotContract(
    "arm",
    {keys.EE_POSE: (7,), keys.GRIP: ()},
    frozenset({CartesianPosition.kind}),
    {keys.EE_POSE: str(MEASURED[keys.EE_POSE])},
    embodiment=FRANKA,
)


def travelled(**changes):
    return read_stated(json.dumps(stated(ROBOT) | changes))


def test_the_rollouts_statement_of_a_robot_that_fits_passes():
    """So does one that says less, and one that says more than the codec reads."""
    recipe = make_recipe()
    require_fit("000010", recipe, travelled())
    require_fit("000010", recipe, travelled(conventions={"robot_state.unheard_of": "of another kind"}))
    for header in (None, "{}"):
        require_fit("000010", recipe, read_stated(header))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"robot": FRANKA.contract() | {"arm: gripper": "none"}},
            "arm: gripper: the checkpoint has 0=open 1=closed, the",
        ),
        ({"robot": {}}, "arm: pose: the checkpoint has .*, the robot none"),
        ({"conventions": {keys.EE_POSE: "euler"}}, f"'{keys.EE_POSE}': the checkpoint reads .*, the robot means euler"),
        ({"commands": [JointPosition.kind]}, "commands cartesian_pos, the robot takes joint_pos"),
    ],
)
def test_a_contradiction_is_one_sentence_with_both_sides(changes, says):
    """Whatever is stated."""
    with pytest.raises(PositronicError, match=f"^Checkpoint 000010 does not fit the robot that.*{says}") as refused:
        require_fit("000010", make_recipe(), travelled(**changes))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("header", ["", "no JSON", "[" * 60_000, "[]", '{"robot": []}', '{"conventions": {"a": 1}}'])
def test_what_states_nothing_that_can_be_read_is_refused(header):
    """With what was expected, and not all of what was found."""
    with pytest.raises(PositronicError, match="Header Positronic-Robot: expected JSON") as refused:
        read_stated(header)
    assert len(str(refused.value)) < 600


def test_a_server_refuses_before_it_loads_and_serves_who_states_nothing(tmp_path):
    """The checkpoint of another robot is not loaded for it."""
    make_checkpoint(tmp_path / "run", 10, fault="This must not be loaded.")
    make_checkpoint(tmp_path / "run", 20)
    with running(tmp_path / "run") as (port, _):
        wrong = InferenceClient("127.0.0.1", port, robot=stated(ROBOT) | {"commands": ["joint_pos"]})
        with pytest.raises(SessionRefused, match="Checkpoint 000010 does not fit the robot that this client states"):
            wrong.session(10)
        for robot in (None, stated(ROBOT)):
            with InferenceClient("127.0.0.1", port, robot=robot).session() as session:
                assert session.infer(observation())
