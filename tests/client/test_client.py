import contextlib
import socket
import subprocess
import sys
import threading
from http import HTTPStatus

import numpy as np
import pytest
from scripted_server import READY, STEP, free_port, script, serving
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import ConnectionLost, ConnectionState, InferenceError, SessionRefused
from positronic.client.status import status_line
from positronic.errors import PositronicError
from positronic.utils.serialization import deserialise, serialise


def client(port, **options):
    return InferenceClient("127.0.0.1", port, **{"connect_timeout_sec": 0.0, **options})


def test_a_session_reads_its_meta_and_a_chunk():
    """Ready's meta is offered, a result becomes action steps."""
    with serving(script({"result": [STEP, STEP]})) as port, client(port).session() as session:
        assert session.meta == READY["meta"]
        first, _ = session.infer({"grip": 0.0})
    np.testing.assert_array_equal(first.command.positions, np.arange(7.0))
    assert (first.target_grip, first.timestamp) == (0.25, 0.2)


def test_steps_of_two_arms_are_read_and_one_arm_may_have_no_gripper():
    """Each arm by its name, as the server named it; an envelope around a command is taken off."""
    left, right = ({"type": "joint_pos", "positions": np.full(6, value)} for value in (1.0, 2.0))
    wire = {"robot_command.left": left, "robot_command.right": {b"__cmd__": right}, "target_grip.left": 0.5}
    with serving(script({"result": [wire]})) as port, client(port).session() as session:
        (step,) = session.infer({"grip.left": 0.0})
    assert {arm: action.target_grip for arm, action in step.arms.items()} == {"left": 0.5, "right": None}
    assert [action.command.positions[0] for action in step.arms.values()] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("result", "count"),
    [(STEP, 1), (None, 0), ([], 0), ([{**STEP, "robot_command": {b"__cmd__": STEP["robot_command"]}}], 1)],
)
def test_other_servers_results_are_read(result, count):
    """One step alone, no plan, and the newer envelope around a command."""
    with serving(script({"result": result})) as port, client(port).session() as session:
        assert len(session.infer({})) == count


def test_an_error_answer_raises_and_the_session_goes_on():
    """The next observation is answered."""
    with serving(script({"error": "no grip"}, {"result": [STEP]})) as port, client(port).session() as session:
        with pytest.raises(InferenceError, match="no grip"):
            session.infer({})
        assert len(session.infer({})) == 1


def test_an_observation_that_cannot_travel_leaves_the_session_ready():
    """The mistake is raised before anything is sent."""
    with serving(script({"result": [STEP]})) as port, client(port).session() as session:
        with pytest.raises(PositronicError, match="Cannot be sent"):
            session.infer({"grip": object()})
        assert len(session.infer({})) == 1


def test_what_is_waited_for_is_reported():
    """Status frames reach on_status in order, then ready."""
    told = []
    loading = [{"status": "waiting"}, {"status": "loading", "message": "checkpoint 30"}, READY]
    with serving(script(opening=loading)) as port:
        client(port, on_status=lambda *status: told.append(status)).session().close()
    assert told == [("waiting", ""), ("loading", "checkpoint 30"), ("ready", "")]


def test_a_refused_session_says_why():
    """An error while opening raises SessionRefused with the server's words."""
    opening = [{"status": "error", "error": "Unknown checkpoint 7. There are: 000030."}]
    with serving(script(opening=opening)) as port, pytest.raises(SessionRefused, match="There are: 000030"):
        client(port).session("7")


def test_the_checkpoint_travels_in_the_path():
    """Quoted, slashes kept."""
    paths = []

    def handler(connection):
        paths.append(connection.request.path)
        connection.send(serialise(READY))

    with serving(handler) as port:
        for checkpoint in (None, 30, "runs/my 30"):
            client(port).session(checkpoint).close()
    route = keys.ROUTE_SESSION
    assert paths == [route, f"{route}/30", f"{route}/runs/my%2030"]


@pytest.mark.parametrize("frame", ["text", b"\xc1", serialise({"actions": 1}), serialise([1])])
def test_a_foreign_answer_ends_the_session(frame):
    """Text, noise and other protocols' messages raise, and the session is closed."""
    with serving(script(frame)) as port, client(port).session() as session:
        with pytest.raises(PositronicError):
            session.infer({})
        assert session.state is ConnectionState.CLOSED


ODD_STEPS = [7, "step", [1], [None], [{"robot_command": 3, "target_grip": 0.0}], [{**STEP, "target_grip": "x"}]]


