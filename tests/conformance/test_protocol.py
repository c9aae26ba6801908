"""What a server of protocol version 1 does, asked of any server: see ``conftest.py`` for how to name one.

One that speaks version 2 or 3 is asked in its version, so that what else differs can be seen.
"""

import io
import json
import random
import threading
import urllib.error
import urllib.request
from http import HTTPStatus

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from malformed import KINDS
from PIL import Image
from session_by_hand import SILENCE_SEC, SessionByHand
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from positronic import keys
from positronic.client.local_stack import playback, understood
from positronic.commands import ActionStep

EACH_KIND = 10  # malformed frames; scripts/attack_serving.py sends 10,000 and measures
ATTACKERS = 2


def steps_of(answer):
    """An answer's steps. They are a list of maps, in their order of time."""
    assert set(answer) - {"timing"} == {"result"}, answer
    steps = [ActionStep.from_wire(step) for step in answer["result"]]
    stamps = [step.timestamp for step in steps]
    assert stamps == sorted(stamps)
    assert not stamps or stamps[0] == 0.0
    return steps


def is_error(answer):
    return set(answer) - {"timing"} == {"error"} and isinstance(answer["error"], str) and bool(answer["error"])


def models(target):
    request = urllib.request.Request(target.http(keys.ROUTE_MODELS), headers=target.headers)
    with urllib.request.urlopen(request, timeout=SILENCE_SEC) as response:
        return json.load(response)


def test_status_frames_come_before_ready(target):
    """Waiting or loading, with a message for people or without; then ready, and nothing more until it is asked."""
    with SessionByHand(target) as session:
        session.open()
        *waiting, _ = session.opening
        assert all(set(each) <= {"status", "message"} for each in waiting)
        assert all(isinstance(each.get("message", ""), str) for each in waiting)
        with pytest.raises(TimeoutError):
            session.websocket.recv(timeout=0.2)


def test_the_ready_message_is_of_version_1(session):
    """A message that says no version is of version 1, which every client speaks."""
    ready = session.opening[-1]
    assert ready.get(keys.PROTOCOL_VERSION, 1) == 1
    assert set(ready) - {keys.PROTOCOL_VERSION} == {"status", "meta"}


def test_the_meta_say_what_clients_read(session):
    """A type and a checkpoint as text, a rate, a picture's size, and a stack that leaves no codec to the robot."""
    meta = session.opening[-1]["meta"]
    assert isinstance(meta[keys.META_TYPE], str)
    assert isinstance(meta[keys.META_CHECKPOINT_ID], str)
    assert isinstance(meta.get(keys.META_COMPRESS_IMAGES, False), bool)
    assert meta[keys.META_LOCAL_STACK]
    assert playback(understood(meta, "the server"), "the server").fps is not None


def test_two_sessions_have_the_same_meta(target):
    """A client that reconnects compares them: no times, no random ids."""
    metas = []
    for _ in range(2):
        with SessionByHand(target) as session:
            metas.append(session.open())
    assert metas[0] == metas[1]


def test_each_observation_has_one_answer(session, target):
    """A list of steps, each a command that clients know; nothing comes in between or afterwards."""
    for _ in range(3):
        steps_of(session.ask(target.observation))
    with pytest.raises(TimeoutError):
        session.websocket.recv(timeout=0.2)


def test_a_chunks_steps_have_times(session, target):
    """Without them the oldest clients play a chunk as fast as they can."""
    assert all(keys.TIMESTAMP in step for step in session.ask(target.observation)["result"])


def test_keys_that_nobody_asked_for_are_ignored(session, target):
    """Published clients send their clocks and the state of the robot with every observation."""
    steps_of(session.ask({**target.observation, "obs_time_ns": 1, "robot_state.status": 0, "descriptor": None}))


@pytest.mark.parametrize("bad", [{}, [1], b"\xc1", b"", "text"], ids=["no keys", "no map", "noise", "nothing", "text"])
def test_an_error_leaves_the_session_open(session, target, bad):
    """It says why; the next observation is answered."""
    assert is_error(session.ask(bad))
    steps_of(session.ask(target.observation))


