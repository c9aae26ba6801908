"""A SLURM of one node for the tests: daemons of its own on 127.0.0.1, beside any other SLURM of this machine.

    python tests/cluster/slurm_node.py install                            # Debian and Ubuntu, as root
    python tests/cluster/slurm_node.py run sbatch --wait --wrap hostname  # a SLURM for as long as the command runs

munged signs what SLURM's programs say to each other, slurmctld schedules, slurmd runs the jobs. Nothing here needs
systemd, control groups or a database.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "munge")
PACKAGES = ("slurm-wlm", "munge")
APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")
SBIN = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))  # where a user's PATH may not look
NODE, LOOPBACK = "tests", "127.0.0.1"
UP_SEC, END_SEC, LOOK_SEC = 60.0, 20.0, 0.05
PR_SET_PDEATHSIG = 1  # linux/prctl.h

# The node claims to have many more processors than the machine, so that no test waits for another one's jobs. A job
# that is queued again waits for cred_expire, 120 s by default. There is no accounting, as on many a small cluster.
CONFIG = """\
ClusterName=tests
SlurmctldHost=localhost({address})
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=5
MinJobAge=3600
ReturnToService=2
NodeName={node} NodeHostname={host} NodeAddr={address} CPUs=64 RealMemory=65536 State=UNKNOWN
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes={node} MaxTime=10 State=UP
"""


class NoSlurmError(Exception):
    """Why there is no SLURM here: one line."""


@dataclass(frozen=True)
class SlurmNode:
    """A SLURM that runs. ``config``: its slurm.conf, which SLURM's commands find by ``environment``; its logs are in
    the same folder. Partitions: ``main``, and ``short`` with a limit of ten minutes."""

    config: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.config)}

    def ask(self, *command: str) -> str:
        """What a command of SLURM's prints. Raises CalledProcessError."""
        return subprocess.check_output(command, env=os.environ | self.environment, text=True)


def install() -> None:
    """Install what is missing by apt. Raises NoSlurmError."""
    if not _missing():
        return
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise NoSlurmError(_how_to_install())
    unasked = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (("update",), ("install", "--yes", "--no-install-recommends", *PACKAGES)):
        done = subprocess.run([*APT, *command], env=unasked, capture_output=True, text=True)
    if _missing():
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise NoSlurmError(f"apt-get could not install {' and '.join(PACKAGES)}: {said[-1]}")


@contextmanager
def slurm_node() -> Iterator[SlurmNode]:
    """A SLURM that ends with the context, and with this process. Raises NoSlurmError."""
    if _missing():
        raise NoSlurmError(_how_to_install())
    place = tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True)  # sockets: short names
    with place as name, ExitStack() as up:
        folder = Path(name)
        node = SlurmNode(_configure(folder))
        munge = folder / "munge"
        ours = (f"--{kind}={munge / kind.removesuffix('-file')}" for kind in ("socket", "key-file", "pid-file"))
        more = (f"--seed-file={munge / 'seed'}", f"--log-file={munge / 'log'}")
        _start(node, up, "munged", "--foreground", *ours, *more)
        _wait(node, "munged", lambda: _says(node, "munge", "--no-input", f"--socket={munge / 'socket'}") is not None)
        _start(node, up, "slurmctld", "-D")
        _start(node, up, "slurmd", "-D", "-N", NODE)
        _wait(node, "slurmd", lambda: (_says(node, "sinfo", "-h", "-p", "main", "-o", "%T") or "").strip() == "idle")
        up.callback(_says, node, "scancel", "--signal=KILL", f"--user={getpass.getuser()}")
        yield node


def _missing() -> list[str]:
    return [name for name in PROGRAMS if _found(name) is None]


def _found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=SBIN)


def _how_to_install() -> str:
    return f"{', '.join(_missing())}: not found; on Debian, as root: python tests/cluster/slurm_node.py install"


def _configure(folder: Path) -> Path:
    folder.chmod(0o755)
    for part in ("munge", "controller", "node"):
        (folder / part).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
    names = {"host": socket.gethostname().split(".")[0], "node": NODE, "address": LOOPBACK}
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, user=getpass.getuser(), **ports, **names))
    return config


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def _start(node: SlurmNode, up: ExitStack, program: str, *arguments: str) -> None:
    """Start a daemon, which ends when ``up`` is left."""
    with (node.config.parent / f"{program}.out").open("wb") as out:
        process = subprocess.Popen(
            [str(_found(program)), *arguments],
            env=os.environ | node.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # Ctrl-C is for the tests
            preexec_fn=partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    up.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SEC)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(node: SlurmNode, program: str, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + UP_SEC
    while not ready():
        if time.monotonic() > until:
            said = (node.config.parent / f"{program}.out").read_text(errors="replace").strip().splitlines() or [""]
            raise NoSlurmError(f"{program} was not ready within {UP_SEC:g} s; it said last: {said[-1]}")
        time.sleep(LOOK_SEC)


def _says(node: SlurmNode, *command: str) -> str | None:
    """What a command prints; None when it fails."""
    done = subprocess.run(command, env=os.environ | node.environment, capture_output=True, text=True, timeout=UP_SEC)
    return done.stdout if done.returncode == 0 else None


def main(arguments: Sequence[str]) -> int:
    """The command line; see above."""
    try:
        if arguments == ["install"]:
            install()
            return 0
        if arguments[:1] == ["run"] and len(arguments) > 1:
            with slurm_node() as node:
                return subprocess.run(arguments[1:], env=os.environ | node.environment).returncode
    except NoSlurmError as error:
        print(error, file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
