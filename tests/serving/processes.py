"""The processes of a server, from outside."""

import contextlib
import os
import select
from pathlib import Path


def family(pid):
    """A process and its descendants."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [child for each in threads for child in each.read_text().split()]
    return [pid, *(each for child in children for each in family(int(child)))]


def wait_until_dead(pid):
    with contextlib.suppress(ProcessLookupError):
        waiter = os.pidfd_open(pid)
        assert select.select([waiter], [], [], 30)[0], f"process {pid} is still alive"
        os.close(waiter)


def member(members, name):
    """The worker (it was spawned), the API process (the one that listens) or the manager of LitServe's queues."""
    for pid in members[1:]:
        spawned = b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        sockets = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()] if name != "worker" else []
        polls = any("eventpoll" in str(link) for link in sockets)
        if {"worker": spawned, "api": polls and not spawned, "manager": not polls and not spawned}[name]:
            return pid
    raise AssertionError(f"no {name}")
