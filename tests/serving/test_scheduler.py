import queue
import threading

import numpy as np
import pytest
from toy_server import make_recipe, observation
from toy_vendor import CHUNK, ToyModel

from positronic.errors import PositronicError
from positronic.serving.messages import Reply, Request, status_frame
from positronic.serving.policy import ServedPolicy
from positronic.serving.scheduler import answer_frames
from positronic.serving.store import Opened, PolicyStore, Refused
from positronic.utils.serialization import deserialise, serialise


def toy_policy():
    return ServedPolicy(make_recipe(), ToyModel(), {})


class Loads:
    """Loads that end when a test says so, in the store's own threads."""

    def __init__(self):
        self.asked = queue.Queue()
        self.doors = {name: threading.Event() for name in "ABC"}
        self.ended = queue.Queue()
        self.store = PolicyStore(self.load, lambda: self.ended.put(None))

    def load(self, name):
        self.asked.put(name)
        self.doors[name].wait(10)
        if name == "C":
            raise PositronicError("C is damaged.")
        return toy_policy()

    def finish(self, name):
        """Let a load end; what its end makes the store tell."""
        self.doors[name].set()
        self.ended.get(timeout=10)
        return self.store.collect()


def told(events):
    return [(e.session, getattr(e, "status", type(e).__name__)) for e in events]


def test_sessions_of_one_checkpoint_share_one_load():
    """Both wait for the same load, both open when it ends, later ones at once."""
    loads = Loads()
    assert told(loads.store.open(b"1", "A")) == [(b"1", "loading")]
    assert told(loads.store.open(b"2", "A")) == [(b"2", "loading")]
    assert told(loads.finish("A")) == [(b"1", "Opened"), (b"2", "Opened")]
    assert told(loads.store.open(b"3", "A")) == [(b"3", "Opened")]
    assert [loads.asked.get(), loads.asked.empty()] == ["A", True]
    assert loads.store.policy(b"1") is loads.store.policy(b"3") is not None


def test_another_checkpoint_waits_until_no_session_holds_the_loaded_one():
    """A session keeps its policy while it lives; then the next is loaded, and a late-comer waits for that."""
    loads = Loads()
    loads.store.open(b"1", "A")
    loads.finish("A")
    assert told(loads.store.open(b"2", "B")) == [(b"2", "waiting")]
    assert told(loads.store.open(b"3", "A")) == [(b"3", "Opened")]
    assert told(loads.store.close(b"1")) == []
    assert loads.store.policy(b"3") is not None
    assert told(loads.store.close(b"3")) == [(b"2", "loading")]
    assert told(loads.store.open(b"4", "A")) == [(b"4", "waiting")]
    assert told(loads.finish("B")) == [(b"2", "Opened"), (b"4", "waiting")]


def test_a_client_that_leaves_while_waiting_is_forgotten():
    """Its checkpoint is not loaded for nobody, and a load that it began stays for whoever comes."""
    loads = Loads()
    loads.store.open(b"1", "A")
    loads.store.open(b"2", "B")
    loads.store.close(b"2")
    loads.store.close(b"1")
    assert loads.finish("A") == []
    assert told(loads.store.open(b"3", "A")) == [(b"3", "Opened")]


def test_a_failed_load_refuses_its_sessions_and_goes_on_with_the_next():
    """Those who wait for another checkpoint get theirs."""
    loads = Loads()
    loads.store.open(b"1", "C")
    loads.store.open(b"2", "A")
    refused, loading = loads.finish("C")
    assert refused == Refused(b"1", "Checkpoint C cannot be loaded: C is damaged.")
    assert told([loading]) == [(b"2", "loading")]
    (opened,) = loads.finish("A")
    assert isinstance(opened, Opened)


def test_a_failed_load_is_in_the_servers_log(caplog):
    """Whoever started the server sees it, though no session asked; a mistake without a traceback."""
    loads = Loads()
    loads.store.preload("C")
    loads.finish("C")
    (record,) = caplog.records
    assert record.getMessage() == "Checkpoint C cannot be loaded: C is damaged."
    assert not record.exc_info


def test_a_failed_load_is_tried_again_for_the_next_session():
    """A repaired checkpoint needs no restart."""
    loads = Loads()
    loads.store.preload("C")
    loads.finish("C")
    assert told(loads.store.open(b"1", "C")) == [(b"1", "loading")]


def test_a_preloaded_checkpoint_opens_at_once():
    """The default's load begins before anybody asks."""
    loads = Loads()
    loads.store.preload("A")
    assert loads.finish("A") == []
    assert told(loads.store.open(b"1", "A")) == [(b"1", "Opened")]


def test_each_frame_has_its_own_answer():
    """Results, an observation's mistake and noise, in the order of the requests, from one forward pass."""
    policy = toy_policy()
    good, bad = serialise(observation()), serialise(observation(grip=[]))
    first, second, third, fourth = map(deserialise, answer_frames(policy, [good, bad, b"\xc1noise", good]))
    assert len(first["result"]) == len(fourth["result"]) == CHUNK
    assert "grip" in second["error"]
    assert "msgpack" in third["error"]
    assert policy.model.batches == [2]


def test_a_result_is_the_published_list_of_plain_steps():
    """robot_command is a plain tagged map with arrays, beside target_grip and timestamp; no envelope."""
    step = deserialise(answer_frames(toy_policy(), [serialise(observation())])[0])["result"][1]
    assert set(step) == {"robot_command", "target_grip", "timestamp"}
    assert step["robot_command"]["type"] == "cartesian_pos"
    assert isinstance(step["robot_command"]["pose"], np.ndarray)
    assert step["robot_command"]["pose"].shape == (12,)
    assert (step["target_grip"], step["timestamp"]) == (0.25, 1 / 15)


def test_an_observation_before_ready_is_refused():
    """There is no policy to ask."""
    assert "wait for 'ready'" in deserialise(answer_frames(None, [b""])[0])["error"]


@pytest.mark.parametrize("kind", [*Request, *Reply])
def test_kinds_travel_as_bytes(kind):
    """A kind is read back from the bytes that travelled."""
    assert type(kind)(bytes(kind)) is kind
    assert deserialise(status_frame("loading", "x")) == {"status": "loading", "message": "x"}
