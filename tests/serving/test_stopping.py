"""SIGTERM and Ctrl-C: what is under way is finished, within a bound."""

import contextlib
import os
import signal
import socket

import pytest
from processes import family, member, wait_until_dead
from toy_server import dial, make_checkpoint, observation, ready, running
from websockets.exceptions import ConnectionClosedError

from positronic.serving.server import usable_port
from positronic.utils.serialization import deserialise, serialise


@pytest.fixture
def experiment(tmp_path):
    """A checkpoint, and one whose loading waits for a word that nobody says."""
    os.mkfifo(tmp_path / "never")
    make_checkpoint(tmp_path / "run", 30, fifo=str(tmp_path / "never"))
    make_checkpoint(tmp_path / "run", 40)
    return tmp_path / "run"


@contextlib.contextmanager
def asking(port, fifo):
    """A session whose observation is answered when something is written into ``fifo``, which the model reads now."""
    os.mkfifo(fifo)
    with dial(port) as websocket:
        ready(websocket)
        websocket.send(serialise(observation(task=f"wait for {fifo}")))
        with fifo.open("w") as word:  # opened as soon as the model opens its end
            yield websocket, word


def closed_with(websocket):
    """Reads on to the end; the code that the connection is closed with, and the frames before."""
    frames = []
    with contextlib.suppress(ConnectionClosedError):
        frames.extend(map(deserialise, websocket))
    return websocket.close_code, frames


TO_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
SIGNALS = [(os.kill, signal.SIGTERM), *((os.killpg, number) for number in TO_ALL)]


@pytest.mark.parametrize(("send", "number"), SIGNALS)
def test_an_answer_under_way_is_finished_before_the_server_ends(experiment, tmp_path, send, number):
    """A supervisor's signal to the main process; Ctrl-C, or what systemd and Slurm send, to all of them.

    Idle sessions and those that wait for a checkpoint are closed at once with 1012, come back later; nobody new is let
    in. Exit code 0, no process is left, and the port is free again."""
    with running(experiment) as (port, process), dial(port) as idle, dial(port, "/30") as opening:
        ready(idle)
        assert deserialise(opening.recv(timeout=60))["status"] in ("waiting", "loading")
        opening.send(serialise(observation()))  # before its turn
        with asking(port, tmp_path / "answer") as (busy, word):
            members = family(process.pid)
            send(process.pid, number)
            assert closed_with(idle) == (1012, [])
            code, frames = closed_with(opening)
            assert (code, frames[-1]["error"]) == (1012, "The server stops; connect again later.")
            wait_until_refused(port)
            word.write("go")
            word.close()
            code, (answer,) = closed_with(busy)
            assert (code, len(answer["result"])) == (1012, 4)
        assert process.wait(timeout=60) == 0
        for pid in members[1:]:
            wait_until_dead(pid)
        assert usable_port("127.0.0.1", port) == port


def wait_until_refused(port):
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
        except ConnectionRefusedError:
            return


def test_an_answer_that_takes_too_long_is_not_waited_for(experiment, tmp_path):
    """After server.drain_sec its session is closed too."""
    with running(experiment, drain_sec=0.5) as (port, process), asking(port, tmp_path / "answer") as (busy, _):
        members = family(process.pid)
        process.send_signal(signal.SIGTERM)
        assert closed_with(busy) == (1012, [])
        assert process.wait(timeout=60) == 0
        for pid in members[1:]:
            wait_until_dead(pid)


def test_a_worker_that_dies_meanwhile_is_not_waited_for(experiment, tmp_path):
    """Who waits for its answer hears why at once, and to come back later; then the server ends as it was asked to."""
    with running(experiment, drain_sec=60) as (port, process), dial(port) as idle:
        ready(idle)
        with asking(port, tmp_path / "answer") as (busy, _):
            members = family(process.pid)
            process.send_signal(signal.SIGTERM)
            assert closed_with(idle)[0] == 1012
            os.kill(member(members, "worker"), signal.SIGKILL)
            code, (said,) = closed_with(busy)
            assert (code, "exit code -9" in said["error"]) == (1012, True)
            assert said["error"].endswith("The server ends; connect again later.")
        assert process.wait(timeout=60) == 0
        for pid in members[1:]:
            wait_until_dead(pid)


def test_a_second_signal_ends_everything_at_once(experiment, tmp_path):
    """However long answers under way may take."""
    with running(experiment, drain_sec=3600) as (port, process), dial(port) as idle:
        ready(idle)
        with asking(port, tmp_path / "answer"):
            members = family(process.pid)
            process.send_signal(signal.SIGTERM)
            assert closed_with(idle)[0] == 1012
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            for pid in members[1:]:
                wait_until_dead(pid)