@pytest.mark.parametrize("result", ODD_STEPS)
def test_a_result_that_is_no_chunk_is_a_sentence(result):
    """Whatever the server makes of it."""
    refused = pytest.raises(PositronicError)
    with serving(script({"result": result})) as port, client(port).session() as session, refused:
        session.infer({})


@pytest.mark.parametrize("meta", [7, [1], {"image_sizes": [0, 0]}, {"image_sizes": "224"}, {"image_sizes": {"a": [1]}}])
def test_a_meta_that_cannot_be_used_is_refused(meta):
    """Before an observation is sent."""
    opening = [{"status": "ready", "meta": meta}]
    with serving(script(opening=opening)) as port, pytest.raises(PositronicError, match="image_sizes"):
        client(port).session()


def test_a_first_message_of_another_protocol_is_named():
    """openpi's first frame is bare metadata."""
    with serving(script(opening=[{"policy": "pi0"}])) as port, pytest.raises(PositronicError, match="found policy"):
        client(port).session()


@pytest.mark.parametrize("goodbye", [None, {"status": "error", "error": "out of memory"}])
def test_a_server_that_goes_raises_connection_lost(goodbye):
    """A closed connection, or an error status after ready, ends the session."""

    def handler(connection):
        connection.send(serialise(READY))
        connection.recv()
        if goodbye:
            connection.send(serialise(goodbye))

    with serving(handler) as port, client(port).session() as session:
        with pytest.raises(ConnectionLost):
            session.infer({})
        with pytest.raises(PositronicError, match="expected to be ready, found it closed"):
            session.infer({})


def freezing(listener):
    """Serves one session in the thread that calls it: ready, then nothing, not even a pong, until the client goes."""
    with listener.accept()[0] as stream:
        protocol = ServerProtocol()
        protocol.receive_data(stream.recv(1 << 16))
        protocol.send_response(protocol.accept(protocol.events_received()[0]))
        protocol.send_binary(serialise(READY))
        stream.sendall(b"".join(protocol.data_to_send()))
        while stream.recv(1 << 16):
            pass


def test_a_server_that_stops_speaking_is_lost(monkeypatch):
    """One whose machine hangs, or whose cable is out: it answers no ping."""
    monkeypatch.setattr("positronic.client.dialling.PING_SEC", 0.1)
    monkeypatch.setattr("positronic.client.dialling.CLOSE_SEC", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=freezing, args=[listener])
        thread.start()
        with client(listener.getsockname()[1]).session() as session, pytest.raises(ConnectionLost, match="ping"):
            session.infer({})
        thread.join()


def test_a_slow_answer_is_no_lost_server(monkeypatch):
    """Many silences long, while pings are answered."""
    monkeypatch.setattr("positronic.client.dialling.PING_SEC", 0.1)
    pinged = threading.Semaphore(0)

    class Counting(ServerConnection):
        def process_event(self, event):
            super().process_event(event)
            if isinstance(event, Frame) and event.opcode is Opcode.PING:
                pinged.release()

    def handler(connection):
        connection.send(serialise(READY))
        connection.recv()
        for _ in range(5):
            pinged.acquire(timeout=30)
        connection.send(serialise({"result": [STEP]}))

    with serving(handler, create_connection=Counting) as port, client(port).session() as session:
        assert len(session.infer({})) == 1


def test_an_observation_over_the_frame_limit_is_refused_before_it_is_sent(monkeypatch):
    """Its largest value is named, and the session goes on."""
    monkeypatch.setattr("positronic.client.protocol.MAX_FRAME_BYTES", 1000)
    with serving(script({"result": [STEP]})) as port, client(port).session() as session:
        with pytest.raises(PositronicError, match="largest value is 'image.wrist'"):
            session.infer({"grip": 0.0, "image.wrist": np.zeros(2000, np.uint8)})
        assert len(session.infer({})) == 1


def test_a_server_that_takes_less_says_so():
    """Its close reason is passed on, instead of a guess that it may not run."""
    refused = pytest.raises(ConnectionLost, match="larger than it takes")
    with serving(script({"result": [STEP]}), max_size=1000) as port, client(port).session() as session, refused:
        session.infer({"image.wrist": np.zeros(2000, np.uint8)})


def test_closing_twice_is_fine_and_a_closed_session_refuses():
    """An illegal transition says what was expected and found."""
    with serving(script()) as port:
        session = client(port).session()
        session.close()
        session.close()
        with pytest.raises(PositronicError, match="expected to be ready, found it closed"):
            session.infer({})


