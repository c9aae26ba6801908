"""Processes that we start: when signals reach them, and how none outlives its parent."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""Ctrl-C, a scheduler's, a closed terminal's, and a scheduler's warning that the time of a job is nearly over."""
PRESSED = signal.SIGINT
"""Of ``STOPPING`` the one by which a person hurries what is stopping already. The others come more than once and mean
one end: from the scheduler to all processes, and again from a process that passes them on."""
ASK_AGAIN_SEC = 0.05


def die_with_parent(parent_pid: int | None = None) -> None:
    """This process is killed when the one that started it ends, however that happens; at once if it has ended already.

    To be called first of all in a child. ``parent_pid``: of the process that forked this one; None asks
    ``multiprocessing``. For the kernel a fork server is the parent of the processes that it forks, and it lives as long
    as they do: therefore a thread waits for the process that asked for them. The kernel's own signal reaches even a
    process whose threads cannot run, but follows the parent's *thread*: start processes from one that stays.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None:
        if os.getppid() != parent_pid:  # it ended before the kernel was told
            _end()
        return
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), name="die with parent", daemon=True).start()


@contextmanager
def signals_held() -> Iterator[None]:
    """``STOPPING`` arrive when the context ends, and none is lost. Processes started inside do not hear them at first.

    A process that gets a signal while it starts would end with a traceback, or its parent would miss it. A child
    inherits what is blocked here, and hears nothing until it calls ``hear``.
    """
    arrived: list[int] = []
    handlers = _replace_handlers(arrived)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    resource_tracker.ensure_running()  # it ignores the first two itself, and unblocks them here
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number in arrived:  # another thread took it meanwhile
            os.kill(os.getpid(), number)


@contextmanager
def without_main() -> Iterator[None]:
    """Processes that are started inside do not import this process's script again.

    It would run a second time there unless it stands behind ``if __name__ == "__main__"``. For a process that needs
    nothing of the script.
    """
    main = sys.modules["__main__"].__dict__
    kept = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)


@contextmanager
def interruptible(last: bool = False) -> Iterator[None]:
    """The first of ``STOPPING`` raises KeyboardInterrupt inside, and every further Ctrl-C. Before and after, they end
    the process, as run.py sets it.

    ``last``: after an interruption the process ends, and of these only Ctrl-C disturbs it on its way out. A signal that
    other code handles, or that a shell made us ignore, stays as it is.
    """
    main = threading.current_thread() is threading.main_thread()
    ours = [number for number in STOPPING if main and signal.getsignal(number) is signal.SIG_DFL]
    interrupt = _Interrupt()
    for number in ours:
        signal.signal(number, interrupt)
    hook = sys.unraisablehook
    if ours:
        never_ignored(KeyboardInterrupt, PRESSED)
    try:
        yield
    except KeyboardInterrupt:
        interrupt.is_over = last
        raise
    finally:
        sys.unraisablehook = hook
        for number in ours:
            stays = interrupt.is_over and number != PRESSED
            signal.signal(number, signal.SIG_IGN if stays else signal.SIG_DFL)


def outlive_terminal(number: int) -> None:
    """To be called by what handles signal ``number``: after SIGHUP, what is still to be done and said is not disturbed.

    Kernel and shell each send it, so that it comes twice; and writing to the closed terminal would be an error.
    """
    if number != signal.SIGHUP:
        return
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        with suppress(OSError):  # it was closed from the start
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):  # a closed one says no
                os.dup2(nowhere, descriptor)
    os.close(nowhere)


def never_ignored(kind: type[BaseException], number: int) -> None:
    """A signal's exception that was raised inside a destructor, where Python only prints it, is asked for again.

    ``kind``: what the handler of signal ``number`` raises.
    """
    hook, handler = sys.unraisablehook, signal.getsignal(number)

    def ask_again(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, kind):
            return hook(unraisable)
        signal.signal(number, handler)  # it may have been there for once
        later = threading.Timer(ASK_AGAIN_SEC, os.kill, (os.getpid(), number))  # when this function is left
        later.daemon = True
        with suppress(RuntimeError):  # the interpreter ends already
            later.start()
        return None

    sys.unraisablehook = ask_again


def hear() -> None:
    """Call this in a child that was started inside ``signals_held``: signals arrive again, and waiting ones at once."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def obey_parent() -> None:
    """To be called first of all in a child that works for its parent: it dies with it, and what a terminal or a
    scheduler sends to them all is for the parent alone. Only SIGTERM, by which the parent may end it, stays as it
    is."""
    die_with_parent()
    for number in STOPPING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


def _replace_handlers(arrived: list[int]) -> dict[int, signal.Handlers | object]:
    if threading.current_thread() is not threading.main_thread():
        return {}  # only the main thread may

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    known = [number for number in STOPPING if signal.getsignal(number) is not None]
    return {number: signal.signal(number, note) for number in known}


class _Interrupt:
    """A handler. ``is_over``: whether what it interrupts has been left."""

    def __init__(self) -> None:
        self._came = self.is_over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        outlive_terminal(number)
        if self._came and number != PRESSED:
            return
        self._came = True
        raise KeyboardInterrupt


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
