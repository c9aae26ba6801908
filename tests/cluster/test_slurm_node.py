"""The SLURM of the tests is one of its own: real, alone on this machine, and gone afterwards."""

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "slurm_node.py"
LOOPBACK = "0100007F"  # 127.0.0.1 as /proc/net/tcp writes it
LISTENS = "0A"


def test_a_job_runs_on_it(slurm, tmp_path):
    said = tmp_path / "said.txt"
    slurm.ask("sbatch", "--wait", "--partition=short", f"--output={said}", "--wrap", "echo here: $SLURM_JOB_PARTITION")
    assert said.read_text() == "here: short\n"


def test_nobody_else_can_reach_it(slurm):
    ports = {int(port) for port in re.findall(r"^Slurm\w*dPort=(\d+)$", slurm.config.read_text(), re.MULTILINE)}
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if f" {LISTENS} " in line]
    addresses = [place.split(":")[0] for place in listening if int(place.split(":")[1], 16) in ports]
    assert addresses == [LOOPBACK, LOOPBACK]


def test_nothing_of_it_is_left(slurm, tmp_path):
    command = [sys.executable, str(SCRIPT), "run", "bash", "-c", "echo $SLURM_CONF; scontrol ping"]
    said = subprocess.check_output(command, env=os.environ | {"TMPDIR": str(tmp_path)}, text=True)
    config = Path(said.splitlines()[0])
    assert "is UP" in said
    assert not config.parent.exists()
    mine = str(config.parent).encode()
    assert not [entry for entry in Path("/proc").glob("[0-9]*/environ") if mine in read_if_ours(entry)]


def read_if_ours(environ):
    """The environment of a process; nothing when it has ended meanwhile or is another user's."""
    try:
        return environ.read_bytes()
    except OSError:
        return b""
