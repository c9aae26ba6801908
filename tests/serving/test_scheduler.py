import contextlib
import gc
import math
import queue
import sys
import tempfile
import threading
import weakref
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest
import zmq
from toy_server import make_recipe, observation
from toy_vendor import CHUNK, ToyModel

from positronic.errors import PositronicError
from positronic.serving import memory
from positronic.serving.memory import Memory, policy_memory
from positronic.serving.messages import Reply, Request, status_frame
from positronic.serving.policy import ServedPolicy
from positronic.serving.recorder import WorkerState
from positronic.serving.scheduler import Scheduler, answer_frames, device_is_lost
from positronic.serving.store import FAIR_SEC, Opened, PolicyStore, Refused
from positronic.utils.serialization import deserialise, serialise


def toy_policy():
    return ServedPolicy(make_recipe(), ToyModel(), {})


NO_LIMIT = Memory(None, lambda: math.inf, lambda: 0)


class Loads:
    """Loads that end when a test says so, in the store's own threads. ``limit``: bytes for all policies; ``takes``:
    what a load takes by measurement."""

    def __init__(self, limit=None, takes=0):
        self.asked = queue.Queue()
        self.doors = {name: threading.Event() for name in "ABCDE"}
        self.ended = queue.Queue()
        self.closed = queue.Queue()
        self.in_use, self.takes, self.now_sec = 0, takes, 0.0
        room = Memory(limit, lambda: 0, lambda: self.in_use)
        self.store = PolicyStore(self.load, lambda: self.ended.put(None), room, clock=lambda: self.now_sec)

    def load(self, name):
        self.asked.put(name)
        self.doors[name].wait(10)
        if name == "C":
            raise PositronicError("C is damaged.")
        self.in_use += self.takes
        policy = toy_policy()
        policy.model.close = lambda: self.closed.put(name)
        return policy

    def loaded(self, session, name, needs=0):
        """A session that opens after a load."""
        assert told(self.store.open(session, name, needs)) == [(session, "loading")]
        assert told(self.finish(name))[0] == (session, "Opened")

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
    """Where there is room for one: a session keeps its policy while it lives, then the next is loaded, and a late-comer
    waits for that."""
    loads = Loads(limit=1)
    loads.loaded(b"1", "A", 1)
    assert told(loads.store.open(b"2", "B", 1)) == [(b"2", "waiting")]
    assert told(loads.store.open(b"3", "A")) == [(b"3", "Opened")]
    assert told(loads.store.close(b"1")) == []
    assert loads.store.policy(b"3") is not None
    assert told(loads.store.close(b"3")) == [(b"2", "loading")]
    assert told(loads.store.open(b"4", "A", 1)) == [(b"4", "waiting")]
    assert told(loads.finish("B")) == [(b"2", "Opened"), (b"4", "waiting")]
    assert loads.closed.get(timeout=10) == "A"


def test_checkpoints_that_fit_are_there_side_by_side():
    """Each session is answered by its own, and one that is asked for again opens at once."""
    loads = Loads(limit=2)
    loads.loaded(b"1", "A", 1)
    loads.loaded(b"2", "B", 1)
    assert loads.store.policy(b"1") is not loads.store.policy(b"2")
    for session, checkpoint in ((b"1", "B"), (b"2", "A")):
        loads.store.close(session)
        assert told(loads.store.open(session, checkpoint, 1)) == [(session, "Opened")]
    assert [loads.asked.get(), loads.asked.get(), loads.asked.empty()] == ["A", "B", True]


def test_the_one_that_was_used_longest_ago_makes_room():
    """And no more than must: A was opened first, and was in use last."""
    loads = Loads(limit=3)
    for session, checkpoint in ((b"1", "A"), (b"2", "B"), (b"3", "D")):
        loads.loaded(session, checkpoint, 1)
    for session in (b"2", b"3", b"1"):
        loads.store.close(session)
    loads.loaded(b"4", "E", 1)
    assert loads.closed.get(timeout=10) == "B"
    for session, checkpoint in ((b"5", "A"), (b"6", "D")):
        assert told(loads.store.open(session, checkpoint, 1)) == [(session, "Opened")]
    assert loads.closed.empty()


