"""The clients that docs/protocol.md prints, word for word against a real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from toy_server import make_checkpoint, running
from toy_vendor import CHUNK

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
OURS, OPENPIS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "toy_run"
    make_checkpoint(folder, 10)
    with running(folder) as (port, _):
        yield port


def run(python, code, port):
    """What a client prints, in a process that does not see this project."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = code.replace("gpu-box:8000", f"127.0.0.1:{port}").replace('"gpu-box", 8000', f'"127.0.0.1", {port}')
    command = [python, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_of_the_page_plays_a_chunk(port):
    """With msgpack, numpy and websockets alone."""
    assert "positronic" not in OURS
    said = run(sys.executable, OURS, port)
    assert said.count("'type': 'cartesian_pos'") == CHUNK


def test_openpis_client_as_the_page_has_it_gets_a_chunk(port, openpi_python):
    """The columns, the parts of an action, and the chunk's shape."""
    said = run(openpi_python, OPENPIS, port)
    assert "{'action.ee_pose': 7, 'action.grip': 1}" in said
    assert said.splitlines()[-1] == f"({CHUNK}, 8)"
