"""Whether a server that is used for a long time stays as large as it is: its memory and its open files.

    python scripts/soak_serving.py                      # five minutes
    python scripts/soak_serving.py --seconds 20 --robots 2

A toy model is served on loopback. Robots play episodes of both protocols, each in a session of its own; clients vanish
at every moment of a session, and send frames that are no observation. Meanwhile the server's processes are measured;
the first third does not count, since until then the server has allocated what it needs. The last line is JSON. The exit
code is 1 if memory has grown by more than a twentieth between the two halves of the rest, or if files have.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.hostile import hostile_frame
from bench.memory import family
from bench.toy_serving import observation, toy_server
from rich.console import Console
from rich.table import Table
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from positronic import keys
from positronic.utils.serialization import serialise

EPISODE = 20  # observations
EVERY_SEC = 0.5
SETTLES_SEC = 2.0
GROWTH = 1.05
SPARE_MB = 10.0  # of a process whose allocator gives nothing back
MOMENTS = ("before ready", "when it is ready", "with an observation half sent", "with an answer on its way")


@dataclass(frozen=True)
class Size:
    """Of all processes of a server."""

    memory_mb: float
    files: int


def play(port: int, number: int, until: Any, counted: Any) -> None:
    """Episode after episode; odd robots are openpi's. ``counted``: answers."""
    route = keys.ROUTE_OPENPI if number % 2 else keys.ROUTE_SESSION
    frame = serialise(observation())
    while not until.is_set():
        with dial(port, route) as websocket:
            websocket.recv()
            for _ in range(EPISODE):
                websocket.send(frame)
                if not isinstance(websocket.recv(), bytes):
                    raise RuntimeError("an honest observation was refused")
                with counted.get_lock():
                    counted.value += 1


def vanish(port: int, until: Any, counted: Any) -> None:
    """Leave without a word, at one moment of a session after the other. ``counted``: sessions."""
    frame, moment = serialise(observation()), 0
    while not until.is_set():
        with contextlib.suppress(ConnectionClosed, OSError), dial(port, keys.ROUTE_SESSION) as websocket:
            if moment:
                websocket.recv()
            if moment == MOMENTS.index("with an observation half sent"):
                websocket.socket.sendall(b"\x82\xff" + len(frame).to_bytes(8, "big") + b"mask" + frame[:1000])
            if moment == MOMENTS.index("with an answer on its way"):
                websocket.send(frame)
            websocket.socket.shutdown(2)
        moment = (moment + 1) % len(MOMENTS)
        with counted.get_lock():
            counted.value += 1


def spoil(port: int, until: Any, counted: Any) -> None:
    """Send what is no observation. ``counted``: frames."""
    honest, numbers = serialise(observation()), random.Random(0)
    while not until.is_set():
        with contextlib.suppress(ConnectionClosed), dial(port, keys.ROUTE_SESSION) as websocket:
            websocket.recv()
            while not until.is_set():
                websocket.send(hostile_frame(numbers.randrange(1 << 30) * 200, honest))  # none of the heavy ones
                websocket.recv()
                with counted.get_lock():
                    counted.value += 1


def dial(port: int, route: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}{route}", max_size=None, compression=None, proxy=None, close_timeout=1)


def size_of(pid: int) -> Size:
    """Of a process and of all below it."""
    found = family(pid)
    files = sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in found)
    return Size(sum(map(_private_kb, found)) / 1000, files)


def _private_kb(pid: int) -> int:
    """What a process shares with nobody."""
    fields = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(each[1]) for each in fields if each[0].startswith("Private"))


def soak(seconds: float, robots: int) -> tuple[list[Size], list[Size], dict[str, int]]:
    """Sizes of the first and of the second half of the measurements, and how much was done."""
    fresh = multiprocessing.get_context("spawn")
    until, counts = fresh.Event(), {name: fresh.Value("i", 0) for name in ("answers", "vanished", "spoiled")}
    with toy_server(0.0) as (port, pid):
        arguments = [(play, (port, number, until, counts["answers"])) for number in range(robots)]
        arguments += [(vanish, (port, until, counts["vanished"])), (spoil, (port, until, counts["spoiled"]))]
        processes = [fresh.Process(target=target, args=args, daemon=True) for target, args in arguments]
        for process in processes:
            process.start()
        while not all(count.value for count in counts.values()):
            _require_alive(processes)
            time.sleep(EVERY_SEC)
        sizes = []
        for _ in range(max(6, int(seconds / EVERY_SEC))):
            time.sleep(EVERY_SEC)
            _require_alive(processes)
            sizes.append(size_of(pid))
        until.set()
        for process in processes:
            process.join()
        _require_ended(processes)
        time.sleep(SETTLES_SEC)
        sizes.append(size_of(pid))
    settled = sizes[len(sizes) // 3 :]
    half = len(settled) // 2
    return settled[:half], settled[half:], {name: count.value for name, count in counts.items()}


def _require_alive(processes: Sequence[Any]) -> None:
    if not all(process.is_alive() for process in processes):
        raise SystemExit("A client ended before its time: see above.")


def _require_ended(processes: Sequence[Any]) -> None:
    if any(process.exitcode for process in processes):
        raise SystemExit("A client ended with an error: see above.")


def main() -> None:
    """Measure, print a table, and JSON of it as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long it is measured")
    parser.add_argument("--robots", type=int, default=4, help="that play, of both protocols in turn")
    options = parser.parse_args()
    first, second, done = soak(options.seconds, options.robots)
    table = Table(
        title=f"a server of toys: {done['answers']} answers, {done['vanished']} clients vanished, "
        f"{done['spoiled']} spoiled frames"
    )
    for heading in ("median of", "first half", "second half"):
        table.add_column(heading)
    memory = [median(each.memory_mb for each in half) for half in (first, second)]
    files = [median(each.files for each in half) for half in (first, second)]
    table.add_row("memory of all processes, MB", *(f"{each:.1f}" for each in memory))
    table.add_row("open files", *(f"{each:.0f}" for each in files))
    Console().print(table)
    flat = memory[1] <= memory[0] * GROWTH + SPARE_MB and second[-1].files <= max(each.files for each in first)
    grown = {"memory_mb": round(memory[1] - memory[0], 1), "files": int(files[1] - files[0])}
    print(json.dumps({"flat": flat, "grown": grown, **done}))
    sys.exit(not flat)


if __name__ == "__main__":
    main()