def test_one_that_takes_more_than_its_files_is_counted_as_it_is():
    """What no session uses goes once the load has shown it; what is used stays."""
    loads = Loads(limit=10, takes=6)
    loads.loaded(b"1", "A", 1)
    loads.store.close(b"1")
    loads.loaded(b"2", "B", 1)
    assert loads.closed.get(timeout=10) == "A"
    assert told(loads.store.open(b"3", "D", 5)) == [(b"3", "waiting")]
    loads.store.close(b"3")
    assert told(loads.store.open(b"4", "D", 4)) == [(b"4", "loading")]


def test_one_that_is_too_large_is_tried_alone():
    """It says better itself what it lacks."""
    loads = Loads(limit=1)
    loads.loaded(b"1", "A", 1)
    assert told(loads.store.open(b"2", "B", 5)) == [(b"2", "waiting")]
    assert told(loads.store.close(b"1")) == [(b"2", "loading")]
    assert told(loads.finish("B")) == [(b"2", "Opened")]


def test_who_fits_does_not_wait_for_who_does_not():
    """Its load begins though the other came first."""
    loads = Loads(limit=3)
    loads.loaded(b"1", "A", 2)
    assert told(loads.store.open(b"2", "B", 2)) == [(b"2", "waiting")]
    assert told(loads.store.open(b"3", "D", 1))[0] == (b"2", "waiting")
    assert told(loads.finish("D"))[0] == (b"3", "Opened")


def test_a_checkpoint_does_not_wait_for_ever_for_sessions_that_overlap():
    """After a while, new sessions on what is in memory wait for it, and then for its sessions to end."""
    loads = Loads(limit=1)
    loads.loaded(b"1", "A", 1)
    loads.store.open(b"2", "B", 1)
    loads.now_sec = FAIR_SEC
    assert told(loads.store.open(b"3", "A", 1)) == [(b"3", "Opened")]
    loads.now_sec += 1
    (waiting,) = loads.store.open(b"4", "A", 1)
    assert waiting.message == "Checkpoint A waits until checkpoint B is loaded, which has waited longer"
    assert told(loads.store.close(b"1")) == []
    assert told(loads.store.close(b"3"))[0] == (b"2", "loading")
    assert told(loads.finish("B"))[0] == (b"2", "Opened")
    assert told(loads.store.close(b"2")) == [(b"4", "loading")]


def test_who_waits_for_a_slow_load_and_not_for_memory_holds_up_nobody():
    """However long it takes."""
    loads = Loads(limit=2)
    loads.loaded(b"1", "A", 1)
    loads.store.open(b"2", "B", 1)
    loads.now_sec = 2 * FAIR_SEC
    assert told(loads.store.open(b"3", "A", 1)) == [(b"3", "Opened")]


def test_the_one_that_was_loaded_before_anybody_asked_counts_too():
    """A vendor's server takes its memory elsewhere: it counts by its files."""
    loads = Loads(limit=10)
    loads.store.preload("A", 7)
    loads.finish("A")
    loads.loaded(b"1", "B", 7)
    assert loads.closed.get(timeout=10) == "A"


def test_the_collector_does_not_look_through_libraries_again(monkeypatch):
    """Only after a load that has imported some."""
    freezes = []
    monkeypatch.setattr(memory.gc, "freeze", lambda: freezes.append(len(sys.modules)))
    loads = Loads()
    for session, name, imports in ((b"1", "A", True), (b"2", "B", False), (b"3", "D", True)):
        if imports:
            monkeypatch.setitem(sys.modules, f"a library for {name}", sys)
        loads.loaded(session, name)
    assert len(freezes) == 2


