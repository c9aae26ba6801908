"""How fast robots are answered: latency and rate of this server and of others, in one run, with the same frames.

    python scripts/bench_serving.py                              # two toy models, 1 to 64 robots; minutes
    python scripts/bench_serving.py --robots 1 16 --models gpu
    python scripts/bench_serving.py --published <python>         # also positronic-model-server, where that has it

Each robot sends two pictures of 224 x 224 and a state, 300 kB, and the next one as soon as it is answered. All servers
run on this machine, one at a time, in processes of their own; the robots share one thread, which costs a tenth of a
millisecond an observation. Model ``zero`` costs nothing. ``gpu`` waits 20 ms and 0.5 ms for each observation of a batch
and leaves the cores free, as a model on a GPU does; its ``limit`` is what batches of 16 without any pause would reach.
The others answer without a codec: they neither check an observation nor decode a chunk. ``floor`` does not even read an
observation, and computes for all robots together: what this machine can do at most with such frames. ``idle`` is in
cores, with the sessions open and nobody asking; ``MB`` is the memory of all the server's processes.

The last line is JSON: with 16 robots and ``gpu`` the share of the limit and of what ``floor`` reaches, how many times
the rate of ``plain``, and p99 over p50; with one robot and ``zero`` our p50 over that of ``plain``; and how many of the
most robots were dropped.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import Answers, Client, closed_loop, http_client, websocket_client
from bench.memory import family, resident
from bench.toy_serving import ITEM_MS, PASS_MS, free_port, observation, process, toy_server, until_there
from rich.console import Console
from rich.table import Table

from positronic import keys
from positronic.utils.serialization import deserialise, serialise

OTHERS = Path(__file__).parent / "bench" / "other_servers.py"
MODELS = {"zero": (0.0, 0.0), "gpu": (20.0, 0.5)}
BATCH = 16
READY, ERROR = serialise("ready"), serialise("error")
IDLE_SEC = 1.0
SETTLE_SEC = 0.5
TICKS = os.sysconf("SC_CLK_TCK")

Connect = Callable[[], Client]


@dataclass
class Row:
    """What was measured of a server with a number of robots."""

    model: str
    server: str
    robots: int
    answers: Answers
    idle_cores: float
    memory_mb: float


@contextmanager
def ours(pass_ms: float, item_ms: float, published: str | None) -> Iterator[tuple[Connect, int]]:
    """This server: with codec, checks and protocol as robots meet them."""
    frame = serialise(observation())
    with toy_server(pass_ms, item_ms) as (port, pid):
        yield lambda: websocket_client(port, keys.ROUTE_SESSION, lambda ready: frame, ERROR, READY), pid


def other(name: str) -> Callable[..., object]:
    """Another server over the same toy."""

    @contextmanager
    def running(pass_ms: float, item_ms: float, published: str | None) -> Iterator[tuple[Connect, int]]:
        interpreter, port = (published if name == "published" else sys.executable) or sys.executable, free_port()
        environment = {PASS_MS: str(pass_ms), ITEM_MS: str(item_ms)}
        with process([interpreter, str(OTHERS), name, str(port)], environment) as pid:
            connect = CONNECTIONS[name](port)
            until_there(connect)
            yield connect, pid

    return running


def _bare(port: int) -> Connect:
    frame = serialise(observation())
    return lambda: websocket_client(port, "/", lambda ready: frame, ERROR, READY)


def _post(port: int) -> Connect:
    body = json.dumps({"observation": base64.b64encode(serialise(observation())).decode()}).encode()
    return lambda: http_client(port, "/predict", body, "application/json")


def _third_version(port: int) -> Connect:
    def request(ready: bytes) -> bytes:
        return serialise({"session_id": deserialise(ready)["session_id"], "observation": observation()})

    return lambda: websocket_client(port, keys.ROUTE_SESSION, request, ERROR, READY)


CONNECTIONS = {"plain": _bare, "floor": _bare, "openpi": _bare, "litserve": _post, "published": _third_version}
SERVERS = {"ours": ours, **{name: other(name) for name in CONNECTIONS}}


def measure(model: str, server: str, robots: Sequence[int], seconds: float, published: str | None) -> list[Row]:
    """A server's rows, one for each number of robots."""
    rows = []
    with SERVERS[server](*MODELS[model], published) as (connect, pid):
        for count in robots:
            clients = [connect() for _ in range(count)]
            closed_loop(clients, SETTLE_SEC)
            idle = _idle_cores(pid)
            answers = closed_loop(clients, seconds)
            rows.append(Row(model, server, count, answers, idle, _memory_mb(pid)))
            for client in clients:
                client.connection.close()
    return rows


