"""stage=pipeline: several stages, one after the other, each by the command that a person would type."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from positronic import keys
from positronic.errors import PositronicError
from positronic.stages.base import Parts
from positronic.utils.command_line import RESUME, SCRIPT, again, key_of, own_files, spelt
from positronic.utils.fields import items

if TYPE_CHECKING:
    from positronic.cluster.record import Task

INTERRUPTED = 130  # of a stage that was told to end
SERVE, INFER, CONVERT = "stage=serve", "stage=infer", "stage=convert"
ROOT = Path(__file__).resolve().parents[2]
END_SEC = 30.0  # in which a server ends; it drains nobody, as the only client has left


@dataclass
class Pipeline(Parts):
    """Several stages, one after the other. Typed values go to every stage that reads them.

    pipeline: the stages, some of collect, import, convert, train, serve and infer in this order: [convert,train,infer];
        serve runs beside those behind it, which are answered by it
    resume: go on where an earlier run stopped: a dataset that is there stays, and training continues
    commands: what each stage is told; it follows from what is typed
    """

    uses: ClassVar[tuple[str, ...]] = ("paths",)  # by the stages that it runs
    submits: ClassVar[bool] = True
    hands_on: ClassVar[bool] = True

    pipeline: list[str] = field(default_factory=lambda: ["convert", "train", "infer"], metadata=items())
    resume: bool = False
    commands: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Ran:
    """The result of stage=pipeline. ``path``: of the folder with sweep.json and each stage's log; None if there was
    nothing to keep. ``commands``: what was run."""

    path: str | None
    commands: Sequence[str]


def run(config: Pipeline) -> Ran:
    """Run the stages, or submit them. Raises PositronicError when one of them fails: those behind it do not begin."""
    from positronic.cluster.chain import run_tasks
    from positronic.cluster.record import FINISHED

    if config.cluster is None and config.commands[0][0] == SERVE:
        beside_server(*config.commands)
        return Ran(None, [spelt(command) for command in config.commands])
    left = [command for command in config.commands if not (config.resume and is_done(command))]
    tasks = tasks_of(left)
    sweep, reports = run_tasks(tasks, config.cluster, config.sweep, "_".join(config.pipeline))
    failed = next((report for report in reports or () if report.state != FINISHED), None)
    if failed is not None:
        raise PositronicError(
            f"{failed.task.name} {failed.state}: its output is in {failed.folder}. Those behind it did not begin. "
            f"To go on with it, type:\n  {again(RESUME)}"
        )
    return Ran(str(sweep.folder), [spelt(task.arguments) for task in tasks])


def tasks_of(commands: Sequence[Sequence[str]], before: str = "", after: Sequence[str] = ()) -> list[Task]:
    """A task for each stage, which needs the one before; a server and those that it answers are one task.

    ``before``: how their names begin. ``after``: names of the tasks that the first one needs.
    """
    from positronic.cluster.record import Task

    flags, tasks, needed = own_files(), list[Task](), tuple(after)
    for place, command in enumerate(commands):
        rest = commands[place:] if command[0] == SERVE else [command]
        name = before + "_".join(each[0].partition("=")[2] for each in rest)
        arguments = joined(rest) if len(rest) > 1 else tuple(command)
        tasks.append(Task(name, (*arguments, *flags), after=needed))
        needed = (name,)
        if len(rest) > 1:
            break
    return tasks


def joined(commands: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Several stages as one command; a port that nobody typed is found when it runs."""
    stages = ",".join(command[0].partition("=")[2] for command in commands)
    told = dict.fromkeys(each for command in commands for each in command[1:])
    named = [each for each in told if key_of(each) not in ("policy", "policy.port")]
    return ("stage=pipeline", f"pipeline=[{stages}]", *named)


def is_done(command: Sequence[str]) -> bool:
    """Whether the dataset of a bake is there already."""
    from positronic.storage import exists, is_remote, local_path

    place = next((each.partition("=")[2] for each in command if key_of(each) == "output_dir"), "")
    if command[0] != CONVERT or not place or is_remote(place):
        return False
    if not exists(local_path(place) / keys.MANIFEST_FILE):
        return False
    print(f"The dataset is there: {place}", flush=True)
    return True


def beside_server(server: Sequence[str], *others: Sequence[str]) -> None:
    """Serve, run the other stages one after another, and end the server.

    Raises PositronicError when one of them fails.
    """
    port = next((each for each in server if key_of(each) == "server.port"), None)
    number = _free_port() if port is None else int(port.partition("=")[2])
    local = [] if any(key_of(each) == "server.host" for each in server) else ["server.host=127.0.0.1"]
    with _running([*server, *local, *([] if port else [f"server.port={number}"])]):
        for command in others:
            told = [each for each in command if key_of(each) != "policy.port"]
            _run([*told, f"policy.port={number}"] if command[0] == INFER else command)


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    """A server in a process of its own, which has ended when the context is left."""
    print(f"$ {spelt(command)}", flush=True)
    server = subprocess.Popen(_program(command))
    try:
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(END_SEC)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _run(command: Sequence[str]) -> None:
    print(f"$ {spelt(command)}", flush=True)
    process = subprocess.Popen(_program(command))
    try:
        code = process.wait()
    except BaseException:  # also Ctrl-C and SIGTERM: it keeps what it has finished
        process.terminate()
        process.wait()
        raise
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise PositronicError(f"{command[0]} ended with exit code {code}: see what it says above.")


def _program(command: Sequence[str]) -> list[str]:
    return [sys.executable, str(ROOT / SCRIPT), *command, *own_files()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
