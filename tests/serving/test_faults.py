"""Clients in crowds, clients that vanish or read nothing, and checkpoints that go while they are loaded: one server,
and an honest robot beside them."""

import contextlib
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from processes import family
from toy_server import dial, make_checkpoint, observation, running
from toy_vendor import CHUNK
from websockets.exceptions import ConnectionClosed

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import SessionRefused
from positronic.utils.serialization import deserialise, serialise

SESSIONS = 64
LEAVERS = 200
SETTLE_SEC = 60
SPARE = 16  # files that a busy server opens once: each thread of its API keeps a connection to LitServe's manager


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A sound checkpoint, and two whose loading waits for a word in a fifo."""
    folder = tmp_path_factory.mktemp("faults") / "toy_run"
    make_checkpoint(folder, 10)
    for step in (20, 30):
        os.mkfifo(folder.parent / f"go{step}")
        make_checkpoint(folder, step, fifo=str(folder.parent / f"go{step}"))
    return folder


@pytest.fixture(scope="module")
def server(experiment):
    """Its port and its main process. A session that stays behind would use up those that it takes."""
    with running(experiment, checkpoint="10", max_sessions=SESSIONS + 2) as server:
        yield server


@pytest.fixture
def port(server):
    return server[0]


def first_ready(websocket):
    while (message := deserialise(websocket.recv(timeout=SETTLE_SEC)))["status"] in ("waiting", "loading"):
        pass
    return message


def descriptors(pid):
    """Open files of a process and of all below it."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in family(pid))


def settles(condition):
    """Whether it comes true."""
    end = time.monotonic() + SETTLE_SEC
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_64_sessions_at_once_are_answered_each_by_its_own_pose(server):
    """And leave nothing open behind them."""
    port, process = server
    client, together = InferenceClient("127.0.0.1", port), threading.Barrier(SESSIONS)

    def robot(number):
        pose = np.array([number / 100, 0, 0, 1.0, 0, 0, 0])
        with client.session() as session:
            together.wait(SETTLE_SEC)
            chunks = [session.infer(observation(**{keys.EE_POSE: pose})) for _ in range(5)]
        return {step.command.pose[0] for chunk in chunks for step in chunk}

    with client.session() as session:
        session.infer(observation())
        before = descriptors(process.pid)
    with ThreadPoolExecutor(SESSIONS) as pool:
        heard = list(pool.map(robot, range(SESSIONS)))
    assert heard == [{np.float32(number / 100)} for number in range(SESSIONS)]
    assert settles(lambda: descriptors(process.pid) <= before + SPARE)


def test_200_clients_that_vanish_leave_room_for_others(server):
    """Before ready, after it, with an observation half sent, with an answer on its way; a robot plays meanwhile."""
    port, process = server
    frame = serialise(observation())

    def leave(number):
        with contextlib.suppress(ConnectionClosed, OSError), dial(port, close_timeout=1, open_timeout=60) as websocket:
            if number % 4:
                first_ready(websocket)
            if number % 4 == 2:
                websocket.socket.sendall(b"\x82\xff" + len(frame).to_bytes(8, "big") + b"mask" + frame[:100])
            if number % 4 == 3:
                websocket.send(frame)
            websocket.socket.shutdown(2)

    with InferenceClient("127.0.0.1", port).session() as session:
        session.infer(observation())
        before = descriptors(process.pid)
        with ThreadPoolExecutor(16) as pool:
            leaving = [pool.submit(leave, number) for number in range(LEAVERS)]
            while not all(each.done() for each in leaving):
                assert len(session.infer(observation())) == CHUNK
        for each in leaving:
            each.result()
        assert settles(lambda: descriptors(process.pid) <= before + SPARE)
        assert len(session.infer(observation())) == CHUNK


def test_a_client_that_reads_nothing_holds_up_nobody(port):
    """It sends until nothing more is taken; the others are answered, and its session ends with a reason."""
    with dial(port) as slow, InferenceClient("127.0.0.1", port).session() as session:
        first_ready(slow)

        def send():
            with contextlib.suppress(ConnectionClosed):
                for _ in range(300):
                    slow.send(serialise(observation()))

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(50):
            assert len(session.infer(observation())) == CHUNK
        with pytest.raises(ConnectionClosed, match="came early"):
            list(iter(lambda: slow.recv(timeout=SETTLE_SEC), None))
        sender.join()


@pytest.mark.parametrize("step", [20, 30])
def test_a_checkpoint_that_goes_while_it_is_loaded_is_refused(port, experiment, step):
    """Deleted, or overwritten: its session is told, others go on, and put back it is loaded again."""
    folder = next(path for path in (experiment / "checkpoints").iterdir() if path.name.endswith(str(step)))
    saved, fifo = experiment.parent / f"saved{step}", experiment.parent / f"go{step}"
    shutil.copytree(folder, saved)
    client = InferenceClient("127.0.0.1", port)
    with client.session() as session, ThreadPoolExecutor(1) as pool:
        with dial(port, f"/{step}") as waiting:
            assert deserialise(waiting.recv(timeout=SETTLE_SEC))["status"] == "loading"
            with fifo.open("w") as word:  # the loader is waiting for it now
                if step == 20:
                    shutil.rmtree(folder)
                else:
                    (folder / "toy.json").write_bytes(b"\0" * 100)
                word.write("go")
            refused = first_ready(waiting)
            assert (refused["status"], f"Checkpoint 0000{step} cannot be loaded" in refused["error"]) == ("error", True)
            assert "Traceback" not in refused["error"]
        assert len(session.infer(observation())) == CHUNK
        shutil.rmtree(folder, ignore_errors=True)
        saved.rename(folder)
        fifo.unlink()
        again = pool.submit(lambda: len(client.session(step).infer(observation())))
        assert again.result(SETTLE_SEC) == CHUNK
    with pytest.raises(SessionRefused, match="No checkpoint '7'"):
        client.session("7")