def _idle_cores(pid: int) -> float:
    before, begin = _cpu_sec(pid), time.monotonic()
    time.sleep(IDLE_SEC)
    return (_cpu_sec(pid) - before) / (time.monotonic() - begin)


def _cpu_sec(pid: int) -> float:
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in family(pid)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def _memory_mb(pid: int) -> float:
    return sum(map(resident, family(pid))) / 1e6


def table_of(rows: Sequence[Row]) -> Table:
    """Everything that was measured."""
    table = Table(title="robots answered")
    for heading in ("model", "robots", "server", "p50 ms", "p99 ms", "per s", "dropped", "idle", "MB"):
        table.add_column(heading, justify="left" if heading in ("model", "server") else "right")
    for row in sorted(rows, key=lambda row: (list(MODELS).index(row.model), row.robots)):
        answers = row.answers
        numbers = (answers.percentile(50), answers.percentile(99))
        table.add_row(
            row.model,
            str(row.robots),
            row.server,
            *(f"{number:.2f}" for number in numbers),
            f"{answers.per_second:.0f}",
            str(answers.dropped),
            f"{row.idle_cores:.2f}",
            f"{row.memory_mb:.0f}",
        )
    return table


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """The last line, as far as its rows were measured."""
    found = {(row.model, row.server, row.robots): row.answers for row in rows}
    pass_ms, item_ms = MODELS["gpu"]
    limit = BATCH * 1000 / (pass_ms + item_ms * BATCH)
    most = max(row.robots for row in rows)
    told: dict[str, float] = {
        f"n{most}_dropped": sum(a.dropped for (_, s, n), a in found.items() if (s, n) == ("ours", most))
    }
    floor = found.get(("gpu", "floor", BATCH))
    full, locked = found.get(("gpu", "ours", BATCH)), found.get(("gpu", "plain", BATCH))
    if full:
        told["n16_of_limit"] = round(full.per_second / limit, 3)
        told["n16_p99_over_p50"] = round(full.percentile(99) / full.percentile(50), 2)
    if full and floor:
        told["n16_of_floor"] = round(full.per_second / floor.per_second, 3)
    if full and locked:
        told["n16_vs_lock"] = round(full.per_second / locked.per_second, 2)
    alone, plain = found.get(("zero", "ours", 1)), found.get(("zero", "plain", 1))
    if alone and plain:
        told["n1_zero_vs_plain"] = round(alone.percentile(50) / plain.percentile(50), 2)
    return told


def main() -> None:
    """Measure, print a table, and JSON of it as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--robots", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument(
        "--servers", nargs="+", choices=SERVERS, default=["ours", "plain", "floor", "openpi", "litserve"]
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--published", metavar="PYTHON", help="an interpreter that has positronic-model-server")
    options = parser.parse_args()
    servers = [*options.servers, *(["published"] if options.published and "published" not in options.servers else [])]
    rows: list[Row] = []
    console = Console()
    for model in options.models:
        for server in servers:
            with console.status(f"{server}, model {model}"):
                rows += measure(model, server, options.robots, options.seconds, options.published)
    console.print(table_of(rows))
    print(json.dumps(ratios(rows)))


if __name__ == "__main__":
    main()
