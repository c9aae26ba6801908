"""Where training reports besides its own files: nowhere, or Weights & Biases."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

from positronic.errors import PositronicError
from positronic.training.config import TrackerConfig
from positronic.utils.files import replace_text

WANDB_ID_FILE = "wandb_run_id"
ONLINE, OFFLINE = "online", "offline"
REACH_SEC = 10.0  # wandb itself waits for minutes where there is no network
HTTPS_PORT = 443


class Tracker(Protocol):
    """Takes the metrics elsewhere as well."""

    def log(self, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class NoTracker:
    """``tracker=none``."""

    def log(self, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class WandbTracker:
    """Weights & Biases; a resumed run continues its page."""

    def __init__(self, config: TrackerConfig, folder: Path, info: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise PositronicError(
                "tracker=wandb needs the package wandb. Type `uv pip install wandb`, or take tracker=none."
            ) from None
        id_file = folder / WANDB_ID_FILE
        known = id_file.read_text().strip() if id_file.exists() else None
        mode = _mode(config.mode, wandb.setup().settings.base_url)
        try:
            self._run = wandb.init(
                project=config.project,
                group=config.group or None,
                name=f"{folder.parent.name}_{folder.name}" if config.group else folder.name,
                id=known,
                resume="allow" if mode == ONLINE else None,
                dir=folder,
                mode=mode,
                config=dict(info),
                settings=wandb.Settings(quiet=True),
            )
        except wandb.errors.Error as error:
            raise PositronicError(
                f"wandb did not start ({error}). Log in with `wandb login`, or take tracker.mode=offline."
            ) from None
        self._folder, self._is_offline = folder, mode == OFFLINE
        replace_text(id_file, self._run.id + "\n")

    def log(self, metrics: Mapping[str, float]) -> None:
        values = {name: value for name, value in metrics.items() if name != "step"}
        self._run.log(values, step=int(metrics["step"]))

    def close(self) -> None:
        """Say what sends it, if it was not sent."""
        self._run.finish()
        if self._is_offline:
            print(f"To send it to Weights & Biases, from a machine with network:\n  {sync_command(self._folder)}")


def sync_command(folder: Path) -> str:
    """What sends all offline parts of the experiment in ``folder`` to one page. With --append a part that comes later
    does not take the place of the one before."""
    return f"wandb sync --append {shlex.quote(str(folder.absolute() / 'wandb'))}/offline-run-*"


TRACKERS: dict[str, Callable[[TrackerConfig, Path, Mapping[str, Any]], Tracker]] = {
    "none": lambda config, folder, info: NoTracker(),
    "wandb": WandbTracker,
}


def open_tracker(config: TrackerConfig, folder: Path, info: Mapping[str, Any]) -> Tracker:
    """The tracker that ``config.name`` names. Raises PositronicError when it cannot start."""
    if config.name not in TRACKERS:
        raise PositronicError(f"tracker: expected one of {', '.join(sorted(TRACKERS))}, found '{config.name}'.")
    return TRACKERS[config.name](config, folder, info)


def _mode(wanted: str, server: str) -> str:
    """``wanted``, or offline where the server is out of reach, as it is on many a cluster's nodes."""
    if wanted != ONLINE or _is_reachable(server):
        return wanted
    print(f"{server} cannot be reached from {socket.gethostname()}: tracker.mode=offline is taken.")
    return OFFLINE


def _is_reachable(server: str) -> bool:
    """Whether a connection can be made; through a proxy it is taken for granted."""
    url = urlsplit(server)
    if url.scheme in getproxies():
        return True
    try:
        socket.create_connection((url.hostname, url.port or HTTPS_PORT), REACH_SEC).close()
    except OSError:
        return False
    return True