def test_without_a_limit_what_is_free_decides():
    """A part of it, so that a forward pass has some."""
    free = 100
    memory = Memory(None, lambda: free, lambda: 0)
    assert (memory.has_room(80, 1000, 0), memory.has_room(81, 0, 0), memory.has_room(81, 0, 2)) == (True, False, True)
    measured = policy_memory("cpu", None)
    assert 0 < measured.in_use() < measured.free()


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
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context:  # a socket's path must be short
        address = f"ipc://{folder}/worker"
        scheduler = Scheduler(address, lambda checkpoint: toy_policy(), NO_LIMIT, 16)
        with context.socket(zmq.DEALER) as client:
            client.connect(address)
            client.send_multipart([b"1", Request.INFER, b"", serialise(observation())])
            scheduler.step()
            session, reply, answer = client.recv_multipart()
    assert (session, reply) == (b"1", Reply.FAILED)
    assert "after 'ready'" in answer.decode()


@pytest.mark.parametrize("kind", [*Request, *Reply])
def test_kinds_travel_as_bytes(kind):
    """A kind is read back from the bytes that travelled."""
    assert type(kind)(bytes(kind)) is kind
    assert deserialise(status_frame("loading", "x")) == {"status": "loading", "message": "x"}


class Wayward(ToyModel):
    """Answers by the task of its first observation; ``refs``: weak references to the states that it was given."""

    def __init__(self):
        super().__init__()
        self.refs = []

    def predict(self, observations, noise=None):
        self.batches.append(len(observations))
        self.refs += [weakref.ref(each["observation.state"]) for each in observations]
        chunks = [self._chunk(each["observation.state"]) for each in observations]
        for each in observations:
            error = ERRORS.get(each["task"])
            if error is not None:
                raise error()
        return {task: make(chunks) for task, make in ODD_ANSWERS.items()}.get(observations[0]["task"], chunks)


class MuteError(Exception):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()  # cannot be pickled either

    def __str__(self):
        raise RuntimeError("no words")


ERRORS = {
    "too long": lambda: RuntimeError("the sequence is longer than this model takes"),
    "cuda": lambda: RuntimeError("CUDA error: device-side assert triggered"),
    "memory": MemoryError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "mute": MuteError,
    "surrogate": lambda: ValueError("half a \ud800 character"),
    "long text": lambda: ValueError("x" * 10_000_000),
    "stop": StopIteration,
}
ODD_ANSWERS = {
    "no chunk": lambda chunks: [],
    "two chunks": lambda chunks: chunks * 2,
    "None": lambda chunks: None,
    "a number": lambda chunks: 7,
    "a generator": iter,
    "not finite": lambda chunks: [chunks[0] * np.nan, *chunks[1:]],
    "a short row": lambda chunks: [chunks[0][:, :3], *chunks[1:]],
    "text": lambda chunks: ["move left", *chunks[1:]],
    "objects": lambda chunks: [np.array([[object()] * 8]), *chunks[1:]],
    "complex": lambda chunks: [chunks[0] * 1j, *chunks[1:]],
}


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("task", [*ERRORS, *ODD_ANSWERS])
def test_a_model_that_fails_for_one_answers_its_mates(task):
    """Whatever it raises or answers, the sender is told in a short sentence, and fifteen others get their chunks."""
    policy = ServedPolicy(make_recipe(), Wayward(), {})
    bad, good = serialise(observation(task=task)), serialise(observation())
    first, *others = map(deserialise, answer_frames(policy, [bad, *[good] * 15]))
    if task != "complex":  # numpy warns of those
        assert len(first["error"]) < 2000
    assert [len(each["result"]) for each in others] == [CHUNK] * 15
    assert sum(policy.model.batches) <= 16 * 4 + 16


def test_a_batch_too_large_for_the_memory_gets_small():
    """Halves are tried until they fit."""

    class Small(ToyModel):
        def predict(self, observations, noise=None):
            if len(observations) > 4:
                raise MemoryError
            return super().predict(observations, noise)

    policy = ServedPolicy(make_recipe(), Small(), {})
    answers = answer_frames(policy, [serialise(observation())] * 16)
    assert all("result" in deserialise(answer) for answer in answers)
    assert policy.model.batches == [4] * 4
    assert policy.batch_limit.most == 4


