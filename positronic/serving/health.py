"""What supervisors and Prometheus ask: whether the server lives, whether it can answer, what it has counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import Response

from positronic import keys
from positronic.serving.link import WorkerLink
from positronic.serving.metrics import CONTENT_TYPE, Metrics
from positronic.serving.recorder import WorkerState
from positronic.serving.store import FAILED, LOADED

READY = "ready"
NO_WORKER = "The inference worker starts."
DAMAGED = "The default checkpoint cannot be loaded. The server's log says why."
LOADING = "The default checkpoint is being loaded."


class Health:
    """The routes. They are answered by the process that listens, during a forward pass too."""

    def __init__(self, link: WorkerLink, metrics: Metrics) -> None:
        self._link, self._metrics = link, metrics

    def routes(self) -> dict[str, Callable[[], Awaitable[Response]]]:
        """Path -> what answers a GET."""
        return {keys.ROUTE_HEALTH: self.alive, keys.ROUTE_READY: self.ready, keys.ROUTE_METRICS: self.metrics}

    async def alive(self) -> Response:
        """That this process answers at all."""
        return Response("ok", media_type="text/plain")

    async def ready(self) -> Response:
        """Whether the worker answers and has loaded the default checkpoint. One that made room for others since is
        loaded again for the next session."""
        missing = what_is_missing(self._link.state)
        status = HTTPStatus.OK if missing is None else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(missing or READY, status, media_type="text/plain")

    async def metrics(self) -> Response:
        """For Prometheus."""
        text = self._metrics.text(self._link.state, self._link.losses)
        return Response(text, headers={"content-type": CONTENT_TYPE})


def what_is_missing(state: WorkerState | None) -> str | None:
    """Why a server whose worker has last told this is not ready; None if it is. A checkpoint that has made room for
    others meanwhile counts as loaded: it can be loaded again."""
    if state is None:
        return NO_WORKER
    if state.store.default == FAILED:
        return DAMAGED
    return None if state.store.default == LOADED else LOADING
