"""A checkpoint that Isaac-GR00T's own server serves, as a child of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.codecs.build import Recipe
from positronic.conventions import require_equal
from positronic.errors import listing
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.device import resolve_device
from positronic.upstream.checkout import Checkout, Repository, find_checkout
from positronic.upstream.child import Command
from positronic.upstream.environment import visible_devices
from positronic.upstream.service import LOOPBACK, Server, Service
from positronic.vendors.config import VendorConfig
from positronic.vendors.gr00t.parts import action_parts, state_columns
from positronic.vendors.gr00t.sidecars import TAG, modality_config
from positronic.vendors.gr00t.wire import Connection, pings
from positronic.vendors.served import Elsewhere, Link, checked, new_log

SERVER = Path("gr00t/eval/run_gr00t_server.py")
LOG = "isaac_gr00t_server.log"
WHAT = "Isaac-GR00T's server"


def serve_model(checkpoint: Path, device: str, vendor: VendorConfig, repository: Repository) -> ServedByIsaac:
    """Start the server, and wait until it is ready and has described itself as the recipe does.

    Raises PositronicError for a checkout that is missing, when it does not become ready, or describes something else.
    """
    recipe, folder = trained_recipe(read_info(checkpoint)), checkpoint / PRETRAINED_MODEL
    if vendor.upstream_url is not None:
        return _elsewhere(Elsewhere(vendor.upstream_url).standing_for(checkpoint), recipe, vendor)
    where = (find_checkout(repository, vendor.repo, vendor.python), folder.absolute(), resolve_device(device))
    log = new_log(LOG)
    server = Server(WHAT, lambda port: _command(*where, port), pings, log, vendor.ready_timeout_sec)
    model = ServedByIsaac(Link(WHAT, Service(server), Connection, vendor.infer_timeout_sec, log), recipe)
    try:
        model.require_same_description()
    except BaseException:
        model.end()  # its output stays, for the person who reads why
        raise
    return model


def _elsewhere(server: Elsewhere, recipe: Recipe, vendor: VendorConfig) -> ServedByIsaac:
    server.wait_until(partial(pings, host=server.host), vendor.ready_timeout_sec)
    connect = partial(Connection, host=server.host)
    model = ServedByIsaac(Link(WHAT, server, connect, vendor.infer_timeout_sec), recipe)
    model.require_same_description()
    return model


def _command(checkout: Checkout, folder: Path, device: str, port: int) -> Command:
    said = {"model-path": folder, "embodiment-tag": TAG, "device": device.partition(":")[0]}
    said |= {"host": LOOPBACK, "port": port}
    values = [text for name, value in said.items() for text in (f"--{name}", str(value))]
    return Command((str(checkout.python), str(SERVER), *values), checkout.repo, visible_devices(device))


class ServedByIsaac:
    """A ChunkModel whose forward passes are Isaac-GR00T's. It draws its noise itself."""

    noise_shape = None

    def __init__(self, link: Link[Connection], recipe: Recipe) -> None:
        self._link, self._recipe = link, recipe

    def require_same_description(self) -> None:
        """Raise ConventionError, both sides printed, unless the server has the recipe's parts, order and steps."""
        with self._link.asking() as connection:
            theirs, ours = connection.greet(self._link.timeout_sec), modality_config(self._recipe)
        hint = "Serve the checkpoint as it was trained: it says itself what it expects."
        require_equal("the checkpoint's recipe", _told(ours), WHAT, _told(theirs), hint)

    def predict(
        self, observations: Sequence[Mapping[str, Any]], noise: Sequence[NDArray[np.float32]] | None = None
    ) -> list[NDArray[np.float32]]:
        """All in one request. Raises PositronicError with the server's own words when it refuses them, when it does not
        answer in time, when it has died, and for actions of another shape or that are no numbers."""
        if isinstance(self._link.service, Elsewhere):  # it may have become another one: ZeroMQ connects again silently
            self.require_same_description()
        batch, steps = self._batch(observations), self._recipe.modality_config.action_chunk
        with self._link.asking() as connection:
            parts = connection.actions(batch, self._link.timeout_sec)
        chunks = []
        for part in action_parts(self._recipe):
            shape = (len(observations), steps, part.columns.stop - part.columns.start)
            chunks.append(checked(parts.get(part.name), shape, WHAT, f"part '{part.name}'"))
        return list(np.concatenate(chunks, axis=-1))

    def close(self) -> None:
        """End the server, and leave nothing of it."""
        self._link.close()

    def end(self) -> None:
        """End the server."""
        self._link.end()

    def _batch(self, observations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        modality = self._recipe.modality
        images = [column.name for column in modality.image_columns]
        state = [column.name for column in state_columns(self._recipe)]
        return {
            "video": {name: np.stack([seen[name] for seen in observations])[:, None] for name in images},
            "state": {name: _stacked(name, observations) for name in state},
            "language": {modality.task_key: [[str(seen[modality.task_key])] for seen in observations]},
        }


def _stacked(name: str, observations: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    return np.stack([np.asarray(seen[name], np.float32).reshape(-1) for seen in observations])[:, None]


def _told(config: Mapping[str, Any]) -> dict[str, str]:
    """What must agree, for people: names in order, and steps."""
    parts = {f"{kind} parts": listing(config[kind]["modality_keys"]) for kind in sorted(config)}
    return parts | {f"{kind} steps": str(len(config[kind]["delta_indices"])) for kind in sorted(config)}
