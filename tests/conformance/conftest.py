"""Which server is asked: ``pytest tests/conformance --server ws://host:port --observation seen.msgpack [--token ...]``.

The same can be said by POSITRONIC_SERVER, POSITRONIC_OBSERVATION and POSITRONIC_TOKEN. Without a server, a toy one of
this project is started.
"""

import os
import sys
from pathlib import Path

import pytest

from positronic.utils.serialization import deserialise

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "serving")]

OPTIONS = {
    "server": "ws://host:port of a server of protocol version 1",
    "observation": "file that holds an observation which it answers, as the frame that a client sends",
    "token": "its bearer token, if it has one",
}


def pytest_addoption(parser):
    for name, text in OPTIONS.items():
        parser.addoption(f"--{name}", help=text)


def said(config, name):
    return config.getoption(f"--{name}", default=None) or os.environ.get(f"POSITRONIC_{name.upper()}")


@pytest.fixture(scope="session")
def target(pytestconfig, tmp_path_factory):
    """The server, and an observation that it answers."""
    from session_by_hand import Target
    from toy_server import make_checkpoint, observation, running

    server, file = said(pytestconfig, "server"), said(pytestconfig, "observation")
    if server:
        if not file:
            pytest.fail("--server needs --observation: which keys a policy reads, its server alone knows.")
        yield Target(server.rstrip("/"), deserialise(Path(file).read_bytes()), said(pytestconfig, "token"))
        return
    folder = tmp_path_factory.mktemp("conformance") / "toy_run"
    make_checkpoint(folder, 10, grip=0.1)
    make_checkpoint(folder, 20, echo=True)
    with running(folder, token="secret") as (port, _):
        yield Target(f"ws://127.0.0.1:{port}", observation(), "secret")


@pytest.fixture
def session(target):
    """An open session."""
    from session_by_hand import SessionByHand

    with SessionByHand(target) as session:
        session.open()
        yield session
