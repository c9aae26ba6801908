"""A server is watched until it is ready, started again when it dies, and explained when it cannot start."""

import socket
import threading
from dataclasses import replace

import pytest

from positronic.errors import PositronicError
from positronic.upstream.service import LOOPBACK, Restarts, Server, Service, State

# argv: port. Ends when somebody says something; never again ready once the file "broken" is there.
TOY = """
import pathlib, socket, sys
if pathlib.Path("broken").exists():
    sys.exit("it is broken")
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    if connection.recv(1):
        sys.exit("OSError: [Errno 28] No space left on device")
"""
AT_ONCE = Restarts(most=2, first_sec=0.0)


def answers(port):
    try:
        socket.create_connection((LOOPBACK, port), 1).close()
    except OSError:
        return False
    return True


def die(port):
    with socket.create_connection((LOOPBACK, port), 5) as connection:
        connection.sendall(b"!")


@pytest.fixture
def toy(command, tmp_path):
    def make(text=TOY, **fields):
        return Server("The toy", lambda port: command(text, str(port)), answers, tmp_path / "toy.log", **fields)

    return make


def test_a_server_is_ready_when_it_answers_and_gone_when_closed(toy):
    """Its loading is reported."""
    told = []
    with Service(toy(), told.append) as service:
        port = service.port()
        assert answers(port)
    assert not answers(port)
    states = [status.state for status in told]
    assert (states[0], states[-2], states[-1]) == (State.LOADING, State.READY, State.CLOSED)
    with pytest.raises(PositronicError, match="The toy was closed"):
        service.port()


def test_a_server_that_died_is_started_again_until_it_cannot(toy, tmp_path):
    """At most twice in a row; then its last words are raised."""
    told, waits, failed = [], threading.Semaphore(0), threading.Event()

    def report(status):
        told.append(status)
        if status.state is State.WAITING:
            waits.release()
        if status.state is State.FAILED:
            failed.set()

    with Service(toy(), report, restarts=AT_ONCE) as service:
        die(service.port())
        assert waits.acquire(timeout=60)
        with service._changed:
            assert service._changed.wait_for(lambda: service._status.state is State.READY, 60)
        (tmp_path / "broken").touch()
        die(service.port())
        assert failed.wait(60)
        with pytest.raises(PositronicError, match="it is broken"):
            service.port()
    waiting = [str(status.error) for status in told if status.state is State.WAITING]
    assert len(waiting) == 2
    assert "output_dir=" in waiting[0]


def test_the_time_between_starts_grows_up_to_a_bound():
    """So that a server that cannot run does not keep the machine busy."""
    assert [Restarts(first_sec=1, longest_sec=5).wait_sec(number) for number in range(4)] == [1, 2, 4, 5]


def test_a_server_that_cannot_start_is_not_started_again(toy, tmp_path):
    """With what it said."""
    (tmp_path / "broken").touch()
    with Service(toy()) as service, pytest.raises(PositronicError, match="exit code 1.\n  it is broken"):
        service.port()


def test_a_program_that_is_missing_is_told(toy):
    """In the thread of whoever waits."""
    server = toy()
    missing = replace(server, command=lambda port: replace(server.command(port), arguments=("nowhere/python",)))
    with Service(missing) as service, pytest.raises(PositronicError, match="cannot be started"):
        service.port()


def test_a_taken_port_is_told(toy):
    """Somebody was quicker."""
    text = "import os, socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); socket.create_server(s.getsockname())"
    with Service(toy(text)) as service, pytest.raises(PositronicError, match="ss -ltnp"):
        service.port()


def test_a_server_that_is_never_ready_is_ended(toy):
    """And the parameter named."""
    silent = "import signal; print('Loading', flush=True); signal.pause()"
    told = r"(?s)not ready within 0.2 s.*vendor.ready_timeout_sec="
    with Service(toy(silent, ready_timeout_sec=0.2)) as service, pytest.raises(PositronicError, match=told):
        service.port()


def test_a_server_that_loads_can_be_closed(toy):
    """Whoever waits for its port is told."""
    loading = threading.Event()
    service = Service(toy("import signal; signal.pause()"), lambda status: loading.set())
    assert loading.wait(60)
    service.close()
    with pytest.raises(PositronicError, match="was closed"):
        service.port()
