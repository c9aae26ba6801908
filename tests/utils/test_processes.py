"""Processes that we start end with us, and signals that come while they start are neither lost nor theirs."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from positronic.utils.processes import signals_held

# argv: how processes start. The parent is killed while a child of a child is busy; the first child told its pid.
KILLED = """
import multiprocessing, os, signal, sys, time
from positronic.utils.processes import die_with_parent

def sleep(pipe, count):
    die_with_parent()
    pipe.send(os.getpid())
    if count:
        context = multiprocessing.get_context(sys.argv[1])
        context.Process(target=sleep, args=(pipe, count - 1)).start()
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ours, theirs = context.Pipe()
    context.Process(target=sleep, args=(theirs, 1)).start()
    print(ours.recv(), ours.recv(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""

# The parent ends before its child asks to end with it.
GONE_BEFORE = """
import os, sys, time
from positronic.utils.processes import die_with_parent

parent = os.getpid()
child = os.fork()
if child == 0:
    while os.getppid() == parent:
        os.sched_yield()
    die_with_parent(parent)
    time.sleep(600)
print(child, flush=True)
os._exit(0)
"""

# Interrupted by its terminal, which it then writes to, as if a shell had sent the signal too.
ON_TERMINAL = """
import fcntl, os, signal, sys, termios
from positronic.utils.processes import interruptible

signal.signal(signal.SIGHUP, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY)
with interruptible(), open(sys.argv[1], "w") as noted:
    try:
        print("ready", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        noted.write("interrupted")
        os.kill(os.getpid(), signal.SIGHUP)
        print("said to nobody", flush=True)
        noted.write(", tidied")
"""

# Ctrl-C while a process starts, which says what it hears of it.
DEAF = """
import multiprocessing, os, signal, sys
from positronic.utils.processes import STOPPING, signals_held

def say():
    print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())) == sorted(STOPPING), flush=True)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    try:
        with signals_held():
            process = context.Process(target=say)
            process.start()
            os.kill(0, signal.SIGINT)
            process.join()
            print("started", flush=True)
        print("lost")
    except KeyboardInterrupt:
        print("heard")
"""


# Ctrl-C while a destructor runs.
IN_DESTRUCTOR = """
import os, signal
from positronic.utils.processes import interruptible

class Slow:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    with interruptible():
        Slow()
        signal.pause()
        print("lost")
except KeyboardInterrupt:
    print("heard")
print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL)
"""


# What a scheduler sends to a job, and then again while the process leaves and after it has left.
HURRIED = """
import os, signal, sys
from positronic.utils.processes import interruptible

try:
    with interruptible(last=True):
        try:
            os.kill(os.getpid(), signal.SIGUSR2)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGTERM)
            print("tidied")
            raise
except KeyboardInterrupt:
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP):
        os.kill(os.getpid(), number)
    print("said", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
print("lost")
"""


def run(tmp_path, text, *arguments):
    """What a script prints, with a group of its own."""
    script = tmp_path / "script.py"
    script.write_text(text)
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, start_new_session=True, check=False)
    return done.stdout.split()


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_children_of_a_killed_process_end_and_theirs_too(ends, tmp_path, start):
    """A fork server hides from the kernel whose child a process is; it ends as well, as the output comes to its end."""
    pids = run(tmp_path, KILLED, start)
    assert len(pids) == 2
    assert all(ends(int(pid)) for pid in pids)


def test_a_parent_that_is_gone_already_is_noticed(ends, tmp_path):
    """The kernel tells of an end that comes later only."""
    (pid,) = run(tmp_path, GONE_BEFORE)
    assert ends(int(pid))


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_ctrl_c_while_processes_start_comes_afterwards_and_to_the_parent_alone(tmp_path, start):
    """Sent to the whole group, as a terminal does."""
    assert run(tmp_path, DEAF, start) == ["True", "started", "heard"]


def test_signals_that_come_again_do_not_disturb_who_leaves_and_ctrl_c_does(tmp_path):
    """A job's first signal interrupts; each of the others means the same."""
    assert run(tmp_path, HURRIED) == ["tidied", "said"]


def test_ctrl_c_inside_a_destructor_is_not_ignored(tmp_path):
    """Python prints such an exception and goes on."""
    assert run(tmp_path, IN_DESTRUCTOR) == ["heard", "True"]


def test_a_closed_terminal_interrupts_once_and_disturbs_nothing_afterwards(tmp_path):
    """Kernel and shell each send SIGHUP; writing to the terminal that is gone would be an error."""
    script, noted = tmp_path / "script.py", tmp_path / "noted"
    script.write_text(ON_TERMINAL)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, script, noted], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    assert os.read(ours, 5) == b"ready"
    os.close(ours)
    assert process.wait() == 0
    assert noted.read_text() == "interrupted, tidied"


def test_nothing_changes_when_no_signal_comes():
    """Handlers and mask are as they were."""
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with signals_held():
        pass
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
