"""A policy for two arms behind a real server: each arm has keys of its own on the wire."""

from dataclasses import replace

import numpy as np
import pytest
from toy_server import make_checkpoint, running
from toy_vendor import CHUNK
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import InferenceError
from positronic.codecs.build import build
from positronic.codecs.config import CodecConfig, ModalityConfig
from positronic.commands import JointPosition
from positronic.embodiments.embodiment import Arm, Embodiment
from positronic.utils.serialization import deserialise, serialise

SIX = Arm("left", ("a", "b", "c", "d", "e", "f"), ee_frame=None)
PAIR = Embodiment("pair", (SIX, replace(SIX, name="right", gripper=None)), {"top": "exterior"})
STATE = ["state.left.joint_position", "state.left.grip", "state.right.joint_position"]
COLUMNS = {
    "observation.state": STATE,
    "observation.images.top": ["image.top"],
    "action": [name.replace("state", "action") for name in STATE],
}


def observation(**changes):
    return {
        "robot_state.left.q": np.arange(6) / 10,
        "robot_state.right.q": -np.arange(6) / 10,
        "grip.left": 0.75,
        "image.top": np.zeros((24, 32, 3), np.uint8),
    } | changes


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A server of a checkpoint that answers each arm with where it is; the right one has no gripper."""
    codec = CodecConfig(name="joints_cmd", state=["joint_position", "grip"], action="joint_position")
    folder = tmp_path_factory.mktemp("pair") / "toy_run"
    recipe = build(codec, ModalityConfig([32, 32], COLUMNS), embodiment=PAIR)
    make_checkpoint(folder, 10, recipe, echo=True)
    with running(folder) as (port, _):
        yield port


def test_each_arm_is_answered_under_its_own_keys(port):
    """As it travels: one command an arm, and a gripper's target where there is a gripper."""
    with connect(f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}") as websocket:
        while deserialise(websocket.recv(timeout=60))[keys.STATUS] != keys.STATUS_READY:
            pass
        websocket.send(serialise(observation()))
        steps = deserialise(websocket.recv(timeout=60))[keys.RESULT]
    assert len(steps) == CHUNK
    assert set(steps[0]) == {"robot_command.left", "target_grip.left", "robot_command.right", "timestamp"}
    left, right = steps[0]["robot_command.left"], steps[0]["robot_command.right"]
    assert (left["type"], steps[0]["target_grip.left"]) == ("joint_pos", 0.75)
    np.testing.assert_allclose(left["positions"], np.arange(6) / 10, atol=1e-6)
    np.testing.assert_allclose(right["positions"], -np.arange(6) / 10, atol=1e-6)


def test_the_client_reads_steps_of_two_arms(port):
    """And the session says which robot it is for, joint by joint."""
    with InferenceClient("127.0.0.1", port).session() as session:
        rows = session.meta[keys.META_ROBOT]
        step = session.infer(observation())[-1]
    assert rows["arm right: joints"] == "6: a, b, c, d, e, f"
    assert (rows["arm left: gripper"], rows["arm right: gripper"]) == ("0=open 1=closed", "none")
    assert Embodiment.from_dict(session.meta[keys.META_EMBODIMENT]) == PAIR
    assert [(arm, action.target_grip) for arm, action in step.arms.items()] == [("left", 0.75), ("right", None)]
    assert all(isinstance(action.command, JointPosition) for action in step.arms.values())
    assert step.timestamp == pytest.approx((CHUNK - 1) / 15)


def test_an_observation_without_one_arm_is_refused_by_its_key(port):
    """The session goes on."""
    whole = observation()
    with InferenceClient("127.0.0.1", port).session() as session:
        with pytest.raises(InferenceError, match=r"lacks 'robot_state.right.q'"):
            session.infer({name: value for name, value in whole.items() if name != "robot_state.right.q"})
        assert len(session.infer(whole)) == CHUNK
