"""Commands that are typed one after the other, as each of them prints the next."""

import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import positronic
from positronic.client.client import InferenceClient

ROOT = Path(__file__).resolve().parents[1]


class Shell:
    """Types commands in ``folder`` and remembers which one each of them ends with."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, line):
        """Type ``line``; the next command, as it is printed."""
        with self.started(line, subprocess.PIPE) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-2000:]
        return re.findall(r"^  next:    (.*)$", out, re.MULTILINE)[-1]

    @contextmanager
    def started(self, line, output=subprocess.DEVNULL):
        words = [str(ROOT / word) if word == "run.py" else word for word in shlex.split(line)[1:]]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, *words], cwd=self.folder, env=environment, stdout=output, stderr=output, text=True
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def play(shell, serve, raw):
    """Type ``serve``, and let the recording in ``raw`` be played by it. The rollout."""
    port = free_port()
    with shell.started(f"{serve} server.host=127.0.0.1 server.port={port}"):
        with InferenceClient("127.0.0.1", port).session():  # when it is ready
            pass
        policy = f"policy.host=127.0.0.1 policy.port={port} output_dir=rollouts"
        driver = "driver.num_episodes=1 driver.simulation_time=0.8 driver.save_videos=0"
        shell.run(f"python run.py stage=infer hardware=replay hardware.path={raw} {policy} {driver}")
    (rollout,) = positronic.open_raw(shell.folder / "rollouts")
    return rollout
