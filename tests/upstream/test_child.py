"""A child's lines arrive as they come, and nobody of its family is left, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from positronic.errors import PositronicError
from positronic.upstream.child import Child, Command, run

# A loader's worker in a session of its own, deaf to all signals, tells both pids. argv: "leave" ends the parent alone.
FAMILY = """
import os, signal, sys
deaf = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
before = [signal.signal(number, signal.SIG_IGN) for number in deaf]
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    print(os.getppid(), os.getpid(), flush=True)
    os.write(tell, b"!")
    while True:
        signal.pause()
for number, handler in zip(deaf, before):
    signal.signal(number, handler)
os.read(told, 1)
if sys.argv[1:] == ["leave"]:
    os._exit(7)
while True:
    signal.pause()
"""

# Runs the family with a grace of a tenth of a second. argv: the script, and what to do once it is there: "kill" is for
# this process, "fork" as well, after it has forked one that keeps all its pipes to the supervisor open.
PARENT = """
import os, signal, sys
from pathlib import Path
from positronic.upstream.child import Command, run

def there(line):
    copy = os.fork() if sys.argv[2] == "fork" else None
    if copy == 0:
        while True:
            signal.pause()
    print(line, *([copy] if copy else []), flush=True)
    if sys.argv[2] in ("kill", "fork"):
        os.kill(os.getpid(), signal.SIGKILL)

for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
family = Command((sys.executable, sys.argv[1]), Path.cwd(), grace_sec=0.1)
try:
    run(family, Path("child.log"), there)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

# Says that it was asked to end, and does not.
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, lambda number, frame: print("asked", flush=True))
print("there", flush=True)
while True:
    signal.pause()
"""

SHOW = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]))"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs" / "child.log"


@pytest.fixture
def parent(tmp_path):
    """``parent(what)``: a process of ours that runs the family."""
    family, script = tmp_path / "family.py", tmp_path / "parent.py"
    family.write_text(FAMILY)
    script.write_text(PARENT)
    started = []

    def start(what):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        typed = [sys.executable, str(script), str(family), what]
        started.append(subprocess.Popen(typed, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.stdout.close()
        process.wait()


def test_lines_come_one_by_one_and_all_are_in_the_log(command, log):
    """Of both streams; a progress bar's carriage returns end lines, the last one needs no end."""
    text = "import sys; print('a\\r 1%\\r 2%'); print('b', file=sys.stderr); print('c', end=''); sys.exit(3)"
    heard = []
    ended = run(command(text), log, heard.append)
    assert (ended.code, list(ended.lines)) == (3, heard)
    assert heard == ["a", " 1%", " 2%", "b", "c"]
    assert ended.log.read_text().splitlines()[1:] == heard


def test_a_child_gets_its_folder_its_arguments_and_an_environment_without_ours(command, log, tmp_path, monkeypatch):
    """No shell looks at arguments; our interpreter's variables and programs are not there."""
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "ours"))
    monkeypatch.setenv("PYTHONPATH", "ours")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))
    monkeypatch.setenv("HF_HOME", "kept")
    monkeypatch.setenv("WANDB_MODE", "ours")
    folders = [str(tmp_path / "ours" / "bin"), "/usr/bin", str(tmp_path / "conda" / "bin"), f"{sys.prefix}/bin"]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    ended = run(command(SHOW, "$HOME; *", variables={"WANDB_MODE": None, "OURS": "ü"}), log)
    folder, arguments, environment = json.loads(ended.lines[-1])
    assert (folder, arguments) == (str(tmp_path), ["$HOME; *"])
    assert (environment["PATH"], environment["HF_HOME"], environment["OURS"]) == ("/usr/bin", "kept", "ü")
    assert not {"VIRTUAL_ENV", "PYTHONPATH", "CONDA_PREFIX", "WANDB_MODE"} & set(environment)


def test_who_outlives_the_child_ends_with_it(command, log, ends):
    """A worker in a session of its own, whose parent has ended by itself."""
    ended = run(command(FAMILY, "leave", grace_sec=0.1), log)
    assert ended.code == 7
    assert all(ends(int(pid)) for pid in ended.lines[-1].split())


def test_nobody_outlives_us_when_we_are_killed(parent, ends):
    """Not even one that is deaf to signals."""
    child, worker = parent("kill").stdout.readline().split()
    assert ends(int(child))
    assert ends(int(worker))


def test_our_end_is_noticed_while_another_process_has_our_pipes(parent, ends):
    """One that we have forked, as a server does."""
    child, worker, copy = parent("fork").stdout.readline().split()
    try:
        assert ends(int(child))
        assert ends(int(worker))
    finally:
        os.kill(int(copy), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_to_us_ends_all_of_them(parent, ends, number):
    """Sent to us alone; the family is in sessions of its own."""
    process = parent("wait")
    pids = [int(pid) for pid in process.stdout.readline().split()]
    process.send_signal(number)
    assert process.stdout.read() == "interrupted\n"
    assert all(ends(pid) for pid in pids)


def test_nobody_is_left_when_the_supervisor_is_killed(command, log, ends):
    """The kernel kills the child, and we whom it started."""
    there = threading.Event()
    with Child(command(FAMILY), log, lambda line: there.set()) as child:
        assert there.wait(60)
        child._supervisor.kill()
        ended = child.wait()
    assert ended.code == -signal.SIGKILL
    assert all(ends(int(pid)) for pid in ended.lines[-1].split())


def test_a_second_ctrl_c_does_not_wait(command, log):
    """It comes while the child, which has ten minutes, was asked to end."""

    def press(line):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(command(STUBBORN, grace_sec=600), log, press)
    assert log.read_text().splitlines()[1:] == ["there", "asked"]


def test_a_child_that_does_not_end_when_asked_is_killed_in_time(command, log):
    """Leaving its ``with`` asks."""
    there = threading.Event()
    with Child(command(STUBBORN, grace_sec=0.1), log, lambda line: there.set()) as child:
        assert there.wait(60)
        assert child.ended is None
    assert (child.ended.code, child.ended.lines) == (-signal.SIGKILL, ("there", "asked"))


def test_what_the_listener_raises_ends_the_child_and_arrives(command, log):
    """It runs in another thread."""

    def listen(line):
        raise PositronicError(f"heard {line}")

    with pytest.raises(PositronicError, match="heard there"):
        run(command(STUBBORN, grace_sec=0.1), log, listen)


@pytest.mark.parametrize(("program", "folder"), [("nowhere/python", "."), (sys.executable, "nowhere")])
def test_a_command_that_cannot_be_started_is_refused(log, tmp_path, program, folder):
    """Program or folder is missing: it is named."""
    with pytest.raises(PositronicError, match=r"cannot be started in .*No such file or directory: .*nowhere"):
        Child(Command((program,), tmp_path / folder), log)
