"""A command of a vendor's own code as a child process that ends with us, whatever ends us.

Between it and us stands a supervisor of ours (``supervisor.py``). Who is killed, and who then ends the others:

- we are: the supervisor sees our pidfd and its pipe, and ends all that stem from the command;
- the supervisor is: the kernel kills the command, and we those whom it started;
- the command is, or it ends by itself: the supervisor ends those who outlive it, and tells us the exit code.

If both we and the supervisor are killed at once, the command is killed by the kernel, but nobody is left to end what it
started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from types import TracebackType
from typing import Self

from positronic.errors import PositronicError
from positronic.upstream import supervisor
from positronic.upstream.environment import environment
from positronic.upstream.output import Lines, Log
from positronic.utils.processes import interruptible

MARK = "POSITRONIC_CHILD"  # a variable by which descendants are found when their supervisor was killed
KEPT_LINES = 400
START_SEC = 60.0  # for the supervisor to start the command, on a machine that swaps
MARGIN_SEC = supervisor.LEFT_SEC + supervisor.KILLED_SEC + 1.0  # beyond what the supervisor was told
DRAIN_SEC = 1.0  # for output that is still in the pipe when everybody has ended


@dataclass(frozen=True)
class Command:
    """What to run, without a shell.

    arguments: the program and its arguments
    folder: working directory
    variables: of the environment, beside ours without those about our own interpreter; None leaves one out
    end_with: the signal that asks it, and all that it started, to end
    grace_sec: from that signal to SIGKILL
    """

    arguments: tuple[str, ...]
    folder: Path
    variables: Mapping[str, str | None] = field(default_factory=dict)
    end_with: signal.Signals = signal.SIGTERM
    grace_sec: float = 5.0


@dataclass(frozen=True)
class Ended:
    """How a child ended. ``code``: as of ``subprocess``, negative for a signal. ``lines``: the last ones that it
    printed. ``log``: where all of them are."""

    code: int
    lines: tuple[str, ...]
    log: Path


def nothing(line: str) -> None:
    """For who does not listen."""


def run(command: Command, log: Path, on_line: Callable[[str], None] = nothing) -> Ended:
    """Run a command to its end. Ctrl-C, SIGTERM, SIGHUP and SIGUSR2 raise KeyboardInterrupt, after it has ended.

    Raises what ``Child`` and ``Child.wait`` do.
    """
    with interruptible(), Child(command, log, on_line) as child:
        return child.wait()


class Child:
    """A command that runs. Leaving its ``with`` ends it, and all that it started; so does the end of our process.

    ``on_line`` is called with each line that is printed to standard output or error, in a thread of its own; ``log``
    gets them too. Raises PositronicError when the command cannot be started.
    """

    def __init__(self, command: Command, log: Path, on_line: Callable[[str], None] = nothing) -> None:
        self._command, self._on_line = command, on_line
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._log = Log(log)
        self._log.write(f"# {time.strftime('%Y-%m-%d %H:%M:%S')}, in {command.folder}: {list(command.arguments)}")
        self._mark = uuid.uuid4().hex
        self._code: int | None = None
        self._failed: BaseException | None = None
        self._over = threading.Event()
        self._replies = b""
        self._supervisor, self._reply_end = _start_supervisor()
        self._thread = threading.Thread(target=self._watch, name="child", daemon=True)
        try:
            self.pid = self._begin()
            self._thread.start()
        except BaseException:  # Ctrl-C as well
            if self._thread.is_alive():
                self.end()
            else:  # its pipe is closed: the supervisor ends what it may have started
                _close(self._supervisor, self._reply_end)
                self._log.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def ended(self) -> Ended | None:
        """How it ended; None as long as it runs, or one that it started does."""
        if not self._over.is_set():
            return None
        return Ended(self._code, tuple(self._lines), self._log.path)

    def wait(self, timeout_sec: float | None = None) -> Ended | None:
        """Wait until it has ended, and all that it started; None if that takes longer than ``timeout_sec``.

        Raises what ``on_line`` raised, which ends the child.
        """
        self._over.wait(timeout_sec)
        if self._over.is_set() and self._failed is not None:
            raise self._failed
        return self.ended

    def ask_to_end(self, grace_sec: float | None = None) -> None:
        """Signal it and all that it started; kill them after ``grace_sec`` (None: the command's). Does not wait."""
        grace_sec = self._command.grace_sec if grace_sec is None else grace_sec
        self._request(self._command.end_with, grace_sec)

    def end(self, grace_sec: float | None = None) -> Ended | None:
        """``ask_to_end``, and wait for it; an exception meanwhile, as of a second Ctrl-C, kills them at once.

        Returns None only if the kernel does not end a process.
        """
        grace_sec = self._command.grace_sec if grace_sec is None else grace_sec
        if threading.current_thread() is self._thread:  # inside ``on_line``: waiting would be for ourselves
            self.ask_to_end(grace_sec)
            return None
        try:
            self.ask_to_end(grace_sec)
            self._over.wait(grace_sec + MARGIN_SEC)
        finally:
            if not self._over.is_set():
                self._kill()
        return self.ended

    def _kill(self) -> None:
        """All of them, by the supervisor; and without it when it does not answer."""
        self._request(signal.SIGKILL, 0.0)
        if not self._over.wait(MARGIN_SEC):
            self._supervisor.kill()
            self._over.wait(MARGIN_SEC)

    def _request(self, number: int, seconds: float) -> None:
        with suppress(OSError, ValueError):  # it has ended
            self._supervisor.stdin.write(b"%d %f\n" % (number, seconds))

    def _begin(self) -> int:
        """Hand the command over; returns the pid of its process, which is that of its group and session too."""
        variables = {**self._command.variables, MARK: self._mark}
        command = {
            "arguments": self._command.arguments,
            "folder": str(self._command.folder),
            "environment": environment(variables),
            "end_with": self._command.end_with,
            "grace_sec": self._command.grace_sec,
        }
        with suppress(BrokenPipeError):
            _write(self._supervisor.stdin.fileno(), json.dumps(command).encode() + b"\n")
        word, _, rest = self._first_reply().partition(" ")
        if word != "started":
            why = rest or f"the process that watches over it did not start it within {START_SEC:.0f} s"
            raise PositronicError(f"{self._command.arguments[0]} cannot be started in {self._command.folder}: {why}.")
        return int(rest)

    def _first_reply(self) -> str:
        """One line; empty if none comes in time. That of a command which is over already may lie behind it."""
        while b"\n" not in self._replies:
            if not connection.wait([self._reply_end], START_SEC):
                return ""
            more = os.read(self._reply_end, 4096)
            if not more:
                return ""
            self._replies += more
        line, _, self._replies = self._replies.partition(b"\n")
        return line.decode().strip()

    def _watch(self) -> None:
        """In a thread: hand on what is printed, until the supervisor says that all have ended, or is dead."""
        output, lines = self._supervisor.stdout.fileno(), Lines()
        open_ends = {output, self._reply_end}
        try:
            self._understand()
            while self._reply_end in open_ends and self._code is None:
                for end in connection.wait(open_ends):
                    if not (self._take(lines) if end == output else self._hear()):
                        open_ends.discard(end)
            if self._code is None:  # the supervisor was killed
                self._end_orphans()
                self._code = -signal.SIGKILL
            while output in open_ends and connection.wait([output], DRAIN_SEC) and self._take(lines):
                pass
            self._tell(lines.close())
        finally:
            self._code = -signal.SIGKILL if self._code is None else self._code
            _close(self._supervisor, self._reply_end)
            self._log.close()
            self._over.set()

    def _take(self, lines: Lines) -> bool:
        """Some output. Returns whether more may come."""
        said = os.read(self._supervisor.stdout.fileno(), 65536)
        self._tell(lines.feed(said))
        return said != b""

    def _hear(self) -> bool:
        """A reply of the supervisor. Returns whether more may come."""
        said = os.read(self._reply_end, 4096)
        self._replies += said
        self._understand()
        return said != b""

    def _understand(self) -> None:
        """The last reply, once it is whole."""
        if self._replies.endswith(b"\n"):
            self._code = int(self._replies.removeprefix(b"ended "))

    def _tell(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._lines.append(line)
            self._log.write(line)
            if self._failed is None:
                try:
                    self._on_line(line)
                except BaseException as error:
                    self._failed = error
                    self.ask_to_end()

    def _end_orphans(self) -> None:
        """The kernel has killed the command itself."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        until = time.monotonic() + supervisor.KILLED_SEC
        while (marked := _marked(f"{MARK}={self._mark}".encode())) and time.monotonic() < until:
            for pid in marked:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _start_supervisor() -> tuple[subprocess.Popen[bytes], int]:
    """It, and the descriptor where it replies. In a session of its own: no terminal's signals reach it."""
    replies, reply_end = os.pipe()
    try:
        script = [sys.executable, "-I", "-S", supervisor.__file__, str(os.getpid()), str(reply_end)]
        process = subprocess.Popen(
            script,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[reply_end],
            start_new_session=True,
        )
    except BaseException:
        os.close(replies)
        raise
    finally:
        os.close(reply_end)
    return process, replies


def _close(process: subprocess.Popen[bytes], replies: int) -> None:
    process.stdin.close()
    process.stdout.close()
    os.close(replies)
    try:
        process.wait(MARGIN_SEC)
    finally:
        process.kill()
        process.wait()


def _write(descriptor: int, content: bytes) -> None:
    """All of it: a pipe takes a part."""
    while content:
        content = content[os.write(descriptor, content) :]


def _marked(mark: bytes) -> list[int]:
    """Processes of ours that live and have the variable in their environment."""
    found = []
    for pid, _, _ in supervisor.processes():
        with suppress(OSError):  # not ours, or it ended
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found
