"""A checkpoint that openpi's own server serves, as a child of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from positronic import keys
from positronic.codecs.build import Recipe
from positronic.codecs.modality import Column
from positronic.conventions import require_equal
from positronic.errors import PositronicError
from positronic.training.checkpoints import PRETRAINED_MODEL, read_info, trained_recipe
from positronic.training.device import resolve_device
from positronic.upstream.checkout import Checkout, Repository, find_checkout
from positronic.upstream.child import Command
from positronic.upstream.environment import visible_devices
from positronic.upstream.service import Server, Service
from positronic.vendors.config import VendorConfig
from positronic.vendors.openpi.cache import TOKENIZER, require_cached
from positronic.vendors.openpi.launcher import ON_CPU, launched
from positronic.vendors.openpi.spec import ACTIONS, SPEC_FILE, spec
from positronic.vendors.openpi.wire import WHAT, Connection
from positronic.vendors.served import PING_SEC, ClosedError, Link, NoAnswerError, checked, new_log

LOG = "openpi_server.log"
DTYPE = "dtype"  # of the model's calculations: the server's own affair


def serve_model(checkpoint: Path, device: str, vendor: VendorConfig, repository: Repository) -> ServedByOpenPi:
    """Start the server, and wait until it is ready: it has described itself as the recipe does, and has answered an
    observation, for which it compiles its programs.

    Raises PositronicError for a checkout or a tokenizer that is missing, a checkpoint that openpi did not train, and
    when the server does not become ready or describes something else.
    """
    info, folder = read_info(checkpoint), checkpoint / PRETRAINED_MODEL
    if not (folder / SPEC_FILE).is_file():
        raise PositronicError(
            f"{checkpoint} was trained in this process, and openpi does not read its weights. Serve it without "
            "vendor.backend=upstream."
        )
    checkout = find_checkout(repository, vendor.repo, vendor.python)
    require_cached(TOKENIZER, "The tokenizer of π0.5 is missing", str(checkout.python))
    contract = Contract(trained_recipe(info), info["training"]["policy"])
    contract.require_same(str(folder / SPEC_FILE), json.loads((folder / SPEC_FILE).read_text()))
    log = new_log(LOG)
    what = (checkout, folder.absolute(), contract.name, resolve_device(device), log.parent)
    server = Server(WHAT, lambda port: _command(*what, port), WarmUp(contract), log, vendor.ready_timeout_sec)
    model = ServedByOpenPi(Link(WHAT, Service(server), Connection, vendor.infer_timeout_sec, log), contract)
    try:
        model.wait_until_ready()
    except BaseException:
        model.end()  # its output stays, for the person who reads why
        raise
    return model


def _command(checkout: Checkout, folder: Path, name: str, device: str, scratch: Path, port: int) -> Command:
    """It runs in ``scratch``, where its own defaults would write. JAX takes no memory in advance: a GPU may hold more
    models."""
    options = ("policy:checkpoint", "--policy.config", name, "--policy.dir", str(folder))
    on_gpu = {**visible_devices(device), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    arguments = launched(checkout, "serve", folder / SPEC_FILE, {"port": port})
    return Command((*arguments, *options), scratch, on_gpu if device.startswith("cuda") else ON_CPU)


class Contract:
    """What a server is asked, and must answer, by the recipe of a checkpoint.

    ``policy``: every field that it was trained with.
    """

    def __init__(self, recipe: Recipe, policy: Mapping[str, Any]) -> None:
        self._modality, self._steps = recipe.modality, recipe.modality_config.action_chunk
        self._spec = json.loads(json.dumps(spec(recipe, policy, "")))
        columns = {column.name: column for column in recipe.modality.observation_columns}
        self._columns = {
            name: columns[column] for name, column in self._spec["columns"].items() if column in columns
        }  # by openpi's names

    @property
    def name(self) -> str:
        """Of the config."""
        return self._spec["name"]

    def require_same(self, whose: str, said: Mapping[str, Any]) -> None:
        """Raise ConventionError, both sides printed, unless the spec ``said`` is that of the recipe."""
        hint = "They are of two trainings: serve the checkpoint as it was trained."
        require_equal("the checkpoint's recipe", _told(self._spec), whose, _told(said), hint)

    def observation(self, seen: Mapping[str, Any]) -> dict[str, Any]:
        """The modality's columns and the task, by openpi's names.

        Raises PositronicError for what openpi would take without a word: another shape or type, and what is no number.
        """
        asked = {name: _checked(column, seen.get(column.name)) for name, column in self._columns.items()}
        return asked | {keys.OPENPI_PROMPT: str(seen[self._modality.task_key])}

    def chunk(self, answer: Mapping[str, Any]) -> NDArray[np.float32]:
        """(H, A). Raises PositronicError for another shape, and what is no number."""
        shape = (self._steps, self._spec["action_size"])
        return checked(answer.get(ACTIONS), shape, WHAT, ACTIONS)

    def nothing_seen(self) -> dict[str, Any]:
        """Black pictures, and a state of zeros."""
        seen = {column.name: np.zeros(column.shape, column.dtype) for column in self._columns.values()}
        return self.observation(seen | {self._modality.task_key: "warm up"})


class WarmUp:
    """Whether a server is ready: it says what the contract does, and has answered an observation. Called again and
    again, by one thread, and back soon each time: the first answer may take minutes."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._connection: Connection | None = None
        self._port, self._is_asked = 0, False

    def __call__(self, port: int) -> bool:
        """Raises PositronicError for a server that describes itself otherwise, or answers what it should not."""
        if self._connection is None or port != self._port:
            self._forget()
            self._connection, self._port = Connection(port), port
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
            answers = [connection.infer(each, self._link.timeout_sec) for each in asked]
        return [self._contract.chunk(answer) for answer in answers]

    def close(self) -> None:
        """End the server, and leave nothing of it."""
        self._link.close()

    def end(self) -> None:
        """End the server."""
        self._link.end()


def _checked(column: Column, value: Any) -> NDArray[Any]:
    """Of the column's shape and type, and finite."""
    if not isinstance(value, np.ndarray) or (value.shape, str(value.dtype)) != (column.shape, column.dtype):
        found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise PositronicError(f"'{column.name}': expected {column.dtype} {column.shape}, found {found}.")
    if not column.is_image and not np.isfinite(value).all():
        raise PositronicError(f"'{column.name}': expected finite numbers, found {value.tolist()}.")
    return value


def _told(described: Mapping[str, Any]) -> dict[str, str]:
    """What must agree, for people."""
    model = described.get("model")
    flat = {name: value for name, value in described.items() if name != "model"}
    flat |= {f"model.{name}": value for name, value in (model if isinstance(model, Mapping) else {}).items()}
    return {name: str(value) for name, value in flat.items() if name != f"model.{DTYPE}"}
