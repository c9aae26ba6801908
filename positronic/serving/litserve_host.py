"""All that we know of LitServe 0.2.19, private names included; ``tests/serving/test_litserve_host.py`` holds it to it.

LitServe owns the processes: it starts the inference worker (spawned, so that CUDA is safe) and the API process (forked
from the main one), hands them the app and ends them. Its request queues are not used: ``LitSpec`` without endpoints
keeps ``POST /predict`` away, and ``LitLoop.run`` is the worker's life. Its own authorisation does not cover websockets.
"""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litserve
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec

from positronic import keys
from positronic.errors import PositronicError
from positronic.serving.policy import ServedPolicy, Typed, find_loader, load_policy
from positronic.serving.session import Sessions, WorkerLink
from positronic.serving.token import TokenGuard
from positronic.training.checkpoints import list_checkpoints
from positronic.utils.processes import die_with_parent
from positronic.utils.threads import wait_quietly

if TYPE_CHECKING:
    from positronic.serving.scheduler import Scheduler
    from positronic.storage.folder import RemoteFolder

UNUSED_PATH = "/internal/worker"
MAX_FRAME_BYTES = 64 << 20
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@dataclass(frozen=True)
class WorkerSettings:
    """What the inference worker is told. Plain values: it travels to another process."""

    address: str
    checkpoints_dir: Path | RemoteFolder
    checkpoint: str
    device: str
    loader: str
    typed: Typed


class _Worker(litserve.LitAPI):
    """Lives in the inference worker. ``setup`` must be quick: until it returns the port takes no connections."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.scheduler: Scheduler | None = None
        super().__init__(loop=_WorkerLoop(), spec=_NoEndpoints())

    def setup(self, device: str) -> None:
        from positronic.serving.scheduler import Scheduler

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process ends us
        die_with_parent()
        _log_to_stderr()
        wait_quietly()  # torch is imported when a checkpoint is loaded
        settings = self.settings

        def load(checkpoint: str) -> ServedPolicy:
            build = find_loader(settings.loader)
            where = settings.checkpoints_dir, checkpoint, settings.device
            return load_policy(*where, typed=settings.typed, load=build)

        self.scheduler = Scheduler(settings.address, load)
        self.scheduler.preload(settings.checkpoint)

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


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(LOG_FORMAT, "%H:%M:%S"))
    ours = logging.getLogger("positronic")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False  # libraries configure the root as they please


def make_server(worker: WorkerSettings, token: str | None) -> litserve.LitServer:
    """The server with its routes. It must be run in the main thread of a process that has no CUDA context."""
    accelerator = "cuda" if worker.device.startswith("cuda") else "cpu"  # a label only: the worker picks its device
    server = litserve.LitServer(_Worker(worker), accelerator=accelerator, devices=1, timeout=False)
    if token is not None:
        server.app.add_middleware(TokenGuard, token=token)
    _add_routes(server, worker)
    return server


def run_server(server: litserve.LitServer, host: str, port: int, log_level: str) -> None:
    """Serve until interrupted. Raises PositronicError when the inference worker dies."""
    try:
        server.run(
            host=host,
            port=port,
            num_api_servers=1,  # sessions live in its memory
            generate_client_file=False,
            log_level=log_level,
            ws="websockets-sansio",
            ws_per_message_deflate=False,  # costs a robot 100 ms of its CPU for three frames
            ws_max_size=MAX_FRAME_BYTES,
        )
    except (EOFError, OSError, RuntimeError) as error:  # how LitServe's main process learns that its manager is gone
        codes = [process.exitcode for process in server.inference_workers]
        raise PositronicError(
            f"The inference worker ended unexpectedly (exit code {codes[0] if codes else '?'}; -9 means killed, "
            "usually for lack of memory). Its log is above. Start again, with a smaller model or on another device."
        ) from error


def _add_routes(server: litserve.LitServer, worker: WorkerSettings) -> None:
    sessions = Sessions(WorkerLink(worker.address), worker.checkpoints_dir, worker.checkpoint)

    def models() -> dict[str, list[str]]:
        return {keys.MODELS: [checkpoint.id for checkpoint in list_checkpoints(worker.checkpoints_dir)]}

    server.app.add_api_route(keys.ROUTE_MODELS, models, methods=["GET"])
    server.app.add_api_websocket_route(keys.ROUTE_SESSION, sessions.serve)
    path = f"{keys.ROUTE_SESSION}/{{{keys.QUERY_CHECKPOINT}:path}}"
    server.app.add_api_websocket_route(path, sessions.serve)