def test_a_second_observation_that_comes_early_is_answered_second(session, target):
    """Two answers, in their order: here an error, then a result."""
    session.say(session.frame({}))
    session.say(session.frame(target.observation))
    assert is_error(session.hear())
    steps_of(session.hear())


def test_an_observation_before_ready_is_answered_after_it(target):
    """In its turn."""
    with SessionByHand(target) as session:
        session.open()
        frame = session.frame(target.observation)
        by_name = session.version.session_id is not None
    if by_name:
        pytest.skip("an observation of this version names its session, which the ready message says")
    with SessionByHand(target) as session:
        session.say(frame)
        session.open()
        steps_of(session.hear())


def test_a_client_that_vanishes_harms_nobody(target):
    """While the session opens, when it is open, and with an answer on its way."""
    for moment in ("opening", "open", "asked"):
        with SessionByHand(target) as session:
            if moment != "opening":
                session.open()
            if moment == "asked":
                session.say(session.frame(target.observation))
            session.vanish()
    with SessionByHand(target) as session:
        session.open()
        steps_of(session.ask(target.observation))


def test_pings_are_answered_while_the_model_computes(session, target):
    """Clients ask every 20 s, and take a server that is silent for lost."""
    session.say(session.frame(target.observation))
    assert session.websocket.ping().wait(SILENCE_SEC)
    steps_of(session.hear())


def test_two_sessions_are_answered_side_by_side(target):
    """Neither has to end before the other is answered."""
    with SessionByHand(target) as one, SessionByHand(target) as other:
        one.open()
        other.open()
        for _ in range(3):
            one.say(one.frame(target.observation))
            other.say(other.frame(target.observation))
            steps_of(one.hear())
            steps_of(other.hear())


def pictures(observation):
    return [key for key, value in observation.items() if np.ndim(value) == 3 and np.asarray(value).dtype == np.uint8]


def test_pictures_may_be_jpeg(session, target):
    """Clients send them so if the meta ask for it, and some whenever they like."""
    sent = dict(target.observation)
    for key in pictures(sent):
        file = io.BytesIO()
        Image.fromarray(np.asarray(sent[key])).save(file, "JPEG", quality=90)
        sent[key] = {b"__jpeg__": True, b"frames": [file.getvalue()], b"ndim": 3}
    if not pictures(target.observation):
        pytest.skip("the observation holds no picture")
    steps_of(session.ask(msgpack.packb(session.version.request(sent), default=msgpack_as_openpi)))


def msgpack_as_openpi(value):
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}


def msgpack_as_openpi_in_text(value):
    return {name.decode(): part for name, part in msgpack_as_openpi(value).items()}


def msgpack_as_vllm(value):
    kind = {"nd": True, "type": value.dtype.str, "kind": value.dtype.kind}
    return {**kind, "shape": list(value.shape), "data": value.tobytes()}


ENCODINGS = [msgpack_as_openpi, msgpack_as_openpi_in_text, msgpack_numpy.encode, msgpack_as_vllm]


