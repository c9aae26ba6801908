"""A real websocket server that says what a test tells it to."""

import contextlib
import socket
import threading

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from positronic.commands import ActionStep, JointPosition, chunk_to_wire
from positronic.utils.serialization import serialise

READY = {"status": "ready", "meta": {"checkpoint_id": "000030"}}
(STEP,) = chunk_to_wire([ActionStep.of_one(JointPosition(np.arange(7.0)), 0.25, 0.2)])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def serving(handler, port=0, **options):
    """A real websocket server that runs ``handler(connection)`` for every session."""
    with serve(handler, "127.0.0.1", port, **{"max_size": None, **options}) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def script(*answers, opening=(READY,)):
    """Sends the opening frames, then one answer an observation. Closes after an opening that ends with an error."""

    def handler(connection):
        for frame in opening:
            connection.send(serialise(frame))
        if "error" in opening[-1]:
            return
        with contextlib.suppress(ConnectionClosed):
            for answer in answers:
                connection.recv()
                connection.send(answer if isinstance(answer, bytes | str) else serialise(answer))
            connection.recv()

    return handler
