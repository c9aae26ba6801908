"""How the server's processes begin and end."""

import contextlib
import os
import select
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from toy_server import make_checkpoint, make_recipe, observation, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import InferenceError, SessionRefused
from positronic.errors import PositronicError
from positronic.serving.banner import Door, print_banner
from positronic.serving.policy import Typed
from positronic.serving.scheduler import DEVICE_LOST
from positronic.serving.server import serve, usable_port
from positronic.serving.settings import ServerSettings
from positronic.serving.token import AUTO, check_token
from positronic.training.checkpoints import find_checkpoint

TOKEN = "s3cret"


@pytest.fixture
def experiment(tmp_path):
    make_checkpoint(tmp_path / "run", 30)
    return tmp_path / "run"


def family(pid):
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def wait_until_dead(pid):
    with contextlib.suppress(ProcessLookupError):
        waiter = os.pidfd_open(pid)
        assert select.select([waiter], [], [], 30)[0], f"process {pid} is still alive"
        os.close(waiter)


def dial(port):
    return connect(f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}")


def read_to_the_end(websocket):
    while True:
        websocket.recv(timeout=60)


@pytest.mark.parametrize(("send", "number"), [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)])
def test_a_signal_ends_every_process(experiment, send, number):
    """A supervisor's, to the main process; Ctrl-C, to the whole group.

    Exit code 0, no orphan, an open session is closed with 1012 (come back later), the port is free again."""
    with running(experiment) as (port, process), connect(f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}") as websocket:
        websocket.recv(timeout=60)
        members = family(process.pid)
        assert len(members) >= 4
        send(process.pid, number)
        with pytest.raises(ConnectionClosed) as closed:
            read_to_the_end(websocket)
        assert closed.value.rcvd.code == 1012
        assert process.wait(timeout=60) == 0
        for pid in members[1:]:
            wait_until_dead(pid)
        assert usable_port("127.0.0.1", port) == port


def test_a_killed_server_takes_its_processes_with_it(experiment):
    """Even when the main process could not say goodbye."""
    with running(experiment) as (_, process):
        members = family(process.pid)
        process.kill()
        for pid in members[1:]:
            wait_until_dead(pid)


def member(members, name):
    """The worker (it was spawned), the API process (the one that listens) or the manager of LitServe's queues."""
    for pid in members[1:]:
        spawned = b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        sockets = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()] if name != "worker" else []
        polls = any("eventpoll" in str(link) for link in sockets)
        if {"worker": spawned, "api": polls and not spawned, "manager": not polls and not spawned}[name]:
            return pid
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("worker", "The inference worker ended unexpectedly (exit code -9"),
        ("api", "The process that listens ended unexpectedly (exit code -9"),
        ("manager", "ended unexpectedly"),
    ],
)
def test_a_process_that_is_killed_ends_the_server_with_a_message(experiment, name, says):
    """Each of them, for lack of memory, say: open sessions are closed, exit code 1, everything else ends too."""
    with running(experiment) as (port, process), connect(f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}") as websocket:
        websocket.recv(timeout=60)
        members = family(process.pid)
        os.kill(member(members, name), signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            read_to_the_end(websocket)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert says in output
        assert "Traceback" not in output.split(says)[1]
        for pid in members[1:]:
            wait_until_dead(pid)


def test_a_device_that_failed_for_good_ends_the_server(experiment):
    """No further call of CUDA succeeds in that process: the last sender is told, then a supervisor can start anew."""
    with running(experiment) as (port, process), InferenceClient("127.0.0.1", port).session() as session:
        with pytest.raises(InferenceError, match="device-side assert"):
            session.infer(observation(task="lose the device"))
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"The inference worker ended unexpectedly (exit code {DEVICE_LOST}" in output


def stop_worker(process, session):
    os.kill(member(family(process.pid), "worker"), signal.SIGSTOP)
    return observation()


@pytest.mark.parametrize("hang", [lambda *server: observation(task="hang"), stop_worker])
def test_a_worker_that_is_silent_for_too_long_ends_the_server(experiment, hang):
    """Its model hangs, or its process was stopped: who waits is told why, everything ends with exit code 1."""
    with running(experiment, answer_timeout_sec=2) as (port, process):
        with InferenceClient("127.0.0.1", port).session() as session, dial(port) as idle:
            members = family(process.pid)
            with pytest.raises(InferenceError, match="no sign of life for 2 s"):
                session.infer(hang(process, session))
            with pytest.raises(ConnectionClosed):
                read_to_the_end(idle)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "gave no sign of life for 2 s" in output
        assert "server.answer_timeout_sec" in output
        for pid in members[1:]:
            wait_until_dead(pid)


def test_a_client_that_comes_to_a_silent_worker_is_refused_in_the_end(experiment):
    """It does not read status messages for ever."""
    with running(experiment, answer_timeout_sec=2) as (port, process):
        with InferenceClient("127.0.0.1", port).session():
            pass
        stop_worker(process, None)
        with pytest.raises(SessionRefused, match="no sign of life for 2 s"):
            InferenceClient("127.0.0.1", port).session()
        assert process.wait(timeout=60) == 1


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
    """In a sentence; when one has ended, the next is let in."""
    with running(experiment, max_sessions=1) as (port, _):
        client = InferenceClient("127.0.0.1", port)
        with client.session() as first:
            with pytest.raises(SessionRefused, match=r"1 sessions open.*server\.max_sessions"), client.session():
                pass
            assert first.infer(observation())
        with dial(port) as websocket:
            while b"ready" not in websocket.recv(timeout=60):
                websocket.close()
                websocket = connect(f"ws://127.0.0.1:{port}{keys.ROUTE_SESSION}").__enter__()


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