class Gate(ToyModel):
    """Each forward pass goes on when the test says so; ``begun`` holds the size of those that have begun."""

    def __init__(self):
        super().__init__()
        self.begun, self.doors, self.closed = queue.Queue(), queue.Queue(), threading.Event()

    def predict(self, observations, noise=None):
        self.begun.put(len(observations))
        self.doors.get(timeout=10)
        assert not self.closed.is_set()
        return super().predict(observations, noise)

    def close(self):
        self.closed.set()


@contextlib.contextmanager
def working(policies, limit=math.inf, max_batch=16):
    """A scheduler at work over ``policies`` by checkpoint id, each of one byte. Yields what talks to it."""
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context, context.socket(zmq.DEALER) as client:
        address = f"ipc://{folder}/worker"
        scheduler = Scheduler(address, policies.__getitem__, Memory(limit, lambda: 0, lambda: 0), max_batch)
        ending = threading.Event()
        thread = threading.Thread(target=lambda: [scheduler.step() for _ in iter(ending.is_set, True)], daemon=True)
        thread.start()
        client.connect(address)
        yield Line(client)
        ending.set()
        client.send_multipart([b"", Request.ALIVE, b"", b""])
        thread.join(10)


class Line:
    """The API process's end."""

    def __init__(self, socket):
        self.socket = socket

    def say(self, session, request, checkpoint=b"", payload=b""):
        self.socket.send_multipart([session, request, checkpoint, payload])

    def open(self, session, checkpoint):
        self.say(session, Request.OPEN, checkpoint, b"1")
        while self.hear()[:2] != (session, Reply.READY):
            pass

    def ask(self, session, **changes):
        self.say(session, Request.INFER, payload=serialise(observation(**changes)))

    def hear(self):
        assert self.socket.poll(10_000)
        session, reply, payload = self.socket.recv_multipart()
        return session, Reply(reply), payload

    def hears_nothing(self):
        return not self.socket.poll(100)


def test_those_who_ask_during_a_pass_share_the_next_one():
    """Frames are taken up while the model computes, up to the largest batch."""
    policy = ServedPolicy(make_recipe(), Gate(), {})
    with working({"A": policy}, max_batch=3) as line:
        sessions = [bytes([number]) for number in range(5)]
        for session in sessions:
            line.open(session, b"A")
        line.ask(sessions[0])
        assert policy.model.begun.get(timeout=10) == 1
        for session in sessions[1:]:
            line.ask(session)
        line.say(b"x", Request.INFER)  # answered at once: so the four before it have been taken up
        assert line.hear()[:2] == (b"x", Reply.FAILED)
        for size in (3, 1):
            policy.model.doors.put(None)
            assert policy.model.begun.get(timeout=10) == size
        policy.model.doors.put(None)
        assert sorted(line.hear()[0] for _ in sessions) == sessions


def test_checkpoints_take_turns():
    """The one whose robot asked first is next, however many ask the other."""
    policies = {name: ServedPolicy(make_recipe(), Gate(), {}) for name in "AB"}
    with working(policies) as line:
        for session, checkpoint in ((b"1", b"A"), (b"2", b"A"), (b"3", b"B"), (b"4", b"A")):
            line.open(session, checkpoint)
        line.ask(b"1")
        assert policies["A"].model.begun.get(timeout=10) == 1
        for session in (b"3", b"2", b"4"):
            line.ask(session)
        line.say(b"x", Request.INFER)
        line.hear()
        policies["A"].model.doors.put(None)
        assert policies["B"].model.begun.get(timeout=10) == 1
        policies["B"].model.doors.put(None)
        assert policies["A"].model.begun.get(timeout=10) == 2
        policies["A"].model.doors.put(None)
        assert [line.hear()[0] for _ in range(4)] == [b"1", b"3", b"2", b"4"]


