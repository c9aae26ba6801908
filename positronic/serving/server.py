"""From settings to a running server. What can be refused early is refused here; then LitServe takes over."""

from __future__ import annotations

import errno
import socket
import tempfile

from positronic.errors import PositronicError
from positronic.serving.banner import Door, print_banner
from positronic.serving.lifetime import end_children, end_on_signals
from positronic.serving.logs import log_to_stderr
from positronic.serving.offer import find_offered
from positronic.serving.policy import read_checkpoint
from positronic.serving.settings import ServerSettings
from positronic.serving.tls import check_tls
from positronic.serving.token import AUTO, check_token

LOOPBACK = "127.0.0.1"
FIRST_PORT = 1024  # LitServe takes no privileged ones


def serve(settings: ServerSettings) -> None:
    """Serve until SIGINT or SIGTERM: the first lets answers under way finish, a second ends all at once. To be called
    in the main thread.

    Raises PositronicError when there is no such checkpoint, it disagrees with what was typed, or the
    port, the token or the certificate is unusable.
    """
    checkpoint = find_offered(settings.checkpoints_dir, settings.checkpoint)
    recipe, vendor, _ = read_checkpoint(checkpoint, settings.typed)
    token = None if settings.token is None else check_token(settings.token)
    tls = check_tls(settings.tls_cert, settings.tls_key)
    host = LOOPBACK if settings.host == "localhost" else settings.host  # LitServe takes addresses alone
    port = usable_port(host, settings.port)
    from positronic.serving.litserve_host import make_server, run_server  # a second, after the refusals

    door = Door(host, port, token, is_new=settings.token == AUTO, certificate=settings.tls_cert)
    print_banner(checkpoint, vendor, recipe, door)
    log_to_stderr(settings.log_format)
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="positronic-") as private:  # mode 0700: nobody else reaches the worker
        server = make_server(settings, checkpoint.id, f"ipc://{private}/worker", token, checkpoint.serving_bytes())
        try:
            run_server(server, host, port, tls)
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
