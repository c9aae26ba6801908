"""What supervisors and Prometheus ask a real server."""

import os
import re
import signal
import time
import urllib.error
import urllib.request

import pytest
from processes import family, member
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from toy_server import make_checkpoint, observation, running

from positronic.client.client import InferenceClient
from positronic.client.session import InferenceError, SessionRefused
from positronic.serving.health import DAMAGED, LOADING, NO_WORKER, what_is_missing
from positronic.serving.metrics import Metrics
from positronic.serving.recorder import SECONDS, Recorder, Tally, WorkerState
from positronic.serving.store import FAILED, LOADED, Counts
from positronic.serving.store import LOADING as LOADS

TOKEN = "s3cret"
SETTLES_SEC = 60
COUNTS = Counts(loaded=2, failed=1, evicted=1, in_memory=1, bytes_in_memory=10, default=LOADED)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a token, whose default loads when something is written into a fifo: port, process and fifo."""
    folder = tmp_path_factory.mktemp("health")
    os.mkfifo(folder / "go")
    make_checkpoint(folder / "run", 20)
    make_checkpoint(folder / "run", 30, fifo=str(folder / "go"))
    with running(folder / "run", token=TOKEN) as (port, process):
        yield port, process, folder / "go"


def get(port, path, token=None):
    """Status and text."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_for(port, path, expected):
    end = time.monotonic() + SETTLES_SEC
    while (found := get(port, path)) != expected:
        assert time.monotonic() < end, found


def wait_for_metrics(port, *lines):
    """Until each line is there; the worker tells them about once a second."""
    end = time.monotonic() + SETTLES_SEC
    while missing := set(lines) - set((found := get(port, "/metrics", TOKEN)[1]).splitlines()):
        assert time.monotonic() < end, f"{missing} not in {found}"


def test_a_server_is_alive_before_it_is_ready_and_counts_what_it_does(server):
    """Neither question needs a token; the metrics do. A worker that is started anew must load again."""
    port, process, go = server
    assert get(port, "/healthz") == (200, "ok")
    wait_for(port, "/readyz", (503, LOADING))
    assert get(port, "/metrics")[0] == 401
    go.write_text("go")
    wait_for(port, "/readyz", (200, "ready"))
    client = InferenceClient("127.0.0.1", port, token=TOKEN)
    with client.session("20") as session:
        session.infer(observation()), session.infer(observation())
        with pytest.raises(InferenceError):
            session.infer({})
        with pytest.raises(SessionRefused):
            client.session("7")
        wait_for_metrics(
            port,
            "positronic_worker_up 1.0",
            "positronic_sessions 1.0",
            'positronic_sessions_opened_total{checkpoint="000020"} 1.0',
            'positronic_sessions_refused_total{why="unavailable"} 1.0',
            'positronic_errors_total{checkpoint="000020"} 1.0',
            'positronic_answer_seconds_count{checkpoint="000020"} 2.0',
            "positronic_batch_size_sum 2.0",
            "positronic_forward_seconds_count 2.0",
            "positronic_queue_depth 0.0",
            'positronic_loads_total{how="loaded"} 2.0',
            "positronic_evictions_total 0.0",
            "positronic_checkpoints_in_memory 2.0",
            "positronic_worker_losses_total 0.0",
        )
    os.kill(member(family(process.pid), "worker"), signal.SIGKILL)
    wait_for_metrics(port, "positronic_worker_losses_total 1.0", 'positronic_loads_total{how="loaded"} 0.0')
    assert get(port, "/readyz") == (503, LOADING)
    go.write_text("go")
    wait_for(port, "/readyz", (200, "ready"))


def test_readiness_needs_a_worker_and_its_default_checkpoint():
    """A damaged one is told as that; what stands in the log is not."""

    def state(default):
        return Recorder().state(0, Counts(**{**vars(COUNTS), "default": default}))

    assert what_is_missing(None) == NO_WORKER
    assert what_is_missing(state(LOADS)) == LOADING
    assert what_is_missing(state(FAILED)) == DAMAGED
    assert what_is_missing(state(LOADED)) is None


def test_a_workers_state_travels_as_it_is():
    """To the process that listens."""
    recorder = Recorder()
    recorder.passed(3, 0.02)
    state = recorder.state(5, COUNTS)
    assert WorkerState.from_bytes(state.to_bytes()) == state


def test_a_tally_counts_as_prometheus_does():
    """On the bounds as well."""
    values = [0.0, 0.001, 0.0011, 0.05, 100.0, 1000.0]
    registry, tally, recorder = CollectorRegistry(), Tally(SECONDS), Recorder()
    theirs = Histogram("positronic_forward_seconds", "x", buckets=SECONDS, registry=registry)
    for value in values:
        theirs.observe(value), tally.add(value), recorder.passed(1, value)
    ours = Metrics().text(recorder.state(0, COUNTS), 0).decode()
    assert sum(tally.counts) == len(values)
    assert buckets(ours) == buckets(generate_latest(registry).decode())


def buckets(text):
    return re.findall(r"positronic_forward_seconds_(?:bucket|count|sum).*", text)