def test_the_client_keeps_trying_while_the_server_starts():
    """Refused, then 503, then a connection that breaks while opening, then ready."""
    port, told = free_port(), []
    with contextlib.ExitStack() as later:
        attempts = iter([HTTPStatus.SERVICE_UNAVAILABLE, "break", "ready"])

        def admit(connection, request):
            connection.plan = next(attempts)
            starting = isinstance(connection.plan, HTTPStatus)
            return connection.respond(connection.plan, "starting") if starting else None

        def handler(connection):
            if connection.plan == "ready":
                script()(connection)

        def on_status(status, message):
            if not told:
                later.enter_context(serving(handler, port, process_request=admit))
            told.append(message)

        with client(port, connect_timeout_sec=60, on_status=on_status).session() as session:
            assert session.meta == READY["meta"]
    assert "refused" in told[0]
    assert "503" in told[1]
    assert "Lost" in told[2]


def test_nobody_there_says_how_to_start_a_server():
    """After the deadline the message names the address and the command."""
    port = free_port()
    with pytest.raises(ConnectionLost, match=f"127.0.0.1:{port}.*stage=serve"):
        client(port).session()
    with pytest.raises(ConnectionLost, match="stage=serve"):
        client(port).models()


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, SessionRefused, "token"),
        (403, SessionRefused, "token"),
        (404, PositronicError, "not of this API"),
        (500, ConnectionLost, "HTTP 500"),
    ],
)
def test_http_refusals_are_told_apart(status, error, says):
    """A wrong token and a foreign server are final; 5xx is worth waiting for."""
    refuse = {"process_request": lambda connection, request: connection.respond(HTTPStatus(status), "no")}
    with serving(script(), **refuse) as port:
        with pytest.raises(error, match=says):
            client(port).session()
        with pytest.raises(error, match=says):
            client(port).models()


def test_models_asks_the_route_with_the_token():
    """The bearer token travels in the header."""
    asked = []

    def answer(connection, request):
        asked.append((request.path, request.headers.get("Authorization")))
        return connection.respond(HTTPStatus.OK, '{"models": [10, "20"]}')

    with serving(script(), process_request=answer) as port:
        assert client(port, token="secret").models() == ["10", "20"]
    assert asked == [(keys.ROUTE_MODELS, "Bearer secret")]


def test_a_model_list_of_another_api_is_refused():
    """A page that is no model list names its address."""
    answer = {"process_request": lambda connection, request: connection.respond(HTTPStatus.OK, "hello")}
    with serving(script(), **answer) as port, pytest.raises(PositronicError, match=keys.ROUTE_MODELS):
        client(port).models()


def test_images_are_shrunk_to_what_the_meta_asks():
    """The frame that travels has the server's size; other keys travel as they are."""
    seen = []

    def handler(connection):
        connection.send(serialise({"status": "ready", "meta": {"image_sizes": [64, 64]}}))
        seen.append(deserialise(connection.recv()))
        connection.send(serialise({"result": []}))

    observation = {"image.wrist": np.zeros((240, 320, 3), np.uint8), "grip": np.zeros(1), "task": "stack"}
    with serving(handler) as port, client(port).session() as session:
        session.infer(observation)
    assert seen[0]["image.wrist"].shape == (48, 64, 3)
    assert seen[0]["task"] == "stack"


class Terminal:
    def __init__(self, isatty):
        self.text, self.isatty = "", lambda: isatty

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_terminal_sees_one_line_and_a_log_nothing():
    """The line is overwritten, and gone when ready."""
    terminal, log = Terminal(True), Terminal(False)
    for stream in (terminal, log):
        show = status_line(stream)
        show("loading", "checkpoint 30")
        show("ready", "")
    assert terminal.text == "\r\033[Kcheckpoint 30\r\033[K"
    assert log.text == ""


def test_the_client_needs_numpy_msgpack_and_websockets_only():
    """It imports and runs where torch, hydra, Pillow, pyarrow and av are absent."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in "torch hydra omegaconf PIL pyarrow av rich fsspec litserve zmq".split():
            raise ImportError(f"{name} is absent on the robot")
sys.meta_path.insert(0, Absent())
import positronic.client.client, positronic.client.session
from positronic.client.images import shrink_images
import numpy as np
image = np.zeros((240, 320, 3), np.uint8)
assert shrink_images({"image.wrist": image}, [64, 64])["image.wrist"] is image
print(sorted({name.split(".")[0] for name, module in sys.modules.items()
    if "site-packages" in (getattr(module, "__file__", None) or "") and not name.startswith("_")}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['msgpack', 'numpy', 'websockets']"
