"""What one client may take, and what the log says of clients."""

import json
import signal
from urllib.parse import quote

import pytest
from toy_server import dial, make_checkpoint, observation, ready, running
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from positronic import keys
from positronic.client.client import InferenceClient
from positronic.client.session import InferenceError, SessionRefused
from positronic.utils.serialization import deserialise

SECRET = "/root/secrets/model.safetensors"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server where an address may have one session: its port, and its process, whose log is JSON."""
    folder = tmp_path_factory.mktemp("limits")
    make_checkpoint(folder / "run", 30)
    make_checkpoint(folder / "run", 40, fault=f"{SECRET} cannot be read.")
    make_checkpoint(folder / "elsewhere" / "run", 50)
    (folder / "run" / "linked").symlink_to(folder / "elsewhere")
    limits = {"max_sessions_per_address": 1, "idle_timeout_sec": 1.0, "log_format": "json", "checkpoint": "30"}
    with running(folder / "run", **limits) as (port, process):
        yield port, process


def test_an_address_has_as_many_sessions_as_it_may(server):
    """A further one hears so, in a sentence and with code 1013."""
    with dial(server[0]) as first, dial(server[0]) as second:
        ready(first)
        assert "max_sessions_per_address" in deserialise(second.recv(timeout=60))["error"]
        with pytest.raises(ConnectionClosed) as closed:
            second.recv(timeout=60)
        assert closed.value.rcvd.code == 1013


def test_a_session_in_which_no_observation_comes_is_closed(server):
    """With a reason, and without a frame that could be taken for an answer."""
    with dial(server[0]) as idle:
        ready(idle)
        with pytest.raises(ConnectionClosed) as closed:
            idle.recv(timeout=60)
        assert closed.value.rcvd.code == 1000
        assert "server.idle_timeout_sec" in closed.value.rcvd.reason


OUTSIDE = ["..", "../elsewhere/run/50", "linked/run/50", "linked/50", "/etc", "30/../40", "30/..", "./30"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_id_leads_nowhere_but_to_the_checkpoints_that_are_offered(server, name):
    """However it is written: as a path, encoded, or in the query."""
    for path in (f"/{name}", f"/{quote(name, safe='')}", f"?checkpoint_id={quote(name, safe='')}"):
        with connect(f"ws://127.0.0.1:{server[0]}{keys.ROUTE_SESSION}{path}") as websocket:
            said = deserialise(websocket.recv(timeout=60))
            assert "There are: 000030, 000040." in said["error"], said
            assert "/root" not in said["error"]


def test_a_path_of_the_servers_machine_reaches_no_client(server):
    """Neither in an error nor in the meta. Of a file only its name is told."""
    with pytest.raises(SessionRefused, match="…/model.safetensors cannot be read") as refused:
        InferenceClient("127.0.0.1", server[0]).session("40")
    assert SECRET not in str(refused.value)
    with InferenceClient("127.0.0.1", server[0]).session() as session:
        assert session.meta[keys.META_CHECKPOINT_PATH] == "run/checkpoints/000030"
        with pytest.raises(InferenceError, match="…/weights.bin") as failed:
            session.infer(observation(task="open /root/weights.bin"))
        assert "/root" not in str(failed.value)
        assert "Traceback" not in str(failed.value)


def test_the_log_has_a_line_for_each_event_with_the_sessions_number(server):
    """One JSON object each; what clients are not told is there. The last test of this server, since it ends it."""
    port, process = server
    with InferenceClient("127.0.0.1", port).session() as session:
        assert session.infer(observation())
        with pytest.raises(InferenceError):
            session.infer({})
    process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in process.stdout if line.startswith("{")]
    assert process.wait(timeout=60) == 0
    events = [line for line in lines if line.get("event") in ("opened", "error", "closed")]
    last = [line for line in events if line["session"] == events[-1]["session"]]
    assert [line["event"] for line in last] == ["opened", "error", "closed"]
    assert {line["checkpoint"] for line in last} == {"000030"}
    assert (last[-1]["answers"], last[-1]["errors"], last[-1]["address"]) == (1, 1, "127.0.0.1")
    assert {line["why"] for line in lines if line.get("event") == "refused"} >= {"full", "unavailable"}
    assert any(SECRET in line["message"] for line in lines)
    assert any("Traceback" in line["message"] and "/root/weights.bin" in line["message"] for line in lines)
