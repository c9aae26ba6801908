"""Uvicorn with our protocols and an app of a few lines, in a thread."""

import asyncio
import contextlib
import socket
import threading

import uvicorn

from positronic.serving.protocols import PatientWebSocket


@contextlib.contextmanager
def serving(app, http, **options):
    """The port of a server of ``app`` with this HTTP protocol. The server stops at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        quiet = {"lifespan": "off", "log_level": "critical", "timeout_keep_alive": 600}
        server = uvicorn.Server(uvicorn.Config(app, http=http, ws=PatientWebSocket, **quiet, **options))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
