"""The protocol, against one real server for the whole module."""

import io
import json
import os
import re
import threading
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import msgpack
import numpy as np
import pytest
from PIL import Image
from toy_server import dial, make_checkpoint, observation, running
from toy_vendor import CHUNK
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import InferenceError, SessionRefused
from positronic.utils.serialization import deserialise, serialise

EXAMPLE = """
from websockets.sync.client import connect
from positronic.utils.serialization import serialise, deserialise

# Connect to server
ws = connect('ws://localhost:8000/api/v1/session')

# Receive metadata
metadata = deserialise(ws.recv())
print(f"Connected to checkpoint: {metadata['meta']['checkpoint_id']}")

# Send observation and receive action
observation = {
    'robot_state.ee_pose': [0.1, 0.2, 0.3, 0, 0, 0, 1],
    'grip': [0.5],
    'image.wrist': wrist_image,
    'image.exterior': exterior_image,
}
ws.send(serialise(observation))
response = deserialise(ws.recv())
action = response['result']
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Two sound checkpoints, one that cannot be loaded, four more; loading 10, 40 and 50 waits for a word in a fifo."""
    folder = tmp_path_factory.mktemp("serving") / "toy_run"
    fifos = {step: str(folder.parent / f"go{step}") for step in (10, 40, 50)}
    for fifo in fifos.values():
        os.mkfifo(fifo)
    make_checkpoint(folder, 10, grip=0.1, fifo=fifos[10])
    make_checkpoint(folder, 20, grip=0.2)
    make_checkpoint(folder, 30, fault="The weights are damaged.")
    make_checkpoint(folder, 40, fifo=fifos[40])
    make_checkpoint(folder, 50, fifo=fifos[50])
    make_checkpoint(folder, 60, grip=0.6)  # asked for once each
    make_checkpoint(folder, 70, grip=0.7)
    return folder


def let_go(experiment, step):
    """Let a checkpoint be loaded, now and ever after."""
    fifo = experiment.parent / f"go{step}"
    fifo.write_text("go")
    fifo.unlink()


@pytest.fixture(scope="module")
def opening(experiment):
    """A server whose default is still loading: its port, and the frames of its first session until ready."""
    with running(experiment, checkpoint="10") as (port, _):
        with dial(port) as websocket:
            frames = [receive(websocket)]
            let_go(experiment, 10)
            while frames[-1]["status"] != "ready":
                frames.append(receive(websocket))
        yield port, frames


@pytest.fixture
def port(opening):
    return opening[0]


def receive(websocket):
    return deserialise(websocket.recv(timeout=60))


def first_ready(websocket):
    """Status frames until ready; its meta."""
    while (message := receive(websocket)).get("status") in ("waiting", "loading"):
        pass
    assert message["status"] == "ready", message
    return message["meta"]


def ask(websocket, value):
    websocket.send(serialise(value))
    return receive(websocket)


def test_connections_are_taken_while_the_default_loads(opening):
    """The first session is told that it loads, then that it is ready; status frames hold a status and a message."""
    *waiting, ready = opening[1]
    assert [set(frame) for frame in waiting] == [{"status", "message"}] * len(waiting)
    assert waiting[0]["message"].startswith("Loading checkpoint 000010 (")
    assert ready["meta"]["checkpoint_id"] == "000010"


