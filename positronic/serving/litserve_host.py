"""All that we know of LitServe 0.2.19, private names included; ``tests/serving/test_litserve_host.py`` holds it to it.

LitServe owns the processes: it starts the inference worker (spawned, so that CUDA is safe) and the API process (forked
from the main one), hands them the app and ends them. Its request queues are not used: ``LitSpec`` without endpoints
keeps ``POST /predict`` away, and ``LitLoop.run`` is the worker's life. Its own authorisation does not cover websockets.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import litserve
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec
from litserve.utils import WorkerSetupStatus

from positronic import keys
from positronic.errors import PositronicError
from positronic.serving.link import WORKER_SILENT, WorkerLink
from positronic.serving.logs import log_to_stderr, spare_libraries
from positronic.serving.memory import is_on_gpu, policy_memory
from positronic.serving.offer import offered
from positronic.serving.policy import ServedPolicy, load_policy
from positronic.serving.protocols import PatientWebSocket, PunctualHTTP
from positronic.serving.session import Sessions
from positronic.serving.settings import ServerSettings
from positronic.serving.token import TokenGuard
from positronic.serving.tuning import tune
from positronic.serving.warm_up import warm_up
from positronic.utils.processes import die_with_parent
from positronic.utils.serialization import MAX_FRAME_BYTES
from positronic.utils.threads import wait_quietly

if TYPE_CHECKING:
    from positronic.serving.scheduler import Scheduler

ROOT = "/"  # where a client of openpi goes that is told a host and a port
UNUSED_PATH = "/internal/worker"
SWITCH_SEC = 0.0005  # a tenth of Python's: the thread that answers waits for those that read no longer than this
VERIFY_SEC = 0.05


class _Worker(litserve.LitAPI):
    """Lives in the inference worker. ``setup`` must be quick: until it returns the port takes no connections."""

    def __init__(self, settings: ServerSettings, checkpoint_id: str, address: str, needs: int = 0) -> None:
        self.settings, self.checkpoint_id, self.address, self.needs = settings, checkpoint_id, address, needs
        self.scheduler: Scheduler | None = None
        super().__init__(loop=_WorkerLoop(), spec=_NoEndpoints())

    def setup(self, device: str) -> None:
        from positronic.serving.scheduler import Scheduler

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process ends us
        die_with_parent()
        log_to_stderr()
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
        warm_up(policy, settings.max_batch if is_on_gpu(settings.device) else 1)
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
    """Ends when one of its processes does. ``ended``: the first that did, before anybody asked the server to end.

    LitServe itself does not look after its API process: without one the others would run on, and nothing listen.
    """

    ended: BaseProcess | None = None
    interrupted = False

    def verify_worker_status(self) -> None:
        """Wait until the worker is ready. LitServe's own waits for ever for one that was killed."""
        while WorkerSetupStatus.READY not in self.workers_setup_status.values():
            self.ended = next((worker for worker in self.inference_workers if not worker.is_alive()), None)
            if self.ended is not None:
                raise RuntimeError("the inference worker did not start")
            time.sleep(VERIFY_SEC)

    def _start_worker_monitoring(self, manager: Any, uvicorn_workers: dict[int, BaseProcess]) -> None:
        watched = {process.sentinel: process for process in (*self.inference_workers, *uvicorn_workers.values())}
        threading.Thread(target=self._watch, args=(watched,), name="watch", daemon=True).start()

    def _watch(self, watched: dict[int, BaseProcess]) -> None:
        first = connection.wait(list(watched))[0]
        if self.interrupted:
            return
        self.ended = watched[first]
        with contextlib.suppress(EOFError, OSError):  # the manager of LitServe's queues is gone as well
            self._shutdown_event.set()

    def _perform_graceful_shutdown(self, manager: Any, uvicorn_workers: Any, shutdown_reason: str = "normal") -> None:
        if shutdown_reason == "keyboard_interrupt":
            self.interrupted, self.ended = True, None
        super()._perform_graceful_shutdown(manager, uvicorn_workers, shutdown_reason)


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
    _add_routes(server, settings, checkpoint_id, address)
    return server


def run_server(server: _Server, host: str, port: int, log_level: str, tls: Mapping[str, str]) -> None:
    """Serve until interrupted, with what ``check_tls`` said.

    Raises PositronicError when one of the server's processes ends otherwise.
    """
    cause = None
    try:
        server.run(
            host=host,
            port=port,
            num_api_servers=1,  # sessions live in its memory
            generate_client_file=False,
            log_level=log_level,
            http=PunctualHTTP,
            ws=PatientWebSocket,
            ws_per_message_deflate=False,  # costs a robot 100 ms of its CPU for three frames
            ws_max_size=MAX_FRAME_BYTES,
            **tls,
        )
    except (EOFError, OSError, RuntimeError) as error:  # so LitServe's main process learns that its manager is gone
        cause = error
    if cause is not None or server.ended is not None:
        raise PositronicError(_why_it_ended(server)) from cause


def _why_it_ended(server: _Server) -> str:
    code = "?" if server.ended is None else server.ended.exitcode
    if code == WORKER_SILENT:
        return (
            f"The model gave no sign of life for {server.lit_api.settings.answer_timeout_sec:g} s: it hangs, or its "
            "process was stopped. Start again; if an answer may take that long, set server.answer_timeout_sec higher."
        )
    name = "A process of the server"
    if server.ended is not None:
        name = "The inference worker" if server.ended in server.inference_workers else "The process that listens"
    return (
        f"{name} ended unexpectedly (exit code {code}; -9 means killed, usually for lack of memory). Its log is above. "
        "Start again, with a smaller model or on another device."
    )


def _add_routes(server: litserve.LitServer, settings: ServerSettings, checkpoint_id: str, address: str) -> None:
    link = WorkerLink(address, settings.answer_timeout_sec)
    sessions = Sessions(link, settings.checkpoints_dir, checkpoint_id, settings.max_sessions)

    def models() -> dict[str, list[str]]:
        return {keys.MODELS: [checkpoint.id for checkpoint in offered(settings.checkpoints_dir)]}

    server.app.add_api_route(keys.ROUTE_MODELS, models, methods=["GET"])
    named = f"/{{{keys.QUERY_CHECKPOINT}:path}}"
    for route in (keys.ROUTE_SESSION, f"{keys.ROUTE_SESSION}{named}"):
        server.app.add_api_websocket_route(route, sessions.serve)
    for route in (ROOT, keys.ROUTE_OPENPI, f"{keys.ROUTE_OPENPI}{named}"):
        server.app.add_api_websocket_route(route, sessions.serve_openpi)
