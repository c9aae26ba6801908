"""The script that uses a server for minutes, for seconds: it runs, does all that it says, and measures."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPARE = 16  # files that a busy server opens once


def test_a_server_that_is_used_and_abused_keeps_its_files(tmp_path):
    """Robots of both protocols are answered, clients vanish, frames are spoiled; the last line is JSON."""
    command = [sys.executable, str(ROOT / "scripts" / "soak_serving.py"), "--seconds=3", "--robots=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said.keys() == {"flat", "grown", "answers", "vanished", "spoiled"}
    assert min(said["answers"], said["vanished"], said["spoiled"]) > 0
    assert said["grown"]["files"] <= SPARE
    assert done.returncode == int(not said["flat"]), done.stderr