def test_models_are_listed_oldest_first_as_text(port):
    """Ids are the folders' names."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{keys.ROUTE_MODELS}") as response:
        assert json.load(response) == {"models": ["000010", "000020", "000030", "000040", "000050", "000060", "000070"]}


def test_the_first_frame_of_a_loaded_checkpoint_is_ready_with_meta(port):
    """Then one result an observation: a list of steps."""
    with dial(port) as websocket:
        ready = receive(websocket)
        assert set(ready) == {"status", "meta"}
        assert (ready["status"], ready["meta"]["checkpoint_id"]) == ("ready", "000010")
        answer = ask(websocket, observation())
        assert set(answer) == {"result"}
        assert len(answer["result"]) == CHUNK


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # websockets' own, about connect() without `with`
def test_the_published_example_works_word_for_word(port):
    """The client in the OpenPI guide, its port apart: lists for vectors, no task, a pose with any numbers."""
    frame = np.zeros((24, 32, 3), np.uint8)
    names = {"wrist_image": frame, "exterior_image": frame}
    exec(EXAMPLE.replace("8000", str(port)), names)
    names["ws"].close()
    assert names["action"][0]["target_grip"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"grip": [0.5]}, "lacks 'robot_state.ee_pose'"),
        (observation(grip=[[1, 2]]), "grip"),
        (observation(**{keys.IMAGE_WRIST: np.zeros((24, 32, 3), np.float32)}), "expected uint8 RGB"),
        (observation(grip=np.nan), "finite"),
        ([1], "found list"),
        (observation(task="die"), "MemoryError: the toy has no memory"),
    ],
)
def test_an_error_names_the_fault_and_the_session_goes_on(port, bad, says):
    """A missing key, wrong shape, dtype or value, no map, a model that fails."""
    with dial(port) as websocket:
        first_ready(websocket)
        answer = ask(websocket, bad)
        assert set(answer) == {"error"}
        assert says in answer["error"]
        assert "result" in ask(websocket, observation())


@pytest.mark.parametrize("frame", [b"\xc1noise", b"", "text", serialise(observation())[:-5]])
def test_a_broken_frame_is_an_error_and_the_session_goes_on(port, frame):
    """Noise, nothing, text, a cut message."""
    with dial(port) as websocket:
        first_ready(websocket)
        websocket.send(frame)
        assert set(receive(websocket)) == {"error"}
        assert "result" in ask(websocket, observation())


def test_jpeg_images_are_decoded(port):
    """Clients may send the marker instead of pixels."""
    file = io.BytesIO()
    Image.fromarray(observation()[keys.IMAGE_WRIST]).save(file, "JPEG", quality=90)
    marker = {b"__jpeg__": True, b"frames": [file.getvalue()], b"ndim": 3}
    with dial(port) as websocket:
        first_ready(websocket)
        websocket.send(msgpack.packb(msgpack.unpackb(serialise(observation())) | {keys.IMAGE_WRIST: marker}))
        assert "result" in receive(websocket)


@pytest.mark.parametrize("path", ["/20", "/000020", "?checkpoint_id=20", "/000020?checkpoint_id=20"])
def test_a_named_checkpoint_answers_by_the_path_or_the_query(port, path):
    """Ids compare as numbers; the actions are that checkpoint's."""
    with dial(port, path) as websocket:
        assert first_ready(websocket)["checkpoint_id"] == "000020"
        assert ask(websocket, observation())["result"][0]["target_grip"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/7", "There are: 000010, 000020"),
        ("/runs/7", "No checkpoint 'runs/7'"),
        ("/30", "The weights are damaged."),
        ("/" + "1" * 5000, "No checkpoint '1111"),
        ("?checkpoint_id=" + "1" * 5000, "No checkpoint '1111"),
        ("?checkpont_id=10", "found 'checkpont_id'. Did you mean 'checkpoint_id'?"),
        ("?checkpoint_id=10&seed=3", "Expected checkpoint_id=<id> in the session's address, or nothing, found 'seed'"),
        ("/10?checkpoint_id=20", "The path asks for checkpoint '10', checkpoint_id= for '20'"),
        ("?checkpoint_id=10&checkpoint_id=10", "Expected one id after checkpoint_id="),
        ("?checkpoint_id=", "Expected one id after checkpoint_id="),
    ],
)
def test_a_checkpoint_that_cannot_be_had_is_refused_with_1008(port, path, says):
    """Unknown ones list those that exist; what cannot be loaded says why."""
    with dial(port, path) as websocket:
        while (message := receive(websocket))["status"] != "error":
            pass
        assert says in message["error"]
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=60)
    assert closed.value.rcvd.code == 1008
    assert len(closed.value.rcvd.reason) <= 100


