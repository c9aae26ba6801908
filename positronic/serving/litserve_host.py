"""All that we know of LitServe 0.2.19, private names included; ``tests/serving/test_litserve_host.py`` holds it to it.

What it gives: the processes. It starts the inference worker (spawned, so that CUDA is safe) and the API process (forked
from the main one, with the app and the socket), waits until they are ready, can start a worker again, and ends them.

What we do not use: its request queues. There an observation crosses two processes' queues with pickle and threads in
between, which costs a lone robot 0.3 to 0.55 ms and ends at 1,100 requests a second, where one socket with the bytes as
they came costs 0.26 ms and goes on to 3,700. Its batches wait out their whole time-out also for a lone robot, or poll,
which takes a core; and a batch fails as a whole. It has no websockets. So ``LitSpec`` without endpoints keeps
``POST /predict`` away, and ``LitLoop.run`` is the worker's life.

What it costs: a process for the manager of the queues that nobody uses; a second at the start; hosts and ports
that are a few only; and what it leaves to us, below. It does not look after its API process,
would end with a worker, or leave everything running after SIGTERM, and closes sessions in the middle of an answer.
Its own authorisation does not cover websockets.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from multiprocessing.managers import SyncManager
from multiprocessing.process import BaseProcess
from socket import SHUT_RD, socket
from typing import TYPE_CHECKING, Any

import litserve
from fastapi import FastAPI
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec
from litserve.utils import WorkerSetupStatus

from positronic import keys
from positronic.errors import PositronicError
from positronic.serving.discretion import hide
from positronic.serving.handshake import encrypted
from positronic.serving.health import Health
from positronic.serving.lifetime import ASKING
from positronic.serving.link import WorkerLink
from positronic.serving.logs import library_logging, log_to_stderr, spare_libraries
from positronic.serving.memory import is_on_gpu, policy_memory
from positronic.serving.metrics import Metrics
from positronic.serving.offer import offered
from positronic.serving.policy import ServedPolicy, load_policy
from positronic.serving.protocols import PunctualHTTP, draining
from positronic.serving.session import Sessions
from positronic.serving.settings import ServerSettings
from positronic.serving.supervision import Loss, Restarts, ended_with, silent_for
from positronic.serving.token import TokenGuard
from positronic.serving.tuning import tune
from positronic.serving.warm_up import warm_up
from positronic.utils.processes import die_with_parent, hear, signals_held
from positronic.utils.serialization import MAX_FRAME_BYTES
from positronic.utils.threads import wait_quietly

if TYPE_CHECKING:
    from positronic.serving.scheduler import Scheduler

ROOT = "/"  # where a client of openpi goes that is told a host and a port
UNUSED_PATH = "/internal/worker"
SWITCH_SEC = 0.0005  # a tenth of Python's: the thread that answers waits for those that read no longer than this
VERIFY_SEC = 0.05
REFUSE_SEC = 1.0  # in which the API process stops to take connections
GOODBYE_SEC = 3.0  # for sessions that were cut off
END_SEC = 8.0  # for the API process to end after its last session

logger = logging.getLogger(__name__)


class _Worker(litserve.LitAPI):
    """Lives in the inference worker. ``setup`` must be quick: until it returns the port takes no connections."""

    def __init__(self, settings: ServerSettings, checkpoint_id: str, address: str, needs: int = 0) -> None:
        self.settings, self.checkpoint_id, self.address, self.needs = settings, checkpoint_id, address, needs
        self.scheduler: Scheduler | None = None
        super().__init__(loop=_WorkerLoop(), spec=_NoEndpoints())

    def setup(self, device: str) -> None:
        from positronic.serving.scheduler import Scheduler

        for number in ASKING:  # Ctrl-C and many supervisors reach every process; the main one ends us when it is time
            signal.signal(number, signal.SIG_IGN)
        hear()
        die_with_parent()
        log_to_stderr(self.settings.log_format)
        hide(str(self.settings.checkpoints_dir))
        sys.setswitchinterval(SWITCH_SEC)
        wait_quietly()  # torch is imported when a checkpoint is loaded
        memory = policy_memory(self.settings.device, self.settings.memory_gb)
        self.scheduler = Scheduler(self.address, self._load, memory, self.settings.max_batch)
        self.scheduler.preload(self.checkpoint_id, self.needs)

    def _load(self, checkpoint_id: str) -> ServedPolicy:
        settings = self.settings
        where = settings.checkpoints_dir, checkpoint_id, settings.device
        policy = load_policy(*where, typed=settings.typed, load=settings.load_model())
        tune(policy, settings)
        every_size = settings.compile or is_on_gpu(settings.device)
        warm_up(policy, settings.max_batch if every_size else 1)
        return policy

    def decode_request(self, request: Any) -> Any:
        return request

    def predict(self, x: Any) -> Any:
        raise NotImplementedError("the worker's loop answers")

    def encode_response(self, output: Any) -> Any:
        return output


class _WorkerLoop(LitLoop):
    """LitServe calls ``run`` for ever."""

    def run(self, lit_api: _Worker, *unused: Any) -> None:
        lit_api.scheduler.step()


class _NoEndpoints(LitSpec):
    """Keeps LitServe from offering ``POST /predict``."""

    def __init__(self) -> None:
        super().__init__()
        self.api_path = UNUSED_PATH

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        return request

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        return output


class _Server(litserve.LitServer):
    """Starts its worker anew when that dies, and ends when another of its processes does.

    ``ended``: the first that did for good, before anybody asked the server to end. LitServe itself does not look after
    its API process: without one the others would run on, and nothing listen.
    """

    link: WorkerLink
    ended: BaseProcess | None = None
    why = ""  # the last worker ended

    def watch_over(self, settings: ServerSettings, api: Connection) -> None:
        """``api``: the line to the API process."""
        self._api, self._restarts = api, Restarts(settings.max_restarts, settings.restart_window_sec)
        self._silence_sec, self._drain_sec = settings.answer_timeout_sec, settings.drain_sec
        self.uvicorn_graceful_timeout = settings.drain_sec + GOODBYE_SEC
        self._losses = 0
        self._lost: BaseProcess | None = None  # the last worker whose sessions were told
        self._is_silent = False

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process tells us
        async with super().lifespan(app):
            with self.link.opened():
                yield

    def _init_manager(self, num_api_servers: int) -> SyncManager:
        blocked = signal.pthread_sigmask(
            signal.SIG_BLOCK, ASKING
        )  # which the manager inherits: it must stay to the end
        try:
            return super()._init_manager(num_api_servers)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def verify_worker_status(self) -> None:
        """Wait until the worker is ready. LitServe's own waits for ever for one that was killed."""
        while WorkerSetupStatus.READY not in self.workers_setup_status.values():
            self.ended = next((worker for worker in self.inference_workers if not worker.is_alive()), None)
            if self.ended is not None:
                raise RuntimeError("the inference worker did not start")
            time.sleep(VERIFY_SEC)

    def _start_server(
        self, port: int, count: int, log_level: str, sockets: list[socket], kind: str, **options: Any
    ) -> dict[int, BaseProcess]:
        self._sockets = sockets
        return super()._start_server(port, count, log_level, sockets, kind, **options)

    def _start_worker_monitoring(self, manager: SyncManager, uvicorn_workers: dict[int, BaseProcess]) -> None:
        """Returns when the server has to end. LitServe calls this last of all and then waits, in the main thread, which
        workers must be started from: a worker ends with the thread that started it."""
        others = uvicorn_workers[0], manager._process
        while self.ended is None:
            watched = {process.sentinel: process for process in (*others, self.inference_workers[0])}
            ready = connection.wait([*watched, self._api])
            ended = next((process for sentinel, process in watched.items() if sentinel in ready), None)
            if ended is None:
                self._hear_api()
            elif ended is not self.inference_workers[0] or not self._restart(ended):
                self.ended = ended
        with contextlib.suppress(EOFError, OSError):  # the manager of LitServe's queues is gone as well
            self._shutdown_event.set()

    def _hear_api(self) -> None:
        """The worker is silent, unless that is one which has gone since."""
        if self._api.recv() == self._losses:
            self._is_silent = True
            self.inference_workers[0].kill()

    def _lose(self, worker: BaseProcess, ends: bool, is_stopping: bool = False) -> None:
        worker.join()
        self.why = silent_for(self._silence_sec) if self._is_silent else ended_with(worker.exitcode)
        self._losses, self._is_silent, self._lost = self._losses + 1, False, worker
        loss = Loss(self.why, ends, is_stopping)
        self._api.send(loss)
        logger.error("%s", loss)

    def _restart(self, worker: BaseProcess) -> bool:
        ends = not self._restarts.take()
        self._lose(worker, ends)
        if ends:
            return False
        with signals_held():
            self.inference_workers[0] = self.launch_single_inference_worker(self.lit_api, 0)
        return True

    def _perform_graceful_shutdown(
        self, manager: SyncManager, uvicorn_workers: dict[int, BaseProcess], shutdown_reason: str = "normal"
    ) -> None:
        """LitServe's own, after the API process has ended its sessions."""
        if shutdown_reason == "keyboard_interrupt":
            self.ended = None
        for api in uvicorn_workers.values():
            api.terminate()
            self._await_sessions(api, REFUSE_SEC)
            if api.is_alive():  # it no longer takes connections, but the socket is still there
                self._refuse_connections()
            self._await_sessions(api, self._drain_sec + END_SEC)
            api.kill()
        for worker in self.inference_workers:
            worker.kill()
        super()._perform_graceful_shutdown(manager, {}, shutdown_reason)

    def _await_sessions(self, api: BaseProcess, seconds: float) -> None:
        """Until the API process has ended them. Who waits for an answer of a worker that dies or hangs meanwhile is
        told at once: there is no other one."""
        end_sec = time.monotonic() + seconds
        while api.is_alive() and (left_sec := end_sec - time.monotonic()) > 0:
            worker = self.inference_workers[0]
            watched = [api.sentinel, self._api] if worker is self._lost else [api.sentinel, self._api, worker.sentinel]
            ready = connection.wait(watched, left_sec)
            if self._api in ready:
                self._hear_api()
            if worker.sentinel in ready:
                self._lose(worker, ends=True, is_stopping=True)

    def _refuse_connections(self) -> None:
        """Who comes now hears that nobody listens. Otherwise it would wait until the last process has ended."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(SHUT_RD)


def make_server(
    settings: ServerSettings, checkpoint_id: str, address: str, token: str | None, needs: int = 0
) -> _Server:
    """The server with its routes; ``checkpoint_id`` is the default, which takes ``needs`` bytes at least, at
    ``address`` its processes meet.

    It must be run in the main thread of a process that has no CUDA context.
    """
    spare_libraries()
    accelerator = "cuda" if settings.device.startswith("cuda") else "cpu"  # a label only: the worker picks its device
    server = _Server(
        _Worker(settings, checkpoint_id, address, needs), accelerator=accelerator, devices=1, timeout=False
    )
    if token is not None:
        server.app.add_middleware(TokenGuard, token=token)
    ours, theirs = Pipe()
    server.watch_over(settings, ours)
    server.link = WorkerLink(address, settings.answer_timeout_sec, theirs)
    _add_routes(server, settings, checkpoint_id)
    return server


def run_server(server: _Server, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    """Serve until interrupted, with what ``check_tls`` said.

    Raises PositronicError when one of the server's processes ends otherwise.
    """
    cause = None
    settings: ServerSettings = server.lit_api.settings
    try:
        server.run(
            host=host,
            port=port,
            num_api_servers=1,  # sessions live in its memory
            generate_client_file=False,
            log_level=settings.log_level,
            http=PunctualHTTP if tls is None else encrypted(tls),
            ws=draining(settings.drain_sec),
            ws_per_message_deflate=False,  # costs a robot 100 ms of its CPU for three frames
            ws_max_size=MAX_FRAME_BYTES,
            **library_logging(settings.log_format, settings.log_level),
        )
    except (EOFError, OSError, RuntimeError) as error:  # so LitServe's main process learns that its manager is gone
        cause = error
    if cause is not None or server.ended is not None:
        raise PositronicError(_why_it_ended(server)) from cause


def _why_it_ended(server: _Server) -> str:
    if server.ended is not None and server.ended in server.inference_workers:
        settings: ServerSettings = server.lit_api.settings
        why = server.why or ended_with(server.ended.exitcode)
        return (
            f"{why} That was more often than server.max_restarts={settings.max_restarts} allows within "
            f"{settings.restart_window_sec:g} s. The log is above. Start again, with a smaller model or on another "
            "device; if an answer may take longer, set server.answer_timeout_sec higher."
        )
    name = "A process of the server" if server.ended is None else "The process that listens"
    code = "?" if server.ended is None else server.ended.exitcode
    return (
        f"{name} ended unexpectedly (exit code {code}; -9 means killed, usually for lack of memory). Its log is above. "
        "Start again."
    )


def _add_routes(server: _Server, settings: ServerSettings, checkpoint_id: str) -> None:
    metrics = Metrics()
    sessions = Sessions(server.link, settings, checkpoint_id, metrics)

    def models() -> dict[str, list[str]]:
        return {keys.MODELS: [checkpoint.id for checkpoint in offered(settings.checkpoints_dir)]}

    health = Health(server.link, metrics)
    for route, answer in {keys.ROUTE_MODELS: models, **health.routes()}.items():
        server.app.add_api_route(route, answer, methods=["GET"])
    named = f"/{{{keys.QUERY_CHECKPOINT}:path}}"
    for route in (keys.ROUTE_SESSION, f"{keys.ROUTE_SESSION}{named}"):
        server.app.add_api_websocket_route(route, sessions.serve)
    for route in (ROOT, keys.ROUTE_OPENPI, f"{keys.ROUTE_OPENPI}{named}"):
        server.app.add_api_websocket_route(route, sessions.serve_openpi)