def test_a_policy_stays_until_its_pass_has_ended():
    """Though its only session has left and another checkpoint needs its memory."""
    gate = ServedPolicy(make_recipe(), Gate(), {})
    with working({"A": gate, "B": toy_policy()}, limit=1) as line:
        line.open(b"1", b"A")
        line.open(b"2", b"A")  # so that the pass has a thread of its own
        line.ask(b"1")
        gate.model.begun.get(timeout=10)
        line.say(b"2", Request.CLOSE)
        line.say(b"1", Request.CLOSE)
        line.say(b"3", Request.OPEN, b"B", b"1")
        assert line.hear()[:2] == (b"3", Reply.STATUS)
        assert not gate.model.closed.is_set()
        gate.model.doors.put(None)
        while line.hear()[:2] != (b"3", Reply.READY):
            pass
        assert gate.model.closed.wait(10)


def test_a_pass_that_does_not_end_does_not_look_alive():
    """Nobody is told that the worker lives before it has ended."""
    policy = ServedPolicy(make_recipe(), Gate(), {})
    with working({"A": policy}) as line:
        line.open(b"1", b"A")
        line.open(b"2", b"A")
        line.say(b"", Request.ALIVE)
        assert line.hear()[1] is Reply.ALIVE
        line.ask(b"1")
        policy.model.begun.get(timeout=10)
        line.say(b"", Request.ALIVE)
        line.ask(b"2", grip=[])
        assert line.hear()[:2] == (b"2", Reply.FAILED)
        assert line.hears_nothing()
        policy.model.doors.put(None)
        assert {line.hear()[1] for _ in range(2)} == {Reply.ALIVE, Reply.ANSWER}


def test_a_sign_of_life_tells_how_many_observations_wait():
    """For a forward pass, at the end of the one before; and what the worker has counted."""
    policy = ServedPolicy(make_recipe(), Gate(), {})
    with working({"A": policy}) as line:
        for session in (b"1", b"2", b"3"):
            line.open(session, b"A")
        line.ask(b"1")
        policy.model.begun.get(timeout=10)
        line.ask(b"2"), line.ask(b"3")
        line.say(b"", Request.ALIVE)
        line.say(b"x", Request.INFER)  # answered at once: so those before it have been taken up
        assert line.hear()[:2] == (b"x", Reply.FAILED)
        policy.model.doors.put(None)
        _, reply, state = line.hear()
        assert reply is Reply.ALIVE
        worker = WorkerState.from_bytes(state)
        assert (worker.queued, worker.batches_sum, worker.store.in_memory) == (2, 1, 1)
        policy.model.doors.put(None)
        assert sorted(line.hear()[0] for _ in range(3)) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("within_sec", [1e-6, np.float32(0.05)])
def test_a_late_observation_is_refused_while_a_pass_is_under_way(within_sec):
    """Its client does not wait until that has ended, and it is not computed. The session may ask again."""
    policy = ServedPolicy(make_recipe(), Gate(), {})
    with working({"A": policy}) as line:
        for session in (b"1", b"2"):
            line.open(session, b"A")
        line.ask(b"1")
        policy.model.begun.get(timeout=10)
        line.ask(b"2", answer_within_sec=within_sec)
        session, _, payload = line.hear()
        assert session == b"2"
        assert f"No forward pass was free within {within_sec:g} s" in payload.decode()
        policy.model.doors.put(None)
        assert line.hear()[0] == b"1"
        line.ask(b"2", answer_within_sec=0)
        assert "expected seconds above 0" in line.hear()[2].decode()
    assert policy.model.batches == [1]


def test_a_model_that_cannot_be_ended_does_not_keep_the_next_from_loading(caplog):
    """Whoever started the server reads why."""

    class Stuck(ToyModel):
        def close(self):
            raise OSError("the vendor's server does not end")

    policies = {"A": ServedPolicy(make_recipe(), Stuck(), {}), "B": toy_policy()}
    with working(policies, limit=1) as line:
        line.open(b"1", b"A")
        line.say(b"1", Request.CLOSE)
        line.open(b"2", b"B")
    assert "could not be ended" in caplog.text


