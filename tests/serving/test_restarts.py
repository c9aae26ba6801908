"""A worker that dies or hangs is started anew, a few times."""

import os
import signal

import pytest
from processes import family, member, wait_until_dead
from toy_server import dial, make_checkpoint, observation, ready, running
from websockets.exceptions import ConnectionClosedError

from positronic.client.client import InferenceClient
from positronic.client.session import ConnectionLost, InferenceError
from positronic.serving.supervision import Restarts, ended_with
from positronic.utils.serialization import deserialise, serialise

RESTARTED = "A new worker starts; open a new session."


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose worker may be lost as often as the tests lose it: its port and its process."""
    folder = tmp_path_factory.mktemp("restarts") / "run"
    make_checkpoint(folder, 30)
    with running(folder, answer_timeout_sec=2, max_restarts=4) as (port, process):
        yield port, process


def worker_of(process):
    return member(family(process.pid), "worker")


def killed(worker, busy):
    ask(busy, "hang")
    busy.ping().wait()  # the observation has come before it
    os.kill(worker, signal.SIGKILL)


def hanging(worker, busy):
    ask(busy, "hang")


def stopped(worker, busy):
    os.kill(worker, signal.SIGSTOP)
    ask(busy, "stack")


def ask(websocket, task):
    websocket.send(serialise(observation(task=task)))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (killed, "exit code -9: killed, usually for lack of memory"),
        (hanging, "no sign of life for 2 s"),
        (stopped, "no sign of life for 2 s"),
    ],
)
def test_a_worker_that_is_lost_is_replaced(server, harm, says):
    """Who waits for an answer hears why, and that the session has ended; an idle session is closed without a frame,
    which might be taken for an answer. New sessions work, on the same port and without anybody's help."""
    port, process = server
    with dial(port) as busy, dial(port) as idle:
        ready(busy), ready(idle)
        worker = worker_of(process)
        harm(worker, busy)
        message = deserialise(busy.recv(timeout=60))
        assert message["status"] == "error"
        assert says in message["error"]
        assert message["error"].endswith(RESTARTED)
        for websocket in (busy, idle):
            with pytest.raises(ConnectionClosedError) as closed:
                websocket.recv(timeout=60)
            assert closed.value.rcvd.code == 1012
        wait_until_dead(worker)
    with InferenceClient("127.0.0.1", port).session() as session:
        assert session.infer(observation())
    assert worker_of(process) != worker


def test_a_device_that_failed_for_good_is_found_again_by_a_new_worker(server):
    """No further call of CUDA succeeds in the old process. The sender hears the error, its next call the rest."""
    port, _ = server
    with InferenceClient("127.0.0.1", port).session() as session:
        with pytest.raises(InferenceError, match="device-side assert"):
            session.infer(observation(task="lose the device"))
        with pytest.raises(ConnectionLost, match="the device has failed for good"):
            session.infer(observation(task="hang"))
    with InferenceClient("127.0.0.1", port).session() as session:
        assert session.infer(observation())


def test_a_session_that_opens_while_there_is_no_worker_waits_for_the_next(tmp_path):
    """A checkpoint that kills the worker while it is loaded uses the restarts up; then everything ends, with why."""
    os.mkfifo(tmp_path / "load")
    make_checkpoint(tmp_path / "run", 30, fifo=str(tmp_path / "load"))
    with running(tmp_path / "run", max_restarts=1) as (port, process):
        for ending in (RESTARTED, "The server ends; connect again later."):
            with dial(port) as waiting:
                while deserialise(waiting.recv(timeout=60))["status"] != "loading":
                    pass
                members = family(process.pid)
                os.kill(worker_of(process), signal.SIGKILL)
                while "error" not in (message := deserialise(waiting.recv(timeout=60))):
                    pass
                assert message["error"].endswith(ending)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "exit code -9" in output
        says = "more often than server.max_restarts=1 allows within 600 s"
        assert says in output
        assert "Traceback" not in output.rsplit(says, 1)[1]
        for pid in members[1:]:
            wait_until_dead(pid)


def test_a_client_comes_back_when_the_worker_dies_while_it_loads(tmp_path):
    """And gets its session from the next worker."""
    os.mkfifo(tmp_path / "load")
    make_checkpoint(tmp_path / "run", 30, fifo=str(tmp_path / "load"))
    with running(tmp_path / "run") as (port, process):
        steps = [
            ("loading", lambda: os.kill(worker_of(process), signal.SIGKILL)),
            ("connecting", lambda: None),
            ("loading", lambda: (tmp_path / "load").write_text("go")),
        ]

        def on_status(status, message):
            if steps and status == steps[0][0]:
                steps.pop(0)[1]()

        with InferenceClient("127.0.0.1", port, on_status=on_status).session() as session:
            assert session.infer(observation())
        assert not steps


def test_restarts_are_counted_within_a_window():
    """Old ones are forgotten."""
    now_sec = [0.0]
    restarts = Restarts(2, 10.0, clock=lambda: now_sec[0])
    assert [restarts.take() for _ in range(3)] == [True, True, False]
    now_sec[0] = 10.0
    assert [restarts.take() for _ in range(3)] == [True, True, False]
    assert not Restarts(0, 10.0).take()


def test_an_exit_code_without_a_meaning_is_told_alone():
    """As it is."""
    assert ended_with(3) == "The inference worker ended unexpectedly (exit code 3)."
