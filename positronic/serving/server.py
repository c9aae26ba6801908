"""From settings to a running server: what can be refused early is, then LitServe takes over."""

from __future__ import annotations

import errno
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from positronic.errors import PositronicError
from positronic.serving.banner import print_banner
from positronic.serving.lifetime import end_children, end_on_signals
from positronic.serving.policy import REGISTRY, Typed, read_checkpoint
from positronic.serving.token import check_token
from positronic.training.checkpoints import find_checkpoint

if TYPE_CHECKING:
    from positronic.storage.folder import RemoteFolder

FIRST_PORT = 1024  # LitServe takes no privileged ones


@dataclass(frozen=True)
class ServerSettings:
    """``checkpoints_dir``: an experiment's folder. ``checkpoint``: id served by default, None for the latest.
    ``port``: 0 takes a free one. ``typed``: what every checkpoint must agree with. ``loader``: dotted path
    ``module:function`` of what builds a model (``positronic.serving.policy.LoadModel``)."""

    checkpoints_dir: Path | RemoteFolder
    checkpoint: str | None = None
    host: str = "0.0.0.0"
    port: int = 8000
    token: str | None = None
    device: str = "auto"
    log_level: str = "warning"
    typed: Typed = field(default_factory=Typed)
    loader: str = REGISTRY


def serve(settings: ServerSettings) -> None:
    """Serve until SIGINT or SIGTERM. To be called in the main thread.

    Raises PositronicError when there is no such checkpoint, it disagrees with what was typed, or the port is unusable.
    """
    checkpoint = find_checkpoint(settings.checkpoints_dir, settings.checkpoint)
    recipe, vendor, _ = read_checkpoint(checkpoint, settings.typed)
    token = None if settings.token is None else check_token(settings.token)
    port = usable_port(settings.host, settings.port)
    from positronic.serving.litserve_host import WorkerSettings, make_server, run_server  # a second, after the refusals

    print_banner(checkpoint, vendor, recipe, settings.host, port, token is not None)
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="positronic-") as private:  # mode 0700: nobody else reaches the worker
        worker = WorkerSettings(
            address=f"ipc://{private}/worker",
            checkpoints_dir=settings.checkpoints_dir,
            checkpoint=checkpoint.id,
            device=settings.device,
            loader=settings.loader,
            typed=settings.typed,
        )
        try:
            run_server(make_server(worker, token), settings.host, port, settings.log_level)
        except KeyboardInterrupt:
            pass
        finally:
            end_children()


def usable_port(host: str, port: int) -> int:
    """``port``, or a free one for 0. Raises PositronicError when it is privileged or taken."""
    if 0 < port < FIRST_PORT:
        raise PositronicError(f"server.port: expected {FIRST_PORT} to 65535, or 0 for a free one, found {port}.")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            raise PositronicError(_port_message(host, port, error)) from None
        return probe.getsockname()[1]


def _port_message(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: another program, perhaps another server, listens there. "
            f"End it (`ss -ltnp 'sport = :{port}'` names it), or take another port: server.port={port + 1}."
        )
    return f"Cannot listen on {host}, port {port}: {error.strerror}. Check server.host and server.port."