def test_two_sessions_at_once_get_their_own_answers(port):
    """Each observation's pose comes back to its sender, over many interleaved exchanges."""

    def robot(x):
        pose = np.array([x, 0, 0, 1.0, 0, 0, 0])
        with InferenceClient("127.0.0.1", port).session() as session:
            for _ in range(50):
                wrong.extend(
                    step for step in session.infer(observation(**{keys.EE_POSE: pose})) if step.command.pose[0] != x
                )
        ended.append(x)

    wrong, ended = [], []
    robots = [threading.Thread(target=robot, args=(x,)) for x in (0.25, 0.5, 0.75)]
    for thread in robots:
        thread.start()
    for thread in robots:
        thread.join()
    assert (wrong, sorted(ended)) == ([], [0.25, 0.5, 0.75])


def test_a_slow_load_reports_and_both_checkpoints_answer_side_by_side(port, experiment):
    """loading for those it is for, waiting for the others; nobody gets another's actions; the port stays open."""
    with dial(port, "/40") as slow:
        assert receive(slow)["status"] == "loading"
        with dial(port, "/60") as other:
            assert receive(other)["status"] == "waiting"
            let_go(experiment, 40)
            assert first_ready(slow)["checkpoint_id"] == "000040"
            assert first_ready(other)["checkpoint_id"] == "000060"
            for _ in range(3):
                assert ask(slow, observation())["result"][0]["target_grip"] == pytest.approx(0.25)
                assert ask(other, observation())["result"][0]["target_grip"] == pytest.approx(0.6)


def test_clients_that_vanish_leave_nothing_behind(port, experiment):
    """While loading, while waiting, after sending an observation: the next checkpoint can be loaded."""
    with dial(port, "/50") as loading:
        assert receive(loading)["status"] == "loading"
        with dial(port, "/70") as waiting:
            assert receive(waiting)["status"] == "waiting"
            for websocket in (loading, waiting):
                websocket.socket.shutdown(2)  # no goodbye
    let_go(experiment, 50)
    with dial(port, "/20") as websocket:
        first_ready(websocket)
        websocket.send(serialise(observation()))
        websocket.socket.shutdown(2)
    with dial(port, "/10") as websocket:
        first_ready(websocket)
        assert ask(websocket, observation())["result"][0]["target_grip"] == pytest.approx(0.1)


def test_an_observation_sent_before_ready_is_answered_in_its_turn(port):
    """ready first, then its result."""
    with dial(port, "/20") as websocket:
        websocket.send(serialise(observation()))
        first_ready(websocket)
        assert "result" in receive(websocket)


def test_our_client_speaks_to_our_server(port):
    """models, a named session, an error that leaves the session usable, a refusal."""
    client = InferenceClient("127.0.0.1", port)
    assert client.models()[0] == "000010"
    with client.session("10") as session:
        with pytest.raises(InferenceError, match=re.escape("lacks 'robot_state.ee_pose'")):
            session.infer({})
        big = np.zeros((480, 640, 3), np.uint8)
        assert len(session.infer(observation(**{keys.IMAGE_WRIST: big}))) == CHUNK
    with pytest.raises(SessionRefused, match="There are: 000010"):
        client.session("7")


def test_unknown_routes_are_refused(port):
    """A websocket elsewhere is a 403 before it is accepted; HTTP has no /predict."""
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{port}/api/v1").__enter__()
    assert refused.value.response.status_code == HTTPStatus.FORBIDDEN
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/predict", b"{}"))


def test_the_example_is_the_published_one():
    """What is tested above is what the guide for clients prints."""
    guide = Path(__file__).parents[2] / "docs" / "serving.md"
    assert EXAMPLE.strip() in guide.read_text()
