"""Servers of other versions: a stand-in that says and checks what the published ones do (measured with the model server
0.3.1 of Positronic 0.4), over real websockets."""

import contextlib
import threading

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from positronic.client.client import InferenceClient
from positronic.client.session import InferenceError, SessionRefused
from positronic.errors import PositronicError
from positronic.utils.serialization import deserialise, serialise

SESSION = "5f0c"
SCHEDULE = {"name": "chunked_schedule", "version": 3, "args": {"fps": 20.0, "horizon_sec": None}}
TIMING = {"decode_ms": 0.1, "queued_ms": 0.0, "infer_ms": 1.0, "model_ms": 1.0, "served_ms": 1.2}


class ModelServer:
    """Speaks version 2 or 3. ``requests``: the observations; ``ended``: whether the client said goodbye."""

    def __init__(self, version, *parts, **meta):
        self.ready = {"status": "ready", "protocol_version": version, "session_id": SESSION}
        self.ready |= {"meta": {"local_stack": {"seq": [*parts]}, **meta}}
        self.version, self.requests, self.ended = version, [], threading.Event()

    def __call__(self, connection):
        for frame in ({"status": "waiting"}, self.ready):
            connection.send(serialise(frame))
        with contextlib.suppress(ConnectionClosed):
            while not self.ended.is_set():
                connection.send(serialise(self.answer(deserialise(connection.recv()))))
            connection.recv()  # it is the client who closes

    def answer(self, request):
        assert request["session_id"] == SESSION
        if set(request) == {"session_id", "end_session"}:
            self.ended.set()
            return request
        assert set(request) == {"session_id", "observation"}
        self.requests.append(request["observation"])
        if request["observation"].get("task") == "die":
            return {"error": "the toy is dead"}
        return {"result": [self.step(number) for number in range(4)], "timing": TIMING}

    def step(self, number):
        command = {"type": "joint_pos", "positions": np.full(7, float(number))}
        return {"robot_command": {b"__cmd__": command} if self.version == 2 else command, "target_grip": 0.25}


@contextlib.contextmanager
def session_with(server):
    with serve(server, "127.0.0.1", 0, max_size=None) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            port = listener.socket.getsockname()[1]
            with InferenceClient("127.0.0.1", port, connect_timeout_sec=0.0).session() as session:
                yield session
        finally:
            listener.shutdown()
            thread.join()


@pytest.mark.parametrize("version", [2, 3])
def test_a_model_server_is_asked_in_its_own_version(version):
    """The request names the session; the steps get the times that the server's rate gives them; goodbye is said."""
    server = ModelServer(version, SCHEDULE, checkpoint_id="x1")
    with session_with(server) as session:
        assert (session.meta["checkpoint_id"], session.meta["action_fps"]) == ("x1", 20.0)
        steps = session.infer({"grip": 0.5})
    assert [step.timestamp for step in steps] == [0.0, 0.05, 0.1, 0.15]
    assert [step.command.positions[0] for step in steps] == [0.0, 1.0, 2.0, 3.0]
    assert (server.requests, server.ended.is_set()) == ([{"grip": 0.5}], True)


def test_an_error_of_a_model_server_leaves_the_session_usable():
    """The next observation is answered."""
    with session_with(ModelServer(3, SCHEDULE)) as session:
        with pytest.raises(InferenceError, match="the toy is dead"):
            session.infer({"task": "die"})
        assert len(session.infer({})) == 4


def test_steps_beyond_the_servers_horizon_are_not_played():
    """At 20 Hz two of the four begin before 0.1 s."""
    horizon = {"name": "action_horizon", "args": {"horizon_sec": 0.1}}
    with session_with(ModelServer(2, SCHEDULE, horizon)) as session:
        assert [step.timestamp for step in session.infer({})] == [0.0, 0.05]


def test_a_stack_may_bound_pictures_and_say_values():
    """Nested as servers write it; the picture that travels has the size."""
    inner = {"par": [{"name": "restrict_image_size", "args": {"width": 64, "height": 64}}]}
    values = {"name": "metadata", "version": "latest", "args": {"values": {"model": "m"}}}
    server = ModelServer(3, SCHEDULE, inner, {"seq": [values]})
    with session_with(server) as session:
        session.infer({"image.wrist": np.zeros((240, 320, 3), np.uint8)})
    assert (session.meta["model"], session.meta["image_sizes"]) == ("m", [64, 64])
    assert server.requests[0]["image.wrist"].shape == (48, 64, 3)


@pytest.mark.parametrize("version", [2, 3])
def test_a_codec_that_is_left_to_the_robot_is_refused_by_name(version):
    """Without it the robot would move wrongly."""
    codec = {"par": [{"name": "binarize_grip_inference"}, {"name": "joint_position_action", "args": {"num_joints": 7}}]}
    said = "does not do .*binarize_grip_inference, joint_position_action.*stage=serve"
    with pytest.raises(SessionRefused, match=said), session_with(ModelServer(version, SCHEDULE, codec)):
        pass


@pytest.mark.parametrize("tree", [7, {"seq": 3}, {"name": 5}, {"name": "metadata", "args": []}, {"par": [[]]}, {}])
def test_a_stack_that_is_no_tree_is_refused(tree):
    """Whatever stands there."""
    with pytest.raises(SessionRefused, match="tree of named parts"), session_with(ModelServer(3, SCHEDULE, tree)):
        pass


def test_a_stack_without_end_is_refused():
    """A stranger's server costs the robot a bounded time."""
    parts = [SCHEDULE] * 2000
    with pytest.raises(SessionRefused, match="more than 1000 parts"), session_with(ModelServer(3, *parts)):
        pass


@pytest.mark.parametrize("fps", [0, -1.0, float("nan"), "20", True])
def test_a_rate_that_is_none_is_refused(fps):
    """The steps' times would come from it."""
    schedule = {"name": "chunked_schedule", "args": {"fps": fps}}
    with pytest.raises(SessionRefused, match="expected a positive number"), session_with(ModelServer(3, schedule)):
        pass


def test_steps_without_times_and_rate_are_refused():
    """They would be played all at once."""
    with (
        session_with(ModelServer(3)) as session,
        pytest.raises(PositronicError, match="4 steps without 'timestamp'.*'action_fps'"),
    ):
        session.infer({})


@pytest.mark.parametrize("version", [0, 4, "3", True, None])
def test_an_unknown_version_is_refused_with_what_to_do(version):
    """One sentence, and the next step."""
    said = "expected protocol version 1 to 3, found .*update the client"
    with pytest.raises(SessionRefused, match=said), session_with(ModelServer(version, SCHEDULE)):
        pass


def test_a_ready_message_without_its_session_is_refused():
    """Nothing could be asked."""
    server = ModelServer(3, SCHEDULE)
    del server.ready["session_id"]
    with pytest.raises(SessionRefused, match="'session_id' as text"), session_with(server):
        pass


def test_a_server_that_has_gone_does_not_hold_up_the_goodbye():
    """Closing a session ends, whatever the other side does."""

    class Deaf(ModelServer):
        def answer(self, request):
            if "end_session" in request:
                raise ConnectionClosed(None, None)
            return super().answer(request)

    with session_with(Deaf(3, SCHEDULE)) as session:
        assert len(session.infer({})) == 4
