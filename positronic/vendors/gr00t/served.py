"""A checkpoint that Isaac-GR00T's own server serves, as a child of ours."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.codecs.build import Recipe
from positronic.conventions import require_equal
from positronic.errors import PositronicError, listing
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.device import resolve_device
from positronic.upstream.checkout import Checkout, Repository, find_checkout
from positronic.upstream.child import Command
from positronic.upstream.service import LOOPBACK, Server, Service, State
from positronic.vendors.config import VendorConfig
from positronic.vendors.gr00t.parts import ActionPart, action_parts, state_columns
from positronic.vendors.gr00t.sidecars import TAG, modality_config
from positronic.vendors.gr00t.wire import Connection, NoAnswerError, pings

SERVER = Path("gr00t/eval/run_gr00t_server.py")
LOG = "isaac_gr00t_server.log"
TIMEOUT = "vendor.infer_timeout_sec"
WHAT = "Isaac-GR00T's server"


def serve_model(checkpoint: Path, device: str, vendor: VendorConfig, repository: Repository) -> ServedByIsaac:
    """Start the server, and wait until it is ready and has described itself as the recipe does.

    Raises PositronicError for a checkout that is missing, when it does not become ready, or describes something else.
    """
    recipe, folder = trained_recipe(read_info(checkpoint)), checkpoint / PRETRAINED_MODEL
    checkout = find_checkout(repository, vendor.repo, vendor.python)
    log = Path(tempfile.mkdtemp(prefix="positronic-")) / LOG
    where = (checkout, folder.absolute(), resolve_device(device).partition(":")[0])
    server = Server(WHAT, lambda port: _command(*where, port), pings, log, vendor.ready_timeout_sec)
    model = ServedByIsaac(Service(server), recipe, vendor.infer_timeout_sec, log)
    try:
        model.require_same_description()
    except BaseException:
        model.end()  # its output stays, for the person who reads why
        raise
    return model


def _command(checkout: Checkout, folder: Path, device: str, port: int) -> Command:
    said = {"model-path": folder, "embodiment-tag": TAG, "device": device, "host": LOOPBACK, "port": port}
    values = [text for name, value in said.items() for text in (f"--{name}", str(value))]
    return Command((str(checkout.python), str(SERVER), *values), checkout.repo)


class ServedByIsaac:
    """A ChunkModel whose forward passes are Isaac-GR00T's. It draws its noise itself."""

    noise_shape = None

    def __init__(self, service: Service, recipe: Recipe, timeout_sec: float, log: Path) -> None:
        """``log``: what the server prints, in a folder of its own that is removed when the model is closed."""
        self._service, self._recipe, self._timeout_sec, self._log = service, recipe, timeout_sec, log
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._port = 0
        self._is_silent = False

    def require_same_description(self) -> None:
        """Raise ConventionError, both sides printed, unless the server has the recipe's parts, order and steps."""
        with self._lock:
            theirs, ours = self._connected().modality(self._timeout_sec), modality_config(self._recipe)
        hint = "Serve the checkpoint as it was trained: it says itself what it expects."
        require_equal("the checkpoint's recipe", _told(ours), WHAT, _told(theirs), hint)

    def predict(
        self, observations: Sequence[Mapping[str, Any]], noise: Sequence[NDArray[np.float32]] | None = None
    ) -> list[NDArray[np.float32]]:
        """All in one request. Raises PositronicError with the server's own words when it refuses them, when it does not
        answer in time, when it has died, and for actions of another shape or that are no numbers."""
        batch = self._batch(observations)
        with self._lock:
            parts = self._answer(batch)
        chunks = [self._part(parts, part, len(observations)) for part in action_parts(self._recipe)]
        return list(np.concatenate(chunks, axis=-1))

    def close(self) -> None:
        """End the server, and leave nothing of it."""
        self.end()
        shutil.rmtree(self._log.parent, ignore_errors=True)

    def end(self) -> None:
        """End the server."""
        self._service.close()
        if self._connection is not None:
            self._connection.close()

    def _batch(self, observations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        modality = self._recipe.modality
        images = [column.name for column in modality.image_columns]
        state = [column.name for column in state_columns(self._recipe)]
        return {
            "video": {name: np.stack([seen[name] for seen in observations])[:, None] for name in images},
            "state": {name: _stacked(name, observations) for name in state},
            "language": {modality.task_key: [[str(seen[modality.task_key])] for seen in observations]},
        }

    def _answer(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        connection = self._connected()
        try:
            if self._is_silent:  # not again for as long: others wait
                connection.ask("ping")
            self._is_silent = False
            return connection.actions(batch, self._timeout_sec)
        except NoAnswerError as error:
            self._is_silent = True
            dead = self._service.status
            if dead.state is not State.READY or dead.port != self._port:
                raise PositronicError(f"{WHAT} has ended, and is started again. {dead.error or ''}".strip()) from None
            raise PositronicError(f"{error} A model may need longer: {TIMEOUT}=<seconds>.") from None

    def _connected(self) -> Connection:
        """To the server that runs now: one that was started again listens at another port."""
        port = self._service.port()
        if self._connection is None or port != self._port:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._port, self._is_silent = Connection(port), port, False
            self._connection.modality(self._timeout_sec)  # which tells how it writes arrays
        return self._connection

    def _part(self, parts: Mapping[str, Any], part: ActionPart, count: int) -> NDArray[np.float32]:
        name, found = part.name, parts.get(part.name)
        expected = (count, self._recipe.modality_config.action_chunk, part.columns.stop - part.columns.start)
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
            raise PositronicError(f"{WHAT}: expected part '{name}' as numbers, found {listing(parts)}.")
        if found.shape != expected:
            raise PositronicError(f"{WHAT}: expected part '{name}' with shape {expected}, found {found.shape}.")
        if not np.isfinite(found).all():
            raise PositronicError(f"{WHAT}: part '{name}' of its action is not a finite number.")
        return found.astype(np.float32)


def _stacked(name: str, observations: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    return np.stack([np.asarray(seen[name], np.float32).reshape(-1) for seen in observations])[:, None]


def _told(config: Mapping[str, Any]) -> dict[str, str]:
    """What must agree, for people: names in order, and steps."""
    parts = {f"{kind} parts": listing(config[kind]["modality_keys"]) for kind in sorted(config)}
    return parts | {f"{kind} steps": str(len(config[kind]["delta_indices"])) for kind in sorted(config)}
