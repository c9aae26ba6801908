"""A checkpoint that openpi's own server serves, as a child of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic.errors import PositronicError, listing
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.device import resolve_device
from positronic.upstream.checkout import Checkout, Repository, find_checkout
from positronic.upstream.child import Command
from positronic.upstream.environment import visible_devices
from positronic.upstream.service import Server, Service
from positronic.vendors.config import VendorConfig
from positronic.vendors.openpi.cache import ASSETS, PARAMS, TOKENIZER, WRITTEN, require_cached
from positronic.vendors.openpi.contract import Contract, pretrained_contract, trained_contract
from positronic.vendors.openpi.launcher import ON_CPU, launched
from positronic.vendors.openpi.norm_stats import FILE_NAME
from positronic.vendors.openpi.spec import SPEC_FILE
from positronic.vendors.openpi.wire import WHAT, Connection
from positronic.vendors.served import PING_SEC, ClosedError, Elsewhere, Link, NoAnswerError, new_log

LOG = "openpi_server.log"


def serve_model(checkpoint: Path, device: str, vendor: VendorConfig, repository: Repository) -> ServedByOpenPi:
    """Start the server of a checkpoint of ours that openpi trained, and wait until it is ready: it has described itself
    as the recipe does, and has answered an observation, for which it compiles its programs.

    Raises PositronicError for a checkout or a tokenizer that is missing, a checkpoint that openpi did not train, and
    when the server does not become ready or describes something else.
    """
    info, folder = read_info(checkpoint), checkpoint / PRETRAINED_MODEL
    if not (folder / SPEC_FILE).is_file():
        raise PositronicError(
            f"{checkpoint} was trained in this process, and openpi does not read its weights. Serve it without "
            "vendor.backend=upstream."
        )
    contract = trained_contract(trained_recipe(info), info["training"]["policy"])
    contract.require_same(str(folder / SPEC_FILE), json.loads((folder / SPEC_FILE).read_text()))
    return _served(folder, folder / SPEC_FILE, device, vendor, repository, contract)


def serve_pretrained(
    folder: Path, device: str, vendor: VendorConfig, info: Mapping[str, Any], repository: Repository
) -> ServedByOpenPi:
    """The same of a checkpoint of openpi's own, by the config of its that ``vendor.config_name`` names, or else the
    modality. ``info``: what ``positronic.json`` would hold."""
    for wanted in (f"{PARAMS}/{WRITTEN}", f"{ASSETS}/*/{FILE_NAME}"):
        if not list(folder.glob(wanted)):
            found = listing(sorted(path.name for path in folder.iterdir()))
            raise PositronicError(f"{folder}: expected {wanted}, as in a checkpoint of openpi's, found: {found}.")
    recipe = trained_recipe(info)
    contract = pretrained_contract(recipe, vendor.config_name or recipe.modality_config.config_name)
    return _served(folder, None, device, vendor, repository, contract)


def _served(
    folder: Path, spec: Path | None, device: str, vendor: VendorConfig, repository: Repository, contract: Contract
) -> ServedByOpenPi:
    if vendor.upstream_url is not None:
        return _elsewhere(Elsewhere(vendor.upstream_url).standing_for(folder), vendor, contract)
    checkout = find_checkout(repository, vendor.repo, vendor.python)
    require_cached(TOKENIZER, "The tokenizer of π0.5 is missing", str(checkout.python))
    log = new_log(LOG)
    what = (checkout, folder.absolute(), spec, contract.name, resolve_device(device), log.parent)
    server = Server(WHAT, lambda port: _command(*what, port), WarmUp(contract), log, vendor.ready_timeout_sec)
    model = ServedByOpenPi(Link(WHAT, Service(server), Connection, vendor.infer_timeout_sec, log), contract)
    try:
        model.wait_until_ready()
    except BaseException:
        model.end()  # its output stays, for the person who reads why
        raise
    return model


def _elsewhere(server: Elsewhere, vendor: VendorConfig, contract: Contract) -> ServedByOpenPi:
    connect = partial(Connection, host=server.host)
    server.wait_until(WarmUp(contract, connect), vendor.ready_timeout_sec)
    return ServedByOpenPi(Link(WHAT, server, connect, vendor.infer_timeout_sec), contract)


def _command(
    checkout: Checkout, folder: Path, spec: Path | None, name: str, device: str, scratch: Path, port: int
) -> Command:
    """It runs in ``scratch``, where its own defaults would write. JAX takes no memory in advance: a GPU may hold more
    models."""
    options = ("policy:checkpoint", "--policy.config", name, "--policy.dir", str(folder))
    on_gpu = {**visible_devices(device), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    arguments = launched(checkout, "serve", spec, {"port": port})
    return Command((*arguments, *options), scratch, on_gpu if device.startswith("cuda") else ON_CPU)


class WarmUp:
    """Whether a server is ready: it says what the contract does, and has answered an observation. Called again and
    again, by one thread, and back soon each time: the first answer may take minutes."""

    def __init__(self, contract: Contract, connect: Callable[[int], Connection] = Connection) -> None:
        self._contract, self._connect = contract, connect
        self._connection: Connection | None = None
        self._port, self._is_asked = 0, False

    def __call__(self, port: int) -> bool:
        """Raises PositronicError for a server that describes itself otherwise, or answers what it should not."""
        if self._connection is None or port != self._port:
            self._forget()
            self._connection, self._port = self._connect(port), port
        try:
            if not self._is_asked:
                self._contract.require_same(WHAT, self._connection.greet(PING_SEC))
                self._connection.send(self._contract.nothing_seen())
                self._is_asked = True
            self._contract.chunk(self._connection.receive(PING_SEC))
        except NoAnswerError as error:
            if isinstance(error, ClosedError):
                self._forget()
            return False
        except PositronicError:
            self._forget()
            raise
        self._forget()
        return True

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection, self._is_asked = None, False


class ServedByOpenPi:
    """A ChunkModel whose forward passes are openpi's. It draws its noise itself, and answers one robot at a time."""

    noise_shape = None

    def __init__(self, link: Link[Connection], contract: Contract) -> None:
        self._link, self._contract = link, contract

    def wait_until_ready(self) -> None:
        """Raise PositronicError if the server does not become ready."""
        with self._link.asking():
            pass

    def predict(
        self, observations: Sequence[Mapping[str, Any]], noise: Sequence[NDArray[np.float32]] | None = None
    ) -> list[NDArray[np.float32]]:
        """One after the other. Raises PositronicError with the server's own words when it refuses one, when it does not
        answer in time, when it has died, and for actions of another shape or that are no numbers."""
        asked = [self._contract.observation(seen) for seen in observations]
        with self._link.asking() as connection:
            # Once a connection: a server elsewhere may have become another one.
            self._contract.require_same(WHAT, connection.greet(self._link.timeout_sec))
            answers = [connection.infer(each, self._link.timeout_sec) for each in asked]
        return [self._contract.chunk(answer) for answer in answers]

    def close(self) -> None:
        """End the server, and leave nothing of it."""
        self._link.close()

    def end(self) -> None:
        """End the server."""
        self._link.end()
