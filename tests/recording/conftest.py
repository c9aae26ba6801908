"""Scripts that record the small robot."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import positronic

sys.path.insert(0, str(Path(__file__).parent))  # small_robot
from small_robot import CAMERAS

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
# The script of a person: it saves an episode, is in the middle of another, says so, and waits.
SCRIPT = """
import multiprocessing, sys
import numpy as np
import positronic

with positronic.record(sys.argv[1], "so101", cameras={"wrist": (32, 48)}, task="Stack the cubes.") as recorder:
    print("encoders:", *(child.pid for child in multiprocessing.active_children()), flush=True)
    for number in range(2):
        with recorder.episode() as episode:
            for step in range(30):
                frame = np.full((32, 48, 3), step, np.uint8)
                episode.append({"robot_state.q": np.zeros(5), "image.wrist": frame}, time_ns=step * 20_000_000)
            if number == 1:
                print("in the middle", flush=True)
                sys.stdin.readline()
"""


@pytest.fixture
def root(tmp_path):
    return tmp_path / "recordings"


@pytest.fixture
def recorder(root):
    with positronic.record(root, "so101", cameras=CAMERAS, task="Stack the cubes.") as recorder:
        yield recorder


@pytest.fixture
def script(tmp_path):
    """The person's script in the middle of its second episode, and its encoders' process ids."""

    @contextlib.contextmanager
    def start(root, source=SCRIPT):
        path = tmp_path / "mine.py"
        path.write_text(source)
        command = [sys.executable, str(path), str(root)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, **pipes, text=True, cwd=ROOT, env=ENVIRONMENT) as process:
            try:
                encoders = [int(pid) for pid in process.stdout.readline().split()[1:]]
                assert process.stdout.readline().startswith("Episode 0 saved")
                assert process.stdout.readline() == "in the middle\n"
                yield process, encoders
            finally:
                process.kill()

    return start


@pytest.fixture
def run_script(tmp_path):
    """A person's script, run to its end."""

    def run(root, source):
        path = tmp_path / "mine.py"
        path.write_text(source)
        command = [sys.executable, str(path), str(root)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=100)

    return run