@pytest.mark.parametrize("encode", ENCODINGS, ids=["openpi", "text keys", "msgpack-numpy", "vLLM"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_arrays_are_read_as_clients_write_them(session, target, encode, order):
    """In either order of bytes."""
    turned = {
        key: value.astype(value.dtype.newbyteorder(order)) if isinstance(value, np.ndarray) else value
        for key, value in target.observation.items()
    }
    steps_of(session.ask(msgpack.packb(session.version.request(turned), default=encode)))


def test_plain_lists_and_numbers_are_read_where_vectors_are_expected(session, target):
    """The published example sends them so; pictures stay arrays."""
    plain = {
        key: value.tolist() if isinstance(value, np.ndarray) and key not in pictures(target.observation) else value
        for key, value in target.observation.items()
    }
    steps_of(session.ask(plain))


def test_models_are_listed_as_text(target):
    """The one that sessions get that name none is among them."""
    listed = models(target)
    assert set(listed) == {"models"}
    assert all(isinstance(each, str) for each in listed["models"])
    with SessionByHand(target) as session:
        assert session.open()[keys.META_CHECKPOINT_ID] in listed["models"]


def test_a_checkpoint_is_chosen_by_the_address(target):
    """By the path and by the query, each of those that are listed."""
    for name in models(target)["models"]:
        for path in (f"/{name}", f"?{keys.QUERY_CHECKPOINT}={name}"):
            with SessionByHand(target, path) as session:
                assert session.open()[keys.META_CHECKPOINT_ID] == name


@pytest.mark.parametrize(
    "path", ["/no-such-checkpoint", f"?{keys.QUERY_CHECKPOINT}=no-such-checkpoint", "?no_such_key=1"]
)
def test_what_cannot_be_had_is_an_error_and_the_end(target, path):
    """As the first frame that is no status; then code 1008 with a short reason."""
    with SessionByHand(target, path) as session:
        frame = session.hear()
        while frame.get("status") in ("waiting", "loading"):
            frame = session.hear()
        assert frame["status"] == "error"
        assert isinstance(frame["error"], str)
        code, reason = session.closing()
    assert (code, len(reason.encode()) <= 123) == (1008, True)


@pytest.mark.parametrize("fits", [True, False])
def test_a_robot_that_is_stated_is_compared_with_what_the_checkpoint_needs(target, session, fits):
    """By servers whose meta says what that is. A contradiction is refused with both sides, in one sentence."""
    meta = session.opening[-1][keys.META]
    needed = meta.get(keys.META_ROBOT)
    if not needed:
        pytest.skip("this server does not say what robot it needs")
    robot = needed if fits else dict.fromkeys(needed, "something else")
    headers = target.headers | {keys.HEADER_ROBOT: json.dumps({keys.META_ROBOT: robot})}
    with SessionByHand(target, additional_headers=headers) as other:
        if fits:
            assert other.open() == meta
            return
        frame = other.hear()
        while frame.get("status") in ("waiting", "loading"):
            frame = other.hear()
        assert frame["status"] == "error"
        assert "something else" in frame["error"]
        assert "\n" not in frame["error"]
        assert other.closing()[0] == 1008


def test_a_wrong_token_is_refused_before_the_session_is_accepted(target):
    """HTTP 401, a websocket 403."""
    if target.token is None:
        pytest.skip("this server has no token")
    wrong = {"Authorization": "Bearer wrong"}
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{target.address}{keys.ROUTE_SESSION}", additional_headers=wrong, proxy=None).__enter__()
    assert refused.value.response.status_code == HTTPStatus.FORBIDDEN
    with pytest.raises(urllib.error.HTTPError) as unauthorised:
        urllib.request.urlopen(urllib.request.Request(target.http(keys.ROUTE_MODELS), headers=wrong), timeout=60)
    assert unauthorised.value.code == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_malformed_frame_has_one_answer(session, target, kind):
    """An error, or a result of what is sound after all; then an honest observation is answered."""
    honest = session.frame(target.observation)
    for number in range(EACH_KIND):
        answer = session.ask(kind(honest, random.Random(number)))
        assert is_error(answer) or steps_of(answer) is not None
    steps_of(session.ask(target.observation))


def test_an_honest_session_is_answered_beside_malformed_frames(target):
    """All kinds at once from two others."""

    def attack(seed):
        rng = random.Random(seed)
        with SessionByHand(target) as session:
            session.open()
            honest = session.frame(target.observation)
            for kind in rng.sample(KINDS, len(KINDS)) * 3:
                session.say(kind(honest, rng))
                heard.append(session.hear())

    heard = []
    attackers = [threading.Thread(target=attack, args=[seed]) for seed in range(ATTACKERS)]
    with SessionByHand(target) as session:
        session.open()
        for attacker in attackers:
            attacker.start()
        steps_of(session.ask(target.observation))
        while any(attacker.is_alive() for attacker in attackers):
            steps_of(session.ask(target.observation))
    assert len(heard) == ATTACKERS * 3 * len(KINDS)