@pytest.fixture
def no_cyclic_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("task", ["too long", "no chunk", "not finite", "mute"])
def test_an_error_lets_its_observation_go(no_cyclic_collector, task):
    """At once: nothing waits for the cyclic collector, and what is logged holds nothing."""
    policy = ServedPolicy(make_recipe(), Wayward(), {})
    assert "error" in deserialise(answer_frames(policy, [serialise(observation(task=task))])[0])
    assert policy.model.refs
    assert all(ref() is None for ref in policy.model.refs)


@pytest.mark.parametrize("frame", [serialise(observation(grip=[])), serialise({"grip": 0.0}), b"\xc1noise"])
def test_a_stream_of_bad_observations_leaves_no_garbage(no_cyclic_collector, frame):
    """Neither those that are refused before the model sees them."""
    policy = toy_policy()
    left = []
    for _ in range(3):  # threads that other tests have left behind may leave something too, but not always
        gc.collect()
        for _ in range(50):
            answer_frames(policy, [frame])
        left.append(gc.collect())
    assert min(left) < 50


def test_a_key_that_nobody_reads_is_not_decoded():
    """However large or broken its value is."""
    broken = {b"__jpeg__": True, b"frames": [b"no picture"], b"ndim": 3}
    message = msgpack.unpackb(serialise(observation())) | {"image.unused": broken}
    assert "result" in deserialise(answer_frames(toy_policy(), [msgpack.packb(message)])[0])


def test_a_hundred_thousand_keys_cost_no_search():
    """More keys than any robot sends are refused before the nearest name is looked for."""
    frame = serialise({f"robot_state.ee_pos{i:06d}": 0 for i in range(100_000)})
    answer = deserialise(answer_frames(toy_policy(), [frame])[0])
    assert "100000 keys" in answer["error"]


def test_system_exit_while_loading_is_a_refusal():
    """A loader that calls sys.exit leaves nobody waiting."""
    ended = threading.Event()
    store = PolicyStore(sys.exit, ended.set, NO_LIMIT)
    store.open(b"1", "A")
    assert ended.wait(10)
    (refused,) = store.collect()
    assert "SystemExit" in refused.reason


DIALECTS = {
    "openpi": {b"__ndarray__": True, b"dtype": "dtype"},
    "openpi with text keys": {"__ndarray__": True, "dtype": "dtype"},
    "msgpack-numpy": {b"nd": True, b"type": "dtype", b"kind": b""},
    "vLLM": {"nd": True, "type": "dtype", "kind": "kind"},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_other_clients_observations_are_answered(dialect):
    """Arrays as openpi's client, the msgpack-numpy package and vLLM write them."""

    def encode(array):
        fields = {"shape": list(array.shape), "data": array.tobytes()}
        values = {"dtype": array.dtype.str, "kind": array.dtype.kind}
        marker = {name: values.get(value, value) for name, value in DIALECTS[dialect].items()}
        as_text = isinstance(next(iter(marker)), str)
        return marker | (fields if as_text else {name.encode(): value for name, value in fields.items()})

    seen = {key: encode(value) if isinstance(value, np.ndarray) else value for key, value in observation().items()}
    assert "result" in deserialise(answer_frames(toy_policy(), [msgpack.packb(seen)])[0])


def test_a_failed_forward_without_a_lost_device_ends_nothing(monkeypatch):
    """CUDA that still answers, or was never used, is no lost device, whatever the error's text says."""
    for initialised in (False, True):
        cuda = SimpleNamespace(is_initialized=lambda initialised=initialised: initialised, synchronize=lambda: None)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        assert not device_is_lost()
    monkeypatch.delitem(sys.modules, "torch")
    assert not device_is_lost()
