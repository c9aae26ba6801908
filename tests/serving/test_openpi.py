"""openpi's framing: its published client drives our server, and one that says the same by hand where no packages can be
fetched."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from toy_server import make_checkpoint, observation, running
from toy_vendor import CHUNK
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic.client.client import InferenceClient
from positronic.utils.serialization import deserialise, serialise

TOKEN = {"Authorization": "Api-Key secret"}
STATE = np.arange(8) / 10


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A server with a token, of a checkpoint that repeats its state, and of one that answers with its own grip."""
    folder = tmp_path_factory.mktemp("openpi") / "toy_run"
    make_checkpoint(folder, 10, grip=0.25)
    make_checkpoint(folder, 20, echo=True)
    make_checkpoint(folder, 30, fault="The weights are damaged.")
    with running(folder, checkpoint="20", token="secret") as (port, _):
        yield port


def openpi_sends(**changes):
    picture = np.full((24, 32, 3), 100, np.uint8)
    sent = {"observation/image": picture, "observation/wrist_image": picture, "observation/state": STATE}
    return {**sent, "prompt": "stack", **changes}


def dial(port, path="/openpi"):
    return connect(f"ws://127.0.0.1:{port}{path}", additional_headers=TOKEN)


def ask(websocket, value):
    websocket.send(value if isinstance(value, bytes | str) else serialise(value))
    answer = websocket.recv(timeout=60)
    return answer if isinstance(answer, str) else deserialise(answer)


def closing(websocket):
    with pytest.raises(ConnectionClosed) as closed:
        websocket.recv(timeout=60)
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_openpis_published_client_drives_our_server(port, openpi_python):
    """Told a host and a port, or an address; each chunk whole, with its times; an error is its RuntimeError."""
    robot = Path(__file__).with_name("openpi_robot.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [openpi_python, str(robot), str(port)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    for address, checkpoint, grip in (
        ("host and port", "000020", 0.7),
        ("/openpi", "000020", 0.7),
        ("/openpi/10", "000010", 0.25),
    ):
        first, second = heard[address]["answers"]
        assert heard[address]["checkpoint"] == checkpoint
        np.testing.assert_allclose(first["actions"], np.tile([*STATE[:7], grip], (CHUNK, 1)), rtol=1e-6)
        assert first["dtype"] == "float32"
        assert (set(first["server_timing"]), set(first["policy_timing"])) == ({"infer_ms"}, {"infer_ms"})
        assert set(second["server_timing"]) == {"infer_ms", "prev_total_ms"}
    np.testing.assert_allclose(heard["steps"], [[*STATE[:7], 0.25]] * 5, rtol=1e-6)
    kind, said = heard["bad state"]
    assert (kind, "expected 8 numbers" in said) == ("RuntimeError", True)
    assert heard["afterwards"][0] == "ConnectionClosedError"
    assert "No checkpoint '7'" in heard["unknown"][1]
    assert "403" in heard["no key"][1]


@pytest.mark.parametrize("path", ["/", "/openpi", "/openpi/20", "/openpi?checkpoint_id=20"])
def test_the_metadata_come_first_then_one_map_an_observation(port, path):
    """The checkpoint's meta and what the model takes; then all of the chunk, in the model's own numbers."""
    with dial(port, path) as websocket:
        meta = deserialise(websocket.recv(timeout=60))
        assert (meta["checkpoint_id"], meta["actions"]) == ("000020", {"action.ee_pose": 7, "action.grip": 1})
        assert meta["observation"]["observation.state"]["shape"] == [8]
        for _ in range(2):
            answer = ask(websocket, openpi_sends())
            assert set(answer) == {"actions", "server_timing", "policy_timing"}
            np.testing.assert_array_equal(answer["actions"], np.tile(STATE.astype(np.float32), (CHUNK, 1)))
            assert answer["server_timing"]["infer_ms"] >= answer["policy_timing"]["infer_ms"] >= 0


def test_raw_signals_are_answered_in_the_models_numbers(port):
    """Those of our own protocol."""
    with dial(port) as websocket:
        websocket.recv(timeout=60)
        pose = observation()["robot_state.ee_pose"]
        np.testing.assert_allclose(ask(websocket, observation())["actions"][0], [*pose, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (openpi_sends(**{"observation/state": np.zeros(3)}), "expected 8 numbers"),
        ({"prompt": "stack"}, "lacks 'observation.state'"),
        (openpi_sends(prompt="die"), "MemoryError: the toy has no memory"),
        ([1], "found list"),
        (b"\xc1noise", "Not a message of this protocol"),
        (b"", "Not a message of this protocol"),
        ("text", "binary frame"),
    ],
)
def test_an_error_is_a_text_and_the_end(port, frame, says):
    """As of openpi's server: then 1011. Others go on."""
    with dial(port) as websocket, dial(port) as other:
        websocket.recv(timeout=60)
        said = ask(websocket, frame)
        assert isinstance(said, str)
        assert says in said
        assert closing(websocket)[0] == 1011
        other.recv(timeout=60)
        assert "actions" in ask(other, openpi_sends())


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/openpi/7", "No checkpoint '7'"),
        ("/openpi/30", "Checkpoint 000030 cannot be loaded: The weights are damaged."),
        ("/openpi?seed=3", "Expected checkpoint_id=<id>"),
    ],
)
def test_a_session_that_cannot_be_had_is_closed_with_the_reason(port, path, says):
    """Before any frame, since the client takes the first one for the metadata."""
    with dial(port, path) as websocket:
        code, reason = closing(websocket)
    assert (code, says in reason) == (1008, True)


def test_both_protocols_are_answered_side_by_side(port):
    """From one checkpoint, each in its own words."""
    with dial(port) as websocket, InferenceClient("127.0.0.1", port, token="secret").session() as session:
        websocket.recv(timeout=60)
        for _ in range(5):
            websocket.send(serialise(openpi_sends()))
            steps = session.infer(observation(grip=0.25))
            actions = deserialise(websocket.recv(timeout=60))["actions"]
            assert ([step.target_grip for step in steps], actions.shape) == ([0.25] * CHUNK, (CHUNK, 8))
