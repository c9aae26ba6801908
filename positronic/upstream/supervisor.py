"""Starts one command for a process of ours, and ends it with everything that it started.

A script by itself, of the standard library alone: ``python -I -S supervisor.py <our pid> <descriptor for replies>``.
Standard input carries one line of JSON, the command, and then requests to end it, ``<signal> <seconds>``. When it
closes, or our process is gone however that happened, the command ends in its own way and time. Replies are
``started <pid>``, ``refused <why>`` and ``ended <exit code>``, the last one when nobody is left.

Why a process between: only one that lives on can end a group after its parent was killed. As a subreaper it becomes the
parent of those whose own parent has ended, such as a loader's workers, so it knows them all, in whatever session.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
LEFT_SEC = 2.0  # from SIGTERM to SIGKILL, at most, for those who outlive the command itself
KILLED_SEC = 5.0  # for the kernel to end what was killed
KILL_AGAIN_SEC = 0.05
LINUX = sys.platform == "linux"
ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CHANGED = {*ASKED_TO_END, signal.SIGCHLD, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT}


class Supervisor:
    """One command, from its start until nobody of it is left."""

    def __init__(self, pid: int, end_with: int, grace_sec: float, replies: int) -> None:
        self.pid = pid  # also of the process group
        self.end_with, self.grace_sec = end_with, grace_sec
        self.code: int | None = None
        self._replies = replies
        self._deadline: float | None = None  # after it, everybody is killed
        self._killing_until: float | None = None

    def run(self, parent: int | None, signals: int) -> None:
        """Until nobody is left. ``parent``: readable when our process is gone; ``signals``: when one came."""
        watched = {0, signals} | ({parent} if parent is not None else set())
        asked = b""
        while not self._over():
            ready, _, _ = select.select(list(watched), [], [], self._patience())
            if signals in ready and set(os.read(signals, 512)) & {*map(int, ASKED_TO_END)}:
                self.end(self.end_with, self.grace_sec)
            if parent in ready:
                watched.discard(parent)
                self.end(self.end_with, self.grace_sec)
            if 0 in ready:
                said = os.read(0, 4096)
                if not said:
                    watched.discard(0)
                    self.end(self.end_with, self.grace_sec)
                *requests, asked = (asked + said).split(b"\n")
                for number, seconds in map(bytes.split, requests):
                    self.end(int(number), float(seconds))
        reply(self._replies, f"ended {self.code}")

    def end(self, number: int, seconds: float) -> None:
        """Signal everybody; kill who is left after ``seconds``, or sooner if that was said before."""
        until = time.monotonic() + seconds
        self._deadline = until if self._deadline is None else min(until, self._deadline)
        self._signal(number)

    def _over(self) -> bool:
        """Whether nobody is left, or the kernel does not end them."""
        if not self._reap():
            return True
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._killing_until = self._killing_until or now + KILLED_SEC
            self._signal(signal.SIGKILL)  # again and again: one may just have forked
            return now >= self._killing_until
        return False

    def _patience(self) -> float | None:
        if self._deadline is None:
            return None
        return KILL_AGAIN_SEC if self._killing_until else max(0.0, self._deadline - time.monotonic())

    def _reap(self) -> bool:
        """Take leave of the dead. Returns whether anybody lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)
                self.end(signal.SIGTERM, min(LEFT_SEC, self.grace_sec))

    def _signal(self, number: int) -> None:
        if self.code is None or not LINUX:  # else the group's number may be another's by now
            send(os.killpg, self.pid, number)
        for pid, group in descendants(os.getpid()):
            if self.code is not None or group != self.pid:
                send(os.kill, pid, number)


def main() -> None:
    """Start what standard input says, and stay until it is over."""
    our_pid, replies = int(sys.argv[1]), int(sys.argv[2])
    signals = wake_on_signals()
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent = watch(our_pid)
    command = json.loads(read_line(0) or "null")
    if command is None or os.getppid() != our_pid:  # it is gone already
        return
    try:
        child = start(command)
    except OSError as error:
        reply(replies, f"refused {error.strerror}: {error.filename}")
        return
    reply(replies, f"started {child.pid}")
    Supervisor(child.pid, command["end_with"], command["grace_sec"], replies).run(parent, signals)
    child.returncode = 0  # it was waited for here


def start(command: dict) -> subprocess.Popen[bytes]:
    """The command, leader of its own session, with the signals of a fresh process."""
    return subprocess.Popen(
        command["arguments"],
        cwd=command["folder"],
        env=command["environment"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=partial(as_child, os.getpid()),  # there is one thread here
    )


def as_child(supervisor: int) -> None:
    """In the child: it is killed when the supervisor is, and hears every signal."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it was killed before the kernel was told
            os._exit(1)
    for number in CHANGED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def wake_on_signals() -> int:
    """A descriptor that tells the numbers of signals; no signal ends this process."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    for number in (*ASKED_TO_END, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return told


def watch(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where the system has no such thing.

    The pipe alone would not do: a process that ours has forked keeps it open.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def read_line(descriptor: int) -> bytes:
    """One line, all that is sent before the reply; empty if it is not complete."""
    said = b""
    while not said.endswith(b"\n"):
        more = os.read(descriptor, 65536)
        if not more:
            return b""
        said += more
    return said


def reply(descriptor: int, text: str) -> None:
    """Say it, if anybody is there."""
    with suppress(BrokenPipeError):
        os.write(descriptor, text.encode(errors="replace") + b"\n")


def send(how: Callable[[int, int], None], pid: int, number: int) -> None:
    """Send a signal to who may be gone, or somebody else's by now."""
    with suppress(ProcessLookupError, PermissionError):
        how(pid, number)


def descendants(pid: int) -> list[tuple[int, int]]:
    """Process and group of all that stem from ``pid``; none where there is no ``/proc``."""
    children: dict[int, list[tuple[int, int]]] = {}
    for each, parent, group in processes():
        children.setdefault(parent, []).append((each, group))
    found, parents = [], [pid]
    while parents:
        born = children.get(parents.pop(), [])
        found += born
        parents += [each for each, _ in born]
    return found


def processes() -> Iterable[tuple[int, int, int]]:
    """``(process, parent, group)`` of all."""
    for name in os.listdir("/proc") if LINUX else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    _, parent, group, *_ = file.read().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            yield int(name), int(parent), int(group)


if __name__ == "__main__":
    main()
