"""How the server's processes begin and end."""

import os
import signal
import socket
import urllib.error
import urllib.request

import pytest
from processes import family, member, wait_until_dead
from toy_server import dial, make_checkpoint, make_recipe, observation, ready, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import ConnectionLost, SessionRefused
from positronic.errors import PositronicError
from positronic.serving.banner import Door, print_banner
from positronic.serving.policy import Typed
from positronic.serving.server import serve, usable_port
from positronic.serving.settings import ServerSettings
from positronic.serving.token import AUTO, check_token
from positronic.training.checkpoints import find_checkpoint
from positronic.utils.serialization import deserialise

TOKEN = "s3cret"


@pytest.fixture
def experiment(tmp_path):
    make_checkpoint(tmp_path / "run", 30)
    return tmp_path / "run"


def read_to_the_end(websocket):
    while True:
        websocket.recv(timeout=60)


def test_a_killed_server_takes_its_processes_with_it(experiment):
    """Even when the main process could not say goodbye."""
    with running(experiment) as (_, process):
        members = family(process.pid)
        process.kill()
        for pid in members[1:]:
            wait_until_dead(pid)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("api", "The process that listens ended unexpectedly (exit code -9"),
        ("manager", "ended unexpectedly"),
    ],
)
def test_a_process_that_is_killed_ends_the_server_with_a_message(experiment, name, says):
    """Each but the worker: open sessions are closed, exit code 1, everything else ends too."""
    with running(experiment) as (port, process), dial(port) as websocket:
        websocket.recv(timeout=60)
        members = family(process.pid)
        os.kill(member(members, name), signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            read_to_the_end(websocket)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert says in output
        assert "Traceback" not in output.rsplit(says, 1)[1]
        for pid in members[1:]:
            wait_until_dead(pid)


def test_a_worker_that_is_silent_for_too_long_ends_the_server_if_no_restart_is_left(experiment):
    """Who waits for an answer, or for a session, is told why; idle sessions are closed; all ends with exit code 1."""
    with running(experiment, answer_timeout_sec=2, max_restarts=0) as (port, process):
        with InferenceClient("127.0.0.1", port).session() as session, dial(port) as idle:
            ready(idle)
            members = family(process.pid)
            os.kill(member(members, "worker"), signal.SIGSTOP)
            with dial(port) as late:
                with pytest.raises(ConnectionLost, match="no sign of life for 2 s.* The server ends"):
                    session.infer(observation())
                while (message := deserialise(late.recv(timeout=60)))["status"] != "error":
                    pass
                assert "no sign of life for 2 s" in message["error"]
            with pytest.raises(ConnectionClosed) as closed:
                read_to_the_end(idle)
            assert closed.value.rcvd.code == 1011
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "gave no sign of life for 2 s" in output
        assert "server.answer_timeout_sec" in output
        for pid in members[1:]:
            wait_until_dead(pid)


def test_a_slow_load_is_no_silent_worker(tmp_path):
    """Loading happens beside: the worker says that it lives."""
    os.mkfifo(tmp_path / "go")
    make_checkpoint(tmp_path / "run", 30, fifo=str(tmp_path / "go"))
    with running(tmp_path / "run", answer_timeout_sec=0.5) as (port, _), dial(port) as robot:
        while b"(5 s)" not in robot.recv(timeout=60):
            pass
        (tmp_path / "go").write_text("go")
        while b"ready" not in robot.recv(timeout=60):
            pass


def test_sessions_beyond_those_allowed_are_told_so(experiment):
    """In a sentence; a client that may wait is let in when one has ended."""
    with running(experiment, max_sessions=1) as (port, _), InferenceClient("127.0.0.1", port).session() as first:
        hasty = InferenceClient("127.0.0.1", port, connect_timeout_sec=0.0)
        with pytest.raises(ConnectionLost, match=r"1 sessions open.*server\.max_sessions"), hasty.session():
            pass
        assert first.infer(observation())

        def leave(status, message):
            if "server.max_sessions" in message:
                first.close()

        with InferenceClient("127.0.0.1", port, on_status=leave).session() as second:
            assert second.infer(observation())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with a token whose default cannot be loaded."""
    folder = tmp_path_factory.mktemp("guarded") / "run"
    make_checkpoint(folder, 30)
    make_checkpoint(folder, 40, fault="The weights are damaged.")
    with running(folder, token=TOKEN) as (port, _):
        yield port


def test_a_default_that_cannot_be_loaded_is_refused_and_others_still_serve(guarded):
    """Its sessions hear why; an older checkpoint works."""
    client = InferenceClient("127.0.0.1", guarded, token=TOKEN)
    with pytest.raises(SessionRefused, match="Checkpoint 000040 cannot be loaded: The weights are damaged."):
        client.session()
    with client.session("30") as session:
        assert session.infer(observation())


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}])
def test_a_token_is_asked_for_on_every_route(guarded, headers):
    """HTTP 401; a websocket 403 before it is accepted."""
    address = f"127.0.0.1:{guarded}"
    for path in (keys.ROUTE_MODELS, "/", "/docs", "/info"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", headers=headers))
    for path in ("", "/30"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://{address}{keys.ROUTE_SESSION}{path}", additional_headers=headers).__enter__()


def test_health_needs_no_token(guarded):
    """Load balancers and containers ask it."""
    assert urllib.request.urlopen(f"http://127.0.0.1:{guarded}/health").read() == b"ok"


def test_a_client_without_the_token_is_told_so(guarded):
    """At once, not after the time for starting servers."""
    with pytest.raises(SessionRefused, match="token"):
        InferenceClient("127.0.0.1", guarded).session()


def test_the_banner_says_what_is_served_and_how_to_reach_it(experiment, capsys):
    """Checkpoint, vendor, codec, conventions, addresses, a command; a warning when everybody may come in."""
    checkpoint = find_checkpoint(experiment)
    print_banner(checkpoint, "toy", make_recipe(), Door("127.0.0.1", 8000))
    local = capsys.readouterr()
    for text in ("000030", "toy", "quat_wxyz", f"127.0.0.1:8000{keys.ROUTE_SESSION}", "policy.port=8000"):
        assert text in local.out
    assert local.err == ""
    print_banner(checkpoint, "toy", make_recipe(), Door("0.0.0.0", 8000))
    assert "without a token" in capsys.readouterr().err


def test_a_token_made_by_the_server_is_printed_in_the_clients_line(experiment, capsys):
    """In one line that can be copied, however narrow the terminal is. A token that somebody typed is not repeated."""
    token = check_token(AUTO)
    assert check_token(AUTO) != token
    print_banner(find_checkpoint(experiment), "toy", make_recipe(), Door("0.0.0.0", 8000, token, is_new=True))
    heard = capsys.readouterr()
    assert f" policy.port=8000 policy.token={token}\n" in heard.out
    assert heard.err == ""
    print_banner(find_checkpoint(experiment), "toy", make_recipe(), Door("0.0.0.0", 8000, token))
    assert token not in capsys.readouterr().out


def test_what_is_wrong_is_said_before_anything_starts(experiment):
    """No experiment, no such checkpoint, another codec, a bad token."""
    other = make_recipe(rotation="rotvec")
    for change, says in (
        ({"checkpoints_dir": experiment / "no"}, "stage=train"),
        ({"checkpoint": "7"}, "There are: 000030"),
        ({"typed": Typed(codec=other.codec_config, modality=other.modality_config)}, "do not agree"),
        ({"token": "two words"}, "server.token"),
        ({"tls_cert": "x"}, "server.tls_cert counts only with server.tls_key=<file>"),
    ):
        with pytest.raises(PositronicError, match=says):
            serve(ServerSettings(**{"checkpoints_dir": experiment, "port": 0, **change}))


def test_a_port_in_use_is_refused_before_anything_starts(experiment):
    """One sentence that names the port and the next command."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PositronicError, match=rf"^Port {port} on 127.0.0.1 is in use.*server\.port={port + 1}"):
            serve(ServerSettings(experiment, host="127.0.0.1", port=port))


@pytest.mark.parametrize(("port", "says"), [(80, "expected 1024 to 65535"), (1023, "found 1023")])
def test_privileged_ports_are_refused(port, says):
    """LitServe takes none."""
    with pytest.raises(PositronicError, match=says):
        usable_port("127.0.0.1", port)


def test_port_0_takes_a_free_one():
    """For tests and for several servers on one machine."""
    assert usable_port("127.0.0.1", 0) >= 1024


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_port_taken_on_one_interface_is_taken_on_all(host):
    """Else the server would start and be shadowed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(PositronicError, match="in use"):
            usable_port(host, listener.getsockname()[1])


@pytest.mark.parametrize("token", ["", "two words", "schlüssel", "line\nbreak"])
def test_a_token_that_no_header_can_carry_is_refused(token):
    """Printable ASCII only."""
    with pytest.raises(PositronicError, match="server.token"):
        check_token(token)
